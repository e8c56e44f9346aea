"""Celery's remote control where it means something else here: Flower's buttons, and a Flower that has just started.

Celery's own `revoke` would keep a ticket from being taken, which the task outlives, and cannot terminate a thread.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel, control_command

from dispatch_queue import producer
from dispatch_queue.change import Record
from dispatch_queue.errors import Refused, StoreDown
from dispatch_queue.states import FINAL, State
from dispatch_queue.tickets import identity
from worker.services import Services

log = logging.getLogger(__name__)

LISTENS_AFTER_SECONDS = 1.0  # Flower asks for a heartbeat just before it subscribes to events
_UNFINISHED = [state for state in State if state not in FINAL]


class Control:
    """The commands of one worker. They run in the thread that consumes, so what takes time is done in another."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._heartbeat: Callable[[Any], None] = Panel.data["heartbeat"]

    def register(self) -> None:
        """Put the commands over Celery's own ones of the same names."""
        several = {"variadic": "task_id", "signature": "[id1 [id2 [... [idN]]]]"}
        control_command(name="revoke", **several)(self.revoke)
        control_command(name="terminate", args=[("signal", str)], **several)(self.terminate)
        control_command(name="heartbeat")(self.heartbeat)

    def revoke(self, _state: Any, task_id: str | Iterable[str], **_: Any) -> dict[str, str]:
        """Cancel tasks, running or not, by their Celery ids."""
        named = {task_id} if isinstance(task_id, str) else set(task_id)
        self._start("revoke", lambda: self._cancel(named))
        return {"ok": f"cancelling {', '.join(sorted(named))}"}

    def terminate(self, state: Any, signal: str = "", task_id: str | Iterable[str] = (), **_: Any) -> dict[str, str]:
        """Cancel tasks by their Celery ids; which signal their agents get is not up to the caller."""
        return self.revoke(state, task_id)

    def heartbeat(self, state: Any) -> None:
        """Celery's heartbeat, asked for by whoever begins to listen to events, and all that this worker can tell."""
        self._heartbeat(state)
        self._start("retell", self._retell)

    def _cancel(self, named: set[str]) -> None:
        store = self._services.store
        for ref in store.in_state(*_UNFINISHED):
            if identity(ref) not in named:
                continue
            try:
                producer.cancel(store, ref)
                log.info("%s is cancelled by remote control", ref, extra={"action": "remote_cancel", "task": str(ref)})
            except Refused as error:  # every worker hears the command, and one is the first
                log.debug("%s", error)

    def _retell(self) -> None:
        if self._services.stopping.wait(LISTENS_AFTER_SECONDS):
            return
        store = self._services.store
        for ref, record in store.records(store.in_state(*_UNFINISHED)).items():
            if self._tells(record):
                store.show(ref)

    def _tells(self, record: Record) -> bool:
        """One worker tells of a task: who holds it, else those on the host of its home copy."""
        if record.worker:
            return record.worker == self._services.name
        return record.home == self._services.settings.host

    def _start(self, name: str, act: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                act()
            except StoreDown as error:
                log.warning("%s is not done: %s", name, error, extra={"action": "control_failed"})

        threading.Thread(target=guarded, name=name, daemon=True).start()
