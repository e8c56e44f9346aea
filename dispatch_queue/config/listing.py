"""Which models a CLI offers: what `agent models` and `codex debug models` print."""

import json
import re
from datetime import timedelta
from typing import NamedTuple

from dispatch_queue.config.probe import LIMIT, Answer, ask
from dispatch_queue.config.schema import MODEL_ID_PATTERN

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MARKER = re.compile(r"\(\s*(current|default)(?:\s*,\s*(?:current|default))*\s*\)")
_ID = re.compile(MODEL_ID_PATTERN)
_LINE = re.compile(rf"(?:[*•>]\s+)?({MODEL_ID_PATTERN})\s+-\s+\S.*")


CURSOR_WORD = "models"
CODEX_WORDS = ("debug", "models", "--bundled")  # the list that comes with the program; the other asks the network
_CODEX_LIMIT = 2 * LIMIT  # its first start was seen to take 4.7 s


class Listing(NamedTuple):
    """What a CLI listed, the one it marked as current, and, where that is nothing, why."""

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
    return listed(ask([program, CURSOR_WORD], limit=limit))


def listed(answer: Answer) -> Listing:
    """What the answer of Cursor's CLI to `models` lists."""
    if answer.failure is not None:
        return Listing([], None, answer.failure)
    if answer.code != 0:
        return Listing([], None, f"exit status {answer.code}")
    models, current = read_listing(answer.text)
    return Listing(models, current, None if models else "no line of it names a model")


def read_catalog(text: str) -> list[str]:
    """The ids that `codex debug models` gives for a user to choose from, the one it prefers first."""
    try:
        entries = json.loads(text)["models"]
        shown = [one for one in entries if one.get("visibility") == "list" and _ID.fullmatch(one["slug"])]
        return list(dict.fromkeys(one["slug"] for one in sorted(shown, key=lambda one: one["priority"])))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def list_codex_models(program: str, limit: timedelta = _CODEX_LIMIT) -> Listing:
    """Run `PROGRAM debug models --bundled` and read what it lists; an old codex lists nothing."""
    answer = ask([program, *CODEX_WORDS], limit=limit, errors=False)
    if answer.failure is not None:
        return Listing([], None, answer.failure)
    if answer.code != 0:
        return Listing([], None, f"exit status {answer.code}")
    models = read_catalog(answer.text)
    return Listing(models, None, None if models else "it names no model")
