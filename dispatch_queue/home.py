"""Where dispatch keeps what belongs to this user on this machine, and what this machine is called."""

import os
import stat
from pathlib import Path

from dispatch_queue.errors import DispatchError


def dispatch_home() -> Path:
    """`$DISPATCH_HOME`, else `~/.dispatch`; absolute, may not exist. Raises DispatchError if no home is known."""
    given = os.environ.get("DISPATCH_HOME") or "~/.dispatch"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError as error:
        raise DispatchError(f"{given}: no home directory is known", hint="set DISPATCH_HOME to a folder") from error


def run_folder(home: Path) -> Path:
    """`home/run`, for sockets, process ids and logs; made when missing, private to this user.

    Raises DispatchError where it cannot be made, and where somebody else could put things there.
    """
    run = home / "run"
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = run.lstat()
    except OSError as error:
        hint = "set DISPATCH_HOME to a folder that you can write"
        raise DispatchError(f"{run}: {error.strerror}", hint=hint) from error
    if not stat.S_ISDIR(found.st_mode):
        raise DispatchError(f"{run} is a link", hint=f"remove it: rm {run}")
    if found.st_uid != os.geteuid():
        hint = f"take it over (sudo chown -R {os.geteuid()} {home}), or set DISPATCH_HOME to a folder of your own"
        raise DispatchError(f"{run} belongs to the user with the id {found.st_uid}", hint=hint)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DispatchError(f"others may write into {run}", hint=f"chmod 700 {run}")
    return run


def host_name() -> str:
    """`$DISPATCH_HOST`, else this machine's short name; only `a-z`, `0-9` and `-`, never empty."""
    given = os.environ.get("DISPATCH_HOST") or os.uname().nodename.partition(".")[0]
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in given.lower())
    return plain.strip("-") or "localhost"


def actor() -> str:
    """Who acts, for a journal: `host:pid`."""
    return f"{host_name()}:{os.getpid()}"
