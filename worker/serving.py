"""Which queues a worker consumes: those of its host, and of the back ends that can run here, as these change."""

import logging
import threading
from datetime import timedelta
from typing import Any

from kombu import Queue

from dispatch_queue.config.load import load
from dispatch_queue.config.schema import Config
from dispatch_queue.errors import BadConfig
from dispatch_queue.tickets import host_queue
from worker.backends import runnable
from worker.services import Services
from worker.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY = timedelta(seconds=2)


def queues(config: Config, settings: Settings) -> list[str]:
    """The queues of this host, and of the back ends that can run here, in the worker's pool."""
    return [host_queue(settings.host), *(f"dispatch.{config.worker.pool}.{name}" for name in runnable(config))]


def follow(consumer: Any, services: Services, *, chosen: bool) -> None:
    """Go by what is configured or installed while the worker runs, until it stops; `chosen` queues stay."""
    threading.Thread(target=_follow, args=(consumer, services, chosen), name="serving", daemon=True).start()


def _follow(consumer: Any, services: Services, chosen: bool) -> None:
    while not services.stopping.wait(LOOK_EVERY.total_seconds()):
        try:
            config = load(services.settings.home).config
            renewed = services.settings.renewed(config.worker)
            wanted = services.queues if chosen else queues(config, renewed)
        except BadConfig as error:  # what was served before goes on
            log.debug("the configuration cannot be used: %s", error)
            continue
        except Exception:
            log.exception("what is served stays as it is for an error of ours", extra={"action": "serve_error"})
            continue
        if renewed != services.settings:
            services.renew(renewed)
            log.info("the settings are now %s", config.worker, extra={"action": "settings"})
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
