"""The Celery task: thin. Parse the ids, run the attempt."""

import contextlib
import logging
from typing import NoReturn

from celery import shared_task
from celery.exceptions import Ignore

from dispatch_queue.errors import StoreDown
from dispatch_queue.record import Ref
from dispatch_queue.tickets import RUN
from worker import claim
from worker.lifecycle import running_services
from worker.services import Services

log = logging.getLogger(__name__)


@shared_task(name=RUN, ignore_result=True, max_retries=0)
def run(project: str, task: str) -> NoReturn:
    """A ticket: run the next attempt of a task, if it still wants one.

    Raises Ignore, whatever came of it: the end of an attempt is seldom that of its task, so Celery is to say nothing
    about it. What is to be seen in Flower was said by the change itself (scripts/shown.lua).
    """
    services, ref = running_services(), Ref(str(project), str(task))
    _run(services, ref)
    with contextlib.suppress(StoreDown):
        services.store.show(ref, taken=True)
    raise Ignore


def _run(services: Services, ref: Ref) -> None:
    while not services.stopping.is_set():
        try:
            claim.answer(services, ref)
            return
        except StoreDown as error:
            log.warning("the ticket of %s waits: %s", ref, error, extra={"action": "ticket_waits"})
            if not services.wait_for_store():
                return
    with contextlib.suppress(StoreDown):  # then another worker's reaper sends it
        services.put_back(ref)
