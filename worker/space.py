"""Free disk space: below the floor no attempt begins. Those that run go on, and one that ends for a full disk waits."""

import contextlib
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from dispatch_queue.change import Change, Record
from dispatch_queue.clock import stamp
from dispatch_queue.errors import Refused
from dispatch_queue.home import actor
from dispatch_queue.record import draft
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from worker.settings import Settings
from worker.verdict import Verdict

MIB: Final = 1024 * 1024
NO_SPACE: Final = "no space: "
FULL_BYTES: Final = MIB  # less is nothing
FULL_FILES: Final = 16  # that can still be made
AGAIN_AFTER: Final = timedelta(minutes=1)


def decide(left: Mapping[Path, int], floor_mib: int) -> str | None:
    """Why no attempt may begin, by the bytes left in each folder; None where all have room."""
    if not left:
        return None
    folder, least = min(left.items(), key=lambda one: one[1])
    if least >= floor_mib * MIB:
        return None
    return f"{NO_SPACE}{least // MIB} MiB left on {folder}, the floor is {floor_mib} MiB"


def full(left: Mapping[Path, int], files: Mapping[Path, int]) -> str | None:
    """Which folder has no room for another byte or file; None where all have. `files` can still be made there."""
    for folder, count in files.items():
        if count < FULL_FILES:
            return f"{NO_SPACE}no more files can be made on {folder}"
    for folder, count in left.items():
        if count < FULL_BYTES:
            return f"{NO_SPACE}{folder} is full"
    return None


def left_in(folder: Path) -> int:
    """The bytes that this user can still write on the folder's file system. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def files_left_in(folder: Path) -> int:
    """How many files this user can still make on the folder's file system; many where it does not count. OSError."""
    found = os.statvfs(folder)
    return found.f_favail if found.f_files else FULL_FILES


def refusal(settings: Settings, home: TaskDir) -> str | None:
    """Why no attempt of the task may begin on this machine now; None if one may."""
    left, files = _seen(settings.home, home.base)
    return full({}, files) or decide(left, settings.min_free_mib)


def wait_for_room(settings: Settings, home: TaskDir, now: datetime) -> Verdict | None:
    """The end of an attempt which a full disk kept from its work: it is made again later. None: there is room."""
    found = full(*_seen(settings.home, home.base))
    return Verdict(Event.LIMIT, found, until=stamp(now + AGAIN_AFTER)) if found is not None else None


def _seen(*folders: Path) -> tuple[dict[Path, int], dict[Path, int]]:
    """The bytes and the files that are left in each folder that can be asked; another will fail by itself."""
    left, files = {}, {}
    for folder in folders:
        with contextlib.suppress(OSError):
            left[folder], files[folder] = left_in(folder), files_left_in(folder)
    return left, files


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
