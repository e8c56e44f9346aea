"""Proof of life: raises the heartbeat of every claim this worker holds, and says what the worker is."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from dispatch_queue.errors import StoreDown
from dispatch_queue.record import Ref
from dispatch_queue.store import Store

log = logging.getLogger(__name__)

HEARTBEAT_EVERY = timedelta(seconds=1)
ANNOUNCE_EVERY_BEATS = 5


class Heartbeat:
    """One thread. `claims` gives ref → token, `lost` is called for a claim that another token holds."""

    def __init__(
        self,
        store: Store,
        worker: str,
        *,
        claims: Callable[[], Mapping[Ref, int]],
        facts: Callable[[], Mapping[str, str]],
        lost: Callable[[Ref], None],
        beaten: Callable[[], None],
    ) -> None:
        self._store, self._worker = store, worker
        self._claims, self._facts, self._lost, self._beaten = claims, facts, lost, beaten
        self._stop, self._changed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """Say at the next beat what the worker is."""
        self._changed.set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        beats = 0
        while not self._stop.is_set():
            try:
                if beats % ANNOUNCE_EVERY_BEATS == 0 or self._changed.is_set():
                    self._changed.clear()
                    self._store.announce(self._worker, self._facts())
                beaten = self._store.beat(self._claims())
                for ref in (*beaten.lost, *beaten.unknown):
                    self._lost(ref)
                self._beaten()
            except StoreDown as error:
                log.warning("no heartbeat: %s", error, extra={"action": "heartbeat_missed"})
            except Exception:  # without a heartbeat, all that runs here would be taken away
                log.exception("the heart beats on after an error of ours", extra={"action": "heartbeat_error"})
            beats += 1
            self._stop.wait(HEARTBEAT_EVERY.total_seconds())
