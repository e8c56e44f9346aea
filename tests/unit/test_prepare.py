"""Which session of a CLI a later attempt carries on."""

from typing import Any

import pytest

from worker.prepare import session_to_resume

LAST: dict[str, Any] = {"attempt": 1, "end": "park", "session": "s-1", "host": "box", "backend": "claude"}


def chosen(*results: dict[str, Any]) -> str | None:
    return session_to_resume(results, host="box", backend="claude")


def test_the_last_attempts_session_is_carried_on() -> None:
    assert chosen(LAST) == "s-1"
    assert chosen({**LAST, "session": "s-0"}, {**LAST, "attempt": 2}) == "s-1"


@pytest.mark.parametrize(
    "last",
    [
        {**LAST, "session": None},
        {**LAST, "host": "other"},
        {**LAST, "backend": "codex"},
        {**LAST, "resumed": True, "progressed": False},
    ],
    ids=["it had none", "another host", "another backend", "carrying it on led nowhere"],
)
def test_a_fresh_session_is_begun_when(last: dict[str, Any]) -> None:
    assert chosen(last) is None


def test_an_attempt_without_a_result_is_passed_over() -> None:
    assert chosen(LAST, {"attempt": 2, "end": None}) == "s-1"


def test_a_first_attempt_begins_one() -> None:
    assert chosen() is None
