"""Reads `config.yaml`, quickly: a file that was checked before is taken from a copy made plain.

Checking needs yaml and pydantic, which cost more than a whole `dispatch submit`. So the checked config is kept
as JSON in `run/config.checked.json`, beside the text and the version that it was made from, and only another
text or another version is checked again.
"""

import contextlib
import dataclasses
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dispatch_queue import __version__
from dispatch_queue.config.schema import REDIS_HINT, REDIS_SCHEMES, Config, RedisSection, from_plain
from dispatch_queue.errors import BadConfig, DispatchError

CONFIG_NAME = "config.yaml"
REDIS_VARIABLE = "DISPATCH_REDIS_URL"
MAX_CONFIG_BYTES = 256 * 1024

_RUN, _COPY_NAME = "run", "config.checked.json"
_COPY_FORMAT = 3  # raise it when the same text means another config
_MAX_COPY_BYTES = 4 * MAX_CONFIG_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, what is to be said about its file, and whether there is one."""

    config: Config
    notices: list[str]
    exists: bool


def load(home: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in the folder `home`, under the variables of `environ` (default: the process's).

    Raises BadConfig, which names file, line and key.
    """
    environ = os.environ if environ is None else environ
    text = read_text(home)
    if text is None:
        return Loaded(_with_environment(Config(), environ), [], exists=False)
    config, notices = _kept(home, text) or _checked(home, text)
    return Loaded(_with_environment(config, environ), notices, exists=True)


def read_text(home: Path) -> str | None:
    """The text of the config file; None where there is none. Raises BadConfig for what cannot be one."""
    data = read_bytes(home)
    return None if data is None else decoded(home, data)


def decoded(home: Path, data: bytes) -> str:
    """The text in the bytes of the config file, without a mark of their order. Raises BadConfig."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadConfig(
            f"{shown(home)}:{line}: not UTF-8: byte {data[error.start]:#04x}",
            hint="save the file as UTF-8",
        ) from error


def read_bytes(home: Path) -> bytes | None:
    """The bytes of the config file; None where there is none. Raises BadConfig for what cannot be one."""
    path = home / CONFIG_NAME
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise BadConfig(
                f"{shown(home)}: is a link to `{path.readlink()}`, which does not exist",
                hint="make that file, or remove the link: dispatch config init",
            ) from None
        return None
    except OSError as error:
        hint = "make it readable for you" if error.errno == errno.EACCES else "point DISPATCH_HOME at a folder"
        raise BadConfig(f"{shown(home)}: cannot be read: {error.strerror}", hint=hint) from error
    with _closing(handle):
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise BadConfig(
                f"{shown(home)}: is {kind}",
                hint=_anew(home),
            )
        data = _bytes_of(handle, MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise BadConfig(
            f"{shown(home)}: is larger than {MAX_CONFIG_BYTES // 1024} KiB",
            hint=_anew(home),
        )
    return data


def shown(home: Path) -> str:
    """The config file's path for a message, with `~` for the user's home."""
    path = home / CONFIG_NAME
    with contextlib.suppress(ValueError, RuntimeError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def _anew(home: Path) -> str:
    import shlex  # only here: every command imports this module

    path = shlex.quote(str(home / CONFIG_NAME))
    return f"move it away and make a new one: mv {path} {path}.broken && dispatch config init"


@contextlib.contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


def _bytes_of(handle: int, limit: int) -> bytes:
    with open(handle, "rb", closefd=False) as stream:
        return stream.read(limit)


def _with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    url = environ.get(REDIS_VARIABLE)
    if not url:
        return config
    if not url.startswith(REDIS_SCHEMES):
        # The value may hold a password, so it is not shown.
        raise BadConfig(f"{REDIS_VARIABLE}: not the address of a Redis", hint=REDIS_HINT)
    return dataclasses.replace(config, redis=RedisSection(url=url))


def _checked(home: Path, text: str) -> tuple[Config, list[str]]:
    """Check `text`, and keep the outcome for the next command. Raises BadConfig."""
    from dispatch_queue.config.parse import parse

    config, notices, problems = parse(text, shown(home))
    if problems:
        first, *others = problems
        more = f"; {len(others)} more: dispatch config check" if others else ""
        typos = [notice for notice in notices if "did you mean" in notice]  # what else is wrong may come of them
        raise BadConfig(f"{shown(home)}:{first.line}: {first.text}", hint="\n".join([*typos, first.hint + more]))
    _keep(home, text, config, notices)
    return config, notices


def _kept(home: Path, text: str) -> tuple[Config, list[str]] | None:
    """The kept copy, when it was made of `text` by this version, in a file that only this user can write."""
    try:
        handle = os.open(home / _RUN / _COPY_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with _closing(handle):
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077 or facts.st_uid != os.geteuid():
                return None
            kept: dict[str, Any] = json.loads(_bytes_of(handle, _MAX_COPY_BYTES))
        if (kept["format"], kept["version"], kept["text"]) != (_COPY_FORMAT, __version__, text):
            return None
        return from_plain(kept["config"]), list(kept["notices"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _keep(home: Path, text: str, config: Config, notices: list[str]) -> None:
    """Keep a checked config for the next command; a home that cannot be written is only slower."""
    from dispatch_queue import files

    plain = {
        "format": _COPY_FORMAT,
        "version": __version__,
        "text": text,
        "config": dataclasses.asdict(config),
        "notices": notices,
    }
    with contextlib.suppress(OSError, DispatchError):
        (home / _RUN).mkdir(mode=0o700, exist_ok=True)
        files.write(home, f"{_RUN}/{_COPY_NAME}", json.dumps(plain).encode(), mode=0o600)
