"""Which queues a worker consumes: those of its host, and of the back ends that can run here, as these change."""

import logging
import threading
from datetime import timedelta
from typing import Any

from kombu import Queue

from dispatch_queue.config.load import load
from dispatch_queue.config.schema import Config
from dispatch_queue.errors import BadConfig
from worker.backends import runnable
from worker.services import Services
from worker.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY = timedelta(seconds=2)


def queues(config: Config, settings: Settings) -> list[str]:
    """The queues of this host, and of the back ends that can run here, in the worker's pool."""
    return [f"dispatch.host.{settings.host}", *(f"dispatch.{config.worker.pool}.{name}" for name in runnable(config))]


def follow(consumer: Any, services: Services) -> None:
    """Take up what is configured or installed while the worker runs, and give up what is gone, until it stops."""
    threading.Thread(target=_follow, args=(consumer, services), name="serving", daemon=True).start()


def _follow(consumer: Any, services: Services) -> None:
    settings = services.settings
    while not services.stopping.wait(LOOK_EVERY.total_seconds()):
        try:
            wanted = queues(load(settings.home).config, settings)
        except BadConfig as error:  # what was served before goes on
            log.debug("the configuration cannot be used: %s", error)
            continue
        if wanted != services.queues:
            consumer.call_soon(_serve, consumer, services, wanted)


def _serve(consumer: Any, services: Services, wanted: list[str]) -> None:
    """In the consumer's own thread: consume `wanted`, and nothing else."""
    for name in wanted:
        if name not in services.queues:
            consumer.app.amqp.queues.add(Queue(name, routing_key=name))
            consumer.add_task_queue(name)
    for name in services.queues:
        if name not in wanted:
            consumer.cancel_task_queue(name)
    services.queues = wanted
    log.info("this worker now serves %s", ", ".join(wanted), extra={"action": "serve"})
