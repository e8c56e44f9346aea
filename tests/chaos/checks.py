"""What must hold when all is over, read off the files, Redis and the processes. Each check returns complaints."""

import itertools
import re
import time
from collections.abc import Iterable, Iterator

from dispatch_queue import taskdir
from dispatch_queue.plan import Mark
from dispatch_queue.record import Ref
from dispatch_queue.states import FINAL, Event, State, after
from tests.chaos.arena import Arena
from tests.chaos.crowd import PARTS, Crowd
from tests.chaos.observer import Observer

LATE_SECONDS = 0.05  # between a tick in a file and our look at the clock, and back


def finished(arena: Arena, refs: Iterable[Ref]) -> Iterator[str]:
    """Every task is done."""
    for ref in refs:
        standing = arena.standing(ref)
        if standing.state is not State.DONE or not arena.home(ref.task).plan().complete:
            yield f"{ref.task} is {standing.state} ({standing.reason})"


def never_twice(observer: Observer) -> Iterator[str]:
    """No two agents of a task lived at the same time."""
    for overlap in observer.overlaps.values():
        yield f"{overlap.task}: attempts {overlap.attempts} lived together for {overlap.seconds:.2f} s"


def ticks_kept(arena: Arena, observer: Observer, refs: Iterable[Ref]) -> Iterator[str]:
    """Every tick that was ever in a file is in the final journal and the final plan."""
    for ref in refs:
        journalled = {
            str(entry.facts["text"])
            for entry in arena.home(ref.task).entries()
            if entry.event == "tick" and entry.facts.get("mark") == Mark.DONE
        }
        kept = {item.text for item in arena.home(ref.task).plan().items if item.mark is Mark.DONE}
        for text in observer.ticked[ref.task]:
            if text[:400] not in journalled:
                yield f"{ref.task}: the tick of {text[:60]!r} is not in the journal"
            if text not in kept:
                yield f"{ref.task}: the tick of {text[:60]!r} is not in the plan"


def never_again(observer: Observer, crowd: Crowd) -> Iterator[str]:
    """No item was worked on after it was seen ticked."""
    for ref in crowd.refs:
        ticked = {number_of(text): at for text, at in observer.ticked[ref.task].items()}
        for line in crowd.written(ref):
            late = line.at - ticked.get(line.item, time.time())
            if late > LATE_SECONDS:
                yield f"{ref.task}: attempt {line.attempt} did item {line.item} again, {late:.2f} s after its tick"


def number_of(text: str) -> int:
    """The number in the text of an item, which begins with it; 0 for others."""
    found = re.match(r"(\d+):", text)
    return int(found[1]) if found else 0


def in_turn(crowd: Crowd) -> Iterator[str]:
    """No attempt of a task wrote anything once a later one had: told by the writers, to the byte."""
    for ref in crowd.refs:
        for line, late in itertools.pairwise(crowd.written(ref)):
            if late.attempt < line.attempt:
                yield f"{ref.task}: attempt {late.attempt} wrote {late} when attempt {line.attempt} had begun to"


def bytes_kept(crowd: Crowd) -> Iterator[str]:
    """Whatever was ever in a tree is there in the end, committed or not: what snapshots had, and what is younger."""
    for ref in crowd.refs:
        left = set(crowd.left(ref))
        sources = {
            "the newest snapshot at a kill": crowd.saved[ref],
            "the tree at a kill": crowd.seen[ref],
            "the tree": set(crowd.written(ref)),
        }
        for where, lines in sources.items():
            if lost := sorted(lines - left):
                yield f"{ref.task}: {len(lost)} of {len(lines)} lines that were in {where} are lost, first {lost[0]}"


def items_kept(arena: Arena, crowd: Crowd) -> Iterator[str]:
    """Every line of every ticked item is there."""
    for ref in crowd.refs:
        left = {(line.item, line.part) for line in crowd.left(ref)}
        for item in arena.home(ref.task).plan().items:
            number = number_of(item.text)
            missing = [part for part in range(1, PARTS + 1) if (number, part) not in left]
            if item.mark is Mark.DONE and number and missing:
                yield f"{ref.task}: the lines {missing} of the ticked item {number} are missing"


def legal(arena: Arena, refs: Iterable[Ref]) -> Iterator[str]:
    """The journal has each seq once, in order, and its states follow the table."""
    for ref in refs:
        entries = arena.home(ref.task).entries()
        seqs = [entry.seq for entry in entries]
        if seqs != sorted(set(seqs)):
            yield f"{ref.task}: its seqs are {seqs}"
        state: State | None = None
        for entry in entries:
            if entry.state is None:
                continue
            moved = after(state, Event(entry.event))
            if moved is not entry.state:
                yield f"{ref.task}: seq {entry.seq} goes by {entry.event} from {state} to {entry.state}"
            state = entry.state


def no_process(observer: Observer) -> Iterator[str]:
    """Nothing of any agent lives."""
    for member in observer.members():
        yield f"left behind: {member}"


def agreeing(arena: Arena, refs: Iterable[Ref]) -> Iterator[str]:
    """Redis and the home copies say the same."""
    records = arena.store.records()
    for ref in refs:
        record, standing = records.get(ref), arena.standing(ref)
        if record is None:
            yield f"Redis does not know {ref}"
            continue
        for name in ("state", "questions", "done", "total", "attempt", "token", "seq", "worker", "tries"):
            here, there = getattr(standing, name), getattr(record, name)
            if here != there:
                yield f"{ref.task}: {name} is {here!r} in the files and {there!r} in Redis"
        pulled = arena.store.pull(ref, 0)
        entries = {entry.seq: entry for entry in arena.home(ref.task).entries()}
        for entry in pulled.entries:
            if entries.get(entry.seq) != entry:
                yield f"{ref.task}: seq {entry.seq} is another entry in the files"
        for name, data in pulled.files.items():
            known = taskdir.writer_of(name)
            if known is not None and not arena.home(ref.task).has(name, data):
                yield f"{ref.task}: {name} is another one in the files"
        if ref not in arena.store.in_state(record.state):
            yield f"{ref.task}: is not in the set of the {record.state}"
    held = arena.store.in_state(State.RUNNING, State.ASKING, State.QUEUED)
    yield from (f"{ref.task} is still in a set of unfinished tasks" for ref in held if records[ref].state in FINAL)
