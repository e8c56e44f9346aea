"""Hosts that are killed: processes that die together, what a lane of them stands on, and those of Celery and RQ."""

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import redis
import rq

from tests.bench import recover_job, rq_job
from tests.bench.counting import Ledger
from tests.bench.peers import ROOT
from tests.bench.recover_job import Options
from tests.support.sandbox import BIN

LOOK_SECONDS: Final = 0.05
SHORT_SECONDS: Final = 5  # RQ's intervals where they are as short as it takes them
RETRIES: Final = 3


class Stopped(Exception):
    """The bench is being ended."""


class Host:
    """Processes that die together. `ready` is what each says when it takes jobs."""

    def __init__(self, argvs: Sequence[Sequence[str]], env: Mapping[str, str], log: Path, *, ready: bytes) -> None:
        self._log, self._ready = log, ready
        with log.open("wb") as stream:
            self._processes = [
                subprocess.Popen(
                    argv,
                    env=env,
                    cwd=log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
                for argv in argvs
            ]

    @property
    def is_ready(self) -> bool:
        return self._log.read_bytes().count(self._ready) >= len(self._processes)

    def pids(self) -> set[int]:
        """Of its processes, and of all that they started."""
        return {process.pid for process in self._tree()}

    def kill(self, *, whole: bool = True) -> float:
        """kill -9 of all its processes, or only of those that were started as such; when, on the monotonic clock."""
        at = time.monotonic()
        for one in self._frozen() if whole else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for process in self._processes:
            process.kill()
            process.wait()
        return at

    def _frozen(self) -> set[psutil.Process]:
        """All its processes, stopped: none of them starts another one while they are killed one by one."""
        frozen: set[psutil.Process] = set()
        while new := {*self._tree()} - frozen:
            for one in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
            frozen |= new
        return frozen

    def _tree(self) -> list[psutil.Process]:
        found = []
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                top = psutil.Process(process.pid)
                found += [top, *top.children(recursive=True)]
        return found


@dataclass(frozen=True)
class Ground:
    """What all lanes stand on: a folder, a server, the jobs, and how long a job is given to run again."""

    folder: Path
    url: str
    env: Mapping[str, str]
    ledger: Ledger
    window_seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)  # one lane at a time begins its jobs and is killed

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look until the condition holds or the time is over; whether it holds. Raises Stopped."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            if self.stop.wait(LOOK_SECONDS):
                raise Stopped
        return True

    def pause(self, seconds: float) -> None:
        """Raises Stopped."""
        if self.stop.wait(max(0.0, seconds)):
            raise Stopped


@dataclass(frozen=True)
class Kind:
    """One kind of host; `slots` of each host are so many jobs at once, in `lanes` of two hosts each.

    The kill is at any moment of the first `spread_seconds`; of all the host's processes, or only of its workers. With
    `left_alone` there is none, and the jobs take longer.
    """

    name: str
    lanes: int
    slots: int
    spread_seconds: float = 0.0
    whole: bool = True
    left_alone: bool = False

    def start(self, ground: Ground, lane: str, host: str) -> Host:
        raise NotImplementedError

    def send(self, ground: Ground, lane: str, argv: Sequence[str]) -> None:
        """Enqueue a job that runs a command to its end."""
        raise NotImplementedError


@dataclass(frozen=True)
class Celery(Kind):
    """A host is one worker with threads."""

    options: Options = field(default_factory=Options)

    def start(self, ground: Ground, lane: str, host: str) -> Host:
        argv = [sys.executable, "-m", "celery", "-A", "tests.bench.recover_job", "worker", "-n", f"{lane}-{host}@%h"]
        argv += ["--without-mingle", "--without-gossip", "--loglevel", "INFO", "-c", str(self.slots)]
        env = {**ground.env, **recover_job.environment(ground.url, self._options(lane)), "PYTHONPATH": str(ROOT)}
        return Host([argv], env, ground.folder / f"{lane}-{host}.log", ready=b" ready.")

    def send(self, ground: Ground, lane: str, argv: Sequence[str]) -> None:
        app = recover_job.make_app(ground.url, self._options(lane))
        app.send_task(recover_job.TASK, list(argv), ignore_result=True)

    def _options(self, lane: str) -> Options:
        return dataclasses.replace(self.options, lane=lane)


@dataclass(frozen=True)
class Rq(Kind):
    """A host is as many workers as it has slots. `patient`: jobs may be retried, and all intervals are short."""

    patient: bool = False

    def start(self, ground: Ground, lane: str, host: str) -> Host:
        argv = [str(BIN / "rq"), "worker", "--url", ground.url, lane]
        if self.patient:
            short = str(SHORT_SECONDS)
            argv += ["--maintenance-interval", short, "--job-monitoring-interval", short]
            argv += ["--worker-ttl", str(15 + SHORT_SECONDS)]  # an idle one looks 15 s before it is over
        env = {**ground.env, "PYTHONPATH": str(ROOT)}
        return Host([argv] * self.slots, env, ground.folder / f"{lane}-{host}.log", ready=b"Listening on")

    def send(self, ground: Ground, lane: str, argv: Sequence[str]) -> None:
        with contextlib.closing(redis.Redis.from_url(ground.url)) as connection:
            retry = rq.Retry(max=RETRIES) if self.patient else None
            rq.Queue(lane, connection=connection).enqueue(rq_job.run, *argv, retry=retry)
