"""Reading and writing files that an agent may have touched.

Every function takes a folder that we trust (`base`, a project or a workspace) and a name below it with `/`
between its parts. Each part is opened without following links, so that a link put anywhere below `base`
is an error and never leads out of it.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dispatch_queue.errors import TooLarge, UntrustedPath

FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError: the disk is

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FOLDER = (errno.ELOOP, errno.ENOTDIR)
_NO_FILE = (errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP)  # a folder; a socket on Linux and on macOS


def parts_of(name: str) -> list[str]:
    """The parts of a relative name. Raises UntrustedPath for an absolute one, `..`, empty parts and NUL."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UntrustedPath(name, "not a plain relative name")
    return parts


@contextlib.contextmanager
def _folder(base: Path, parts: list[str], *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder `base/parts`, each part opened without following a link."""
    here = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, part in enumerate(parts, 1):
            try:
                try:
                    below = os.open(part, _FOLDER, dir_fd=here)
                except FileNotFoundError:
                    if not make:
                        raise
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=here)
                    below = os.open(part, _FOLDER, dir_fd=here)
            except OSError as error:
                if error.errno in _NO_FOLDER:
                    raise UntrustedPath("/".join(parts[:depth]), "is not a folder") from error
                raise
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


@contextlib.contextmanager
def _regular(base: Path, name: str, flags: int) -> Iterator[int]:
    *above, last = parts_of(name)
    with _folder(base, above) as folder:
        try:
            handle = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise UntrustedPath(name, "is a link, not a file") from error
            if error.errno in _NO_FILE:
                raise UntrustedPath(name, "is not a regular file") from error
            raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UntrustedPath(name, "is not a regular file")
        if flags & (os.O_WRONLY | os.O_RDWR) and found.st_nlink > 1:
            raise UntrustedPath(name, "has a second name (hard link), which a change would reach too")
        yield handle
    finally:
        os.close(handle)


def read(base: Path, name: str, *, limit_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises FileNotFoundError, and UntrustedPath for a link, a folder, a device or more than `limit_bytes`.
    """
    with _regular(base, name, os.O_RDONLY) as handle, open(handle, "rb", closefd=False) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise TooLarge(name, limit_bytes)
    return data


def write(base: Path, name: str, data: bytes, *, replace: bool = True, mode: int = 0o644) -> None:
    """Put a file in place whole: a temporary file beside it, then a rename. Missing folders are made.

    With `replace=False` an existing file is left alone and FileExistsError raised, also in a race of two.
    Raises UntrustedPath for a link among the folders, OSError (ENOSPC, EROFS, …) with nothing half-written.
    """
    *above, last = parts_of(name)
    with _folder(base, above, make=True) as folder:
        temporary = f".{last}.{os.urandom(6).hex()}.tmp"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
        try:
            with open(handle, "wb") as stream:
                stream.write(data)
            if replace:
                os.rename(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
                return
            os.link(temporary, last, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except IsADirectoryError as error:
            raise UntrustedPath(name, "is not a regular file") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)


def append(base: Path, name: str, data: bytes) -> None:
    """Add `data` at the end of an existing file in one write, so that what another process writes stays.

    For the files that two write at once (plan.md in shared isolation); all others are written by `write`.
    Raises FileNotFoundError, UntrustedPath, OSError (ENOSPC, …) with nothing half-written, unless another
    process has appended to the half.
    """
    with _regular(base, name, os.O_WRONLY | os.O_APPEND) as handle:
        written = os.write(handle, data)
        if written < len(data):
            end = os.lseek(handle, 0, os.SEEK_CUR)
            if os.fstat(handle).st_size == end:
                os.ftruncate(handle, end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


@contextlib.contextmanager
def locked(base: Path, name: str) -> Iterator[int]:
    """A descriptor of an existing file for reading and appending, under an exclusive flock until the end."""
    with _regular(base, name, os.O_RDWR | os.O_APPEND) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle


def open_log(base: Path, name: str) -> int:
    """A descriptor for appending to a file, and reading it; the file and folders are made if missing.

    The caller closes it. Raises UntrustedPath, OSError.
    """
    *above, _ = parts_of(name)
    if above:
        make_folder(base, "/".join(above))
    with _regular(base, name, os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
        return os.dup(handle)


def open_read(base: Path, name: str) -> int:
    """A descriptor for reading a regular file of any size. The caller closes it. Raises as `read` does."""
    with _regular(base, name, os.O_RDONLY) as handle:
        return os.dup(handle)


def is_same(base: Path, name: str, handle: int) -> bool:
    """Whether the open file `handle` is still the one that has this name."""
    *above, last = parts_of(name)
    try:
        with _folder(base, above) as folder:
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except (OSError, UntrustedPath):
        return False
    return os.path.samestat(found, os.fstat(handle))


def names(base: Path, folder: str, *, limit: int | None = None) -> list[str]:
    """What stands in a folder, sorted; empty where it does not exist.

    Raises UntrustedPath for a link, and for more than `limit` names.
    """
    try:
        with _folder(base, parts_of(folder)) as handle, os.scandir(handle) as found:
            listed = [entry.name for entry in itertools.islice(found, None if limit is None else limit + 1)]
    except FileNotFoundError:
        return []
    if limit is not None and len(listed) > limit:
        raise UntrustedPath(folder, f"has more than {limit} files in it")
    return sorted(listed)


def make_folder(base: Path, folder: str) -> None:
    """Make a folder and those above it. Raises UntrustedPath where a link or a file is in the way."""
    with _folder(base, parts_of(folder), make=True):
        pass


def remove(base: Path, name: str) -> None:
    """Remove a file, or a link as such; a missing one is fine. Raises UntrustedPath for a folder."""
    *above, last = parts_of(name)
    with contextlib.suppress(FileNotFoundError), _folder(base, above) as folder:
        try:
            os.unlink(last, dir_fd=folder)
        except OSError as error:  # EISDIR on Linux, EPERM on macOS
            if stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                raise UntrustedPath(name, "is a folder") from error
            raise


def clear(base: Path, name: str, *, for_folder: bool = False, limit_bytes: int | None = None) -> bool:
    """Make room for a file, or a folder, where something else or a file over the limit stands; whether it did.

    What is in the way of a file and has content is renamed to `<name>.rejected-…`, all else is removed. Raises
    UntrustedPath for a link among the folders above.
    """
    *above, last = parts_of(name)
    try:
        with _folder(base, above) as folder:
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
            is_folder, is_file = stat.S_ISDIR(found.st_mode), stat.S_ISREG(found.st_mode)
            too_large = limit_bytes is not None and found.st_size > limit_bytes
            if is_folder if for_folder else is_file and not too_large:
                return False
            if is_folder or (is_file and not for_folder):
                aside = f"{last}.rejected-{os.urandom(4).hex()}"
                os.rename(last, aside, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.unlink(last, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True
