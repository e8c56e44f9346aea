"""At random instants kill -9 of worker, warden, agent and server in turn; afterwards all is as it must be."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from dispatch_queue.record import Isolation
from tests.chaos import checks
from tests.chaos.arena import Arena
from tests.chaos.conftest import Plan
from tests.chaos.crowd import Crowd
from tests.chaos.observer import WARDENS, Observer
from tests.support.waiting import wait_for

VICTIMS = ("worker", "warden", "agent", "server")
PAUSE_SECONDS = (0.1, 2.5)  # between two kills
END_WITHIN_SECONDS = 120.0
STUCK_SECONDS = 60.0
GONE_WITHIN_SECONDS = 5.0


@dataclass
class Storm:
    """The kills: how many of each kind, and when whose."""

    arena: Arena
    observer: Observer
    crowd: Crowd
    random: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)

    def rage(self, plan: Plan) -> Iterator[str]:
        """Kill as planned; what to complain about."""
        deadline = time.monotonic() + plan.seconds
        while self.killed.total() < plan.kills and time.monotonic() < deadline:
            kind = VICTIMS[self.killed.total() % len(VICTIMS)]
            pid = self._find(kind)
            if pid is None:
                yield f"no {kind} lived for {STUCK_SECONDS:g} s"
                return
            self.crowd.look()
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.history.append(f"{datetime.now(UTC):%H:%M:%S.%f} {kind} {pid}")
            self.killed[kind] += 1
        if self.killed.keys() != set(VICTIMS):
            yield f"not every kind was killed within {plan.seconds:g} s: {dict(self.killed)}"

    def _find(self, kind: str) -> int | None:
        """One of a kind that lives after a while, in which tasks and answers are given; None if none comes."""
        kill_at = time.monotonic() + self.random.uniform(*PAUSE_SECONDS)
        while time.monotonic() < kill_at + STUCK_SECONDS:
            self.crowd.fill_up()
            self.crowd.answer()
            time.sleep(0.02)
            pids = sorted(self._pids(kind))
            if pids and time.monotonic() >= kill_at:
                return self.random.choice(pids)
        return None

    def _pids(self, kind: str) -> list[int]:
        match kind:
            case "worker":
                return [kept.pid for kept in self.arena.workers if kept.running]
            case "server":
                return [self.arena.server.pid] if self.arena.server.running else []
        roles = WARDENS if kind == "warden" else (kind,)
        return [member.pid for member in self.observer.members() if member.role in roles]


@pytest.mark.slice
@pytest.mark.timeout(600)
@pytest.mark.parametrize("isolation", list(Isolation))
def test_nothing_is_lost_or_done_twice_whatever_is_killed(
    arena: Arena, observer: Observer, isolation: Isolation, chaos: Plan, measured: Callable[[str, object], None]
) -> None:
    chooser = random.Random(f"{chaos.seed} {isolation}")
    arena.add_worker("w1")
    arena.add_worker("w2")
    crowd = Crowd(arena, isolation, chooser)
    storm = Storm(arena, observer, crowd, chooser)

    complaints = [*storm.rage(chaos)]

    complaints += settled(lambda: [*checks.finished(arena, crowd.refs)], END_WITHIN_SECONDS, crowd.answer)
    complaints += settled(lambda: [*checks.no_process(observer)], GONE_WITHIN_SECONDS)
    complaints += settled(lambda: [*checks.agreeing(arena, crowd.refs)], GONE_WITHIN_SECONDS)
    complaints += checks.never_twice(observer)
    complaints += checks.in_turn(crowd)
    complaints += checks.ticks_kept(arena, observer, crowd.refs)
    complaints += checks.never_again(observer, crowd)
    complaints += checks.bytes_kept(crowd)
    complaints += checks.items_kept(arena, crowd)
    complaints += checks.legal(arena, crowd.refs)
    measured("kills", dict(storm.killed))
    measured("tasks", f"{len(crowd.refs)}, {sum(arena.standing(ref).attempt for ref in crowd.refs)} attempts")
    measured("lines", crowd.told())
    bad = [ref for ref in crowd.refs if any(line.startswith((f"{ref.task}:", f"{ref.task} ")) for line in complaints)]
    shown = [arena.told(ref) for ref in bad[:2]]
    assert not complaints, "\n".join([f"seed {chaos.seed}", *complaints, *storm.history, *shown])


def settled(check: Callable[[], list[str]], within: float, do: Callable[[], None] = lambda: None) -> list[str]:
    """The complaints that are left after a while, in which `do` is done."""

    def quiet() -> bool:
        do()
        return not check()

    try:
        wait_for(quiet, "nothing to complain about", within)
    except AssertionError:
        return check()
    return []
