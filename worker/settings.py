"""What a worker process knows of itself: its name, its host, its slots, where its files are."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue.config.load import load
from dispatch_queue.config.schema import SLOTS
from dispatch_queue.embedded import server_url
from dispatch_queue.home import dispatch_home, host_name

DRAIN_VARIABLE = "DISPATCH_DRAIN"  # as `dispatch worker --drain` sets it
PORT_BASE, PORTS_PER_SLOT = 20000, 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once at start; commands of backends are read again for every attempt."""

    home: Path
    host: str
    redis_url: str
    slots: int
    drain_seconds: float
    quiet_seconds: float
    keep_days: int | None
    min_free_mib: int

    def name(self) -> str:
        """This process's name among all workers."""
        return f"{self.host}:{os.getpid()}"

    def node(self) -> str:
        """The node name Celery gives it by default."""
        return f"celery@{socket.gethostname()}"


def read_settings() -> Settings:
    """The settings of this process. Raises BadConfig."""
    home = dispatch_home()
    config = load(home).config
    return Settings(
        home=home,
        host=host_name(),
        redis_url=config.redis.url or server_url(home),
        slots=config.worker.slots or SLOTS,
        drain_seconds=float(os.environ.get(DRAIN_VARIABLE) or config.worker.drain),
        quiet_seconds=float(config.worker.quiet_after),
        keep_days=config.worker.keep_days,
        min_free_mib=config.worker.min_free_mib,
    )
