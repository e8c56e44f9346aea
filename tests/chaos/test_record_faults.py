"""Faults of records, tickets and clocks, one at a time, on real processes."""

import shutil
import sys
import time
from pathlib import Path

import pytest

from dispatch_queue import keys, taskdir
from dispatch_queue.clock import parse_stamp
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import FINAL
from dispatch_queue.store import Store
from tests.chaos import stepped_clock
from tests.chaos.arena import Arena
from tests.chaos.faults import (
    BOTH,
    SHARED,
    TICKET_WITHIN_SECONDS,
    WORKTREE,
    Measured,
    S,
    agent_of,
    counting,
    none_lives,
    well,
)
from tests.chaos.observer import Observer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

LONGER_THAN_A_DEAD_CLAIM_SECONDS = 5.5


# -- files and tickets -------------------------------------------------------------------------------------------------


@pytest.mark.slice
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


@pytest.mark.slice
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


@pytest.mark.slice
def test_a_record_of_a_newer_version_is_left_alone(arena: Arena, observer: Observer) -> None:
    ref = arena.send("newer", counting(1), SHARED)
    path = arena.home("newer").path / taskdir.TASK
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    arena.add_worker("w1")
    after = arena.send("after", counting(1), SHARED)

    well(arena, observer, after)

    assert (arena.standing(ref).state, arena.record(ref).state) == (S.QUEUED, S.QUEUED), arena.told(ref)
    assert b"newer version" in arena.log_of("w1").read_bytes()
    for words in (["ls"], ["show", "newer"], ["status", "newer"]):
        assert "newer version" in arena.box.run(*words).stdout, words


# -- clocks -----------------------------------------------------------------------------------------------------------


@BOTH
def test_the_clock_of_a_worker_that_is_set_by_an_hour_costs_no_attempt(
    arena: Arena, observer: Observer, isolation: Isolation, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    stepped_clock.set_to(steps, 0)
    arena.add_worker("w1", before=(sys.executable, "-P", stepped_clock.__file__, str(steps)))
    ref = arena.send("t", (*counting(20), "ask: go on?", *counting(40)[20:]), isolation)
    arena.await_ticks(ref, 1)
    arena.add_worker("w2")

    stepped_clock.set_to(steps, 3600)
    arena.await_state(ref, S.ASKING)
    stepped_clock.set_to(steps, -3600)
    time.sleep(LONGER_THAN_A_DEAD_CLAIM_SECONDS)
    arena.answer(ref, 1, "yes")
    arena.await_ticks(ref, 30)
    stepped_clock.set_to(steps, 0)

    well(arena, observer, ref)
    assert hours_of_ticks(arena, ref) == {0, 1, -1}, "the worker did not see its clock being set"
    assert (arena.standing(ref).attempt, arena.standing(ref).tries) == (1, 0), arena.told(ref)


def hours_of_ticks(arena: Arena, ref: Ref) -> set[int]:
    """By how many hours the ticks are dated away from the first."""
    ticks = [parse_stamp(entry.at) for entry in arena.home(ref.task).entries() if entry.event == "tick"]
    return {round((tick - ticks[0]).total_seconds() / 3600) for tick in ticks}


def test_the_clock_of_the_server_that_is_set_by_an_hour_costs_no_attempt(
    arena: Arena, observer: Observer, tmp_path: Path
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        pytest.skip("no libfaketime: apt install faketime")
    steps = tmp_path / "steps"
    steps.write_text("+0")
    arena.box.env.update(
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(steps),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    arena.server.kill()
    arena.await_server()
    del arena.box.env["LD_PRELOAD"]
    arena.add_worker("w1")
    arena.add_worker("w2")
    ref = arena.send("t", ("ask: go on?", *counting(20)), SHARED)
    arena.await_state(ref, S.ASKING)

    for step in ("+3600", "-3600", "+0"):
        steps.write_text(step)
        wait_for(lambda step=step: hours_of(arena.store) == int(step) // 3600, "the server's clock to be set")
        if step == "-3600":
            arena.answer(ref, 1, "yes")
        time.sleep(LONGER_THAN_A_DEAD_CLAIM_SECONDS)

    well(arena, observer, ref)
    assert (arena.standing(ref).attempt, arena.standing(ref).tries) == (1, 0), arena.told(ref)


def hours_of(store: Store) -> int:
    """By how many hours the server's clock is away from ours."""
    seconds: int = store._redis.time()[0]
    return round((seconds - time.time()) / 3600)
