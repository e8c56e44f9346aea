"""tick, question, answer: how soon what one side writes is where the other one reads it.

This process writes in the agent's stead, into the live copy and as the protocol says: a temporary file, then a rename.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from dispatch_queue import ipc, plan, taskdir
from dispatch_queue.errors import Exit
from dispatch_queue.record import Isolation
from dispatch_queue.taskdir import TaskDir
from tests.bench import clocked
from tests.bench.clocked import now, when
from tests.bench.figures import Sample, Series
from tests.bench.stage import Stage
from tests.support.waiting import wait_for

AIM_MS = 30.0
SETTLED_WITHIN_CPU_SECONDS = 0.02  # of 0.3 s: what a command needs that only waits


def ticks(stage: Stage, times: int) -> Iterator[Series]:
    for isolation in (Isolation.WORKTREE, Isolation.SHARED):
        taken = Sample()
        with stage.running(isolation, items=times + 1) as (home, live):
            for number in range(1, times + 2):
                at_plan, at_journal = _tick(home, live, number)
                if number > 1:
                    taken.add("plan", at_plan)
                    taken.add("journal", at_journal)
                    taken.add("both", max(at_plan, at_journal))
                stage.rest()
        if isolation is Isolation.WORKTREE:
            yield Series("tick", "worktree", "in plan.md and in the journal", "ms", taken.of("both"), AIM_MS)
            yield Series("tick", "worktree", "in plan.md", "ms", taken.of("plan"))
        else:
            yield Series("tick", "shared checkout", "in the journal", "ms", taken.of("journal"), AIM_MS)


def _tick(home: TaskDir, live: TaskDir, number: int) -> tuple[float, float]:
    """Tick an item; after how many milliseconds the home copy's plan and its journal have it."""
    journal, written = home.path / taskdir.JOURNAL, home.path / taskdir.PLAN
    size, before = journal.stat().st_size, _identity(written)
    data = plan.set_mark(live.read(taskdir.PLAN), number, plan.Mark.DONE)
    wrote = _put(live.path, taskdir.PLAN, data)
    same_file = home.path == live.path

    def in_journal() -> bool:
        return journal.stat().st_size > size and b'"event":"tick"' in journal.read_bytes()[size:]

    at_plan = 0.0 if same_file else when(lambda: _identity(written) != before, "the tick in plan.md") - wrote
    at_journal = when(in_journal, "the tick in the journal") - wrote
    assert home.plan().items[number - 1].mark is plan.Mark.DONE
    return at_plan, at_journal


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _put(folder: Path, name: str, data: bytes) -> float:
    """Put a file in place; the time just before it was there."""
    temporary = folder / f".{name.replace('/', '-')}.bench"
    temporary.write_bytes(data)
    at = now()
    temporary.rename(folder / name)
    return at


def questions(stage: Stage, times: int) -> Iterator[Series]:
    for isolation in (Isolation.WORKTREE, Isolation.SHARED):
        taken = Sample()
        with stage.running(isolation) as (home, live):
            for number in range(1, times + 2):
                returned, journal = _question(stage, home, live, number)
                if number > 1:
                    taken.add("returned", returned)
                    taken.add("journal", journal)
                _put(home.path, ipc.name_of(number, ipc.Kind.ANSWER), b"yes\n")
                wait_for(lambda: not home.standing().questions, "the answer to be known")
                stage.rest()
        yield Series("question", isolation, "`dispatch watch` has ended", "ms", taken.of("returned"), AIM_MS)
        yield Series("question", isolation, "in the journal", "ms", taken.of("journal"))


def _question(stage: Stage, home: TaskDir, live: TaskDir, number: int) -> tuple[float, float]:
    """Ask; after how many milliseconds a `watch` that was waiting has ended, and when the journal had the question."""
    journal = home.path / taskdir.JOURNAL
    with clocked.started(stage.command("watch", home.id), stage.env, stage.box.project) as watch:
        _settle(watch)
        size = journal.stat().st_size
        wrote = _put(live.path, ipc.name_of(number, ipc.Kind.QUESTION), f"Question {number}?\n".encode())
        known = when(lambda: journal.stat().st_size > size, "the question in the journal")
        watch.wait()
        ended = now()
        clocked.expect(watch, Exit.QUESTION)
    return ended - wrote, known - wrote


def _settle(process: subprocess.Popen[bytes]) -> None:
    """Wait until a command has started up and only waits: it uses no processor time to speak of any more."""
    seen = psutil.Process(process.pid)

    def waits() -> bool:
        before = seen.cpu_times()
        time.sleep(0.3)
        after = seen.cpu_times()
        return after.user + after.system - before.user - before.system <= SETTLED_WITHIN_CPU_SECONDS

    wait_for(waits, "`dispatch watch` to wait")


def answers(stage: Stage, times: int) -> Iterator[Series]:
    by_hand, command = Sample(), Sample()
    with stage.running(Isolation.WORKTREE) as (home, live):
        for turn in range(times + 1):
            first, second = 2 * turn + 1, 2 * turn + 2
            hand = _answer_by_hand(home, live, first)
            stage.rest()
            begun, written = _answer_by_command(stage, home, live, second)
            if turn:
                by_hand.add("live", hand)
                command.add("written", written)
                command.add("begun", begun)
            stage.rest()
    yield Series("answer", "worktree", "`dispatch answer`, from its write", "ms", command.of("written"), AIM_MS)
    yield Series("answer", "worktree", "a file written by hand", "ms", by_hand.of("live"), AIM_MS)
    yield Series("answer", "worktree", "`dispatch answer`, from its begin", "ms", command.of("begun"))


def _ask(home: TaskDir, live: TaskDir, number: int) -> None:
    _put(live.path, ipc.name_of(number, ipc.Kind.QUESTION), f"Question {number}?\n".encode())
    wait_for(lambda: number in home.standing().questions, "the question at home")
    time.sleep(0.1)  # the watch of the folder where its answer will be is being made


def _answer_by_hand(home: TaskDir, live: TaskDir, number: int) -> float:
    _ask(home, live, number)
    name = ipc.name_of(number, ipc.Kind.ANSWER)
    wrote = _put(home.path, name, b"yes\n")
    return when(lambda: (live.path / name).exists(), "the answer in the live copy") - wrote


def _answer_by_command(stage: Stage, home: TaskDir, live: TaskDir, number: int) -> tuple[float, float]:
    """Milliseconds to the live copy from the begin of the command, and from when it had written the answer."""
    _ask(home, live, number)
    name = ipc.name_of(number, ipc.Kind.ANSWER)
    begun = now()
    with clocked.started(stage.command("answer", home.id, str(number), "yes"), stage.env, stage.box.project) as answer:
        wrote = when(lambda: (home.path / name).exists(), "the answer in the home copy")
        there = when(lambda: (live.path / name).exists(), "the answer in the live copy")
        answer.wait()
        clocked.expect(answer, Exit.DONE)
    return there - begun, there - wrote
