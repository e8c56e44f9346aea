"""The plan of a finished task, made ready for another round."""

from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import again, plan, producer
from dispatch_queue.errors import BadInput, Refused
from dispatch_queue.producer import Request
from dispatch_queue.record import Entry, Isolation
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import PLAN, TaskDir, create

MIXED = b"# P\n\n- [x] one\n- [!] two\n  it broke\n- [?] three\n- [ ] four\n"


def marks(data: bytes) -> str:
    return "".join(item.mark if item.mark is not plan.Mark.OPEN else "_" for item in plan.parse(data).items)


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        ({}, "x___"),
        ({"from_start": True}, "____"),
        ({"skip": [2]}, "xx__"),
        ({"skip": [4, 2, 2]}, "xx_x"),
        ({"from_start": True, "skip": [1]}, "x___"),
    ],
)
def test_failed_and_blocked_items_are_open_again_and_skipped_ones_checked(asked: dict[str, Any], after: str) -> None:
    assert marks(again.reopened(MIXED, **asked)) == after


def test_a_skipped_item_says_so_and_a_checked_one_is_left_alone() -> None:
    items = plan.parse(again.reopened(MIXED, skip=[1, 2])).items

    assert items[0].note == ""
    assert items[1].note.splitlines() == ["it broke", "skipped"]


def test_what_is_not_touched_stays_byte_for_byte() -> None:
    assert again.reopened(b"\r\n* [x] a\r\n") == b"\r\n* [x] a\r\n"


@pytest.mark.parametrize("number", [0, 5, -1])
def test_an_item_that_is_not_there_cannot_be_skipped(number: int) -> None:
    with pytest.raises(BadInput, match="the plan has 4"):
        again.reopened(MIXED, skip=[number])


def ended(base: Path, state: State, plan_bytes: bytes = MIXED, **asked: Any) -> TaskDir:
    made = producer.draft(Request(plan=plan_bytes, name="t", **asked), project_id="p")
    home = create(base, made.task, plan_bytes, Entry(1, "2026-11-23T12:00:00.000Z", Event.FAIL, "h:1", state))
    assert home.read(PLAN) == plan_bytes
    return home


def test_the_rest_of_a_task_is_asked_for_with_its_settings(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "title": "Big",
        "model": "opus",
        "backend": "claude",
        "preamble": "please",
        "isolation": Isolation.WORKTREE,
        "context": "c",
        "read": ("a.md",),
        "pool": "far",
        "priority": 0,
        "attempts": 9,
        "timeout": 60,
        "question_timeout": 7,
        "question_default": "yes",
        "verify": "make",
    }
    asked = again.rest_of(ended(tmp_path, State.FAILED, **settings, after=("gone",), hold=True))

    assert asked == Request(items=("two", "three", "four"), **settings)


@pytest.mark.parametrize("state", [State.RUNNING, State.QUEUED, State.WAITING])
def test_a_task_that_goes_on_has_no_rest(tmp_path: Path, state: State) -> None:
    with pytest.raises(Refused, match=f"is {state}"):
        again.rest_of(ended(tmp_path, state))


def test_a_task_with_nothing_left_has_no_rest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="every item") as caught:
        again.rest_of(ended(tmp_path, State.DONE, b"- [x] one\n"))
    assert caught.value.hint == "dispatch retry t --from-start"
