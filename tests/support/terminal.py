"""A command on a terminal: what it shows is read, what it asks is answered."""

import contextlib
import os
import pty
import subprocess
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tests.support.waiting import seconds_of, wait_for

WITHIN = timedelta(seconds=60)


class Terminal:
    """The terminal is standard input, output and error of the command, and echoes what is typed."""

    def __init__(self, words: list[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            words, env=env, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._shown = bytearray()
        self._read_up_to = 0
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := os.read(self._ours, 65536):
                self._shown += part

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def read_until(self, text: str) -> str:
        """What was shown since the last call, up to and with `text`, which is waited for."""
        at = wait_for(lambda: self.shown.find(text, self._read_up_to) + 1, f"{text!r} in\n{self.shown}", WITHIN) - 1
        seen = self.shown[self._read_up_to : at + len(text)]
        self._read_up_to = at + len(text)
        return seen

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def wait(self) -> int:
        """The command's exit status at its own end; `shown` is whole then."""
        code = self._process.wait(seconds_of(WITHIN))
        self._reader.join(seconds_of(WITHIN))
        return code

    def stop(self) -> None:
        """End the command, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._reader.join(seconds_of(WITHIN))
        os.close(self._ours)
