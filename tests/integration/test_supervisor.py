"""A supervisor with a real agent under a real warden, told that its worker stops."""

import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest

from dispatch_queue.clock import SYSTEM
from tests.support.children import agent_that, living_below
from tests.support.waiting import wait_for
from worker import supervisor
from worker.masking import NO_SECRETS
from worker.process import Command, ProcessExit, spawn
from worker.supervisor import Limits, Mailbox, Stop, Watching, supervise
from worker.transcript import Transcript

KILLED = ProcessExit(signal=9)


@pytest.mark.parametrize("told", [("drain-now",), ("drain", "drain-now")])
def test_an_agent_that_ignores_its_end_is_killed_at_once_when_the_worker_is_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Sequence[str]
) -> None:
    monkeypatch.setattr(supervisor, "GRACE", timedelta(minutes=10))
    process = spawn(Command(agent_that("ignores_sigterm"), tmp_path, dict(os.environ)))
    mailbox, transcript = Mailbox(), Transcript(BytesIO(), NO_SECRETS)
    turns: list[set[str]] = []
    found: list[tuple[ProcessExit, Stop | None]] = []

    def turn(words: set[str]) -> Watching:
        turns.append(words)
        return Watching(lost=False, broken=False, asked_since=None)

    limits = Limits(timeout=600, question=600, drain=lambda: 0, quiet=600)
    thread = threading.Thread(
        target=lambda: found.append(supervise(process, mailbox, transcript, turn, clock=SYSTEM, limits=limits))
    )
    thread.start()
    wait_for(lambda: b"ready" in transcript.tail, "the agent to be ready")
    for word in told:
        mailbox.tell(word)
        wait_for(lambda word=word: any(word in words for words in turns), f"the supervisor to hear {word}")

    wait_for(lambda: not thread.is_alive(), "the end of the agent", 30)

    assert found == [(KILLED, Stop.DRAIN)]
    assert living_below(tmp_path) == []
    process.close()
    mailbox.close()
