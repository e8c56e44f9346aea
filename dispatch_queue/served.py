"""What live workers serve, and so why a queued task is taken by none.

While tasks are queued, each worker keeps in a file of its DISPATCH_HOME what Redis knows of all workers: a command that
lists tasks needs no Redis for it.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue import files
from dispatch_queue.clock import SYSTEM
from dispatch_queue.config.schema import LOCAL_POOL
from dispatch_queue.errors import DispatchError
from dispatch_queue.home import host_name, run_folder
from dispatch_queue.overview import Unserved
from dispatch_queue.record import Isolation, Task
from dispatch_queue.tickets import queue_of

STOPPING = "stopping"  # among a worker's facts: it takes nothing new
FRESH_SECONDS = 12.0  # a worker writes every four seconds
_NAME = "served.json"
_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Served:
    """The queues that live workers consume, and those of workers that are stopping, each as `queue@host`."""

    live: frozenset[str] = frozenset()
    stopping: frozenset[str] = frozenset()

    @classmethod
    def by(cls, workers: Iterable[Mapping[str, str]]) -> "Served":
        """What workers serve, by what each says of itself."""
        queues: dict[bool, set[str]] = {False: set(), True: set()}
        for facts in workers:
            queues[STOPPING in facts].update(f"{name}@{facts.get('host')}" for name in facts.get("queues", "").split())
        return cls(frozenset(queues[False]), frozenset(queues[True]))

    def live_on(self, host: str) -> frozenset[str]:
        """The queues that live workers of one host consume."""
        return frozenset(name for name, _, at in (one.rpartition("@") for one in self.live) if at == host)


def keep(home: Path, served: Served) -> None:
    """Write it down for the commands of this host. Raises OSError, DispatchError."""
    data = json.dumps({"live": sorted(served.live), "stopping": sorted(served.stopping)}).encode()
    files.write(run_folder(home), _NAME, data)


def kept(home: Path) -> Served | None:
    """What a worker wrote down last; None if that is too old to be true, or cannot be read."""
    run = home / "run"
    with contextlib.suppress(OSError, DispatchError, ValueError, KeyError, TypeError):
        if abs(SYSTEM.now().timestamp() - (run / _NAME).stat().st_mtime) < FRESH_SECONDS:
            told = json.loads(files.read(run, _NAME, limit_bytes=_LIMIT_BYTES))
            return Served(frozenset(told["live"]), frozenset(told["stopping"]))
    return None


def unserved(task: Task, served: Served, *, own_server: bool) -> Unserved | None:
    """Why no worker takes a queued task, None if one would; `task` as its next attempt runs.

    A task runs on the host that it was submitted from: only that has its project. An own server has one host, which
    may have had another name.
    """
    queue, shared = f"{queue_of(task)}@{task.host}", task.isolation is Isolation.SHARED
    elsewhere = queue_of(task) in {one.rpartition("@")[0] for one in served.live}
    if queue in served.live or (own_server and elsewhere and not shared):
        return None
    start = "dispatch up" if own_server else "dispatch worker"
    if task.host != host_name():
        start = f"DISPATCH_HOST={task.host} {start}" if own_server else f"{start}  # on {task.host}"
    if queue in served.stopping:
        who = f"the worker on {task.host}" if shared else f"the last worker that serves backend {task.backend}"
        return Unserved(
            f"{who} is stopping, and takes nothing new", f"{start}  # when it has ended" if own_server else start
        )
    if shared and own_server and served.live:  # on this machine, as all are, and by another name of it
        return Unserved(f"no live worker on {task.host}: this machine had another name", f"dispatch down; {start}")
    if shared:
        return Unserved(f"no live worker on {task.host}", start)
    pool = f" in pool {task.pool}" if task.pool != LOCAL_POOL else ""
    place = f" on {task.host}" if elsewhere or task.host != host_name() else ""
    fix = "dispatch doctor" if served.live_on(task.host) and not place else start
    return Unserved(f"no live worker{place} serves backend {task.backend}{pool}", fix)
