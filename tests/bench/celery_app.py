"""Bare Celery with the settings that dispatch uses: its task starts the agent and waits for it."""

import os
import subprocess

from celery import Celery

from dispatch_queue.tickets import settings

QUEUE = "bench"
TASK = "bench.run"
URL_VARIABLE = "BENCH_REDIS_URL"


def make_app(url: str) -> Celery:
    """The app of a producer or a worker at this server."""
    made = Celery("bench")
    made.conf.update(settings(url), task_default_queue=QUEUE)
    made.task(name=TASK, ignore_result=True)(run)
    return made


def run(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)


# What `celery -A tests.bench.celery_app` looks for; a producer makes its own.
app = make_app(os.environ[URL_VARIABLE]) if URL_VARIABLE in os.environ else None
