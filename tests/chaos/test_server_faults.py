"""Faults of Redis and of the way there, one at a time, on real processes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.record import Isolation
from dispatch_queue.states import Event
from tests.chaos import checks
from tests.chaos.arena import Arena
from tests.chaos.faults import (
    BOTH,
    FENCED_WITHIN_SECONDS,
    FREEZE_SECONDS,
    OUTAGE_SECONDS,
    SHARED,
    TICKET_WITHIN_SECONDS,
    WORKTREE,
    Measured,
    S,
    agent_of,
    counted,
    counting,
    events,
    none_lives,
    well,
)
from tests.chaos.observer import Observer
from tests.chaos.proxy import Proxy
from tests.support.tasks import Gate
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)


# -- the server --------------------------------------------------------------------------------------------------------


@BOTH
def test_a_killed_server_that_comes_back_costs_no_attempt(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", counting(), isolation)
    arena.await_ticks(ref, 2)

    for _ in range(3):
        arena.server.kill()
        arena.await_server()
        time.sleep(0.5)  # the fault itself: it comes back, and goes again

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1
    assert not [*checks.never_twice(observer)]


@BOTH
def test_a_task_that_ends_while_the_server_is_away_is_done(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", counting(6), isolation)
    arena.await_ticks(ref, 1)
    tree = agent_of(observer, ref).mark

    arena.server.restart_after = OUTAGE_SECONDS
    arena.server.kill()
    wait_for(lambda: none_lives(observer, tree), "the agent to end by itself", OUTAGE_SECONDS)
    assert not arena.server.running

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1


@BOTH
def test_a_server_that_is_frozen_for_a_while_costs_no_attempt(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", counting(50, 0.3), isolation)
    arena.await_ticks(ref, 2)

    arena.server.send(signal.SIGSTOP)
    time.sleep(FREEZE_SECONDS)  # the fault itself
    arena.server.send(signal.SIGCONT)

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1


def test_after_flushall_all_comes_back_and_running_agents_go_on(
    arena: Arena, observer: Observer, tmp_path: Path
) -> None:
    arena.configure(slots=2)
    arena.add_worker("w1")
    parked = arena.send("parked", ("ask: which one?", *counting(2)), SHARED, question=1)
    arena.await_state(parked, S.PARKED)
    gate = Gate(tmp_path / "gate")
    running = arena.send("running", (gate.item, *counting(4)), WORKTREE)
    asking = arena.send("asking", ("ask: what now?", *counting(2)), SHARED)
    arena.await_state(running, S.RUNNING)
    arena.await_state(asking, S.ASKING)
    queued = arena.send("queued", counting(2), SHARED)
    trees = {agent_of(observer, ref).mark for ref in (running, asking)}

    arena.store._redis.flushall()

    expected = {parked: S.PARKED, running: S.RUNNING, asking: S.ASKING, queued: S.QUEUED}

    def all_there() -> bool:
        return {ref: record.state for ref, record in arena.store.records().items()} == expected

    wait_for(all_there, f"Redis to know again {expected}", 15)
    assert arena.record(parked).questions == arena.record(asking).questions == (1,)
    assert {agent_of(observer, ref).mark for ref in (running, asking)} == trees
    gate.open()
    arena.answer(parked, 1, "this one")
    arena.answer(asking, 1, "that")
    well(arena, observer, parked, running, asking, queued)
    assert [arena.standing(ref).attempt for ref in (parked, running, asking, queued)] == [2, 1, 1, 1]


@pytest.mark.slice
@BOTH
def test_a_task_whose_worker_dies_while_redis_forgets_it_goes_on(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    first = arena.add_worker("w1", restart_after=None)
    ref = arena.send("t", counting(60, 0.3), isolation)
    arena.await_ticks(ref, 2)
    arena.add_worker("w2")

    first.kill()
    arena.store._redis.flushall()

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2
    assert not [*checks.never_twice(observer)]


@BOTH
def test_a_claim_that_the_server_forgot_in_a_crash_is_not_held_twice(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    ref = arena.send("t", counting(20), isolation)
    (log,) = arena.data.rglob("*.incr.aof")
    before = log.stat().st_size
    arena.add_worker("w1")
    arena.add_worker("w2")
    arena.await_ticks(ref, 3)

    arena.server.restart_after = None
    arena.server.kill()
    os.truncate(log, before)  # as much as the disk of a machine has that lost its power
    arena.server.restart_after = 0.2

    well(arena, observer, ref)
    assert [claim["attempt"] for claim in events(arena, ref, Event.CLAIM)] == [2]
    assert {*counted(arena, ref, isolation)} == {str(number) for number in range(1, 21)}
    assert not [*checks.never_twice(observer)]


@pytest.mark.slice
def test_a_tick_made_while_redis_forgets_is_in_the_journal(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1")
    refs = [
        arena.send(f"t{number}", counting(60, 0.05), isolation) for number, isolation in enumerate([SHARED, WORKTREE])
    ]
    for ref in refs:
        arena.await_ticks(ref, 3)

    for _ in range(4):
        arena.store._redis.flushall()
        time.sleep(0.7)  # the fault itself, again and again

    well(arena, observer, *refs)


@BOTH
def test_cut_connections_cost_no_attempt(arena: Arena, observer: Observer, isolation: Isolation) -> None:
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", ("ask: go on?", *counting(10)), isolation)
    arena.await_state(ref, S.ASKING)

    for round_ in range(6):
        for kind in ("normal", "pubsub"):
            arena.store._redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        if round_ == 2:
            arena.answer(ref, 1, "yes")
        time.sleep(0.4)  # the fault itself, again and again

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1
    later = arena.send("later", counting(1), isolation)
    well(arena, observer, later)


# -- the link ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(arena: Arena, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path / "p", arena.socket)
    yield made
    made.close()


def test_a_half_open_link_is_made_anew_and_costs_no_attempt(arena: Arena, observer: Observer, proxy: Proxy) -> None:
    arena.add_worker("w1", url=proxy.url)
    ref = arena.send("t", counting(50, 0.3), SHARED)
    arena.await_ticks(ref, 2)

    proxy.cut()

    later = arena.send("later", counting(1), SHARED)
    arena.await_state(later, S.DONE, limit=TICKET_WITHIN_SECONDS + 10)
    well(arena, observer, ref, later)
    assert arena.standing(ref).attempt == 1


@BOTH
def test_a_worker_behind_a_dead_link_is_fenced_when_it_is_back(
    arena: Arena, observer: Observer, proxy: Proxy, isolation: Isolation, measured: Measured
) -> None:
    arena.add_worker("w1", url=proxy.url)
    ref = arena.send("t", counting(60, 0.3), isolation)
    arena.await_ticks(ref, 2)
    tree = agent_of(observer, ref).mark
    arena.add_worker("w2")

    proxy.cut(new_ones=True)
    wait_for(lambda: arena.standing(ref).attempt == 2, "another worker to take the task", 15)
    proxy.heal()
    healed = time.monotonic()
    wait_for(lambda: none_lives(observer, tree), "the agent of the fenced worker to be gone", FENCED_WITHIN_SECONDS + 5)

    measured("gone after the link was back, seconds", f"{time.monotonic() - healed:.1f}")
    measured("overlap, seconds", f"{sum(one.seconds for one in observer.overlaps.values()):.1f}")
    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2
