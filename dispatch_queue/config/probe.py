"""A short look at an installed program: run it, and read what it prints, for so long and so much at most."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from dispatch_queue.clock import SYSTEM

LIMIT = timedelta(seconds=5)
_MAX_BYTES = 4 * 1024 * 1024  # codex 0.169.0 lists its models in 745 KB


class Answer(NamedTuple):
    """What a program printed, and its exit status; `failure` says why there is none of these."""

    text: str = ""
    code: int | None = None
    failure: str | None = None


def ask(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, limit: timedelta = LIMIT, errors: bool = True
) -> Answer:
    """Run a program with nothing on its standard input; after `limit` it is ended with what it started.

    With `errors` its standard error is read too.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        return Answer(failure=f"it cannot be started: {error.strerror}")
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
        return Answer(failure=f"no end after {limit.total_seconds():g} s")
    return Answer(output.decode(errors="replace"), process.returncode)


def _read_until(handle: int, deadline: float) -> bytes | None:
    """All that comes before the end of the stream; None where that did not come in time or was too much."""
    output = b""
    while (left := deadline - SYSTEM.monotonic()) > 0 and len(output) <= _MAX_BYTES:
        if select.select([handle], [], [], left)[0]:
            part = os.read(handle, 65536)
            if not part:
                return output
            output += part
    return None
