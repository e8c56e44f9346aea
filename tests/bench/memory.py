"""memory: a worker with many running tasks. Agents are left out: they are the user's.

PSS: a page that several processes share counts for each of them by its share. Without /proc it is the resident
set, which counts shared pages once a process and so is larger.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from dispatch_queue import embedded
from tests.bench.figures import Series
from tests.bench.peers import Peers
from tests.bench.stage import Stage
from tests.support.waiting import wait_for

AIM_MB = 15.0
START_WITHIN_SECONDS = 120.0
MB = 1_000_000
NO_TASK = "no task"


def tasks(count: int) -> str:
    return f"{count} running task{'s' if count > 1 else ''}"


def ours(stage: Stage, counts: list[int]) -> Iterator[Series]:
    """The worker and its wardens with so many running tasks, in one worker that gets more and more."""
    worker = psutil.Process(embedded.status(stage.box.home).worker.pid)
    stage.wait_until_done(stage.submit("noop").home)
    stage.rest()
    idle = size_mb(worker)
    yield Series("memory", NO_TASK, "dispatch: worker", "MB", (idle,))
    running = 0
    for count in counts:
        for _ in range(count - running):
            sent = stage.submit("idle")
            stage.first_acts.of(sent.task.id)
        running = count
        wardens = _wardens(worker, count)
        stage.rest()
        grown, beside = size_mb(worker), [sum(map(size_mb, pair)) for pair in wardens]
        each = (grown - idle + sum(beside)) / count
        yield Series("memory", tasks(count), "dispatch: worker", "MB", (grown,))
        yield Series("memory", tasks(count), "dispatch: one warden", "MB", tuple(beside))
        yield Series("memory", tasks(count), "dispatch: each task", "MB", (each,), AIM_MB)
        yield Series("memory", tasks(count), "dispatch: worker's threads", "", (float(worker.num_threads()),))


def celery(stage: Stage, peers: Peers, count: int) -> Iterator[Series]:
    """Bare Celery with so many tasks that wait for their agent: threads only, nothing that outlives it."""
    idle = size_mb(peers.celery)
    _start(stage, peers.send_celery, count)
    stage.rest()
    each = (size_mb(peers.celery) - idle) / count
    yield Series("memory", NO_TASK, "Celery: worker", "MB", (idle,), None, peer=True)
    yield Series("memory", tasks(count), "Celery: each task", "MB", (each,))


def rq(stage: Stage, peers: Peers) -> Iterator[Series]:
    """RQ's worker runs one job at a time, in a process of its own, so that each running job needs both."""
    name = stage.new_name()
    peers.send_rq(str(stage.idle), name)
    stage.first_acts.of(name)
    stage.rest()
    each = size_mb(peers.rq) + sum(size_mb(child) for child in peers.rq.children())
    yield Series("memory", tasks(1), "RQ: each task, a worker and its child", "MB", (each,))


def _start(stage: Stage, send: Callable[..., None], count: int) -> None:
    names = [stage.new_name() for _ in range(count)]
    for name in names:
        send(str(stage.idle), name)
    for name in names:
        stage.first_acts.of(name)


def _wardens(worker: psutil.Process, count: int) -> list[list[psutil.Process]]:
    """Each guard and its warden, once there are so many, each with an agent."""

    def found() -> list[list[psutil.Process]]:
        pairs = [[guard, *guard.children()] for guard in worker.children()]
        running = len(pairs) == count and all(len(pair) == 2 and pair[1].children() for pair in pairs)
        return pairs if running else []

    return wait_for(found, f"{count} running agents", START_WITHIN_SECONDS)


def size_mb(process: psutil.Process) -> float:
    """The memory of a process, in 10⁶ bytes."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return float(process.memory_info().rss) / MB
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024 / MB
