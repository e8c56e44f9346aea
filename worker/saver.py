"""Saves what agents have in their worktrees: after every tick, and every minute. One thread a worker."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from dispatch_queue.clock import Clock
from dispatch_queue.errors import DispatchError
from worker import workspace
from worker.workspace import Workspace

log = logging.getLogger(__name__)

SAVE_EVERY = timedelta(minutes=1)


@dataclass(slots=True)
class _Kept:
    place: Workspace
    warn: Callable[[str], None]
    due: float
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while it is saved
    left_out: frozenset[str] = frozenset()
    over: bool = False


class Saver:
    """`keeping` a worktree saves it while the block runs; `soon` asks for it now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Workspace, _Kept] = {}
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="saver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(timeout=5)

    @contextlib.contextmanager
    def keeping(self, place: Workspace, warn: Callable[[str], None]) -> Iterator[None]:
        """Save `place` from time to time; `warn` is told what is too large to be saved. Nothing is saved afterwards."""
        if place.branch is None:
            yield
            return
        kept = _Kept(place, warn, due=self._clock.monotonic() + SAVE_EVERY.total_seconds())
        with self._news:
            self._kept[place] = kept
            self._news.notify()
        try:
            yield
        finally:
            with self._news:
                del self._kept[place]
            with kept.lock:
                kept.over = True

    def soon(self, place: Workspace) -> None:
        """Save `place` as soon as the thread comes to it."""
        with self._news:
            kept = self._kept.get(place)
            if kept is not None:
                kept.due = 0.0
                self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                now = self._clock.monotonic()
                due = [kept for kept in self._kept.values() if kept.due <= now]
                if self._closed:
                    return
                if not due:
                    first = min((kept.due for kept in self._kept.values()), default=None)
                    self._news.wait(None if first is None else first - now)
                    continue
            for kept in due:
                kept.due = self._clock.monotonic() + SAVE_EVERY.total_seconds()
                with kept.lock:
                    if not kept.over:
                        _save(kept)


def _save(kept: _Kept) -> None:
    try:
        made = workspace.save(kept.place)
    except (DispatchError, OSError) as error:
        log.warning("%s was not saved: %s", kept.place.path, error, extra={"action": "save_failed"})
        return
    except Exception:  # without a saver, no other worktree would be saved either
        log.exception("%s was not saved for an error of ours", kept.place.path, extra={"action": "save_failed"})
        return
    new = frozenset(made.left_out if made else ()) - kept.left_out
    if new:
        kept.left_out |= new
        kept.warn(f"too large to be saved while the agent works: {', '.join(sorted(new))}")
