"""Taking times. All of them are taken in this one process on one monotonic clock, in milliseconds.

What another process does is timed when this one notices: by being woken through a pipe, which takes some 0.1 ms, or
by looking every `LOOK_EVERY_SECONDS`. Both make a number larger, never smaller.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

LOOK_EVERY_SECONDS = 0.0003
GIVE_UP_AFTER_SECONDS = 30.0


class TooLong(Exception):
    """Something that was to be timed did not happen in `GIVE_UP_AFTER_SECONDS`."""


def now() -> float:
    """Milliseconds."""
    return time.monotonic() * 1000


def when(condition: Callable[[], bool], what: str) -> float:
    """Look until the condition holds; the time just after it did. Raises TooLong."""
    deadline = time.monotonic() + GIVE_UP_AFTER_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TooLong(f"waited {GIVE_UP_AFTER_SECONDS:g} s for {what}")
        time.sleep(LOOK_EVERY_SECONDS)
    return now()


class FirstActs:
    """Hears agents begin: the first act of each is to write its name, a line, into a named pipe."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # for writing too, so that it never ends
        self._heard: dict[str, float] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._listen, name="first-acts", daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        while True:
            data = os.read(self._handle, 65536)
            at = now()
            *names, rest = (rest + data).split(b"\n")
            with self._news:
                self._heard.update(dict.fromkeys((name.decode() for name in names), at))
                self._news.notify_all()

    def of(self, name: str) -> float:
        """When the agent of this name began. Raises TooLong."""
        with self._news:
            if not self._news.wait_for(lambda: name in self._heard, GIVE_UP_AFTER_SECONDS):
                raise TooLong(f"no first act of {name} in {GIVE_UP_AFTER_SECONDS:g} s")
            return self._heard[name]


@contextlib.contextmanager
def started(
    words: Sequence[str], env: Mapping[str, str], cwd: Path, *, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose end can be waited for without looking: `wait()` blocks, and a watchdog kills what hangs."""
    process = subprocess.Popen(
        list(words), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    watchdog = threading.Timer(GIVE_UP_AFTER_SECONDS, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        with process:
            yield process
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()


def expect(process: subprocess.Popen[bytes], status: int) -> None:
    """Raise AssertionError with what an ended command said if it did not end with `status`."""
    said = process.stdout.read().decode(errors="replace") if process.stdout else ""
    assert process.returncode == status, f"{process.args!r}: exit status {process.returncode}\n{said}"


def run(
    words: Sequence[str], env: Mapping[str, str], cwd: Path, *, output: int = subprocess.PIPE
) -> tuple[float, float]:
    """When a command was started and when it had ended. Raises AssertionError if it failed.

    Give one that prints more than a pipe holds another `output`.
    """
    begin = now()
    with started(words, env, cwd, output=output) as process:
        process.wait()
        end = now()
        expect(process, 0)
    return begin, end
