"""agent.log as a person reads it: the events of a CLI that speaks JSON in words, any other line as it is."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dispatch_queue import files
from dispatch_queue.cli import render
from dispatch_queue.cli.spoken import Told, is_event, told
from dispatch_queue.clock import stamp
from dispatch_queue.errors import UntrustedPath
from dispatch_queue.overview import Doing
from dispatch_queue.taskdir import TaskDir

MAX_LINE_BYTES = 4 * 1024 * 1024  # of a longer line only the beginning is shown
_HEAD_BYTES = 200
_TAILS_BYTES = (16 * 1024, 1024 * 1024)  # to look for what an agent does; the second where the first tells nothing
_INDENT = 8
_DOES = frozenset({"tool", "said", "thinks", "edit", "todo", "retry", "limit", "error"})

COLOURS = {
    "tool": "cyan",
    "edit": "cyan",
    "retry": "yellow",
    "limit": "yellow",
    "warning": "yellow",
    "error": "red",
    "denied": "red",
    "begin": "green",
    "end": "green",
}


class Reader:
    """Fed with a transcript in whatever pieces it comes. Nothing in it makes it fail, or hold more than a line."""

    def __init__(self) -> None:
        self._line = b""
        self._length = 0  # of the line so far; more than is held once it is too long
        self._speaks = False  # an event was seen, so what is not known is one too
        self._last = Told("", "")
        self._denied = False  # a denial was told when it happened

    def feed(self, data: bytes) -> Iterator[Told]:
        """What the lines tell that end in `data`."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            yield from self._take()
        self._add(rest)

    def end(self) -> Iterator[Told]:
        """What a last line without its end tells."""
        if self._length:
            yield from self._take()

    def _add(self, piece: bytes) -> None:
        self._length += len(piece)
        room = (MAX_LINE_BYTES if self._length <= MAX_LINE_BYTES else _HEAD_BYTES) - len(self._line)
        self._line = self._line[:_HEAD_BYTES] if room < 0 else self._line + piece[:room]

    def _take(self) -> Iterator[Told]:
        line, length = self._line.removesuffix(b"\r"), self._length
        self._line, self._length = b"", 0
        if length > MAX_LINE_BYTES:
            yield Told("", f"{line.decode(errors='replace')}… (a line of {length} bytes; --raw prints all of it)")
            return
        event = _event(line)
        self._speaks = self._speaks or is_event(event)
        if self._speaks and isinstance(event, dict) and isinstance(event.get("type"), str):
            yield from self._fresh(told(event))
        elif line.strip() or not self._speaks:
            yield Told("", line.decode(errors="replace"))

    def _fresh(self, found: list[Told]) -> Iterator[Told]:
        """What was not told before: a CLI says a failure twice, denials again at its end, one retry for hours."""
        known = self._denied and any(one.kind == "end" for one in found)
        for one in found:
            again = known if one.kind == "denied" else one == self._last and one.kind in ("retry", "error")
            self._denied = self._denied or one.kind == "denied"
            self._last = one
            if not again:
                yield one


def _event(line: bytes) -> Any:
    if not line.startswith(b"{"):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def lines(one: Told) -> Iterator[str]:
    """What was told as lines that a terminal can be given."""
    first, *more = render.plain(one.text).split("\n")
    yield f"{one.kind:<{_INDENT}}{first}" if one.kind else first
    for text in more:
        yield f"{'':<{_INDENT}}{text}" if one.kind else text


def doing(home: TaskDir, attempt: int) -> Doing | None:
    """What an agent does, by the end of its transcript; None while that tells nothing.

    `since` is when the transcript grew last.
    """
    try:
        with open(files.open_read(home.base, home.name(f"attempts/{attempt}/agent.log")), "rb") as stream:
            found = os.fstat(stream.fileno())
            for span in _TAILS_BYTES:
                tail = os.pread(stream.fileno(), span, max(0, found.st_size - span))
                text = _last(tail if span >= found.st_size else tail.partition(b"\n")[2])
                if text or span >= found.st_size:
                    break
    except (OSError, UntrustedPath):
        return None
    return Doing(render.line(text), stamp(datetime.fromtimestamp(found.st_mtime, UTC))) if text else None


def _last(data: bytes) -> str:
    """The last thing that whole lines tell an agent does, else the last of them; "" if there is none."""
    does = line = ""
    for one in Reader().feed(data):
        if one.kind in _DOES:
            does = one.text
        elif not one.kind and one.text.strip():
            line = one.text
    return does or line
