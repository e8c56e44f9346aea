"""Which models Cursor's CLI offers to this account: what `agent models` prints."""

import re
from datetime import timedelta
from typing import NamedTuple

from dispatch_queue.config.probe import LIMIT, ask
from dispatch_queue.config.schema import MODEL_ID_PATTERN

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MARKER = re.compile(r"\(\s*(current|default)(?:\s*,\s*(?:current|default))*\s*\)")
_LINE = re.compile(rf"(?:[*•>]\s+)?({MODEL_ID_PATTERN})\s+-\s+\S.*")


class Listing(NamedTuple):
    """What `agent models` listed, the one it marked as current, and, where that is nothing, why."""

    models: list[str]
    current: str | None
    failure: str | None


def read_listing(text: str) -> tuple[list[str], str | None]:
    """The ids in the output of `agent models`, and the one marked as current; other lines mean nothing."""
    models: dict[str, None] = {}
    current = None
    for line in re.split(r"[\r\n]+", _ESCAPE.sub("", text)):
        marked = "(current" in line
        if found := _LINE.fullmatch(_MARKER.sub("", line).strip()):
            models[found[1]] = None
            current = found[1] if marked else current
    return list(models), current


def list_models(program: str, limit: timedelta = LIMIT) -> Listing:
    """Run `PROGRAM models` and read what it lists; after `limit` it is ended with what it started."""
    answer = ask([program, "models"], limit=limit)
    if answer.failure is not None:
        return Listing([], None, answer.failure)
    if answer.code != 0:
        return Listing([], None, f"exit status {answer.code}")
    models, current = read_listing(answer.text)
    return Listing(models, current, None if models else "no line of it names a model")
