"""What the numbers were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

_BUSY_LOAD = 0.3  # of a core: more than what idle workers and this process need

PACKAGES = ("dispatch-queue", "celery", "kombu", "redis", "rq", "watchfiles")


def facts(server: str) -> dict[str, str]:
    """The machine, the versions, and how busy it was before the run."""
    load = os.getloadavg()[0]
    busy = " — NOT IDLE: the numbers are too high" if load > _BUSY_LOAD * (os.cpu_count() or 1) else ""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "server": server,
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "load before": f"{load:.2f}{busy}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
