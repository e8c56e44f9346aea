"""What a worker process knows of itself: its name, its host, its slots, where its files are."""

import dataclasses
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue.config.load import load
from dispatch_queue.config.schema import SLOTS, WorkerSection
from dispatch_queue.embedded import server_url
from dispatch_queue.home import dispatch_home, host_name

DRAIN_VARIABLE = "DISPATCH_DRAIN"  # as `dispatch worker --drain` sets it
PORT_BASE, PORTS_PER_SLOT = 20000, 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Read at the start. What `renewed` names follows the configuration, the rest takes another worker."""

    home: Path
    host: str
    redis_url: str
    slots: int
    drain_seconds: float
    quiet_seconds: float
    keep_days: int | None
    min_free_mib: int

    def renewed(self, worker: WorkerSection) -> "Settings":
        """These, with what can change while the worker runs."""
        return dataclasses.replace(
            self,
            drain_seconds=_drain_seconds(worker),
            quiet_seconds=float(worker.quiet_after),
            keep_days=worker.keep_days,
            min_free_mib=worker.min_free_mib,
        )

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
        drain_seconds=_drain_seconds(config.worker),
        quiet_seconds=float(config.worker.quiet_after),
        keep_days=config.worker.keep_days,
        min_free_mib=config.worker.min_free_mib,
    )


def _drain_seconds(worker: WorkerSection) -> float:
    return float(os.environ.get(DRAIN_VARIABLE) or worker.drain)
