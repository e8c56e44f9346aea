"""recover: hosts are killed with the jobs they run; what becomes of those? Dispatch, bare Celery and RQ, all at once.

The peers' jobs stand in *lanes*: two hosts with as many slots each, all busy, apart from the other lanes on the one
server. One host dies at a random moment and is not started again; the other, which soon has nothing to do, is given
`window_seconds`. Dispatch's jobs are killed one after the other, each with one of two workers that are always there.
"""

import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from dispatch_queue import embedded, producer
from dispatch_queue.mirror import enroll
from dispatch_queue.producer import Request
from dispatch_queue.project import find
from dispatch_queue.record import Isolation
from dispatch_queue.store import Store
from tests.bench.counting import COUNT, PAUSE_SECONDS, Fate, Ledger, is_whole, judge
from tests.bench.figures import Series
from tests.bench.hosts import Celery, Ground, Host, Kind, Rq
from tests.bench.recover_job import Options
from tests.bench.stage import SEED
from tests.support import sandbox
from tests.support.sandbox import Sandbox
from tests.support.server import Server, start_server

TIMES, WINDOW_SECONDS = 20, 130.0
TIMES_QUICK, WINDOW_SECONDS_QUICK = 4, 20.0
AIM_SECONDS, AIM_SLOWEST_SECONDS = 5.0, 10.0

SWEEP_SECONDS: Final = 100.0  # kombu looks for overdue messages so often
VISIBILITY_SECONDS: Final = 6  # the job needs five: no healthy one is overdue
LONG_SECONDS: Final = 20.0  # a job that is longer than that, of which there are few, and room for more
LONG_JOBS, LONG_SLOTS, LONG_WATCHED_SECONDS = 4, 20, 60.0
KILL_AFTER_LINES: Final = 4  # two ticks
SLOTS: Final = 4  # of a peer's host, where it matters when it dies
READY_WITHIN_SECONDS: Final = 180.0  # all start at once
STARTED_WITHIN_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 2 * PAUSE_SECONDS + VISIBILITY_SECONDS  # a message that is overdue would have come


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server in a folder that is made."""
    running = start_server(folder)
    try:
        yield running
    finally:
        running.stop()


def measure(server: Server, times: int, window_seconds: float) -> Iterator[Series]:
    """`times` jobs of each kind, or a few more. What never runs again has had `window_seconds`."""
    with sandbox.opened(server.folder / "b") as box:
        ground = Ground(box.folder, server.url, box.env, Ledger(box.folder), window_seconds)
        yield from _all_at_once(ground, _kinds(times, window_seconds), times)


def _kinds(times: int, window_seconds: float) -> list[Kind]:
    late = Options(late=True, visibility_seconds=VISIBILITY_SECONDS)
    swept = Options(late=True, visibility_seconds=VISIBILITY_SECONDS, swept_each_second=True)
    lanes, half = -(-times // SLOTS), -(-times // 2)
    spread = min(SWEEP_SECONDS, window_seconds)
    return [
        Celery("Celery, early ack", 2, half),
        Celery("Celery, late ack", 2, half, options=Options(late=True)),
        Celery(f"Celery, late ack, visibility {VISIBILITY_SECONDS} s", lanes, SLOTS, spread, options=late),
        Celery("Celery, the same, swept each second", lanes, SLOTS, options=swept),
        Rq("RQ", lanes, SLOTS),
        Rq("RQ, Retry, short intervals", lanes, SLOTS, patient=True),
        Celery("Celery, early ack, only the worker", 1, half, whole=False),
        Rq("RQ, only the worker", 1, SLOTS, whole=False),
        Celery(f"Celery, swept, a job of {LONG_SECONDS:g} s, no kill", 1, LONG_SLOTS, left_alone=True, options=swept),
    ]


def _all_at_once(ground: Ground, kinds: Sequence[Kind], times: int) -> Iterator[Series]:
    """All kinds in the same minutes, for most of them only wait; no job is sent before all hosts are ready."""
    with contextlib.ExitStack() as left:
        lanes: list[list[Lane]] = []
        for place, kind in enumerate(kinds):
            lanes.append([Lane(ground, kind, f"k{place}-{number}", number) for number in range(kind.lanes)])
            for lane in lanes[-1]:
                left.callback(lane.close)
        for lane in itertools.chain(*lanes):
            lane.await_ready()
        pool = left.enter_context(ThreadPoolExecutor(sum(kind.lanes for kind in kinds) + 2))
        left.callback(ground.stop.set)  # before the pool waits for its threads
        ours = {
            "dispatch": pool.submit(_ours, ground, 1, times, whole=True),
            "dispatch, only the worker": pool.submit(_ours, ground, 2, times, whole=False),
        }
        theirs = [[pool.submit(lane.run) for lane in some] for some in lanes]
        never = f"never in {ground.window_seconds:g} s"
        for name, future in ours.items():
            fates = future.result()
            yield from _series(name, fates, never, kills=len(fates), aims=True)
        for kind, futures in zip(kinds, theirs, strict=True):
            fates = [fate for future in futures for fate in future.result()]
            yield from _series(kind.name, fates, never, kills=0 if kind.left_alone else kind.lanes)


def _series(name: str, fates: Sequence[Fate], never: str, *, kills: int, aims: bool = False) -> Iterator[Series]:
    def row(what: str, values: Sequence[float], unit: str = "", aim: float | None = None) -> Series:
        return Series("recover", name, what, unit, tuple(values), aim if aims else None, peer=not aims)

    yield row("jobs", [len(fates)])
    yield row("kills", [kills])
    again = [fate.after for fate in fates if fate.after is not None]
    if again:
        yield row("p50", again, "s", AIM_SECONDS)
        yield row("max", [max(again)], "s", AIM_SLOWEST_SECONDS)
    if kills:
        yield row("went on", [sum(fate.went_on for fate in fates)])
        yield row(never, [sum(fate.after is None and not fate.went_on for fate in fates)], aim=0)
    if aims:
        yield row("ticked twice", [sum(fate.ticked_twice for fate in fates)], aim=0)
    yield row("done twice", [sum(fate.twice for fate in fates)])
    yield row("at once", [sum(fate.together for fate in fates)], aim=0)
    yield row("lost", [sum(fate.lost for fate in fates)], aim=0)


class Lane:
    """Two hosts of a kind, the `number`th of its lanes. Close it when done."""

    def __init__(self, ground: Ground, kind: Kind, name: str, number: int) -> None:
        self._ground, self._kind, self._name = ground, kind, name
        self._random = random.Random(f"{SEED} {name}")
        part = kind.spread_seconds / kind.lanes  # each kill is anywhere in its part of the time
        self._kill_at = time.monotonic() + part * (number + self._random.random())
        self._hosts = [kind.start(ground, name, host) for host in ("a", "b")]

    def close(self) -> None:
        for host in self._hosts:
            host.kill()

    def await_ready(self) -> None:
        self._must(lambda: all(host.is_ready for host in self._hosts), "its hosts to be ready", READY_WITHIN_SECONDS)

    def run(self) -> list[Fate]:
        """What becomes of the jobs."""
        try:
            return self._left_alone() if self._kind.left_alone else self._one_killed()
        finally:
            self.close()

    def _one_killed(self) -> list[Fate]:
        """What becomes of the jobs that a host runs when it is killed, while those of the other one end well."""
        ledger = self._ground.ledger
        self._ground.pause(self._kill_at - time.monotonic())
        with self._ground.turn:
            jobs = self._send(2 * self._kind.slots, PAUSE_SECONDS)
            self._must(lambda: all(ledger.of(job) for job in jobs), "all jobs to begin", STARTED_WITHIN_SECONDS)
            self._ground.pause(self._random.random())
            host = self._random.choice(self._hosts)
            pids = host.pids()
            killed = host.kill(whole=self._kind.whole)
        seen = {job: [line for line in ledger.of(job) if line.at <= killed] for job in jobs}
        held = [job for job, lines in seen.items() if int(lines[0].run) in pids and not is_whole(lines)]

        def is_over() -> bool:
            now = time.monotonic()
            quiet = now - max(line.at for job in jobs for line in ledger.of(job))
            if all(is_whole(ledger.of(job)) for job in jobs):
                return quiet > QUIET_SECONDS
            return now > killed + self._ground.window_seconds and quiet > 2 * PAUSE_SECONDS

        self._ground.wait(is_over, 2 * self._ground.window_seconds)
        return [judge(ledger.of(job), killed) for job in held]

    def _left_alone(self) -> list[Fate]:
        jobs = self._send(LONG_JOBS, LONG_SECONDS / COUNT)
        self._ground.pause(min(LONG_WATCHED_SECONDS, 2 * self._ground.window_seconds))
        return [judge(self._ground.ledger.of(job), None) for job in jobs]

    def _send(self, count: int, pause_seconds: float) -> list[str]:
        jobs = [f"{self._name}-{number}" for number in range(count)]
        for job in jobs:
            self._kind.send(self._ground, self._name, [str(self._ground.ledger.count), job, str(pause_seconds)])
        return jobs

    def _must(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        if not self._ground.wait(condition, seconds):
            raise AssertionError(f"{self._kind.name}: waited {seconds:g} s for {what}")


def _ours(ground: Ground, number: int, kills: int, *, whole: bool) -> list[Fate]:
    """One task after the other, in turns in the checkout and in a worktree; its worker is killed and replaced."""
    chance = random.Random(f"{SEED} {number}")
    with sandbox.opened(ground.folder / f"o{number}") as box, contextlib.ExitStack() as left:
        pool = Pool(ground, box, number)
        left.callback(pool.close)
        return [pool.kill_one([*Isolation][turn % 2], chance.random(), whole=whole) for turn in range(kills)]


class Pool:
    """Two workers of dispatch with a database of their own: one holds the task and is killed, a new one comes."""

    def __init__(self, ground: Ground, box: Sandbox, number: int) -> None:
        self._ground, self._box, self._number = ground, box, number
        box.home.mkdir(mode=0o700)
        (box.home / "config.yaml").write_text(f"worker: {{slots: {SLOTS}, drain: 0, backends: [shell]}}\n")
        box.make_repository()
        self._url = ground.url.replace("db=0", f"db={number}")
        self._store = Store(self._url)
        self._started = 0
        self._hosts: list[Host] = []
        for _ in range(2):
            self._add()

    def close(self) -> None:
        for host in self._hosts:
            host.kill()
        self._store.close()

    def kill_one(self, isolation: Isolation, seconds: float, *, whole: bool) -> Fate:
        """What becomes of a task whose worker is killed so many seconds after its second tick."""
        ground, ledger = self._ground, self._ground.ledger
        self._must(lambda: all(host.is_ready for host in self._hosts), "two workers", READY_WITHIN_SECONDS)
        job = f"ours-{self._number}-{self._started}"
        request = Request(items=ledger.items(job), name=job, model="shell", backend="shell", isolation=isolation)
        sent = producer.record_locally(request, find(self._box.project), home=self._box.home)
        enroll(self._store, sent.home, sent.task.ref, sent.home.standing())
        self._must(lambda: len(ledger.of(job)) >= KILL_AFTER_LINES, f"{job} to run", STARTED_WITHIN_SECONDS)
        ground.pause(seconds)
        record = self._store.record(sent.task.ref)
        pid = int(record.worker.rpartition(":")[2]) if record else 0
        host = next(host for host in self._hosts if pid in host.pids())
        killed = host.kill(whole=whole)
        self._hosts.remove(host)
        self._add()
        ground.wait(lambda: sent.home.standing().final, ground.window_seconds)
        ticks = [entry for entry in sent.home.entries() if entry.event == "tick" and entry.facts.get("mark") == "x"]
        items = {entry.facts.get("item") for entry in ticks}
        return dataclasses.replace(judge(ledger.of(job), killed), ticked_twice=len(ticks) - len(items))

    def _add(self) -> None:
        self._started += 1
        name = f"w{self._number}-{self._started}"
        env = {**self._box.env, "DISPATCH_REDIS_URL": self._url}
        argv = [*embedded.worker_argv(None), "-n", f"{name}@%h"]
        self._hosts.append(Host([argv], env, self._ground.folder / f"{name}.log", ready=b" ready."))

    def _must(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        if not self._ground.wait(condition, seconds):
            raise AssertionError(f"dispatch: waited {seconds:g} s for {what}")
