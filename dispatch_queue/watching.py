"""One file watch over many folders, which may change.

On Linux by inotify: the kernel wakes us, so news takes a millisecond and waiting costs nothing. Elsewhere by
watchfiles, which looks every `STEP_MILLISECONDS`. Each takes one of 128 inotify instances, so a process has one of
these for all its tasks.
"""

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.001  # what a writer does in one go is told once
STEP_MILLISECONDS = 10
_DEBOUNCE_MILLISECONDS = 50
_RETRY_SECONDS = 1.0

Changed = Callable[[set[Path]], None]


class Watch:
    """Calls `changed` with the folders in which something happened, on a thread of its own.

    A folder that is new in the set is told once when it is watched: what happened before is not told otherwise. By
    watchfiles all of the set are told then. Nothing runs while the set is empty.
    """

    def __init__(self, changed: Changed, *, name: str) -> None:
        self._lock = threading.Lock()
        self._wanted: set[Path] = set()
        self._changed = changed
        self._kind = _Inotify(self._tell, name) if sys.platform == "linux" else _Watchfiles(self._tell, name)

    def set(self, folders: Iterable[Path]) -> None:
        """Watch these folders from now on. Missing ones are passed over."""
        wanted = {*folders}
        with self._lock:
            self._change(wanted - self._wanted, self._wanted - wanted)

    def add(self, *folders: Path) -> None:
        with self._lock:
            self._change({*folders} - self._wanted, set())

    def discard(self, *folders: Path) -> None:
        with self._lock:
            self._change(set(), {*folders} & self._wanted)

    def _change(self, added: AbstractSet[Path], gone: AbstractSet[Path]) -> None:
        if added or gone:
            self._wanted |= added
            self._wanted -= gone
            self._kind.change(added, gone)

    def _tell(self, folders: AbstractSet[Path]) -> None:
        try:
            self._changed({*folders})
        except Exception:  # the next change is told all the same
            log.exception("a change was not taken up for an error of ours", extra={"action": "watch_error"})

    def close(self) -> None:
        self._kind.close()


class _Inotify:
    def __init__(self, changed: Changed, name: str) -> None:
        from inotify_simple import INotify, flags

        self._changed = changed
        self._inotify = INotify(nonblocking=True)
        self._mask = (
            flags.MODIFY
            | flags.CLOSE_WRITE
            | flags.MOVED_FROM
            | flags.MOVED_TO
            | flags.CREATE
            | flags.DELETE
            | flags.ONLYDIR
        )
        self._overflow = flags.Q_OVERFLOW
        self._read, self._write = os.pipe()
        for handle in (self._read, self._write):
            os.set_blocking(handle, False)
        self._lock = threading.Lock()
        self._numbers: dict[Path, int] = {}
        self._new: set[Path] = set()  # not told yet
        self._missing: set[Path] = set()  # tried again at the next change
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def change(self, added: AbstractSet[Path], gone: AbstractSet[Path]) -> None:
        with self._lock:
            self._missing -= gone
            for folder in gone & self._numbers.keys():
                with contextlib.suppress(OSError):  # it went with its folder
                    self._inotify.rm_watch(self._numbers.pop(folder))
            for folder in added | self._missing:
                self._add(folder)
        self._wake()

    def _add(self, folder: Path) -> None:
        self._missing.discard(folder)
        try:
            self._numbers[folder] = self._inotify.add_watch(folder, self._mask)
            self._new.add(folder)
        except (FileNotFoundError, NotADirectoryError):
            self._missing.add(folder)
        except OSError as error:
            self._missing.add(folder)
            log.warning("%s is not watched: %s", folder, error, extra={"action": "watch_failed"})

    def close(self) -> None:
        self._closed = True
        self._wake()
        self._thread.join(timeout=5)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def _run(self) -> None:
        poll = select.poll()
        for handle in (self._inotify.fileno(), self._read):
            poll.register(handle, select.POLLIN)
        while not self._closed:
            ready = {handle for handle, _ in poll.poll()}
            if self._inotify.fileno() in ready:
                time.sleep(SETTLE_SECONDS)
            if self._read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._read, 4096)
            seen = self._seen()
            if seen and not self._closed:
                self._changed(seen)
        self._inotify.close()
        os.close(self._read)
        os.close(self._write)

    def _seen(self) -> set[Path]:
        """The folders of all events that wait and the new ones; all folders after a lost event."""
        try:
            events = self._inotify.read(timeout=0)
        except BlockingIOError:
            events = []
        numbers = {event.wd for event in events}
        with self._lock:
            new, self._new = self._new, set()
            if any(event.mask & self._overflow for event in events):
                return {*self._numbers}
            return {folder for folder, number in self._numbers.items() if folder in new or number in numbers}


class _Watchfiles:
    def __init__(self, changed: Changed, name: str) -> None:
        self._changed = changed
        self._folders: set[Path] = set()
        self._again = threading.Event()  # ends the current watch; watchfiles looks at it every step
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def change(self, added: AbstractSet[Path], gone: AbstractSet[Path]) -> None:
        with self._news:
            self._folders = (self._folders | added) - gone
            self._again.set()
            self._news.notify()

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._again.set()
            self._news.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._folders and not self._closed:
                    self._news.wait()
                if self._closed:
                    return
                self._again.clear()
                folders = self._folders
            self._watch(folders)

    def _watch(self, folders: AbstractSet[Path]) -> None:
        # Not `watchfiles.watch`: it does not say when the watch stands, and what happens before is not heard.
        from watchfiles._rust_notify import RustNotify

        # Events name the real paths, which differ where a link leads to a folder.
        present = {folder.resolve(): folder for folder in folders if folder.is_dir()}
        try:
            with RustNotify([str(folder) for folder in present], False, False, 0, False, True) as notify:
                self._changed(set(present.values()))
                while True:
                    seen = notify.watch(_DEBOUNCE_MILLISECONDS, STEP_MILLISECONDS, 0, self._again)
                    if not isinstance(seen, set):
                        return
                    parents = {Path(path).parent for _, path in seen}
                    self._changed({present[parent] for parent in parents & present.keys()})
        except OSError as error:
            log.warning("watching %d folders failed: %s", len(present), error, extra={"action": "watch_failed"})
            self._again.wait(_RETRY_SECONDS)
