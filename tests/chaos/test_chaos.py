"""At random instants kill -9 of worker, warden, agent and server in turn; afterwards all is as it must be."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dispatch_queue.record import Isolation
from tests.chaos import checks
from tests.chaos.arena import Arena
from tests.chaos.conftest import Plan
from tests.chaos.crowd import Crowd
from tests.chaos.observer import Observer
from tests.support.waiting import wait_for

VICTIMS = ("worker", "warden", "agent", "server")
PAUSE_SECONDS = (0.1, 2.5)  # between two kills
END_WITHIN_SECONDS = 120.0
STUCK_SECONDS = 60.0
GONE_WITHIN_SECONDS = 5.0


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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("isolation", list(Isolation))
def test_nothing_is_lost_or_done_twice_whatever_is_killed(
    arena: Arena, observer: Observer, isolation: Isolation, chaos: Plan, measured: Callable[[str, object], None]
) -> None:
    chooser = random.Random(f"{chaos.seed} {isolation}")
    arena.add_worker("w1")
    arena.add_worker("w2")
    crowd = Crowd(arena, isolation, chooser)
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
        crowd.look()
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
    complaints += checks.in_turn(crowd)
    complaints += checks.never_again(observer, crowd)
    complaints += checks.bytes_kept(crowd)
    complaints += checks.items_kept(arena, crowd)
    complaints += checks.legal(arena, crowd.refs)
    if killed.total() < chaos.kills:
        complaints.append(f"only {killed.total()} of {chaos.kills} kills within {chaos.seconds:g} s")
    measured("kills", dict(killed))
    measured(
        "lines",
        f"{sum(len(crowd.written(ref)) for ref in crowd.refs)} written, of them seen in a tree at a kill "
        f"{sum(map(len, crowd.seen.values()))}, in the newest snapshot at a kill {sum(map(len, crowd.saved.values()))}",
    )
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
