"""The Celery task: thin. Parse the ids, run the attempt."""

import logging
from collections.abc import Mapping
from typing import Any

from celery import Task, shared_task

from dispatch_queue.errors import StoreDown
from dispatch_queue.record import Ref
from dispatch_queue.tickets import RUN
from worker import attempt
from worker.lifecycle import running_services

log = logging.getLogger(__name__)


@shared_task(name=RUN, bind=True, ignore_result=True, max_retries=0)
def run(self: Task, project: str, task: str) -> None:  # type: ignore[type-arg]
    """A ticket: run the next attempt of a task, if it still wants one."""
    services = running_services()
    ref = Ref(str(project), str(task))
    if services.stopping.is_set():
        services.put_back(ref)
        return

    def tell(kind: str, facts: Mapping[str, Any]) -> None:
        self.send_event(kind, **facts)

    while True:
        try:
            attempt.run(services, ref, tell)
            return
        except StoreDown as error:
            log.warning("the ticket of %s waits: %s", ref, error, extra={"action": "ticket_waits"})
            if not services.wait_for_store():
                return
