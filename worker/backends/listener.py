"""Hears an agent's output as it comes: what it is doing, what it has used, why it failed."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from dispatch_queue.clock import Clock
from dispatch_queue.oneline import in_one_line
from dispatch_queue.usage import Usage
from worker.backends.failures import Failure, Fault, fault_of, in_words, refused_option

MAX_LINE_BYTES = 4 * 1024 * 1024  # a longer line is passed over
TAIL_BYTES = 4096

Line = Mapping[str, Any]
Mask = Callable[[str], str]


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What one line tells; None where it tells nothing of that. `until` is when a limit ends."""

    activity: str | None = None
    model: str | None = None
    session: str | None = None
    usage: Usage | None = None
    denials: tuple[str, ...] | None = None
    retry: str | None = None
    until: datetime | None = None
    fault: Fault | None = None

    def through(self, mask: Mask) -> "Heard":
        """The same with each text of it through `mask`."""
        return dataclasses.replace(
            self,
            activity=self.activity and mask(self.activity),
            model=self.model and mask(self.model),
            session=self.session and mask(self.session),
            retry=self.retry and mask(self.retry),
            denials=self.denials and tuple(map(mask, self.denials)),
            fault=self.fault and self.fault.through(mask),
        )


Read = Callable[[Line, datetime], Heard | None]


@dataclasses.dataclass(slots=True)
class Report:
    """All that was heard of one run. `retries` counts the requests that a CLI made again by itself."""

    activity: str = ""
    model: str | None = None
    session: str | None = None
    usage: Usage = dataclasses.field(default_factory=Usage)
    denials: tuple[str, ...] = ()
    retries: int = 0
    last_retry: str | None = None
    until: datetime | None = None
    fault: Fault | None = None

    def take(self, heard: Heard) -> None:
        self.activity = heard.activity or self.activity
        self.model = heard.model or self.model
        self.session = heard.session or self.session
        self.usage = heard.usage or self.usage
        self.denials = self.denials if heard.denials is None else heard.denials
        self.until = heard.until or self.until
        self.fault = heard.fault or self.fault
        if heard.retry is not None:
            self.retries += 1
            self.last_retry = heard.retry

    def plain(self) -> dict[str, Any]:
        """For `result.json`."""
        return {
            "model": self.model,
            "session": self.session,
            "usage": dataclasses.asdict(self.usage),
            "denials": list(self.denials),
            "retries": self.retries,
        }


class Listener:
    """Fed with an agent's output in whatever pieces it comes; nothing in it can make it fail.

    What it tells has gone through `mask`: reading the output may put a secret together again that was not whole in it.
    """

    def __init__(self, read: Read | None, clock: Clock, mask: Mask = str) -> None:
        self.report = Report()
        self._read, self._clock, self._mask = read, clock, mask
        self._line = b""
        self._passing = False  # over the rest of a line that is too long
        self._tail = b""

    def feed(self, data: bytes) -> bool:
        """Take a piece of output; whether the agent has turned to something else."""
        before = self.report.activity
        *ended, rest = data.split(b"\n")
        for piece in ended:
            line = self._line + piece
            if not self._passing and len(line) <= MAX_LINE_BYTES:
                self._hear(line)
            self._line, self._passing = b"", False
        if not self._passing:
            self._line += rest
        if len(self._line) > MAX_LINE_BYTES:
            self._line, self._passing = b"", True
        return self.report.activity != before

    def fault(self, exit_code: int | None) -> Fault | None:
        """Why the CLI failed, now that it ended with `exit_code`; None where it did not fail.

        What it told as a failure counts, also with exit code 0; else, with another one, its last words. With None it
        did not end by itself, but by a signal or with its warden: then these tell nothing.
        """
        self.feed(b"\n")
        told = self._told(exit_code)
        return told and told.through(self._mask)

    def _told(self, exit_code: int | None) -> Fault | None:
        told = self.report.fault
        if told is not None:
            limited = told.kind is Failure.LIMIT and self.report.until is not None
            return dataclasses.replace(told, until=self.report.until) if limited else told
        if not exit_code:
            return None
        words = self._tail.decode(errors="replace").strip() or self.report.last_retry or ""
        text = in_one_line(in_words(words.splitlines()[-1]) if words else "") or f"exit status {exit_code}"
        if self._read and self.report.session is None and (option := refused_option(words)):
            return Fault(Failure.OPTION, in_one_line(option))
        # What a CLI without lines of its own printed may be anybody's words.
        guess = fault_of(words, self._clock.now()) if self._read else Fault(Failure.AGENT, words)
        missing = exit_code in (126, 127) and guess.kind is Failure.AGENT
        return dataclasses.replace(guess, kind=Failure.MISSING if missing else guess.kind, text=text)

    def last_words(self) -> str:
        """The last thing that the agent said, in words; "" where it said nothing."""
        tail = self._tail.decode(errors="replace").strip()
        told = self.report.fault.text if self.report.fault else refused_option(tail)
        return self._mask(told or (in_words(tail.splitlines()[-1]) if tail else "") or self.report.activity)

    def _hear(self, line: bytes) -> None:
        parsed: Any = None
        if self._read and line.startswith(b"{"):
            with contextlib.suppress(ValueError, RecursionError):
                parsed = json.loads(line)
        if self._read is None or not isinstance(parsed, dict):
            self._tail = (self._tail + line + b"\n")[-TAIL_BYTES:]
            return
        # A line of another shape than the CLI's is no reason to stop its agent.
        with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError, OverflowError, OSError):
            if heard := self._read(parsed, self._clock.now()):
                self.report.take(heard.through(self._mask))
