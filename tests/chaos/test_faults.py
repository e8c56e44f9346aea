"""One fault at a time, on real processes: each test is a claim."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch_queue import keys, taskdir
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import FINAL, Event, State
from tests.chaos import checks
from tests.chaos.arena import Arena, Kept
from tests.chaos.observer import Member, Observer
from tests.chaos.proxy import Proxy
from tests.support.tasks import Gate
from tests.support.waiting import wait_for

S = State
BOTH = pytest.mark.parametrize("isolation", list(Isolation))
SHARED, WORKTREE = Isolation.SHARED, Isolation.WORKTREE
AGAIN_WITHIN_SECONDS = 10.0  # from the death of a worker to the next agent
GONE_WITHIN_SECONDS = 4.0  # of an agent whose worker, warden or task went away
FENCED_WITHIN_SECONDS = 8.0  # of an agent whose worker comes back and holds the task no more
TICKET_WITHIN_SECONDS = 15.0
FREEZE_SECONDS = 12.0
OUTAGE_SECONDS = 8.0

pytestmark = pytest.mark.timeout(240)

Measured = Callable[[str, object], None]


@pytest.fixture
def observer(arena: Arena) -> Iterator[Observer]:
    plans = ("project/.dispatch/tasks/*/plan.md", "d/worktrees/*/*/.dispatch/tasks/*/plan.md")
    made = Observer(arena.box.folder, plans)
    yield made
    made.close()


def counting(count: int = 12, pause: float = 0.3) -> tuple[str, ...]:
    """Items that each take a while and write a line."""
    return tuple(f"{number}: `sleep {pause}; echo {number} >> counters.txt`" for number in range(1, count + 1))


def holder(arena: Arena, ref: Ref) -> Kept:
    """The worker that runs the task."""
    name = wait_for(lambda: arena.record(ref).worker, "a worker to hold the task")
    return next(kept for kept in arena.workers if name.endswith(f":{kept.pid}"))


def agent_of(observer: Observer, ref: Ref) -> Member:
    return wait_for(lambda: _only(observer, ref, "agent"), f"an agent of {ref.task}")


def _only(observer: Observer, ref: Ref, role: str) -> Member | None:
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
        wait_for(settled, "files and Redis to agree, and no process to be left", 8)
    complaints += [*checks.ticks_kept(arena, observer, refs), *checks.legal(arena, refs)]
    assert not complaints, "\n".join([*complaints, *(arena.told(ref) for ref in refs[:1])])


# -- the server -------------------------------------------------------------------------------------------------------


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


# -- the link ---------------------------------------------------------------------------------------------------------


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


# -- workers ----------------------------------------------------------------------------------------------------------


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
    wait_for(lambda: _only(observer, ref, "agent"), "the next agent", AGAIN_WITHIN_SECONDS)
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


@BOTH
@pytest.mark.parametrize("victim", ["agent", "warden"])
def test_a_killed_agent_or_warden_leaves_nothing_and_the_task_goes_on(
    arena: Arena, observer: Observer, victim: str, isolation: Isolation
) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", counting(), isolation)
    arena.await_ticks(ref, 2)
    tree = agent_of(observer, ref).mark

    os.kill(wait_for(lambda: _only(observer, ref, victim), f"the {victim}").pid, signal.SIGKILL)

    wait_for(lambda: none_lives(observer, tree), "the tree to be gone", GONE_WITHIN_SECONDS)
    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 2
    assert not [*checks.never_twice(observer)]


def test_a_worker_and_its_warden_killed_at_once_leave_nothing(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1", restart_after=1.0)
    ref = arena.send("t", ("1: `sleep 40`",), SHARED)
    agent = agent_of(observer, ref)
    wait_for(lambda: [m for m in observer.members() if m.role == "child"], "the agent's own child")

    warden = _only(observer, ref, "warden")
    assert warden is not None
    os.kill(warden.pid, signal.SIGKILL)
    arena.workers[0].kill()

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


# -- files and tickets ------------------------------------------------------------------------------------------------


@BOTH
def test_a_task_whose_folder_is_deleted_while_it_runs_ends_and_hurts_no_other(
    arena: Arena, observer: Observer, isolation: Isolation
) -> None:
    worker = arena.add_worker("w1")
    pid = worker.pid
    gone = arena.send("gone", counting(30), isolation)
    other = arena.send("other", counting(10), isolation)
    arena.await_ticks(gone, 2)
    tree = agent_of(observer, gone).mark

    shutil.rmtree(arena.home("gone").path)

    wait_for(lambda: none_lives(observer, tree), "its agent to be gone", 20)
    wait_for(lambda: (found := arena.store.record(gone)) is None or found.state in FINAL, "Redis to let it go", 20)
    well(arena, observer, other)
    assert worker.running
    assert worker.pid == pid
    arena.box.run("ls")


def test_a_torn_last_line_of_a_journal_is_mended(arena: Arena, observer: Observer) -> None:
    arena.add_worker("w1")
    ref = arena.send("t", counting(), SHARED)
    arena.await_ticks(ref, 2)
    arena.workers[0].kill()
    with open(arena.home("t").path / taskdir.JOURNAL, "ab") as journal:
        journal.write(b'{"seq":9,"event":"ti')

    arena.box.run("ls")
    well(arena, observer, ref)
    assert all(line.endswith(b"}") for line in (arena.home("t").path / taskdir.JOURNAL).read_bytes().splitlines())


def test_a_lost_ticket_is_sent_again(arena: Arena, observer: Observer, measured: Measured) -> None:
    arena.add_worker("w1")
    arena.workers[0].restart_after = None
    arena.workers[0].kill()
    refs = [arena.send(f"t{number}", counting(1), isolation) for number, isolation in enumerate([SHARED, WORKTREE])]
    for ref in refs:
        assert arena.store._redis.delete(keys.queue(arena.record(ref).queue)) == 1

    arena.add_worker("w2")
    at = time.monotonic()

    for ref in refs:
        arena.await_state(ref, S.DONE, limit=TICKET_WITHIN_SECONDS + 5)
    measured("done, seconds after the worker was there", f"{time.monotonic() - at:.1f}")
    well(arena, observer, *refs)


def test_a_record_of_a_newer_version_is_left_alone(arena: Arena, observer: Observer) -> None:
    ref = arena.send("newer", counting(1), SHARED)
    path = arena.home("newer").path / taskdir.TASK
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    arena.add_worker("w1")
    after = arena.send("after", counting(1), SHARED)

    well(arena, observer, after)

    assert (arena.standing(ref).state, arena.record(ref).state) == (S.QUEUED, S.QUEUED), arena.told(ref)
    assert b"newer version" in arena.log_of("w1").read_bytes()


# -- clocks -----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_clock_that_is_set_by_an_hour_costs_no_attempt(
    arena: Arena, observer: Observer, isolation: Isolation, tmp_path: Path
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("no libfaketime: apt install faketime")
    if isolation is Isolation.WORKTREE:
        pytest.skip("libfaketime breaks waiting for a child with a time limit, as every git command is waited for")
    steps = tmp_path / "steps"
    steps.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(steps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "FAKE_UTIME": "0",
    }
    arena.add_worker("w1", env=env)
    arena.add_worker("w2")
    ref = arena.send("t", ("ask: go on?", *counting(20)), isolation)
    arena.await_state(ref, S.ASKING)

    for step in ("+3600", "-3600", "+0"):
        steps.write_text(f"{step}\n")
        if step == "-3600":
            arena.answer(ref, 1, "yes")
        time.sleep(5.5)  # longer than a claim may be without a heartbeat

    well(arena, observer, ref)
    assert arena.standing(ref).attempt == 1
    assert not arena.standing(ref).tries
