"""The parent of one agent. It outlives the worker by the time it takes to end the agent and all it started.

A process of its own, with neither the project nor the modules it can do without: one warden stands beside every
running agent, and its start is part of every agent's start. `worker.process` starts it, with these arguments:

    CONTROL STATUS -- ARGV…

It must lead a session of its own. ARGV gets its environment, folder and standard streams, and no other descriptor.

CONTROL, read here        does
`term SECONDS`            SIGTERM to the whole tree; SIGKILL to what is left of it after SECONDS
`kill`                    SIGKILL to the whole tree
end of file               the worker died: as `term` with GONE_GRACE_SECONDS

STATUS, written here      means
`started PID WARDEN`      the agent runs; its process id and the warden's own
`failed ERRNO MESSAGE`    it could not be executed; the last line
`exited CODE`             the agent itself ended; what it left running gets `term` with LEFTOVER_GRACE_SECONDS
`signalled NUMBER`        the same, by a signal
`empty`                   nothing of the tree is left; the last line

On Linux the warden is the child subreaper of the tree: whatever is orphaned below it becomes its own child, so the
tree is empty exactly when it has no child. Above it stands its guard, a subreaper too, which sleeps until the warden
has ended: the tree of a warden that was killed falls to the guard, and when the guard is killed, the warden ends the
tree. One that the agent has stopped is woken by the other. The process that `worker.process` started is the guard;
it ends as the warden did.

Elsewhere there is no guard, and the tree is what `ps` shows below the warden, and the process groups seen there; a
process that left both before anyone looked is not found.
"""

import _signal  # `signal` imports enum: half as long again as the whole start
import os
import select
import sys
import time

GONE_GRACE_SECONDS = 1.0
LEFTOVER_GRACE_SECONDS = 1.0
LOOK_AGAIN_SECONDS = (0.002, 0.1)  # between two rounds of killing: first, and at most

LINUX = sys.platform == "linux"
KEPT_OFF = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def _prctl(option: int, value: int) -> None:
    """prctl(2), by the C part of ctypes only: the Python part costs half as much as the interpreter's start."""
    import _ctypes

    class Call(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL

    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    if Call(_ctypes.dlsym(library, "prctl"))(option, value, 0, 0, 0) != 0:
        raise OSError(f"prctl({option}) failed")


def _table() -> dict[int, tuple[int, int]]:
    """The parent and the group of every process of this machine."""
    table = {}
    if LINUX:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb", buffering=0) as stream:
                        fields = stream.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                table[int(name)] = (int(fields[1]), int(fields[2]))
        return table
    import subprocess

    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,pgid="], stdout=subprocess.PIPE) as ps:
        for line in ps.communicate()[0].splitlines():
            pid, parent, group = map(int, line.split())
            table[pid] = (parent, group)
    table.pop(ps.pid, None)
    return table


def _children(pid: int) -> list[int]:
    """The children of a process, on Linux."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as stream:
                while part := stream.read(65536):
                    found += [int(child) for child in part.split()]
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):  # a kernel without CONFIG_PROC_CHILDREN
                return [child for child, (parent, _) in _table().items() if parent == pid]
        except OSError:
            continue
    return found


class Tree:
    """Everything below this process."""

    def __init__(self, agent: int) -> None:
        self._self = os.getpid()
        self._groups = {agent}  # used where there is no subreaper

    def members(self) -> list[int]:
        """Every descendant, parents before children; one that begins meanwhile may be missing."""
        found: dict[int, None] = {}
        todo = [self._self]
        if LINUX:
            while todo:
                below = [child for child in _children(todo.pop()) if child not in found]
                found.update(dict.fromkeys(below))
                todo += below
            return list(found)
        table = _table()
        while todo:
            above = todo.pop()
            for pid, (parent, group) in table.items():
                if pid not in found and pid != self._self and (parent == above or group in self._groups):
                    found[pid] = None
                    todo.append(pid)
        self._groups |= {table[pid][1] for pid in found} - {os.getpgrp()}
        return list(found)

    def terminate(self) -> None:
        """SIGTERM to all, and SIGCONT, without which a stopped process would not see it."""
        for pid in self.members():
            _send(pid, _signal.SIGTERM)
            _send(pid, _signal.SIGCONT)

    def kill(self) -> None:
        """One round of SIGKILL. What it leaves, and what began meanwhile, is for the next round.

        On Linux only children are aimed at: their ids, and those of their groups, are theirs until we reap them,
        while that of a grandchild may be a stranger's by now. Grandchildren become children as their parents die,
        and most die with their group, in one step that no fork can slip through.
        """
        if not LINUX:
            for pid in self.members():
                _send(pid, _signal.SIGKILL)
            return
        for pid in _children(self._self):
            try:
                group = os.getpgid(pid)
            except ProcessLookupError:
                continue
            if group != os.getpgrp():
                _send(-group, _signal.SIGKILL)
            _send(pid, _signal.SIGKILL)

    def reap(self) -> tuple[list[tuple[int, int]], bool]:
        """The id and exit code (minus the signal) of each child that ended, and whether the tree is empty."""
        ended: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended, LINUX or not self.members()
            if pid == 0:
                return ended, False
            ended.append((pid, os.waitstatus_to_exitcode(status)))


def _send(target: int, number: int) -> None:
    """Signal a process, or a group by its negative id; it may be gone, or another user's (sudo)."""
    try:
        os.kill(target, number)
    except (ProcessLookupError, PermissionError):
        pass


class Warden:
    """`agent` is a child that has been executed already; `guard` gets readable when the guard is dead."""

    def __init__(self, agent: int, control: int, status: int, wake: int, guard: int | None) -> None:
        self._agent, self._control, self._status, self._wake, self._guard = agent, control, status, wake, guard
        self._tree = Tree(agent)
        self._kill_at: float | None = None
        self._unread = b""

    def run(self) -> None:
        """Stay until the tree is empty."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        if self._guard is not None:
            poll.register(self._guard, select.POLLIN)
        pause = LOOK_AGAIN_SECONDS[0]
        while True:
            ended, empty = self._tree.reap()
            for pid, code in ended:
                if pid == self._agent:
                    report(self._status, f"exited {code}" if code >= 0 else f"signalled {-code}")
                    if not empty:
                        self._end_within(LEFTOVER_GRACE_SECONDS)
            if empty:
                _send(os.getppid(), _signal.SIGCONT)  # an agent may have stopped the guard, which is to end with us
                report(self._status, "empty")
                return
            wait = None
            if self._kill_at is not None:
                wait = self._kill_at - time.monotonic()
                if wait <= 0:
                    self._tree.kill()
                    wait, pause = pause, min(pause * 2, LOOK_AGAIN_SECONDS[1])
                elif not LINUX:
                    time.sleep(LOOK_AGAIN_SECONDS[1])  # each look is a ps, the end of which is a reason to look
                    wait = 0
            for handle, _ in poll.poll(None if wait is None else wait * 1000):
                data = os.read(handle, 65536)
                if not data:
                    poll.unregister(handle)
                if handle == self._control:
                    self._obey(data)
                elif handle == self._guard:
                    self._end_within(0)

    def _obey(self, data: bytes) -> None:
        if not data:
            self._end_within(GONE_GRACE_SECONDS)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            word, _, seconds = line.partition(b" ")
            self._end_within(float(seconds) if word == b"term" else 0.0)

    def _end_within(self, seconds: float) -> None:
        """SIGTERM now, if that was not done, and SIGKILL after `seconds` or when it was due before."""
        if self._kill_at is None and seconds > 0:
            self._tree.terminate()
        due = time.monotonic() + seconds
        self._kill_at = due if self._kill_at is None else min(due, self._kill_at)


def report(status: int, line: str) -> None:
    """Write a line to the worker, which may be gone."""
    try:
        os.write(status, f"{line}\n".encode(errors="replace"))
    except BrokenPipeError:
        pass


def start(argv: list[str], control: int, status: int) -> int:
    """Fork and execute the agent; its process id, or 0 after `failed` was reported."""
    warden = os.getpid()
    failure, tell = os.pipe()
    agent = os.fork()
    if agent == 0:
        try:
            if LINUX:
                _prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
                if os.getppid() != warden:
                    os._exit(127)
            os.setpgid(0, 0)
            for number in range(1, _signal.NSIG):
                try:
                    _signal.signal(number, _signal.SIG_DFL)
                except (OSError, ValueError):
                    pass
            os.execvp(argv[0], argv)
        except OSError as error:
            os.write(tell, f"failed {error.errno} {error.strerror}".encode())
        finally:
            os._exit(127)
    os.close(tell)
    message = os.read(failure, 4096)
    os.close(failure)
    if not message:
        report(status, f"started {agent} {warden}")
        return agent
    os.waitpid(agent, 0)
    report(status, message.decode())
    return 0


def leave_streams_and_folder() -> None:
    """Hold nothing that the agent holds: its output must end with it, its folder may be removed."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream, inheritable=False)
    os.close(nothing)
    os.chdir("/")


def stand_guard(warden: int, status: int) -> None:
    """Wait for the warden's end; if it was killed, kill its tree. Ends this process as the warden ended.

    A warden that its agent has stopped is made to go on.
    """
    leave_streams_and_folder()
    while os.WIFSTOPPED(ended := os.waitpid(warden, os.WUNTRACED)[1]):
        _send(warden, _signal.SIGCONT)
    code = os.waitstatus_to_exitcode(ended)
    if code != 0:
        tree, pause = Tree(warden), LOOK_AGAIN_SECONDS[0]
        while not tree.reap()[1]:
            tree.kill()
            time.sleep(pause)
            pause = min(pause * 2, LOOK_AGAIN_SECONDS[1])
        report(status, "empty")
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def guarded(control: int, status: int) -> int:
    """Fork; return in the child, a descriptor that gets readable when its guard, the parent, is dead."""
    dead, alive = os.pipe()
    warden = os.fork()
    if warden:
        os.close(dead)
        os.close(control)
        stand_guard(warden, status)
    os.close(alive)
    os.setpgid(0, 0)  # a signal to the group of one is none to the other
    return dead


def main(arguments: list[str]) -> None:
    """Become the warden that the arguments ask for; does not return."""
    control, status = int(arguments[0]), int(arguments[1])
    for handle in (control, status):
        os.set_inheritable(handle, False)
    for number in KEPT_OFF:
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    guard = None
    if LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        guard = guarded(control, status)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # not inherited
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    _signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    agent = start(arguments[3:], control, status)
    if agent:
        leave_streams_and_folder()
        Warden(agent, control, status, wake, guard).run()
    os._exit(0)
