"""What the tests of single faults share."""

import contextlib
from collections.abc import Callable

import pytest

from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import State
from tests.chaos import checks
from tests.chaos.arena import Arena, Kept
from tests.chaos.observer import Member, Observer
from tests.support.waiting import wait_for

S = State
BOTH = pytest.mark.parametrize("isolation", list(Isolation))
SHARED, WORKTREE = Isolation.SHARED, Isolation.WORKTREE
AGAIN_WITHIN_SECONDS = 10.0  # from the death of a worker to the next agent
GONE_WITHIN_SECONDS = 15.0  # of an agent whose worker, warden or task went away
FENCED_WITHIN_SECONDS = 8.0  # of an agent whose worker comes back and holds the task no more
TICKET_WITHIN_SECONDS = 15.0
FREEZE_SECONDS = 12.0
OUTAGE_SECONDS = 8.0

Measured = Callable[[str, object], None]


def counting(count: int = 12, pause: float = 0.3) -> tuple[str, ...]:
    """Items that each take a while and write a line."""
    return tuple(f"{number}: `sleep {pause}; echo {number} >> counters.txt`" for number in range(1, count + 1))


def counted(arena: Arena, ref: Ref, isolation: Isolation) -> list[str]:
    """What the items of `counting` wrote: in the checkout, or on the task's branch."""
    if isolation is Isolation.SHARED:
        return (arena.box.project / "counters.txt").read_text().split()
    return arena.box.git("show", f"{arena.standing(ref).branch}:counters.txt").split()


def holder(arena: Arena, ref: Ref) -> Kept:
    """The worker that runs the task."""
    name = wait_for(lambda: arena.record(ref).worker, "a worker to hold the task")
    return next(kept for kept in arena.workers if name.endswith(f":{kept.pid}"))


def agent_of(observer: Observer, ref: Ref) -> Member:
    return wait_for(lambda: only(observer, ref, "agent"), f"an agent of {ref.task}")


def only(observer: Observer, ref: Ref, role: str) -> Member | None:
    found = [member for member in observer.members(ref.task) if member.role == role]
    return found[0] if len(found) == 1 else None


def none_lives(observer: Observer, *trees: str) -> bool:
    return not [member for member in observer.members() if member.mark in trees]


def events(arena: Arena, ref: Ref, event: str) -> list[dict[str, object]]:
    return [dict(entry.facts) for entry in arena.home(ref.task).entries() if entry.event == event]


def well(arena: Arena, observer: Observer, *refs: Ref) -> None:
    """Wait until the tasks are done; then all that always holds must hold."""
    for ref in refs:
        arena.await_state(ref, S.DONE, limit=60)
    complaints: list[str] = []

    def settled() -> bool:
        complaints[:] = [*checks.agreeing(arena, refs), *checks.no_process(observer)]
        return not complaints

    with contextlib.suppress(AssertionError):
        wait_for(settled, "files and Redis to agree, and no process to be left", 30)
    complaints += [*checks.ticks_kept(arena, observer, refs), *checks.legal(arena, refs)]
    assert not complaints, "\n".join([*complaints, *(arena.told(ref) for ref in refs[:1])])
