"""The Celery app: `celery -A worker worker`, `celery -A worker flower`."""

from typing import Any

from celery import Celery

from dispatch_queue.tickets import settings
from worker.lifecycle import connect
from worker.settings import read_settings


def _settings() -> dict[str, Any]:
    return settings(read_settings().redis_url) | {"include": ["worker.tickets"]}


def make_app() -> Celery:
    """The app, with settings that are read when they are first needed."""
    made = Celery("dispatch", set_as_current=True)
    made.add_defaults(_settings)
    connect()
    return made


app = make_app()  # the one thing that happens at an import: `celery -A worker` looks for this name
