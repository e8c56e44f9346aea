"""A process that goes on when the command that started it has ended: start it, know whether it lives, end it.

A daemon keeps its pid file open and locked (flock) for as long as it lives, from before its first instruction. So
"does it live" is asked of the kernel: no crash leaves a wrong answer behind, and an id that a stranger has by now
means nothing. The lock passes through exec but not to the children that Python's subprocess starts.
"""

import contextlib
import enum
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dispatch_queue import files
from dispatch_queue.clock import SYSTEM, stamp
from dispatch_queue.errors import DispatchError
from dispatch_queue.home import host_name

if TYPE_CHECKING:
    import psutil

LOCK: Final = "up.lock"  # held by whoever starts and stops daemons
LOOK_AGAIN_SECONDS: Final = 0.001  # while something starts
LOOK_AGAIN_SLOWLY_SECONDS: Final = 0.02  # while something ends
TREE_EVERY_SECONDS: Final = 0.25  # a look at every process of the machine costs some milliseconds
START_WITHIN: Final = timedelta(seconds=5)  # fork and exec, on a machine that swaps
LEFTOVERS_WITHIN: Final = timedelta(seconds=4)  # what a daemon started may end by itself, once the daemon has
KILL_WITHIN: Final = timedelta(seconds=10)
LOG_LIMIT_BYTES: Final = 4 * 1024 * 1024  # a longer log is put aside at the next start
TAIL_LINES: Final = 6
TAIL_BYTES: Final = 4096
STAMP_LIMIT_BYTES: Final = 64 * 1024

# The first shell forks the second and ends, so the daemon is nobody's child and never a zombie of the command that
# started it. The second writes its own id and becomes the daemon: there is no instant with a daemon and no id.
# It begins with SIGINT and SIGQUIT ignored, as `&` does; Valkey and Celery set handlers of their own.
_START: Final = """ "$0" -c 'echo "$$" >"$0" && exec "$@"' "$@" & """


class End(enum.StrEnum):
    """How `stop` found or made an end; reads on after the daemon's name."""

    NOT_RUNNING = "was not running"
    STOPPED = "stopped"
    KILLED = "was killed, it did not stop by itself"


@dataclass(frozen=True)
class Daemon:
    """One of the daemons of a run folder, told by its name. Only one process with this name lives at a time."""

    run: Path
    name: str

    @property
    def pid_file(self) -> Path:
        return self.run / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.run / f"{self.name}.log"

    def alive(self) -> bool:
        """Whether it runs, at the cost of two system calls."""
        try:
            handle = os.open(self.pid_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def pid(self) -> int | None:
        """The id of the process that was started last. It may have ended: see `alive`."""
        try:
            return int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def facts(self) -> dict[str, Any]:
        """What `start` was told about the process started last, with `host` and `started`; empty if unknown."""
        try:
            found = json.loads(files.read(self.run, f"{self.name}.json", limit_bytes=STAMP_LIMIT_BYTES))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def log_tail(self, since: int = 0) -> str:
        """The last lines of its log, not those of before byte `since`."""
        try:
            with self.log.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(since, size - TAIL_BYTES))
                lines = stream.read(TAIL_BYTES).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line.rstrip() for line in lines[-TAIL_LINES:])

    def start(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], facts: Mapping[str, str]) -> int:
        """Start the process, away from this one's terminal, session and descriptors; its log's size before.

        The caller holds the lock of the folder (`locked`) and saw that it does not run. Returns when the process
        exists; whether it is of use the caller must ask of it. Raises DispatchError if it ended before that, OSError.
        """
        import subprocess

        known = {**facts, "host": host_name(), "started": stamp(SYSTEM.now())}
        with contextlib.ExitStack() as close:
            pid_file = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            close.callback(os.close, pid_file)
            _lock(pid_file, START_WITHIN, f"{self.pid_file} is held by another process")
            os.ftruncate(pid_file, 0)
            files.write(self.run, f"{self.name}.json", json.dumps(known).encode(), mode=0o600)
            log = self._open_log()
            close.callback(os.close, log)
            before = os.fstat(log).st_size
            subprocess.run(
                ["/bin/sh", "-c", _START, "/bin/sh", str(self.pid_file), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(pid_file,),
                cwd=cwd,
                env=env,
                start_new_session=True,
                check=False,
            )
        deadline = SYSTEM.monotonic() + START_WITHIN.total_seconds()
        while self.pid() is None:
            if not self.alive() or SYSTEM.monotonic() > deadline:
                raise DispatchError(f"cannot start the {self.name}\n{self.log_tail(before)}", hint=f"read {self.log}")
            time.sleep(LOOK_AGAIN_SECONDS)
        return before

    def _open_log(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                os.replace(self.log, self.log.with_suffix(".log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def stop(self, *graces: timedelta) -> End:
        """SIGTERM with each of the graces in turn, then SIGKILL; returns when nothing it started is left either.

        Never signals a process that is not the daemon or below it. Raises DispatchError where the daemon cannot be
        reached from here, where this process is below it, and where something cannot be killed.
        """
        if not self.alive():
            return End.NOT_RUNNING
        process = self._process()
        if process is None:
            return self._gone_meanwhile()
        tree = Tree(process)
        if os.getpid() in tree.pids():
            hint = "run it in a terminal of your own"
            raise DispatchError(f"this command was started by the {self.name} that it would end", hint=hint)
        for grace in graces:
            tree.signal_root(signal.SIGTERM)
            if tree.wait_for_root(grace):
                tree.end(LEFTOVERS_WITHIN)
                return End.STOPPED
        tree.signal_root(signal.SIGKILL)
        tree.end(LEFTOVERS_WITHIN)
        return End.KILLED

    def _process(self) -> "psutil.Process | None":
        """The process of the pid file, if that process has the pid file open: a stranger with its id has not."""
        import psutil

        pid = self.pid()
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            process = psutil.Process(pid or 0)
            if any(self.pid_file.samefile(opened.path) for opened in process.open_files()):
                return process
        return None

    def _gone_meanwhile(self) -> End:
        """What `stop` says of a process that is not to be seen: it is just ending, or it is not on this machine."""
        deadline = SYSTEM.monotonic() + LEFTOVERS_WITHIN.total_seconds()
        while SYSTEM.monotonic() < deadline:
            if not self.alive():
                return End.STOPPED
            time.sleep(LOOK_AGAIN_SLOWLY_SECONDS)
        host = self.facts().get("host", "another machine")
        message = f"the {self.name} runs as process {self.pid()} of {host}, which cannot be seen from {host_name()}"
        raise DispatchError(message, hint=f"stop it there: `dispatch down` on {host}")

    def forget(self) -> None:
        """Remove what is only of use while it runs; the log stays. The caller holds the lock of the folder."""
        for name in (f"{self.name}.pid", f"{self.name}.json"):
            files.remove(self.run, name)


class Tree:
    """A process and all below it. Its members are told by id and start time, so a recycled id is never signalled."""

    def __init__(self, root: "psutil.Process") -> None:
        self._root = root
        self._members = {root}
        self._look()

    def pids(self) -> set[int]:
        return {member.pid for member in self._members}

    def signal_root(self, number: signal.Signals) -> None:
        """Send it to the root alone, and wake the root if it is stopped."""
        _send(self._root, number)
        _send(self._root, signal.SIGCONT)

    def wait_for_root(self, limit: timedelta) -> bool:
        """Whether the root ended within the limit. Notes what begins below it meanwhile."""
        deadline = SYSTEM.monotonic() + limit.total_seconds()
        next_look = 0.0
        while _lives(self._root):
            now = SYSTEM.monotonic()
            if now >= deadline:
                return False
            if now >= next_look:
                self._look()
                next_look = now + TREE_EVERY_SECONDS
            time.sleep(LOOK_AGAIN_SLOWLY_SECONDS)
        return True

    def end(self, grace: timedelta) -> None:
        """Wait until no member is left; SIGKILL to those that outlive the grace. Raises DispatchError if one stays."""
        kill_at = SYSTEM.monotonic() + grace.total_seconds()
        give_up_at = kill_at + KILL_WITHIN.total_seconds()
        while left := self._look():
            now = SYSTEM.monotonic()
            if now >= give_up_at:
                pids = " ".join(str(member.pid) for member in left)
                raise DispatchError(f"cannot end the processes {pids}", hint=f"look at them: ps -fp {pids}")
            if now >= kill_at:
                for member in left:
                    _send(member, signal.SIGKILL)
            time.sleep(LOOK_AGAIN_SLOWLY_SECONDS)

    def _look(self) -> "list[psutil.Process]":
        """The living members, with those that came to be below one of them since the last look."""
        import psutil

        below: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter(["ppid"]):
            below.setdefault(process.info["ppid"], []).append(process)
        living = [member for member in self._members if _lives(member)]
        todo = list(living)
        while todo:
            new = [child for child in below.get(todo.pop().pid, []) if child not in self._members]
            self._members.update(new)
            todo += new
            living += new
        return living


def _lives(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: "psutil.Process", number: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # gone, or another user's by now (sudo)
        process.send_signal(number)


@contextlib.contextmanager
def locked(run: Path, limit: timedelta) -> Iterator[None]:
    """Be the only one who starts and stops daemons in this folder. Raises DispatchError after the limit, OSError."""
    handle = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, limit, "another `dispatch` command has been starting or stopping the local server")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, limit: timedelta, who: str) -> None:
    deadline = SYSTEM.monotonic() + limit.total_seconds()
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if SYSTEM.monotonic() >= deadline:
                message = f"{who} (waited {limit.total_seconds():g} s)"
                raise DispatchError(message, hint="look at it with `dispatch status`, then try again") from None
        time.sleep(LOOK_AGAIN_SECONDS)
