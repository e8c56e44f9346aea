"""The others: bare Celery, RQ and fork+exec, on the same server, with the same agent."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import redis
import rq

from tests.bench import celery_app, rq_job
from tests.bench.stage import Stage
from tests.support.sandbox import BIN

ROOT: Final = Path(__file__).parents[2]
STOP_WITHIN_SECONDS: Final = 10.0


class Peers:
    """A Celery worker and an RQ worker that run, and a warm producer in this process for each."""

    def __init__(self, stage: Stage, processes: contextlib.ExitStack, *, slots: int) -> None:
        self.env = {**stage.env, celery_app.URL_VARIABLE: stage.url, "PYTHONPATH": str(ROOT)}
        self.url = stage.url
        celery = [sys.executable, "-m", "celery", "-A", "tests.bench.celery_app", "worker", "-n", "bench@%h"]
        celery += ["--without-mingle", "--without-gossip", "-c", str(slots)]
        self.celery = processes.enter_context(_worker(celery, self.env, stage.box.folder / "celery.log"))
        worker = [str(BIN / "rq"), "worker", "--url", stage.url, rq_job.QUEUE]
        self.rq = processes.enter_context(_worker(worker, self.env, stage.box.folder / "rq.log"))
        self._celery = celery_app.make_app(stage.url)
        self._rq = rq.Queue(rq_job.QUEUE, connection=redis.Redis.from_url(stage.url))
        for name, send in (("warm-celery", self.send_celery), ("warm-rq", self.send_rq)):
            send(str(stage.noop), name)
            stage.first_acts.of(name)

    def send_celery(self, *argv: str) -> None:
        self._celery.send_task(celery_app.TASK, argv, ignore_result=True)

    def send_rq(self, *argv: str) -> None:
        self._rq.enqueue("tests.bench.rq_job.run", *argv)

    def celery_words(self, *argv: str) -> list[str]:
        """`celery call`, as a command line."""
        arguments = "[" + ", ".join(f'"{word}"' for word in argv) + "]"
        return [str(BIN / "celery"), "-A", "tests.bench.celery_app", "call", celery_app.TASK, "--args", arguments]

    def rq_words(self, *argv: str) -> list[str]:
        """`rq enqueue`, as a command line."""
        return [
            str(BIN / "rq"),
            "enqueue",
            "--quiet",
            "--url",
            self.url,
            "--queue",
            rq_job.QUEUE,
            "tests.bench.rq_job.run",
            *argv,
        ]


@contextlib.contextmanager
def _worker(words: list[str], env: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A worker process, ended with all it started."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    worker = psutil.Process(process.pid)
    try:
        yield worker
    finally:
        below = worker.children(recursive=True)
        for child in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.terminate()
        try:
            process.wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(stage: Stage, *, slots: int) -> Iterator[Peers]:
    """Both workers, until the end."""
    with contextlib.ExitStack() as processes:
        yield Peers(stage, processes, slots=slots)
