"""Which processes a test left behind, told by the folder they were given."""

import contextlib
import os
from pathlib import Path

import psutil

from tests.support.waiting import wait_for


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every living process, but this one, whose environment, arguments or current directory name `folder`.

    Only processes of this user can be looked into; a zombie has none of the three and is not found.
    """
    wanted = f"{folder}/"
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and any(wanted in f"{text}/" for text in _texts(process))
    ]


def _texts(process: psutil.Process) -> list[str]:
    texts: list[str] = []
    for look in (lambda: process.environ().values(), process.cmdline, lambda: [process.cwd()]):
        with contextlib.suppress(psutil.Error, OSError):
            texts += look()
    return texts


def end_processes_of(folder: Path, *, grace_seconds: float = 10.0) -> list[str]:
    """Kill what is still there of `folder` after the grace. A line for each, ending with its HOME; usually none."""
    try:
        wait_for(lambda: not processes_of(folder), f"the processes of {folder} to end", grace_seconds)
    except AssertionError:
        return _kill(folder)
    return []


def _kill(folder: Path) -> list[str]:
    found: dict[int, str] = {}

    def none_left() -> bool:
        living = processes_of(folder)
        for process in living:
            with contextlib.suppress(psutil.Error):
                found.setdefault(process.pid, _described(process))
                process.kill()
        return not living

    wait_for(none_left, f"killed processes of {folder} to be gone")
    return list(found.values())


def _described(process: psutil.Process) -> str:
    return f"{process.pid}: {' '.join(process.cmdline()) or process.name()}, HOME={process.environ().get('HOME')}"
