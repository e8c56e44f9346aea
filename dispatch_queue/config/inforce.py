"""What is in force, setting by setting, and where each comes from; fit to be shown to anybody. Pure."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dispatch_queue.config import document
from dispatch_queue.config.document import Place
from dispatch_queue.config.load import REDIS_VARIABLE
from dispatch_queue.config.schema import SLOTS, Config

BUILT_IN = "built in"
HIDDEN = "***"

_UNSET = {
    "default": "the best of the models",
    "redis.url": "dispatch's own server",
    "worker.slots": str(SLOTS),
    "worker.backends": "every one that can run here",
    "worker.keep_days": "records stay",
}

_TELLING = r"[\w-]*(?:key|token(?!s)|secret|password|passwd)[\w-]*"  # names of what is not to be shown
_VALUE = r"""(?:"[^"]*"|'[^']*'|\S+)"""
_SECRETS = (
    re.compile(r"(://[^/@\s:]*:)\S+(?=@)"),  # user:password@
    re.compile(rf"(?<![\w-])({_TELLING}=){_VALUE}", re.IGNORECASE),  # MY_KEY=…, --api-key=…, ?password=…
    re.compile(rf"(?<![\w-])(--{_TELLING}\s+)(?!-){_VALUE}", re.IGNORECASE),  # --api-key …
)
_WEB_PATH = re.compile(r"(https?://[^/\s]+/)\S+")  # who knows the address of a hook may call it


class Setting(NamedTuple):
    """`value` None: nothing is set. `line` is that of the file, 0 for another source."""

    place: Place
    value: str | list[str] | None
    source: str
    line: int

    @property
    def name(self) -> str:
        return ".".join(map(str, self.place))

    @property
    def shown(self) -> str:
        """The value for a person, or what it means that there is none."""
        if self.value is None:
            return _UNSET.get(self.name, "-")
        return self.value if isinstance(self.value, str) else ", ".join(self.value) or "none"


def settings(config: Config, text: str | None, environ: Mapping[str, str]) -> list[Setting]:
    """Every setting of `config`, which was read from the file `text` under the variables `environ`."""
    lines = document.read(text or "").lines
    found = [Setting(*leaf, *_source(leaf[0], lines, environ)) for leaf in _leaves(dataclasses.asdict(config), ())]
    return [one for one in found if one.value or one.value is None or one.line]


def as_nested(rows: list[Setting]) -> dict[str, Any]:
    """The settings as they are nested in the file."""
    nested: dict[str, Any] = {}
    for row in rows:
        inner = nested
        for part in row.place[:-1]:
            inner = inner.setdefault(str(part), {})
        inner[str(row.place[-1])] = row.value
    return nested


def without_secrets(text: str) -> str:
    """`text` with `***` for what looks like a password or a key."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def _leaves(plain: Mapping[str, Any], place: Place) -> Iterator[tuple[Place, str | list[str] | None]]:
    for name, value in plain.items():
        here = (*place, name)
        if isinstance(value, Mapping):
            yield from _leaves(value, here)
        elif isinstance(value, list | tuple):
            yield here, [_shown(here, each) for each in value]
        else:
            yield here, None if value is None else _shown(here, value)


def _shown(place: Place, value: Any) -> str:
    if place[0] == "notify":
        if re.fullmatch(_TELLING, str(place[-1]), re.IGNORECASE):
            return HIDDEN
        value = _WEB_PATH.sub(rf"\1{HIDDEN}", str(value))
    return without_secrets(str(value))


def _source(place: Place, lines: Mapping[Place, int], environ: Mapping[str, str]) -> tuple[str, int]:
    if place == ("redis", "url") and environ.get(REDIS_VARIABLE):
        return REDIS_VARIABLE, 0
    old = ("agents", place[1]) if place[0] in ("backends", "models") else place  # the entry that it was made of
    line = lines.get(place) or lines.get(old)
    return ("file", line) if line else (BUILT_IN, 0)
