"""Agents as processes: each under a warden of its own, started, heard and ended from the worker's threads."""

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_queue.errors import DispatchError
from dispatch_queue.record import Ref
from dispatch_queue.taskdir import TASKS, TaskDir

MARK_VARIABLE: Final = "DISPATCH_TREE"
READ_BYTES: Final = 65536
START_WITHIN: Final = timedelta(seconds=30)  # a warden needs 15 ms; a machine that swaps needs longer
SWEEP_WITHIN: Final = timedelta(seconds=10)
_ABOVE_TASK: Final = TASKS.count("/") + 1  # of the parents of a task's folder: the workspace


@dataclass(frozen=True)
class Command:
    """What to run, never through a shell. `stdin` is at its end at once when None."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes | None = None


@dataclass(frozen=True)
class ProcessExit:
    """How an agent ended: by itself with `code`, or by `signal`; with neither, nobody saw how.

    `error` says what went wrong outside the agent: its warden died.
    """

    code: int | None = None
    signal: int | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0 and self.error is None


class StartFailed(DispatchError):
    """The agent could not be started; nothing of it runs. `errno` is 0 where no system call failed.

    `missing`: its program is not there, or is none.
    """

    def __init__(
        self, command: Command, reason: str, *, errno: int = 0, missing: bool = False, hint: str | None = None
    ) -> None:
        self.command, self.reason, self.errno, self.missing = command, reason, errno, missing
        super().__init__(f"cannot start `{command.argv[0] if command.argv else ''}`: {reason}", hint=hint)


class WardenDied(StartFailed):
    """The warden ended before its agent began: nothing is wrong with the command, and another try may do."""


class AgentProcess:
    """An agent that was started. One thread at a time may use it.

    `output` carries its standard output and error as one stream; `status` gets readable when its end may be known.
    Neither blocks. `pid` is the agent's, `mark` the value of DISPATCH_TREE in the environment of all it starts.
    """

    def __init__(self, guard: subprocess.Popen[bytes], *, output: int, status: int, control: int, mark: str) -> None:
        self.output, self.status, self.mark = output, status, mark
        self.pid = self._warden = 0
        self._guard, self._control = guard, control
        self._unread = b""
        self._code: int | None = None
        self._signal: int | None = None
        self._failed: tuple[int, str] | None = None
        self._empty = False
        self._end: ProcessExit | None = None
        self._closed = False

    def read_output(self) -> bytes | None:
        """Some of what the agent printed, b"" when there is nothing now, None when there never will be."""
        try:
            return os.read(self.output, READ_BYTES) or None
        except BlockingIOError:
            return b""

    def read_status(self) -> ProcessExit | None:
        """How the agent ended, as soon as nothing of its tree is left; None before that.

        If the warden was killed, the tree is killed first, which may take some milliseconds.
        """
        if self._end is not None:
            return self._end
        try:
            data = os.read(self.status, READ_BYTES)
        except BlockingIOError:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._note(line.decode(errors="replace"))
        if not data or self._empty:
            error = self._bury()
            self._guard.wait()
            self._end = ProcessExit(self._code, self._signal, error=error)
        return self._end

    def _note(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "started":
                self.pid, self._warden = map(int, rest.split())
            case "exited":
                self._code = int(rest)
            case "signalled":
                self._signal = int(rest)
            case "failed":
                number, _, reason = rest.partition(" ")
                self._failed = (int(number), reason)
            case "empty":
                self._empty = True

    def _bury(self) -> str | None:
        """Do what the warden and its guard died before doing; what to say about it, if one of them did."""
        if self._failed is not None:
            return self._failed[1]
        if self._empty:
            code = self._guard.wait()
            return f"its warden died ({_exit_words(code)}); all it had started was killed" if code else None
        self._guard.kill()
        killed = sweep(self.mark, session=self._guard.pid)
        code = self._guard.wait()  # not before: until then no stranger can get its id, and lead a session of that name
        return f"its warden died ({_exit_words(code)}); killed what was left: {killed}"

    def terminate(self, grace: timedelta) -> None:
        """SIGTERM to the whole tree, and SIGKILL to what is left of it after `grace`. Returns at once."""
        self._tell(f"term {grace.total_seconds()}")

    def kill(self) -> None:
        """SIGKILL to the whole tree. Returns at once."""
        self._tell("kill")

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, f"{line}\n".encode())
        if self._end is None and self._warden:
            for pid in (self._guard.pid, self._warden):  # an agent may have stopped the processes above it
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Give back the descriptors. A tree that still lives is killed first, and waited for. A second call is idle."""
        if self._closed:
            return
        self._closed = True
        if self._end is None:
            self.kill()
            poll = select.poll()
            poll.register(self.status, select.POLLIN)
            while self.read_status() is None:
                poll.poll()
        for handle in (self.output, self.status, self._control):
            os.close(handle)

    def wait_for_start(self, command: Command) -> None:
        """Return when the agent was executed. Raises StartFailed."""
        deadline = time.monotonic() + START_WITHIN.total_seconds()
        poll = select.poll()
        poll.register(self.status, select.POLLIN)
        while not self.pid and (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000) and self.read_status() is not None:
                break
        if self.pid:
            return
        try:
            if self._failed is not None:
                number, reason = self._failed
                raise _start_failed(command, number, reason)
            if self._end is not None:
                raise WardenDied(command, self._end.error or "its warden ended")
            self._guard.kill()
            raise WardenDied(command, f"its warden did not start it within {START_WITHIN.total_seconds():g} s")
        finally:
            self.close()


def spawn(command: Command) -> AgentProcess:
    """Start an agent under a warden of its own; returns when the agent was executed, after some 15 ms.

    May be called from many threads at once. Raises StartFailed, with nothing left running.
    """
    mark = os.urandom(16).hex()
    with contextlib.ExitStack() as undo:
        ours: list[int] = []

        def pipe() -> tuple[int, int]:
            read, write = os.pipe()
            for handle in (read, write):
                undo.callback(_close_unless_in, ours, handle)
            return read, write

        try:
            output, output_end = pipe()
            status, status_end = pipe()
            control_end, control = pipe()
            stdin = _stdin(command.stdin)
            undo.callback(os.close, stdin)
            process = subprocess.Popen(
                [*_warden(control_end, status_end), *command.argv],
                stdin=stdin,
                stdout=output_end,
                stderr=output_end,
                pass_fds=(control_end, status_end),
                cwd=command.cwd,
                env={**command.env, MARK_VARIABLE: mark},
                start_new_session=True,
            )
        except OSError as error:
            raise _start_failed(command, error.errno or 0, error.strerror or str(error), error.filename) from error
        except ValueError as error:  # a NUL in argv or env
            raise StartFailed(command, str(error), hint="remove the NUL from the prompt or the command") from error
        for handle in (output, status):
            os.set_blocking(handle, False)
        ours += [output, status, control]
    agent = AgentProcess(process, output=output, status=status, control=control, mark=mark)
    agent.wait_for_start(command)
    return agent


def _close_unless_in(kept: list[int], handle: int) -> None:
    if handle not in kept:
        os.close(handle)


def _warden(control_end: int, status_end: int) -> list[str]:
    """The words before an agent's own that put it under a warden, which is imported for its cached bytecode."""
    program = "import sys; sys.path.append(sys.argv[1]); import warden; warden.main(sys.argv[2:])"
    folder = str(Path(__file__).parent)
    return [sys.executable, "-I", "-S", "-c", program, folder, str(control_end), str(status_end), "--"]


def _stdin(data: bytes | None) -> int:
    """A descriptor to read `data` from: an unlinked file, so that nobody has to feed it and its end is certain."""
    if data is None:
        return os.open(os.devnull, os.O_RDONLY)
    with tempfile.NamedTemporaryFile(prefix="dispatch-stdin-") as stream:
        stream.write(data)
        stream.flush()
        return os.open(stream.name, os.O_RDONLY)


def _start_failed(command: Command, number: int, reason: str, filename: object = None) -> StartFailed:
    """What the failed system call means for a person."""
    program = command.argv[0] if command.argv else ""
    found = shutil.which(program, path=command.env.get("PATH", os.defpath)) is not None
    hint: str | None = None
    match number:
        case errno.ENOENT | errno.ENOTDIR | errno.EACCES if str(filename) == str(command.cwd):
            return StartFailed(command, f"its folder {filename}: {reason}", errno=number)
        case errno.ENOENT if found:
            reason, hint = f"{reason} (its interpreter?)", f"look at the first line of `{program}`"
        case errno.ENOENT:
            hint = f"install `{program}`, or put it on the worker's PATH, then `dispatch doctor`"
        case errno.EACCES:
            hint = f"make it executable: `chmod +x {program}`"
        case errno.ENOEXEC:
            hint = f"give `{program}` a first line like `#!/bin/sh`"
        case errno.E2BIG:
            hint = "use a backend that reads the prompt on standard input"
        case errno.EMFILE | errno.ENFILE | errno.EAGAIN | errno.ENOMEM:
            hint = "run fewer tasks at once on this worker, or raise its limits (`ulimit -n`, `ulimit -u`)"
    missing = number in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC)
    return StartFailed(command, reason, errno=number, missing=missing, hint=hint)


def _exit_words(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def sweep(mark: str, *, session: int | None = None) -> int:
    """Kill every process that has the mark in its environment, is below one that has, or is in `session`.

    For the tree of a warden that died; `session` is the one it led, and its own id. Returns how many processes were
    killed, without the warden. Stops after 10 s, with what cannot be killed left.
    """

    def belongs(pid: int, environ: Callable[[], Mapping[str, str]]) -> bool:
        return pid != session and (session == os.getsid(pid) or environ().get(MARK_VARIABLE) == mark)

    return _kill(belongs)


def sweep_attempts(ref: Ref, *, until: int) -> int:
    """Kill what is left on this host of a task's attempts up to number `until`, wardens and all below them too.

    For attempts that nobody may run any more, whose worker and warden died at once, or whose worker is frozen. Returns
    how many processes were killed. Stops after 10 s, with what cannot be killed left.
    """

    def belongs(_pid: int, environ: Callable[[], Mapping[str, str]]) -> bool:
        told = environ()
        if told.get("DISPATCH_TASK_ID") != ref.task or MARK_VARIABLE not in told:
            return False
        number, folder = told.get("DISPATCH_ATTEMPT", ""), Path(told.get("DISPATCH_TASK_DIR", ""))
        if not number.isdecimal() or int(number) > until or len(folder.parents) <= _ABOVE_TASK:
            return False
        try:
            return TaskDir(folder.parents[_ABOVE_TASK], ref.task).task().project == ref.project
        except (DispatchError, OSError):
            return False  # the folder is gone: its attempt ends by that

    return _kill(belongs)


def _kill(belongs: Callable[[int, Callable[[], Mapping[str, str]]], bool]) -> int:
    killed: set[int] = set()
    deadline = time.monotonic() + SWEEP_WITHIN.total_seconds()
    while (left := _living(belongs)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.005)
    return len(killed)


def _living(belongs: Callable[[int, Callable[[], Mapping[str, str]]], bool]) -> list[int]:
    """The living processes for which `belongs` is true of their id and environment, and all below them.

    Parents before children.
    """
    import psutil

    children: dict[int, list[int]] = {}
    found: dict[int, None] = {}
    for process in psutil.process_iter(["ppid", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            continue
        children.setdefault(process.info["ppid"], []).append(process.pid)
        with contextlib.suppress(OSError, psutil.Error):
            if belongs(process.pid, process.environ):
                found[process.pid] = None
    todo = list(found)
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found[child] = None
                todo.append(child)
    return list(found)
