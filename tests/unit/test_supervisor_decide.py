"""When a supervisor stops its agent: a table over one look at the world, without a process or a clock."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.supervisor import Seen, Stop, decide, wait_seconds

CASES: list[tuple[str, dict[str, Any], Stop | None]] = [
    ("nothing is due", {"deadline": 101.0, "drain_at": 101.0}, None),
    ("no limits at all", {}, None),
    ("lost", {"lost": True}, Stop.LOST),
    ("hostile", {"broken": True}, Stop.BROKEN),
    ("drained", {"drain_at": 100.0}, Stop.DRAIN),
    ("out of time", {"deadline": 100.0}, Stop.TIMEOUT),
    ("asks, in time", {"asked_since": 90.0, "question_timeout": 10.5}, None),
    ("asks, too long", {"asked_since": 90.0, "question_timeout": 10.0}, Stop.PARK),
    ("asks, with no limit", {"asked_since": 0.0}, None),
    ("asked at the clock's zero, too long", {"asked_since": 0.0, "question_timeout": 10.0}, Stop.PARK),
    ("the claim before all else", {"lost": True, "broken": True, "drain_at": 0.0, "deadline": 0.0}, Stop.LOST),
    ("the record before the worker", {"broken": True, "drain_at": 0.0, "deadline": 0.0}, Stop.BROKEN),
    ("the worker before the time", {"drain_at": 99.0, "deadline": 1.0}, Stop.DRAIN),
    ("the time before the question", {"deadline": 99.0, "asked_since": 1.0, "question_timeout": 1.0}, Stop.TIMEOUT),
    ("stopped only once", {"lost": True, "stopping": True}, None),
    ("ended by itself", {"deadline": 0.0, "exited": True}, None),
]


@pytest.mark.parametrize(("facts", "stop"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_agent_is_stopped_for(facts: dict[str, Any], stop: Stop | None) -> None:
    assert decide(Seen(now=100.0, **facts)) is stop


TIMES = st.floats(0, 200)
LOOKS = st.builds(
    Seen,
    now=TIMES,
    drain_at=st.one_of(TIMES, st.just(float("inf"))),
    deadline=TIMES,
    asked_since=st.one_of(st.none(), TIMES),
    question_timeout=TIMES,
)


@given(LOOKS)
def test_a_supervisor_sleeps_exactly_until_something_is_due(seen: Seen) -> None:
    pause = wait_seconds(seen)

    assert pause >= 0
    assert (pause == 0) == (decide(seen) is not None)


def test_without_a_deadline_nothing_becomes_due() -> None:
    assert wait_seconds(Seen(now=5.0)) == float("inf")


@pytest.mark.parametrize(("exited", "stopping"), [(True, False), (False, True), (True, True)])
def test_an_agent_that_ends_or_is_being_ended_is_left_to_it(exited: bool, stopping: bool) -> None:
    for lost, broken in itertools.product((True, False), repeat=2):
        due = Seen(now=100.0, lost=lost, broken=broken, deadline=0.0, drain_at=0.0, exited=exited, stopping=stopping)
        assert decide(due) is None
