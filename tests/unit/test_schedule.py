"""What a waiting task waits for, as it is said, written and read again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dispatch_queue import producer, schedule, waiting
from dispatch_queue.errors import BadInput
from dispatch_queue.producer import Request
from dispatch_queue.record import Entry, Standing, current, dump_task, fold, load_task, parse_entry, step
from dispatch_queue.states import TRANSITIONS, Event, State

AT = "2026-11-23T12:00:00.000Z"
LATER = "2026-11-24T12:00:00.000Z"


class Noon:
    """A clock whose hands stand still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


def first(**asked: Any) -> Entry:
    """The first entry of a journal, as it is read again."""
    drafted = producer.draft(Request(items=("one",), name="t", **asked), project_id="p", clock=Noon())
    assert load_task(dump_task(drafted.task)) == drafted.task
    return parse_entry(producer.first_entry(drafted).line())


def entry(seq: int, event: str, state: State | None = None, **facts: Any) -> Entry:
    return Entry(seq, AT, event, "h:1", state, facts)


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        ({}, ""),
        ({"after": ["lint", "build-api"]}, "after build-api, lint"),
        ({"after": list("gfedcba")}, "after a, b, c, d and 3 more"),
        ({"held": True}, "held: dispatch release t"),
        ({"held": True, "after": ["a"], "until": "?"}, "held: dispatch release t; after a; until ?"),
    ],
)
def test_a_reason_names_all_that_is_waited_for_and_what_to_do(waits: dict[str, Any], said: str) -> None:
    assert waiting.reason("t", **waits) == said


def test_a_task_that_waits_for_nothing_is_queued() -> None:
    made = first()

    assert (made.event, made.state) == (Event.SUBMIT, State.QUEUED)
    assert not {"held", "after", "until"} & made.facts.keys()


@pytest.mark.parametrize(
    ("asked", "held", "after", "until"),
    [
        ({"after": ("a", "b")}, False, ("a", "b"), ""),
        ({"not_before": LATER}, False, (), LATER),
        ({"hold": True}, True, (), ""),
        ({"hold": True, "after": ("a",), "not_before": LATER}, True, ("a",), LATER),
    ],
)
def test_all_that_a_task_waits_for_can_be_read_off_its_journal(
    asked: dict[str, Any], held: bool, after: tuple[str, ...], until: str
) -> None:
    made = first(**asked)
    standing = fold([made])

    assert TRANSITIONS[None, Event(made.event)] is made.state is State.WAITING
    assert (standing.held, standing.after, standing.until) == (held, after, until)
    assert standing.reason == waiting.reason("t", held=held, after=after, until=until)


def test_what_has_ended_is_waited_for_no_more() -> None:
    standing = step(
        fold([first(after=("a", "b"), hold=True)]), entry(2, "release", ended="a", reason="held: x; after b")
    )

    assert (standing.state, standing.after, standing.held) == (State.WAITING, ("b",), True)
    assert standing.reason == "held: x; after b"
    assert not step(standing, entry(3, "release", held=False)).held


def test_a_task_that_goes_waits_for_nothing_any_more_also_when_it_is_held_again() -> None:
    gone = step(fold([first(after=("a",), not_before=LATER)]), entry(2, "release", State.QUEUED))
    held = step(gone, entry(3, "hold", State.WAITING, held=True, reason="held: y"))

    assert (gone.state, gone.after, gone.until, gone.reason) == (State.QUEUED, (), "", "")
    assert (held.state, held.after, held.until, held.held) == (State.WAITING, (), "", True)


@pytest.mark.parametrize(
    "facts",
    [
        {"after": "abc"},
        {"after": {"a": 1}},
        {"after": ["../../etc", 7, None, "A", ""]},
        {"after": None, "until": None, "held": "yes", "ended": ["a"]},
    ],
)
def test_a_journal_that_says_nonsense_names_no_task_to_wait_for(facts: dict[str, Any]) -> None:
    standing = fold([parse_entry(entry(1, "hold", State.WAITING, **facts).line())])

    assert (standing.after, standing.held) == ((), False)


def test_a_retry_with_another_model_is_what_the_next_attempt_runs_with() -> None:
    task = producer.draft(Request(items=("one",), model="opus", backend="claude", preamble="p"), project_id="p").task
    failed = fold([first(), entry(2, "fail", State.FAILED, model="of somebody else")])
    retried = step(failed, entry(3, "retry", State.QUEUED, model="gpt", backend="codex", preamble=""))

    assert current(task, failed) == task
    assert current(task, retried) == replace(task, model="gpt", backend="codex", preamble="")
    assert current(task, step(retried, entry(4, "retry", State.QUEUED))).model == "gpt"
    assert current(task, Standing()) == task


@pytest.mark.parametrize(
    ("given", "names"),
    [((), []), (("a,b", "c"), ["a", "b", "c"]), ((" a , a", "", ",b,"), ["a", "b"])],
)
def test_names_are_given_one_by_one_or_with_commas(given: tuple[str, ...], names: list[str]) -> None:
    assert schedule.names_in(given) == names


def test_a_task_waits_for_so_many_and_no_more() -> None:
    with pytest.raises(BadInput, match=str(schedule.LIMIT_AFTER)):
        schedule.names_in([f"t-{number}" for number in range(schedule.LIMIT_AFTER + 1)])


def test_a_time_and_a_delay_are_one_too_many() -> None:
    with pytest.raises(BadInput, match="both"):
        schedule.not_before("16:00", "1h", clock=Noon())
    assert schedule.not_before("", "1h", clock=Noon()) == "2026-11-23T13:00:00.000Z"
    assert schedule.not_before("", "", clock=Noon()) == ""


def test_the_time_of_a_task_is_no_part_of_what_it_is_recognised_by() -> None:
    assert Request(not_before=AT).fingerprint() == Request(not_before=LATER).fingerprint() == Request().fingerprint()
    assert Request(after=("a",)).fingerprint() != Request().fingerprint()
