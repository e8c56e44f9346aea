"""The server and the worker that dispatch keeps itself where no Redis is configured.

Both are daemons of `home/run` (see daemon.py); the data lie in `home/redis`. Only a Unix socket in a folder that is
private to this user leads to the server. The append-only file is the data; there are no snapshots beside it.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import dispatch_queue
from dispatch_queue import files
from dispatch_queue.clock import SYSTEM
from dispatch_queue.daemon import LOCK, LOOK_AGAIN_SECONDS, Daemon, End, locked
from dispatch_queue.errors import DispatchError, StoreDown
from dispatch_queue.home import host_name, run_folder
from dispatch_queue.locks import is_held
from dispatch_queue.server import (
    ANSWER_WITHIN,
    ask,
    forget_socket,
    place_socket,
    server_argv,
    server_binary,
    socket_of,
    version_of,
)

COME_UP_WITHIN: Final = timedelta(seconds=10)
HANGS_AFTER: Final = timedelta(seconds=5)  # as long as redis-py waits for an answer
SHUT_DOWN_WITHIN: Final = timedelta(seconds=5)
LOCK_WITHIN: Final = timedelta(seconds=60)  # longer than a `down` that has to kill
DRAIN: Final = timedelta(seconds=5)
DRAIN_NOTE: Final = "drain"  # in the run folder while `down` waits: the seconds that agents have
GIVE_BACK_WITHIN: Final = timedelta(seconds=8)  # agents that ignore TERM take five
SECOND_TERM_GRACE: Final = timedelta(seconds=5)

# What tells a process that it works for one task. A daemon works for all.
OF_A_TASK: Final = frozenset(
    {
        "DISPATCH_TASK_ID",
        "DISPATCH_TASK_DIR",
        "DISPATCH_ATTEMPT",
        "DISPATCH_SLOT",
        "DISPATCH_PORT_BASE",
        "DISPATCH_TREE",
    }
)


@dataclass(frozen=True)
class Up:
    """What `up` started; both are False where all ran already."""

    server: bool
    worker: bool


@dataclass(frozen=True)
class Down:
    """How server and worker ended."""

    server: End
    worker: End


@dataclass(frozen=True)
class Part:
    """One of the two. What is unknown is None or empty; `answers` is of the server only."""

    running: bool
    answers: bool
    pid: int | None
    version: str
    python: str
    host: str
    started: str
    log: Path


@dataclass(frozen=True)
class Status:
    """`outdated` is a worker of another version of dispatch, or of another Python, than this one."""

    server: Part
    worker: Part
    url: str

    @property
    def outdated(self) -> bool:
        mine = (dispatch_queue.__version__, sys.executable)
        return self.worker.running and (self.worker.version, self.worker.python) != mine


def server_url(home: Path) -> str:
    """Where redis-py finds the server that `up` started; after a `down` and `up` it may be another."""
    from urllib.parse import quote

    return f"unix://{quote(os.fsencode(socket_of(home / 'run')))}?db=0"


def is_up(home: Path) -> bool:
    """Whether the server answers, within a second. Starts, writes and imports nothing."""
    try:
        return ask(socket_of(home / "run"), "PING", ANSWER_WITHIN) == "+PONG"
    except OSError:
        return False


def broke_off(home: Path) -> bool:
    """Whether the server runs no more, and no `down` ended it."""
    server = Daemon(home / "run", "server")
    return server.pid_file.exists() and not server.alive()


def worker_lives(home: Path) -> bool:
    """Whether the local worker's process exists."""
    return Daemon(run_folder(home), "worker").alive()


def drain_note(home: Path) -> float | None:
    """The seconds that a `down` under way gives to running agents; None without one."""
    try:
        return float(files.read(home / "run", DRAIN_NOTE, limit_bytes=64))
    except (OSError, ValueError, DispatchError):
        return None


def going_down(home: Path) -> bool:
    """Whether a `down` is under way."""
    return drain_note(home) is not None and is_held(home, LOCK)


def worker_argv(slots: int | None) -> list[str]:
    """The command line of the local worker. `-P`: no `worker.py` of some folder gets in the way of ours."""
    concurrency = [] if slots is None else ["--concurrency", str(slots)]
    celery = [sys.executable, "-P", "-m", "celery", "-A", "worker", "worker"]
    return [*celery, "--without-mingle", "--without-gossip", "--loglevel", "INFO", *concurrency]


def up(home: Path, *, worker: bool = True, slots: int | None = None, command: Sequence[str] | None = None) -> Up:
    """Make sure that the server answers and the worker's process exists; of two at once one starts them.

    `slots` and `command` (default: `worker_argv`) are for a worker that is started now; one that runs is left alone.
    Inside a task no worker is started: it would end with the task. Raises StoreDown if the server does not come up
    or does not answer, DispatchError if the folder cannot be used or the worker not started.
    """
    run = run_folder(home)
    worker = worker and "DISPATCH_TASK_ID" not in os.environ
    local = Daemon(run, "worker")
    with _told(run):
        if is_up(home) and (not worker or local.alive()):
            return Up(server=False, worker=False)
        with locked(run, LOCK_WITHIN):
            started = _start_server(home, run)
            missing = worker and not local.alive()
            if missing:
                facts = {"version": dispatch_queue.__version__, "python": sys.executable}
                local.start(command or worker_argv(slots), cwd=run, env=_environment(home), facts=facts)
    return Up(server=started, worker=missing)


def down(home: Path, *, drain: timedelta = DRAIN) -> Down:
    """End the worker, then the server, and all they started; what is queued stays in `home/redis`.

    Running agents have `drain` to end by themselves; then the worker gives their tasks back, is asked again, and is
    killed. Raises DispatchError where something cannot be ended from here; then the rest is left as it is.
    """
    run = run_folder(home)
    with _told(run), locked(run, LOCK_WITHIN):
        worker, server = Daemon(run, "worker"), Daemon(run, "server")
        files.write(run, DRAIN_NOTE, f"{drain.total_seconds()}".encode())
        worker_end = worker.stop(drain + GIVE_BACK_WITHIN, SECOND_TERM_GRACE)
        worker.forget()
        files.remove(run, DRAIN_NOTE)
        server_end = End.STOPPED if _shut_down(home, server) else server.stop(SHUT_DOWN_WITHIN)
        server.forget()
        forget_socket(run)
    return Down(server=server_end, worker=worker_end)


def status(home: Path) -> Status:
    """What runs, as far as it can be seen from here; a server that hangs runs and does not answer."""
    run = home / "run"
    path = socket_of(run)
    with _told(run):
        answers = is_up(home)
        version = version_of(path) if answers else ""
        server = _part(Daemon(run, "server"), answers=answers, version=version)
        return Status(server, _part(Daemon(run, "worker"), answers=False), url=server_url(home))


def _part(daemon: Daemon, *, answers: bool, version: str = "") -> Part:
    running = answers or daemon.alive()
    facts = daemon.facts() if running else {}

    def fact(name: str) -> str:
        return str(facts.get(name, ""))

    return Part(
        running=running,
        answers=answers,
        pid=daemon.pid() if running else None,
        version=version or fact("version"),
        python=fact("python"),
        host=fact("host"),
        started=fact("started"),
        log=daemon.log,
    )


def _start_server(home: Path, run: Path) -> bool:
    """Start the server unless it runs; return when it answers. The caller holds the lock."""
    server = Daemon(run, "server")
    if server.alive() or is_up(home):
        _await_server(socket_of(run), server, HANGS_AFTER)
        return False
    path = place_socket(run)
    data = home / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    argv = server_argv(server_binary(os.environ), path, data)
    since = server.start(argv, cwd=data, env=_environment(home), facts={"binary": argv[0]})
    _await_server(path, server, COME_UP_WITHIN, since=since)
    return True


def _await_server(path: Path, server: Daemon, limit: timedelta, *, since: int | None = None) -> None:
    """Return when the server works. Raises StoreDown with what it said, else with its log from byte `since` on."""
    deadline = SYSTEM.monotonic() + limit.total_seconds()
    said = ""
    while (left := deadline - SYSTEM.monotonic()) > 0:
        try:
            said = ask(path, "PING", timedelta(seconds=left))
        except (FileNotFoundError, ConnectionError):
            if not server.alive():
                raise _server_down(server, "did not start", said, since) from None
        except (TimeoutError, BlockingIOError):  # the latter: too many wait already
            said = ""
        if said == "+PONG":
            return
        if said.startswith("-") and not said.startswith("-LOADING"):
            raise _server_down(server, "cannot work", said, since)
        time.sleep(LOOK_AGAIN_SECONDS)
    raise _server_down(server, f"did not answer within {limit.total_seconds():g} s", said, since)


def _server_down(server: Daemon, what: str, said: str, since: int | None) -> StoreDown:
    host = server.facts().get("host", host_name())
    why = said.lstrip("-") or ("" if since is None else server.log_tail(since))
    message = f"the local server (process {server.pid()} of {host}) {what}" + (f"\n{why}" if why else "")
    if said.startswith("-MISCONF"):
        hint = f"make room on the disk of {server.run.parent}; the server goes on by itself. Its log: {server.log}"
        return StoreDown(message, hint=hint)
    where = "" if host == host_name() else f" on {host}"
    return StoreDown(message, hint=f"read {server.log}, then `dispatch down`{where} and `dispatch up`")


def _shut_down(home: Path, server: Daemon) -> bool:
    """Ask a server that works to end; whether it did. Its append-only file is complete on disk then."""
    if not is_up(home):
        return False
    deadline = SYSTEM.monotonic() + SHUT_DOWN_WITHIN.total_seconds()
    with contextlib.suppress(OSError):
        # NOSAVE: no snapshot, whose failure would stop the shutdown. An answer comes only when it does not shut down.
        if ask(socket_of(home / "run"), "SHUTDOWN NOSAVE", SHUT_DOWN_WITHIN):
            return False
        while server.alive() and SYSTEM.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_SECONDS)
        return not server.alive()
    return False


def _environment(home: Path) -> dict[str, str]:
    """What a daemon gets of this process's environment."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_TASK}
    return {**kept, "DISPATCH_HOME": str(home)}


@contextlib.contextmanager
def _told(run: Path) -> Iterator[None]:
    """A system call that failed is told as a DispatchError."""
    try:
        yield
    except OSError as error:
        hint = f"make room in {run.parent} and make it writable, or set DISPATCH_HOME to another folder"
        raise DispatchError(f"{error.filename or run}: {error.strerror or error}", hint=hint) from error
