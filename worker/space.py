"""Free disk space: below the floor no attempt begins. Those that run go on."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dispatch_queue.change import Change, Record
from dispatch_queue.errors import Refused
from dispatch_queue.home import actor
from dispatch_queue.record import draft
from dispatch_queue.states import State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from worker.settings import Settings

MIB: Final = 1024 * 1024
NO_SPACE: Final = "no space: "


def decide(left: Mapping[Path, int], floor_mib: int) -> str | None:
    """Why no attempt may begin, by the bytes left in each folder; None where all have room."""
    if not left:
        return None
    folder, least = min(left.items(), key=lambda one: one[1])
    if least >= floor_mib * MIB:
        return None
    return f"{NO_SPACE}{least // MIB} MiB left on {folder}, the floor is {floor_mib} MiB"


def left_in(folder: Path) -> int:
    """The bytes that this user can still write on the folder's file system. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def refusal(settings: Settings, home: TaskDir) -> str | None:
    """Why no attempt of the task may begin on this machine now; None if one may."""
    left = {}
    for folder in (settings.home, home.base):
        with contextlib.suppress(OSError):  # what cannot be asked is no reason; it will fail by itself
            left[folder] = left_in(folder)
    return decide(left, settings.min_free_mib)


def delay(store: Store, record: Record, reason: str, *, at: str) -> None:
    """Say why a queued task stays so. Its ticket comes again from the reaper, in a few seconds.

    Said once for what stands before the colon: a figure behind it is that of the first time. Raises StoreDown.
    """
    if record.reason.partition(":")[0] == reason.partition(":")[0]:
        return
    entry = draft("delay", at=at, by=actor(), state=State.QUEUED, reason=reason)
    fields = {"reason": reason, "changed": at}
    with contextlib.suppress(Refused):  # claimed by another worker, or cancelled
        store.change(record.ref, Change(entries=[entry], guard=("state", State.QUEUED), fields=fields))
