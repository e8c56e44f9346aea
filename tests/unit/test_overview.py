"""A task as a person looks at it: what its journal tells of warnings, and of attempts that left no result."""

from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import overview, taskdir
from dispatch_queue.overview import Warned
from dispatch_queue.record import Entry, Isolation, Task
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir

AT = "2026-11-23T12:00:00.000Z"
TASK = Task("a-task", "p", "A task", "shell", "shell", Isolation.SHARED, "h", AT)
SUBMIT = Entry(1, AT, Event.SUBMIT, "h:1", State.QUEUED)


@pytest.fixture
def home(tmp_path: Path) -> TaskDir:
    return taskdir.create(tmp_path, TASK, b"- [ ] one\n", SUBMIT)


def happen(home: TaskDir, *entries: tuple[str, State | None, dict[str, Any]]) -> None:
    """Let the journal go on with these."""
    with (home.path / taskdir.JOURNAL).open("a") as journal:
        for seq, (event, state, facts) in enumerate(entries, 2):
            journal.write(Entry(seq, f"2026-11-23T12:{seq:02}:00.000Z", event, "h:1", state, facts).line() + "\n")


def claim(attempt: int) -> tuple[str, State | None, dict[str, Any]]:
    return Event.CLAIM, State.RUNNING, {"attempt": attempt, "token": attempt, "worker": "h:7"}


def warning(text: str) -> tuple[str, State | None, dict[str, Any]]:
    return "warning", None, {"text": text}


def lose(attempt: int) -> tuple[str, State | None, dict[str, Any]]:
    return Event.LOSE, State.QUEUED, {"attempt": attempt, "reason": "its worker h:7 died", "tries": attempt}


def test_an_attempt_whose_worker_died_has_the_reason_that_the_journal_gives(home: TaskDir) -> None:
    for number in (1, 2):
        home.attempt_folder(number)
    happen(home, claim(1), lose(1), claim(2))

    assert overview.attempts(home) == [
        {"attempt": 1, "end": None, "reason": "its worker h:7 died"},
        {"attempt": 2, "end": None},
    ]


def test_warnings_are_told_once_each_with_the_attempt_that_had_them_last(home: TaskDir) -> None:
    happen(home, claim(1), warning("left out: a"), warning("b"), lose(1), claim(2), warning("left out: a"))

    assert overview.warnings(home) == [
        Warned(1, "2026-11-23T12:04:00.000Z", "b"),
        Warned(2, "2026-11-23T12:07:00.000Z", "left out: a"),
    ]
    assert home.standing().warned


def test_of_many_warnings_the_newest_are_told(home: TaskDir) -> None:
    happen(home, claim(1), *(warning(str(number)) for number in range(20)))

    assert [one.text for one in overview.warnings(home)] == ["15", "16", "17", "18", "19"]


def test_a_task_that_was_queued_again_by_a_person_has_not_warned_yet(home: TaskDir) -> None:
    happen(home, claim(1), warning("a"), (Event.RETRY, State.QUEUED, {}))

    assert not home.standing().warned
