"""Bare Celery whose worker is killed: its task runs the job's program and waits for it."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass

from celery import Celery

from dispatch_queue.tickets import settings

TASK = "bench.count"
URL_VARIABLE, OPTIONS_VARIABLE = "BENCH_REDIS_URL", "BENCH_CELERY_OPTIONS"


@dataclass(frozen=True, slots=True)
class Options:
    """What differs from the settings that dispatch uses. `lane` keeps what is compared apart on one server."""

    lane: str = ""
    late: bool = False
    visibility_seconds: int = 3600  # as it comes
    swept_each_second: bool = False  # else kombu looks for overdue messages every 100 s


def make_app(url: str, options: Options) -> Celery:
    """The app of a producer or a worker at this server."""
    made = Celery("recover")
    made.conf.update(settings(url), task_default_queue="recover", task_acks_late=options.late)
    sweep = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1} if options.swept_each_second else {}
    made.conf.broker_transport_options = {
        **made.conf.broker_transport_options,
        "global_keyprefix": f"{options.lane}:",
        "visibility_timeout": options.visibility_seconds,
        **sweep,
    }
    made.task(name=TASK, ignore_result=True)(run)
    return made


def environment(url: str, options: Options) -> dict[str, str]:
    """What a worker needs to make the same app."""
    return {URL_VARIABLE: url, OPTIONS_VARIABLE: json.dumps(asdict(options))}


def run(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)


# What `celery -A tests.bench.recover_job` looks for; a producer makes its own.
app = (
    make_app(os.environ[URL_VARIABLE], Options(**json.loads(os.environ[OPTIONS_VARIABLE])))
    if OPTIONS_VARIABLE in os.environ
    else None
)
