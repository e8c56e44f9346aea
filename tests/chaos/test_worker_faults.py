"""Faults of workers, wardens and agents, one at a time, on real processes."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from dispatch_queue import overview
from dispatch_queue.change import Change
from dispatch_queue.clock import SYSTEM, stamp
from dispatch_queue.home import actor, host_name
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, draft
from dispatch_queue.states import Event
from tests.chaos import checks
from tests.chaos.arena import Arena
from tests.chaos.faults import (
    AGAIN_WITHIN_SECONDS,
    BOTH,
    FENCED_WITHIN_SECONDS,
    GONE_WITHIN_SECONDS,
    SHARED,
    WORKTREE,
    Measured,
    S,
    agent_of,
    counted,
    counting,
    events,
    holder,
    none_lives,
    only,
    well,
)
from tests.chaos.observer import Observer
from tests.support.waiting import wait_for
from worker.workspace import snapshot_ref

pytestmark = pytest.mark.timeout(240)


@BOTH
def test_the_task_of_a_killed_worker_runs_again_within_seconds_and_nothing_of_it_stays(
    arena: Arena, observer: Observer, isolation: Isolation, measured: Measured
) -> None:
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", counting(20), isolation)
    arena.await_ticks(ref, 2)
    tree = agent_of(observer, ref).mark

    holder(arena, ref).kill()
    killed = time.monotonic()

    wait_for(lambda: none_lives(observer, tree), "the agent's tree to be gone", GONE_WITHIN_SECONDS)
    measured("tree gone, seconds", f"{time.monotonic() - killed:.1f}")
    wait_for(lambda: only(observer, ref, "agent"), "the next agent", AGAIN_WITHIN_SECONDS)
    measured("next agent, seconds", f"{time.monotonic() - killed:.1f}")
    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2
    assert not [*checks.never_twice(observer)]


@BOTH
def test_a_frozen_worker_is_fenced_when_it_wakes(
    arena: Arena, observer: Observer, isolation: Isolation, measured: Measured
) -> None:
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", counting(60, 0.3), isolation)
    arena.await_ticks(ref, 2)
    frozen = holder(arena, ref)
    tree = agent_of(observer, ref).mark

    frozen.send(signal.SIGSTOP)
    time.sleep(8)  # the fault itself
    frozen.send(signal.SIGCONT)
    woken = time.monotonic()
    wait_for(lambda: none_lives(observer, tree), "the agent of the fenced worker to be gone", FENCED_WITHIN_SECONDS)

    measured("gone after waking, seconds", f"{time.monotonic() - woken:.1f}")
    measured("overlap, seconds", f"{sum(one.seconds for one in observer.overlaps.values()):.1f}")
    assert frozen.running
    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2


def test_a_question_outlives_its_worker(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", (*counting(2), "ask: which?", *counting(3)[2:]), SHARED)
    arena.await_state(ref, S.ASKING)

    arena.workers[0].kill()
    wait_for(lambda: arena.standing(ref).attempt == 2, "the next attempt", 30)
    arena.await_state(ref, S.ASKING)
    arena.answer(ref, 1, "that one")

    well(arena, observer, ref)
    assert list(arena.home("t").ipc().questions) == [1]
    assert [item.note for item in arena.home("t").plan().items if item.text.startswith("ask:")] == ["answer: that one"]


def test_an_answer_given_while_the_only_worker_is_dead_is_heard(arena: Arena, observer: Observer) -> None:
    worker = arena.add_worker("w1", restart_after=3.0)
    parked = arena.send("parked", ("ask: which?", *counting(2)), SHARED, question=1)
    asking = arena.send("asking", ("ask: what?", *counting(2)), WORKTREE)
    arena.await_state(parked, S.PARKED)
    arena.await_state(asking, S.ASKING)

    arena.answer(parked, 1, "this")
    worker.kill()
    arena.answer(asking, 1, "that")

    well(arena, observer, parked, asking)


def test_an_answer_and_the_parking_at_the_same_time_lose_nothing(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1")
    refs = [arena.send(f"t{number}", ("ask: which?",), SHARED, question=2) for number in range(6)]
    for ref in refs:
        arena.await_state(ref, S.ASKING, S.PARKED)
    asked = time.monotonic()

    for number, ref in enumerate(refs):
        time.sleep(max(0.0, asked + 1.7 + 0.12 * number - time.monotonic()))  # around the instant of the parking
        arena.answer(ref, 1, f"answer {number}")

    well(arena, observer, *refs)


@BOTH
def test_a_stranger_with_the_ids_of_a_dead_worker_and_its_agent_is_left_alone(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        worker = arena.add_worker("w1", restart_after=None)
        ref, other = (arena.send(name, counting(), isolation) for name in ("t", "other"))
        for each in (ref, other):
            arena.await_ticks(each, 2)
        worker.kill()
        for each in (ref, other):
            entry = draft("attempt", at=stamp(SYSTEM.now()), by=actor(), attempt=1, pid=stranger.pid)
            arena.store.change(each, Change(entries=[entry], fields={"worker": f"{host_name()}:{stranger.pid}"}))

        arena.box.run("cancel", "other")
        arena.add_worker("w2")
        well(arena, observer, ref)  # its claim was taken back, although a process with the id lives
        arena.box.run("gc")
        arena.box.run("retry", "other")
        well(arena, observer, other)

        assert stranger.poll() is None
        stranger.kill()


def test_two_workers_of_the_same_host_name_and_process_id_share_the_work(arena: Arena, observer: Observer) -> None:
    """As in two containers of one image."""
    own_ids = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*own_ids, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no process ids of one's own for this user")
    one = arena.add_worker("w1", before=own_ids)
    refs = [arena.send(f"t{number}", counting(15), WORKTREE) for number in range(4)]
    for ref in refs:
        arena.await_ticks(ref, 1)
    (name,) = arena.store.workers()
    assert name == f"{host_name()}:1"
    arena.add_worker("w2", before=own_ids, new=False)

    one.restart_after = None
    one.kill()

    well(arena, observer, *refs)
    assert [*arena.store.workers()] == [name]
    assert not [*checks.never_twice(observer)]


def test_two_workers_of_the_same_name_share_the_work(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1", node="same")
    arena.add_worker("w2", node="same")
    refs = [arena.send(f"t{number}", counting(15), WORKTREE) for number in range(4)]
    for ref in refs:
        arena.await_ticks(ref, 1)

    holder(arena, refs[0]).kill()

    well(arena, observer, *refs)
    assert not [*checks.never_twice(observer)]


@BOTH
def test_a_stopped_worker_gives_its_task_back_and_another_goes_on(
    arena: Arena, observer: Observer, isolation: Isolation, measured: Measured
) -> None:
    for name in ("w1", "w2"):
        arena.add_worker(name, restart_after=None)
    ref = arena.send("t", counting(20), isolation)
    arena.await_ticks(ref, 2)
    stopped = holder(arena, ref)

    stopped.send(signal.SIGTERM)
    at = time.monotonic()

    wait_for(lambda: len(events(arena, ref, Event.CLAIM)) == 2, "another worker to take it", AGAIN_WITHIN_SECONDS)
    measured("claimed again, seconds", f"{time.monotonic() - at:.1f}")
    wait_for(lambda: not stopped.running, "the worker to end", 15)
    assert stopped.process.returncode == 0
    well(arena, observer, ref)
    assert arena.standing(ref).tries == 0
    assert not [*checks.never_twice(observer)]
    assert [item.mark for item in arena.home("t").plan().items] == [Mark.DONE] * 20


def test_a_stopping_worker_lets_agents_end_in_their_time(arena: Arena, observer: Observer) -> None:
    arena.configure(drain=30)
    worker = arena.add_worker("w1", restart_after=None)
    ref = arena.send("t", counting(8), SHARED)
    arena.await_ticks(ref, 1)

    worker.send(signal.SIGTERM)
    wait_for(lambda: not worker.running, "the worker to end", 30)

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1


def test_a_second_sigterm_ends_a_worker_at_once(arena: Arena, observer: Observer, measured: Measured) -> None:
    arena.configure(drain=60)
    worker = arena.add_worker("w1", restart_after=None)
    ref = arena.send("t", counting(200), SHARED)
    arena.await_ticks(ref, 1)
    worker.send(signal.SIGTERM)
    before = arena.home("t").plan().done
    arena.await_ticks(ref, before + 2)  # it drains

    worker.send(signal.SIGTERM)
    at = time.monotonic()
    wait_for(lambda: not worker.running, "the worker to end", 10)

    measured("ended, seconds", f"{time.monotonic() - at:.1f}")
    assert not observer.members()
    assert arena.record(ref).state is S.QUEUED
    arena.box.run("cancel", "t")


@pytest.mark.slice
@BOTH
@pytest.mark.parametrize("victim", ["agent", "warden", "guard"])
def test_a_killed_agent_or_warden_leaves_nothing_and_the_task_goes_on(
    arena: Arena, observer: Observer, victim: str, isolation: Isolation
) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", counting(), isolation)
    arena.await_ticks(ref, 2)
    tree = agent_of(observer, ref).mark

    os.kill(wait_for(lambda: only(observer, ref, victim), f"the {victim}").pid, signal.SIGKILL)

    wait_for(lambda: none_lives(observer, tree), "the tree to be gone", GONE_WITHIN_SECONDS)
    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2
    assert not [*checks.never_twice(observer)]


def test_what_a_dirty_tree_had_at_its_last_snapshot_outlives_the_tree(
    arena: Arena, observer: Observer, measured: Measured
) -> None:
    """As after the loss of a machine: worker, warden, agent and the whole worktree go."""
    ref = arena.send("t", counting(), WORKTREE)
    saved: set[str] = set()

    for round_ in range(1, 4):
        worker = arena.add_worker(f"w{round_}", restart_after=None)
        wait_for(lambda tried=round_: arena.standing(ref).attempt == tried, f"attempt {round_}")
        arena.await_ticks(ref, 3 * round_)
        snapshot = arena.box.git("show", f"{snapshot_ref(arena.standing(ref).branch)}:counters.txt").split()
        assert len(snapshot) > len(saved)
        saved |= set(snapshot)
        place, tree = overview.workspace(arena.home("t")), agent_of(observer, ref).mark
        worker.kill()
        wait_for(lambda mark=tree: none_lives(observer, mark), "the agent's tree to be gone", GONE_WITHIN_SECONDS)
        shutil.rmtree(place)

    arena.add_worker("w4")
    well(arena, observer, ref)
    assert saved <= set(counted(arena, ref, WORKTREE))
    measured("lines in snapshots", len(saved))


@pytest.mark.parametrize("victim", ["warden", "guard"])
def test_a_worker_and_its_warden_killed_at_once_leave_nothing(arena: Arena, observer: Observer, victim: str) -> None:
    arena.add_worker("w1", restart_after=1.0)
    ref = arena.send("t", ("1: `sleep 40`",), SHARED)
    agent = agent_of(observer, ref)
    wait_for(lambda: [m for m in observer.members() if m.role == "child"], "the agent's own child")

    other = only(observer, ref, victim)
    assert other is not None
    os.kill(other.pid, signal.SIGKILL)
    arena.workers[0].kill()
    wait_for(lambda: arena.log_of("w1").read_bytes().count(b"ready.") == 2, "the worker to be ready again", 30)

    wait_for(lambda: none_lives(observer, agent.mark), "the tree to be gone", AGAIN_WITHIN_SECONDS)


def test_agents_killed_again_and_again_do_not_fail_a_task_that_may_be_tried_often(
    arena: Arena, observer: Observer
) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", ("1: `sleep 2`", *counting(3)[1:]), SHARED)

    for attempt in (1, 2, 3):
        wait_for(lambda attempt=attempt: arena.standing(ref).attempt == attempt, f"attempt {attempt}")
        os.kill(agent_of(observer, ref).pid, signal.SIGKILL)

    well(arena, observer, ref)
