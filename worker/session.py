"""Which session of its CLI an attempt carries on, so that the agent knows what it knew before."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dispatch_queue import files, overview
from dispatch_queue.errors import DispatchError
from dispatch_queue.states import Event
from dispatch_queue.taskdir import TaskDir
from worker.backends.failures import Failure
from worker.backends.listener import Listener

HEAD_BYTES = 256 * 1024  # of a transcript; a session is told of in its first lines
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")  # what may become a word of a command


def to_resume(home: TaskDir, *, before: int, host: str, backend: str, listener: Listener) -> str | None:
    """The session that the attempt after `before` carries on; None for a fresh one.

    `listener` hears what a worker that died could not report of its attempt.
    """
    results = [result for result in overview.attempts(home) if result["attempt"] <= before]
    if results and results[-1]["end"] is None:
        results[-1] |= lost(home, results[-1]["attempt"], listener)
    return chosen(results, host=host, backend=backend)


def chosen(results: Sequence[Mapping[str, Any]], *, host: str, backend: str) -> str | None:
    """The session of the last attempt, if it was here and did not fail in carrying one on."""
    ended = [result for result in results if result.get("end") is not None]
    if not ended:
        return None
    last = ended[-1]
    session, failure = last.get("session"), last.get("failure")
    kind = failure.get("kind") if isinstance(failure, dict) else None
    stuck = last.get("resumed") and not last.get("progressed") and kind in (None, Failure.AGENT)
    if kind == Failure.SESSION or stuck or last.get("host") != host or last.get("backend") != backend:
        return None
    return session if isinstance(session, str) and _ID.fullmatch(session) else None


def lost(home: TaskDir, attempt: int, listener: Listener) -> Mapping[str, Any]:
    """What can still be told of an attempt whose worker died: by the journal, and by the transcript so far."""
    try:
        entries = [entry for entry in home.entries() if entry.facts.get("attempt") == attempt]
        handle = files.open_read(home.base, home.name(f"attempts/{attempt}/agent.log"))
    except (DispatchError, OSError):
        return {}
    with os.fdopen(handle, "rb") as stream:
        listener.feed(stream.read(HEAD_BYTES))
    claim = next((entry for entry in entries if entry.event == Event.CLAIM), None)
    begun = next((entry for entry in entries if entry.event == "attempt"), None)
    return {
        "end": Event.LOSE,
        "host": claim.facts.get("host") if claim else None,
        "backend": begun.facts.get("backend") if begun else None,
        "session": listener.report.session,
    }
