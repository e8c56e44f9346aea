"""agent.log: what an agent prints, as it comes, without the secrets of its environment."""

import contextlib
from collections.abc import Callable
from typing import BinaryIO

from worker.masking import MaskedStream, Masker

LOG_LIMIT_BYTES = 64 * 1024 * 1024  # the rest is counted, not kept
TAIL_BYTES = 4096


class Transcript:
    """Capped; remembers the tail for messages. `hear` is given every piece, also what is not kept."""

    def __init__(self, stream: BinaryIO, masker: Masker, hear: Callable[[bytes], object] = lambda data: None) -> None:
        self._stream, self._masked, self._hear = stream, MaskedStream(masker), hear
        self._written = stream.tell()
        self._dropped = 0
        self.tail = b""

    def write(self, data: bytes) -> None:
        self._write(self._masked.feed(data))

    def _write(self, data: bytes) -> None:
        self._hear(data)
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        kept = data[: max(0, LOG_LIMIT_BYTES - self._written)]
        self._dropped += len(data) - len(kept)
        if kept:
            try:
                self._stream.write(kept)
                self._stream.flush()
            except OSError:  # a full disk ends no agent
                self._dropped += len(kept)
            self._written += len(kept)

    def close(self) -> None:
        self._write(self._masked.rest())
        if self._dropped:
            note = f"\n[{self._dropped} bytes were not kept: the transcript is full at {self._written} bytes]\n"
            with contextlib.suppress(OSError):
                self._stream.write(note.encode())
        self._stream.close()
