"""One file watch over many folders, made again when the set of folders changes.

Each system watch takes one of 128 inotify instances, so a process has one of these for all its tasks.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

STEP_MILLISECONDS = 10  # watchfiles looks this often: 5 costs 1.2 % of a core while idle, 10 half of that
_DEBOUNCE_MILLISECONDS = 50
_RETRY_SECONDS = 1.0


class Watch:
    """Calls `changed` with the folders in which something happened, on a thread of its own.

    After the set of folders changed `changed` is called once with all of them: what happened meanwhile is not
    told otherwise. Nothing runs while the set is empty.
    """

    def __init__(self, changed: Callable[[set[Path]], None], *, name: str) -> None:
        self._changed = changed
        self._folders: frozenset[Path] = frozenset()
        self._again = threading.Event()  # ends the current watch; watchfiles looks at it every step
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def set(self, folders: Iterable[Path]) -> None:
        """Watch these folders from now on. Missing ones are passed over."""
        wanted = frozenset(folders)
        with self._news:
            if wanted == self._folders:
                return
            self._folders = wanted
            self._again.set()
            self._news.notify()

    def add(self, *folders: Path) -> None:
        with self._news:
            wanted = self._folders | set(folders)
        self.set(wanted)

    def discard(self, *folders: Path) -> None:
        with self._news:
            wanted = self._folders - set(folders)
        self.set(wanted)

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

    def _watch(self, folders: frozenset[Path]) -> None:
        # Not `watchfiles.watch`: it does not say when the watch stands, and what happens before is not heard.
        from watchfiles._rust_notify import RustNotify

        present = [folder for folder in folders if folder.is_dir()]
        try:
            with RustNotify([str(folder) for folder in present], False, False, 0, False, True) as notify:
                self._changed(set(present))
                while True:
                    seen = notify.watch(_DEBOUNCE_MILLISECONDS, STEP_MILLISECONDS, 0, self._again)
                    if not isinstance(seen, set):
                        return
                    self._changed({Path(path).parent for _, path in seen})
        except OSError as error:
            log.warning("watching %d folders failed: %s", len(present), error, extra={"action": "watch_failed"})
            self._again.wait(_RETRY_SECONDS)
