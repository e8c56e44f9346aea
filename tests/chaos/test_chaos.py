"""At random instants kill -9 of worker, warden, agent and server in turn; afterwards all is as it must be."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dispatch_queue import ipc
from dispatch_queue.errors import BadInput, Refused
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Ref
from tests.chaos import checks
from tests.chaos.arena import Arena
from tests.chaos.conftest import Plan
from tests.chaos.observer import Observer
from tests.support.waiting import wait_for

VICTIMS = ("worker", "warden", "agent", "server")
PAUSE_SECONDS = (0.1, 2.5)  # between two kills
RUNNING_AT_ONCE = 4
ITEMS = 12
END_WITHIN_SECONDS = 120.0
STUCK_SECONDS = 60.0
GONE_WITHIN_SECONDS = 5.0
BY_COMMAND = 0.3  # the share of submits and answers by a `dispatch` of their own; the others are cheaper
QUESTION_SECONDS = 2  # then a task is parked
ANSWER_SECONDS = (0.2, 4.0)


@dataclass
class Crowd:
    """The tasks: always some that are not finished, one question each, answered in a while."""

    arena: Arena
    isolation: Isolation
    random: random.Random
    logs: Path
    refs: list[Ref] = field(default_factory=list)
    _answer_at: dict[tuple[Ref, int], float] = field(default_factory=dict)

    def items(self, name: str) -> tuple[str, ...]:
        ask_at = self.random.randrange(2, ITEMS)
        return tuple(
            f"ask: {number}: how does {name} go on?" if number == ask_at else self._item(number, name)
            for number in range(1, ITEMS + 1)
        )

    def _item(self, number: int, name: str) -> str:
        pause = self.random.uniform(0.1, 0.5)
        log, counters = self.logs / name, f"counters-{name}.txt"
        keep = (
            " && git add -A && git commit -qm kept" if self.isolation is Isolation.WORKTREE and number % 5 == 0 else ""
        )
        begin = f'echo "{number} $DISPATCH_ATTEMPT $(date +%s.%N)" >> {log}'
        return f"{number}: `{begin}; sleep {pause:.2f}; echo {number} >> {counters}{keep}`"

    def unfinished(self) -> list[Ref]:
        return [ref for ref in self.refs if not self.arena.standing(ref).final]

    def fill_up(self) -> None:
        while len(self.unfinished()) < RUNNING_AT_ONCE:
            name = f"t{len(self.refs) + 1}"
            send = self.arena.submit if self.random.random() < BY_COMMAND else self.arena.send
            ref = send(name, self.items(name), self.isolation, question=QUESTION_SECONDS)
            self.refs.append(ref)

    def answer(self) -> None:
        """Answer what has waited for its time, by the command or by hand."""
        for ref in self.unfinished():
            for number in self.arena.standing(ref).questions:
                key = ref, number
                due = self._answer_at.setdefault(key, time.monotonic() + self.random.uniform(*ANSWER_SECONDS))
                if (
                    time.monotonic() < due
                    or (self.arena.home(ref.task).path / ipc.name_of(number, ipc.Kind.ANSWER)).exists()
                ):
                    continue
                text = f"well, {ref.task}"
                if self.random.random() < BY_COMMAND:
                    self.arena.box.run("answer", ref.task, str(number), text, check=False)
                else:
                    try:
                        self.arena.answer(ref, number, text)
                    except (BadInput, Refused, FileExistsError):
                        continue

    def numbers_of_commands(self, ref: Ref) -> list[int]:
        """Of the items that are done and wrote a line."""
        items = self.arena.home(ref.task).plan().items
        return [n for item in items if item.mark is Mark.DONE and (n := checks.number_of(item.text))]


def victim(arena: Arena, observer: Observer, kind: str, chooser: random.Random) -> int | None:
    """The process id of one that lives now."""
    match kind:
        case "worker":
            pids = [kept.pid for kept in arena.workers if kept.running]
        case "server":
            pids = [arena.server.pid] if arena.server.running else []
        case _:
            pids = [member.pid for member in observer.members() if member.role == kind]
    return chooser.choice(sorted(pids)) if pids else None


@pytest.fixture
def observer(arena: Arena) -> Iterator[Observer]:
    plans = ("project/.dispatch/tasks/*/plan.md", "d/worktrees/*/*/.dispatch/tasks/*/plan.md")
    made = Observer(arena.box.folder, plans)
    yield made
    made.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("isolation", list(Isolation))
def test_nothing_is_lost_or_done_twice_whatever_is_killed(
    arena: Arena, observer: Observer, isolation: Isolation, chaos: Plan, measured: Callable[[str, object], None]
) -> None:
    chooser = random.Random(f"{chaos.seed} {isolation}")
    logs = arena.box.folder / "began"
    logs.mkdir()
    arena.add_worker("w1")
    arena.add_worker("w2")
    crowd = Crowd(arena, isolation, chooser, logs)
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + chaos.seconds
    history = []

    while killed.total() < chaos.kills and time.monotonic() < deadline:
        kill_at = time.monotonic() + chooser.uniform(*PAUSE_SECONDS)
        kind = VICTIMS[killed.total() % len(VICTIMS)]
        pid = None
        while pid is None or time.monotonic() < kill_at:
            crowd.fill_up()
            crowd.answer()
            time.sleep(0.02)
            pid = victim(arena, observer, kind, chooser)
            assert time.monotonic() < kill_at + STUCK_SECONDS, f"no {kind} lives\n{arena.told(crowd.unfinished()[0])}"
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        history.append(f"{datetime.now(UTC):%H:%M:%S.%f} {kind} {pid}")
        killed[kind] += 1

    def all_ended() -> bool:
        crowd.answer()
        return not crowd.unfinished()

    try:
        wait_for(all_ended, "every task to end", END_WITHIN_SECONDS)
        complaints = [*checks.finished(arena, crowd.refs)]
    except AssertionError as error:
        complaints = [str(error), *checks.finished(arena, crowd.refs)]
    complaints += settled(lambda: [*checks.no_process(observer)])
    complaints += settled(lambda: [*checks.agreeing(arena, crowd.refs)])
    complaints += checks.never_twice(observer)
    complaints += checks.ticks_kept(arena, observer, crowd.refs)
    complaints += checks.never_again(observer, logs, crowd.refs)
    complaints += checks.legal(arena, crowd.refs)
    for ref in crowd.refs:
        complaints += checks.lines_kept(counters(arena, ref, isolation), crowd.numbers_of_commands(ref), ref.task)
    measured("kills", dict(killed))
    measured("tasks", f"{len(crowd.refs)}, {sum(arena.standing(ref).attempt for ref in crowd.refs)} attempts")
    bad = [ref for ref in crowd.refs if any(line.startswith((f"{ref.task}:", f"{ref.task} ")) for line in complaints)]
    shown = [arena.told(ref) for ref in bad[:2]]
    assert not complaints, "\n".join([f"seed {chaos.seed}", *complaints, *history, *shown])


def settled(check: Callable[[], list[str]]) -> list[str]:
    """The complaints that are left after a while."""
    try:
        wait_for(lambda: not check(), "nothing to complain about", GONE_WITHIN_SECONDS)
    except AssertionError:
        return check()
    return []


def counters(arena: Arena, ref: Ref, isolation: Isolation) -> str:
    """What the items wrote: in the checkout, or on the task's branch."""
    name = f"counters-{ref.task}.txt"
    if isolation is Isolation.WORKTREE:
        branch = arena.standing(ref).branch
        return arena.box.git("show", f"{branch}:{name}") if branch else ""
    path = arena.box.project / name
    return path.read_text() if path.exists() else ""
