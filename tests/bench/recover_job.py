"""The job whose worker is killed: it counts, and writes each number down. For bare Celery and RQ."""

import os
import time

from celery import Celery

from dispatch_queue.tickets import settings

QUEUE = "recover"
CELERY_TASK = "bench.count"
COUNT = 10
PAUSE_SECONDS = 1.0
VISIBILITY_SECONDS = 6


def run(path: str) -> None:
    for number in range(1, COUNT + 1):
        with open(path, "a") as stream:
            stream.write(f"{number} {os.getpid()} {time.time():.6f}\n")
        time.sleep(PAUSE_SECONDS)


def make_app(url: str, *, late: bool) -> Celery:
    """The app of a producer or a worker at this server, with the settings that dispatch uses but for the acks."""
    made = Celery("recover")
    made.conf.update(settings(url), task_default_queue=f"{QUEUE}{'-late' if late else ''}", task_acks_late=late)
    made.conf.broker_transport_options = {
        **made.conf.broker_transport_options,
        "visibility_timeout": VISIBILITY_SECONDS,
    }
    made.task(name=CELERY_TASK, ignore_result=True)(run)
    return made


_URL = os.environ.get("BENCH_REDIS_URL")
app = make_app(_URL, late=bool(os.environ.get("BENCH_LATE"))) if _URL else None
