"""Starts the services with the Celery worker and stops them with it, by Celery's signals."""

import contextlib
import logging
import signal
from typing import Any

from celery import signals
from kombu import Queue

from dispatch_queue.binding import check
from dispatch_queue.config.load import load
from dispatch_queue.embedded import drain_note
from dispatch_queue.errors import DispatchError, StoreDown
from dispatch_queue.flower import defaults as flower
from worker.control import Control
from worker.services import Services
from worker.serving import follow, queues
from worker.settings import read_settings

log = logging.getLogger(__name__)

_running: list[Services] = []


def running_services() -> Services:
    """The services of this process. Raises LookupError outside a running worker."""
    if not _running:
        raise LookupError("no dispatch worker runs in this process")
    return _running[0]


def _configure(conf: Any, **_: Any) -> None:
    """Before the worker is made: its slots and its queues. `-c` and `-Q` on the command line still win."""
    settings = read_settings()
    conf.worker_concurrency = settings.slots
    conf.task_queues = [Queue(name, routing_key=name) for name in queues(load(settings.home).config, settings)]


def _start(sender: Any, **_: Any) -> None:
    """Start the services; without them the worker would take tickets, and run none.

    Ends the worker with what is wrong: of any other error Celery would say so in its log, and go on.
    """
    try:
        _running.append(_started(sender))
    except DispatchError as error:
        hint = f"\n\nhint: {error.hint}" if error.hint else ""
        raise SystemExit(f"error: {error.message}{hint}") from error
    except Exception as error:
        raise SystemExit(f"error: the worker cannot start: {type(error).__name__}: {error}") from error


def _started(sender: Any) -> Services:
    settings = read_settings()
    consumed = list(sender.app.amqp.queues.consume_from)
    services = Services(settings, queues=consumed, slots=sender.concurrency)
    with contextlib.suppress(StoreDown):
        check(settings.home, services.store)
    services.store.node = sender.hostname
    Control(services).register()
    services.start()
    return services


def _stop(**_: Any) -> None:
    """A first signal lets agents end in their time, a second one ends them at once."""
    for services in _running:
        services.stop(now=services.stopping.is_set(), drain_seconds=drain_note(services.settings.home))


def _close(**_: Any) -> None:
    while _running:
        _running.pop().close()


def _ready(sender: Any, **_: Any) -> None:
    # Celery starts itself anew at a SIGHUP, by a command line that no longer leads to it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    configured = [queue.name for queue in sender.app.conf.task_queues]
    for services in _running:
        follow(sender, services, chosen=services.queues != configured)  # with -Q


def connect() -> None:
    """Hook into the worker, or the Flower, that Celery is about to make. Calling it twice is harmless."""
    flower.apply()
    signals.celeryd_init.connect(_configure, weak=False, dispatch_uid="dispatch-configure")
    signals.worker_init.connect(_start, weak=False, dispatch_uid="dispatch-start")
    signals.worker_ready.connect(_ready, weak=False, dispatch_uid="dispatch-ready")
    signals.worker_shutting_down.connect(_stop, weak=False, dispatch_uid="dispatch-stop")
    signals.worker_shutdown.connect(_close, weak=False, dispatch_uid="dispatch-close")
