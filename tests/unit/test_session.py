"""Which session of a CLI a later attempt carries on."""

from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import files
from dispatch_queue.clock import SYSTEM
from dispatch_queue.record import Entry
from dispatch_queue.states import State
from dispatch_queue.taskdir import TaskDir
from worker.backends.claude import CLAUDE
from worker.backends.listener import Listener
from worker.session import chosen as chosen_of
from worker.session import to_resume

AT = "2026-11-23T12:00:00.000Z"

LAST: dict[str, Any] = {"attempt": 1, "end": "park", "session": "s-1", "host": "box", "backend": "claude"}


def chosen(*results: dict[str, Any]) -> str | None:
    return chosen_of(results, host="box", backend="claude")


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
        {**LAST, "failure": {"kind": "session", "text": "No conversation found"}},
        {**LAST, "session": "--dangerous"},
        {**LAST, "session": ["s-1"]},
    ],
    ids=["none", "another host", "another backend", "it led nowhere", "it is gone", "an option", "no text"],
)
def test_a_fresh_session_is_begun_when(last: dict[str, Any]) -> None:
    assert chosen(last) is None


def test_an_attempt_without_a_result_is_passed_over() -> None:
    assert chosen(LAST, {"attempt": 2, "end": None}) == "s-1"


def test_a_first_attempt_begins_one() -> None:
    assert chosen() is None


def test_a_lost_attempt_is_carried_on_as_its_journal_and_its_transcript_tell(tmp_path: Path) -> None:
    home = lost_after(tmp_path, b'{"type":"system","subtype":"init","model":"m","session_id":"s-2"}\n{"type":"assi')

    assert resumed(home) == "s-2"
    assert resumed(home, host="other") is None
    assert resumed(home, backend="codex") is None


@pytest.mark.parametrize("transcript", [b"", b"s-2\n", b'{"type":"system","subtype":"init"}\n', None])
def test_a_lost_attempt_that_told_of_no_session_is_followed_by_a_fresh_one(
    tmp_path: Path, transcript: bytes | None
) -> None:
    assert resumed(lost_after(tmp_path, transcript)) is None


def lost_after(base: Path, transcript: bytes | None) -> TaskDir:
    """The home copy of a task whose first attempt printed this, and has no result."""
    home = TaskDir(base, "work")
    facts = {"claim": {"host": "box"}, "attempt": {"backend": "claude"}, "lose": {}}
    entries = [
        Entry(seq, AT, event, "me", State.RUNNING if event == "claim" else None, {"attempt": 1, **given})
        for seq, (event, given) in enumerate(facts.items(), 1)
    ]
    files.write(base, home.name("journal.jsonl"), "".join(f"{entry.line()}\n" for entry in entries).encode())
    files.make_folder(base, home.name("attempts/1"))
    if transcript is not None:
        files.write(base, home.name("attempts/1/agent.log"), transcript)
    return home


def resumed(home: TaskDir, *, host: str = "box", backend: str = "claude") -> str | None:
    return to_resume(home, before=1, host=host, backend=backend, listener=Listener(CLAUDE.read, SYSTEM))
