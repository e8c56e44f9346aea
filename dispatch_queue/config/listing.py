"""Which models Cursor's CLI offers to this account: what `agent models` prints."""

import contextlib
import os
import re
import select
import signal
import subprocess
from datetime import timedelta
from typing import NamedTuple

from dispatch_queue.clock import SYSTEM
from dispatch_queue.config.schema import MODEL_ID_PATTERN

LISTING_LIMIT = timedelta(seconds=5)
_MAX_LISTING_BYTES = 1024 * 1024

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MARKER = re.compile(r"\(\s*(current|default)(?:\s*,\s*(?:current|default))*\s*\)")
_LINE = re.compile(rf"(?:[*•>]\s+)?({MODEL_ID_PATTERN})\s+-\s+\S.*")


class Listing(NamedTuple):
    """What `agent models` listed, the one it marked as current, and, where that is nothing, why."""

    models: list[str]
    current: str | None
    failure: str | None


def read_listing(text: str) -> tuple[list[str], str | None]:
    """The ids in the output of `agent models`, and the one marked as current; other lines mean nothing."""
    models: dict[str, None] = {}
    current = None
    for line in re.split(r"[\r\n]+", _ESCAPE.sub("", text)):
        marked = "(current" in line
        if found := _LINE.fullmatch(_MARKER.sub("", line).strip()):
            models[found[1]] = None
            current = found[1] if marked else current
    return list(models), current


def list_models(program: str, limit: timedelta = LISTING_LIMIT) -> Listing:
    """Run `PROGRAM models` and read what it lists; after `limit` it is ended with what it started."""
    try:
        process = subprocess.Popen(
            [program, "models"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Listing([], None, f"it cannot be started: {error.strerror}")
    assert process.stdout is not None
    deadline = SYSTEM.monotonic() + limit.total_seconds()
    output = None
    try:
        with process.stdout as stream:
            output = _read_until(stream.fileno(), deadline)
        if output is not None:
            process.wait(max(0.0, deadline - SYSTEM.monotonic()))
    except subprocess.TimeoutExpired:
        output = None
    finally:
        if output is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if output is None:
        return Listing([], None, f"no end after {limit.total_seconds():g} s")
    if process.returncode != 0:
        return Listing([], None, f"exit status {process.returncode}")
    models, current = read_listing(output.decode(errors="replace"))
    return Listing(models, current, None if models else "no line of it names a model")


def _read_until(handle: int, deadline: float) -> bytes | None:
    """All that comes before the end of the stream; None where that did not come in time or was too much."""
    output = b""
    while (left := deadline - SYSTEM.monotonic()) > 0 and len(output) <= _MAX_LISTING_BYTES:
        if select.select([handle], [], [], left)[0]:
            part = os.read(handle, 65536)
            if not part:
                return output
            output += part
    return None
