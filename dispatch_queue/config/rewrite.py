"""Puts a new text in the place of `config.yaml`: whole or not at all, and only if nobody else changed it meanwhile."""

import contextlib
import errno
import os
import secrets
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

from dispatch_queue import files, locks
from dispatch_queue.config.load import CONFIG_NAME, read_bytes, shown
from dispatch_queue.errors import BadConfig

LOCK = "config.lock"
_MOST_KEPT = 100  # copies of old files


class Replaced(NamedTuple):
    """`kept` is the copy of what the file was, if one was asked for."""

    kept: Path | None


def create(home: Path, data: bytes) -> bool:
    """Write a file, for this user alone, where there is none; False where there is one by now. Raises BadConfig."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(home, CONFIG_NAME, data, replace=False, mode=0o600)
    except FileExistsError:
        if not home.is_dir():
            raise _unwritable(home, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))) from None
        return False
    except OSError as error:
        raise _unwritable(home, error) from error
    return True


def replace(home: Path, before: bytes, after: bytes, *, keep: bool = False) -> Replaced | None:
    """Put `after` in the place of a file that holds `before`; None where it does no longer, and nothing is written.

    The file's mode stays, its owner where we may, and a link to it. With `keep` what it was is kept beside it.
    Raises BadConfig where it cannot be written; then it is as it was.
    """
    target = (home / CONFIG_NAME).resolve()
    try:
        facts = target.stat()
        _check_writable(home, target, facts)
        with locks.holding(home, LOCK):
            if read_bytes(home) != before:
                return None
            kept = _keep(home, before, facts) if keep else None
            try:
                _swap(target, after, facts)
            except OSError:
                if kept is not None:
                    kept.unlink()
                raise
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(home, error) from error
    return Replaced(kept)


def _check_writable(home: Path, target: Path, facts: os.stat_result) -> None:
    """A rename would replace a file that its owner made read-only. Raises BadConfig, PermissionError."""
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if not facts.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise BadConfig(f"{shown(home)}: is read-only", hint=f"chmod u+w {shlex.quote(str(target))}")


def _keep(home: Path, data: bytes, facts: os.stat_result) -> Path:
    """Write what the file was to a new file beside it."""
    for number in range(1, _MOST_KEPT + 1):
        kept = home / f"{CONFIG_NAME}.old{'' if number == 1 else f'.{number}'}"
        with contextlib.suppress(FileExistsError):
            _write_new(kept, data, facts)
            return kept
    raise BadConfig(f"{shown(home)}.old: there are {_MOST_KEPT} of them", hint="remove some")


def _swap(target: Path, data: bytes, facts: os.stat_result) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    _write_new(temporary, data, facts)
    try:
        temporary.rename(target)
    except OSError:
        temporary.unlink()
        raise


def _write_new(path: Path, data: bytes, facts: os.stat_result) -> None:
    """Write a file that is not there yet, with the owner and mode of `facts`. Raises OSError with nothing left."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.fchown(handle, facts.st_uid, facts.st_gid)
            os.fchmod(handle, stat.S_IMODE(facts.st_mode))
            os.fsync(handle)
    except OSError:
        path.unlink()
        raise


def _unwritable(home: Path, error: OSError) -> BadConfig:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space; nothing was changed" if full else "point DISPATCH_HOME at a folder that you can write"
    return BadConfig(f"{shown(home)}: cannot be written: {error.strerror}", hint=hint)
