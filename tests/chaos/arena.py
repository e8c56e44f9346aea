"""A server and workers that may be killed at any time and are started again, as a supervisor would do it."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dispatch_queue import embedded, producer
from dispatch_queue.change import Record
from dispatch_queue.errors import StoreDown
from dispatch_queue.mirror import enroll
from dispatch_queue.project import find
from dispatch_queue.record import Isolation, Ref, Standing
from dispatch_queue.server import server_argv
from dispatch_queue.states import State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Sandbox
from tests.support.server import server_binary
from tests.support.tasks import told
from tests.support.waiting import wait_for

SLOTS = 8
LOOK_SECONDS = 0.02
READY_WITHIN_SECONDS = 60.0
LOG_TAIL_BYTES = 6000


@dataclass
class Kept:
    """A process that is started again when it ended, `restart_after` seconds later; never, if that is None."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    restart_after: float | None = 0.2
    process: subprocess.Popen[bytes] = field(init=False)
    _ended_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.process = self.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def look(self, now: float) -> None:
        if self.running:
            self._ended_at = None
        elif self._ended_at is None:
            self._ended_at = now
        elif self.restart_after is not None and now >= self._ended_at + self.restart_after:
            self.process = self.start()
            self._ended_at = None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.process.wait()


class Arena:
    """A project, a server with an append-only file, and workers. `url` is the server's, `store` this process's own."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._lock = threading.Lock()
        self._kept: list[Kept] = []
        self._stop = threading.Event()
        self.data = box.folder / "r"
        self.data.mkdir()
        self.socket = self.data / "s"
        self.url = f"unix://{self.socket}?db=0"
        box.home.mkdir(mode=0o700)
        self.configure()
        box.env["DISPATCH_REDIS_URL"] = self.url
        box.make_repository()
        self.server = self._keep("server", self._start_server)
        self.store = Store(self.url)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self.await_server()
        self.workers: list[Kept] = []

    def configure(self, *, slots: int = SLOTS, drain: int = 0) -> None:
        """For the workers that are started from now on."""
        text = f"worker: {{slots: {slots}, drain: {drain}, backends: [shell]}}\n"
        (self.box.home / "config.yaml").write_text(text)

    def close(self) -> None:
        """End all, workers first. What a worker leaves behind is the sandbox's to tell."""
        self._stop.set()
        self._thread.join()
        self.server.send(signal.SIGCONT)
        for kept in reversed(self._kept):  # the server was the first
            kept.send(signal.SIGCONT)
            kept.send(signal.SIGKILL)
            kept.process.wait()
        self.store.close()

    def _keep(self, name: str, start: Callable[[], subprocess.Popen[bytes]], after: float | None = 0.2) -> Kept:
        kept = Kept(name, start, after)
        with self._lock:
            self._kept.append(kept)
        return kept

    def _supervise(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with self._lock:
                for kept in self._kept:
                    kept.look(time.monotonic())

    def _start_server(self) -> subprocess.Popen[bytes]:
        return self._start("server", server_argv(server_binary(), self.socket, self.data), self.box.env)

    def _start(self, name: str, argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self.log_of(name).open("ab") as log:
            return subprocess.Popen(
                argv,
                env=env,
                cwd=self.box.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log_of(self, name: str) -> Path:
        return self.box.folder / f"{name}.log"

    def await_server(self) -> None:
        wait_for(lambda: self.store.ping() is None, "the server to answer", READY_WITHIN_SECONDS)

    def add_worker(
        self,
        name: str,
        *,
        url: str | None = None,
        node: str | None = None,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        restart_after: float | None = 0.2,
        new: bool = True,
    ) -> Kept:
        """A worker that is ready. `before` are words before its command line, `node` its Celery name.

        One that is not `new` has the name of another.
        """
        known = set(self.store.workers()) if new else set()
        argv = [*before, *embedded.worker_argv(None), "-n", f"{node or name}@%h"]
        environ = {**self.box.env, "DISPATCH_REDIS_URL": url or self.url, **(env or {})}
        kept = self._keep(name, lambda: self._start(name, argv, environ), restart_after)
        self.workers.append(kept)
        wait_for(lambda: set(self.store.workers()) - known, f"worker {name} to be there", READY_WITHIN_SECONDS)
        wait_for(
            lambda: b"ready." in self.log_of(name).read_bytes(), f"worker {name} to be ready", READY_WITHIN_SECONDS
        )
        return kept

    def submit(
        self, name: str, items: tuple[str, ...], isolation: Isolation, *, attempts: int = 100, question: int = 600
    ) -> Ref:
        """`dispatch submit`, also while the server is away."""
        words = ["submit", "-m", "shell", "--name", name, f"--{isolation}", "--attempts", str(attempts)]
        words += ["--question-timeout", str(question), "--json"]
        words += [word for item in items for word in ("--item", item)]
        done = self.box.run(*words, check=False)
        assert done.code in (0, 69), f"submit exited {done.code}: {done.stdout}\n{done.stderr}"
        return Ref(self.home(name).task().project, name)

    def send(self, name: str, items: tuple[str, ...], isolation: Isolation, *, question: int = 600) -> Ref:
        """As `submit`, by this process, which needs a tenth of the time."""
        request = producer.Request(
            items=items,
            name=name,
            model="shell",
            backend="shell",
            isolation=isolation,
            attempts=100,
            question_timeout=question,
        )
        sent = producer.record_locally(request, find(self.box.project), home=self.box.home)
        with contextlib.suppress(StoreDown):
            enroll(self.store, sent.home, sent.task.ref, sent.home.standing())
        return sent.task.ref

    def home(self, task: str) -> TaskDir:
        return TaskDir(self.box.project, task)

    def standing(self, ref: Ref) -> Standing:
        return self.home(ref.task).standing()

    def record(self, ref: Ref) -> Record:
        record = self.store.record(ref)
        assert record is not None, f"Redis does not know {ref}"
        return record

    def await_state(self, ref: Ref, *states: State, limit: float = 30.0) -> State:
        """Wait until the home copy says so; fails at once when the task ends otherwise."""

        def reached() -> State | None:
            now = self.standing(ref)
            return now.state if now.state in states or now.final else None

        try:
            found = wait_for(reached, f"{ref.task} to be {' or '.join(states)}", limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told(ref)}") from None
        assert found in states, f"{ref.task} is {found}, not {' or '.join(states)}\n{self.told(ref)}"
        return found

    def await_ticks(self, ref: Ref, count: int, limit: float = 30.0) -> None:
        """Wait until the home copy has so many items checked."""

        def reached() -> bool:
            return self.home(ref.task).plan().done >= count

        try:
            wait_for(reached, f"{ref.task} to have {count} ticks", limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told(ref)}") from None

    def answer(self, ref: Ref, number: int, text: str) -> None:
        """Put an answer into the home copy, as `dispatch answer` does without Redis."""
        producer.answer(self.home(ref.task), number, text)

    def told(self, ref: Ref) -> str:
        """What a failed test should show of a task, and of the processes."""
        parts = [told(self.box, ref.task)]
        for kept in self._kept:
            tail = self.log_of(kept.name).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            parts.append(f"--- {kept.name} (pid {kept.pid})\n{tail}")
        return "\n".join(parts)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Arena]:
    """An arena with its server; workers are added. At the end no process of it may be left."""
    with sandboxes.opened(folder) as box:
        arena = Arena(box)
        try:
            yield arena
        finally:
            arena.close()
