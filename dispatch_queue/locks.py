"""Locks of this host's processes, as flocks in DISPATCH_HOME/run: the kernel lets go when a process dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dispatch_queue.home import run_folder

MIRROR = "mirror.lock"  # held by the one process that keeps this host's home copies up to date


@contextlib.contextmanager
def trying(home: Path, name: str) -> Iterator[bool]:
    """Take the lock if it is free; yields whether we have it."""
    handle = os.open(run_folder(home) / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextlib.contextmanager
def holding(home: Path, name: str) -> Iterator[None]:
    """Wait for the lock, and hold it. For what takes no longer than to write a small file."""
    handle = os.open(run_folder(home) / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_held(home: Path, name: str) -> bool:
    """Whether some process holds the lock right now."""
    with trying(home, name) as free:
        return not free
