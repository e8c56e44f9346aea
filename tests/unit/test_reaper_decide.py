"""When a claim is dead, and when a ticket is lost: pure decisions over records and times."""

import dataclasses
import json

from dispatch_queue.change import Record
from dispatch_queue.record import Ref
from dispatch_queue.states import Event, State
from worker.reaper import DEAD_AFTER, Sight, dead, lose, observe, without_ticket

REF, OTHER = Ref("shop-1", "fix-bug"), Ref("shop-1", "add-auth")
WINDOW = DEAD_AFTER.total_seconds()


def record(ref: Ref = REF, **known: str) -> Record:
    fields = {"state": "running", "token": "3", "beat": "7", "worker": "box:1", "attempts": "3"}
    return Record.read(ref, fields | known)


def test_a_claim_is_dead_when_its_heartbeat_stands_still_for_the_whole_window() -> None:
    seen = observe({}, [record()], now=100.0)

    assert dead(seen, 100.0 + WINDOW - 0.01) == []
    assert dead(observe(seen, [record()], now=100.0 + WINDOW), 100.0 + WINDOW) == [REF]


def test_a_heartbeat_begins_the_window_anew() -> None:
    seen = observe({}, [record()], now=100.0)
    seen = observe(seen, [record(beat="8")], now=100.0 + WINDOW)

    assert seen[REF].since == 100.0 + WINDOW
    assert dead(seen, 100.0 + WINDOW) == []


def test_a_new_claim_begins_the_window_anew() -> None:
    seen = observe({}, [record()], now=100.0)

    assert observe(seen, [record(token=str(5))], now=104.0)[REF] == Sight(5, 7, 104.0)


def test_a_claim_that_ended_is_forgotten() -> None:
    assert observe({REF: Sight(3, 7, 100.0)}, [record(OTHER)], now=104.0).keys() == {OTHER}


def test_after_a_fault_of_redis_nothing_is_known() -> None:
    assert dead(observe({}, [record()], now=1e6), 1e6) == []


def test_a_claim_taken_back_is_queued_again_with_one_try_more() -> None:
    change = lose(record(tries="1"), at="now")

    assert (change.event, change.token, change.guard) == (Event.LOSE, 3, ("beat", "7"))
    assert change.fields["tries"] == 2
    assert json.loads(change.entries[0])["reason"] == "its worker box:1 died"


def test_the_last_try_that_is_lost_fails_the_task() -> None:
    change = lose(record(tries="2", questions="1"), at="now")

    assert change.event is Event.FAIL
    assert change.fields["questions"] == ""
    assert str(change.fields["reason"]).startswith("lost: its worker box:1 died")


def test_a_queued_task_has_lost_its_ticket_when_two_looks_miss_it() -> None:
    queued = dataclasses.replace(record(), state=State.QUEUED, sent=1)
    missing, lost = without_ticket([queued], frozenset(), {})
    assert (missing, lost) == ({REF: 1}, [])

    assert without_ticket([queued], frozenset(), missing)[1] == [queued]


def test_a_ticket_sent_meanwhile_is_not_lost() -> None:
    queued = dataclasses.replace(record(), state=State.QUEUED, sent=2)

    assert without_ticket([queued], frozenset(), {REF: 1})[1] == []


def test_a_ticket_in_the_queue_is_not_lost() -> None:
    queued = dataclasses.replace(record(), state=State.QUEUED, sent=1)

    assert without_ticket([queued], frozenset({REF}), {REF: 1}) == ({}, [])
