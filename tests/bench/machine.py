"""What the numbers were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("dispatch-queue", "celery", "kombu", "redis", "rq", "watchfiles")

_BUSY_PERCENT = 10.0  # of all cores: more than that is not an idle machine
_LOOK_SECONDS = 2.0


def busy() -> str:
    """How much of the processors is in use right now, by others when nothing of ours runs."""
    percent = psutil.cpu_percent(interval=_LOOK_SECONDS)
    return f"{percent:.0f} %" + (": NOT IDLE, so the times are too long" if percent > _BUSY_PERCENT else "")


def facts(server: str) -> dict[str, str]:
    """The machine and the versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "server": server,
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "scheduling": _scheduling(),
    }


def _scheduling() -> str:
    """Whether this run goes before other work of the machine: `chrt -r 1 ./dev bench` makes a busy one look idle."""
    usual = not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) == os.SCHED_OTHER
    return "as everything else" if usual else "real-time: before everything else"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
