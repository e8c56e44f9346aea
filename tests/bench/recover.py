"""`python -m tests.bench.recover [--times N]`: a worker is killed with kill -9; what becomes of its job?

Ours, bare Celery with early and with late acks, and RQ, on one server, each with two workers of which the one that has
the job is killed and not started again. The job counts to ten, a number a second, and writes each down. Measured: from
the kill to the first number of the next run, numbers written twice (work done again), numbers never written.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import redis
import rq

from dispatch_queue.record import Isolation
from tests.bench.__main__ import folder
from tests.bench.figures import percentile
from tests.bench.recover_job import CELERY_TASK, COUNT, PAUSE_SECONDS, QUEUE, VISIBILITY_SECONDS, make_app, run
from tests.chaos.arena import Arena
from tests.support import sandbox as sandboxes
from tests.support.sandbox import BIN
from tests.support.waiting import wait_for

ROOT: Final = Path(__file__).parents[2]
TIMES = 20
GIVE_UP_SECONDS = 15.0  # without a new number: nobody will write one
LATE_SECONDS = 130.0  # the same for late acks: kombu looks for overdue messages every 10 s, and acts each tenth time
KILL_AFTER_NUMBERS = 3


@dataclass
class Outcome:
    """Of one kind of queue. `after` has the seconds to the next run of each job that ran again."""

    name: str
    after: list[float] = field(default_factory=list)
    jobs: int = 0
    twice: int = 0
    lost: int = 0
    together: int = 0  # jobs of which two runs wrote at the same time

    def row(self) -> str:
        again = f"{percentile(self.after, 50):.1f} / {max(self.after):.1f} s" if self.after else "never"
        never = self.jobs - len(self.after)
        return f"| {self.name} | {again} | {never} of {self.jobs} | {self.twice} | {self.together} | {self.lost} |"


HEAD: Final = (
    "| | kill → next run, p50 / max | never ran again | written twice | two at once | numbers lost |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Line:
    """What a job wrote: a number, the process that did, when (wall time)."""

    number: int
    process: str
    at: float


def lines_of(path: Path) -> list[Line]:
    text = path.read_text() if path.exists() else ""
    parts = [line.split() for line in text.splitlines()]
    return [Line(int(part[0]), part[1], float(part[2])) for part in parts if len(part) == 3]


def observe(outcome: Outcome, path: Path, kill: Callable[[], None], give_up: float = GIVE_UP_SECONDS) -> None:
    """Kill the worker in the midst of a job, wait until nothing more comes, and count."""
    wait_for(lambda: len(lines_of(path)) >= KILL_AFTER_NUMBERS, "the job to begin", GIVE_UP_SECONDS)
    kill()
    killed = time.time()
    before = {line.process for line in lines_of(path)}

    def is_over() -> bool:
        found = lines_of(path)
        quiet = time.time() - max(killed, *(line.at for line in found))
        whole = {line.number for line in found} == set(range(1, COUNT + 1))
        return quiet > (VISIBILITY_SECONDS + 4 if whole else give_up)

    wait_for(is_over, "the job to come to its end", 300)
    found = lines_of(path)
    again = [line.at for line in found if line.process not in before]
    counted = Counter(line.number for line in found)
    outcome.jobs += 1
    outcome.after += [min(again) - killed] if again else []
    outcome.twice += sum(count - 1 for count in counted.values())
    outcome.lost += COUNT - len(counted)
    outcome.together += any(
        one.process != other.process and abs(one.at - other.at) < PAUSE_SECONDS / 2 for one in found for other in found
    )


@contextlib.contextmanager
def pair(arena: Arena, words: list[str], name: str, env: dict[str, str]) -> Iterator[list[psutil.Process]]:
    """Two worker processes, ended with all below them."""
    processes = []
    for number in (1, 2):
        argv = [word.replace("NUMBER", str(number)) for word in words]
        with arena.log_of(f"{name}-{number}").open("ab") as log:
            processes.append(
                subprocess.Popen(argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
    try:
        yield [psutil.Process(process.pid) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


def holder(workers: list[psutil.Process], path: Path) -> psutil.Process:
    """The worker whose process, or a child of it, wrote the last number."""
    pid = int(lines_of(path)[-1].process)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid == worker.pid or pid in {child.pid for child in worker.children(recursive=True)}:
                return worker
    raise LookupError(f"process {pid} belongs to no worker")


def ours(arena: Arena, folder: Path, times: int) -> Outcome:
    outcome = Outcome("dispatch")
    for number in range(times):
        workers = [arena.add_worker(f"d{number}-{one}", restart_after=None) for one in (1, 2)]
        path = folder / f"ours-{number}"
        write = f"echo NUMBER $DISPATCH_ATTEMPT $(date +%s.%N) >> {path}"
        items = tuple(f"{n}: `{write.replace('NUMBER', str(n))}; sleep {PAUSE_SECONDS}`" for n in range(1, COUNT + 1))
        ref = arena.send(f"t{number}", items, Isolation.SHARED)

        def kill(ref=ref, workers=workers) -> None:  # type: ignore[no-untyped-def]
            held = arena.record(ref).worker
            next(worker for worker in workers if held.endswith(f":{worker.pid}")).kill()

        observe(outcome, path, kill)
        for worker in workers:
            worker.send(signal.SIGKILL)
    return outcome


def celery(arena: Arena, folder: Path, times: int, *, late: bool) -> Outcome:
    outcome = Outcome(f"Celery, {f'late ack, visibility {VISIBILITY_SECONDS} s' if late else 'early ack'}")
    env = {**os.environ, "BENCH_REDIS_URL": arena.url, "BENCH_LATE": "1" if late else "", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "celery", "-A", "tests.bench.recover_job", "worker", "-n", "bNUMBER@%h"]
    words += ["--without-mingle", "--without-gossip", "-c", "4", "-Q", f"{QUEUE}{'-late' if late else ''}"]
    app = make_app(arena.url, late=late)
    for number in range(times):
        with pair(arena, words, f"celery-{late}", env) as workers:
            path = folder / f"celery-{late}-{number}"
            app.send_task(CELERY_TASK, [str(path)], ignore_result=True)

            def kill(workers=workers, path=path) -> None:  # type: ignore[no-untyped-def]
                holder(workers, path).kill()

            observe(outcome, path, kill, LATE_SECONDS if late else GIVE_UP_SECONDS)
        redis.Redis.from_url(arena.url).flushall()
    return outcome


def with_rq(arena: Arena, folder: Path, times: int) -> Outcome:
    outcome = Outcome("RQ")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [str(BIN / "rq"), "worker", "--url", arena.url, "--name", "rqNUMBER", QUEUE]
    connection = redis.Redis.from_url(arena.url)
    for number in range(times):
        with pair(arena, words, "rq", env) as workers:
            path = folder / f"rq-{number}"
            rq.Queue(QUEUE, connection=connection).enqueue(run, str(path))

            def kill(workers=workers, path=path) -> None:  # type: ignore[no-untyped-def]
                worker = holder(workers, path)
                below = worker.children(recursive=True)
                worker.kill()
                for child in below:  # its work horse would go on; the host is what died
                    child.kill()

            observe(outcome, path, kill)
        connection.flushall()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recover")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with folder() as own, sandboxes.opened(own / "b") as box:
        arena = Arena(box)
        written = own / "written"
        written.mkdir()
        try:
            outcomes = [
                ours(arena, written, arguments.times),
                celery(arena, written, arguments.times, late=False),
                celery(arena, written, arguments.times, late=True),
                with_rq(arena, written, arguments.times),
            ]
        finally:
            arena.close()
    if arguments.json:
        print(json.dumps([outcome.__dict__ for outcome in outcomes], indent=2))
        return
    print(HEAD)
    for outcome in outcomes:
        print(outcome.row())


if __name__ == "__main__":
    main()
