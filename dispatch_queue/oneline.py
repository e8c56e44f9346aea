"""What an agent says or does, in one line fit to be shown."""

import contextlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

MAX_CHARS = 120

# The arguments of a tool that say most of what it does, the most telling first.
_TELLING = ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt")
_IN_A_SHELL = re.compile(r"(?:\S*/)?(?:bash|zsh|sh) -l?c ")
_MOST_TO_SPLIT = 4000  # characters; splitting takes a microsecond for each


def in_one_line(text: str, most: int = MAX_CHARS) -> str:
    """The first line of `text` that says something, printable, of at most `most` characters."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(char if char.isprintable() else " " for char in first).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def of_call(tool: str, given: Mapping[str, Any]) -> str:
    """What a call of a tool does."""
    telling = next((given[key] for key in _TELLING if isinstance(given.get(key), str)), "")
    return in_one_line(f"{tool}: {in_one_line(telling)}" if telling else tool)


def of_command(command: str) -> str:
    """What a command does, without the shell that was started for it."""
    if _IN_A_SHELL.match(command) and len(command) <= _MOST_TO_SPLIT:
        with contextlib.suppress(ValueError):  # an odd quote
            _, _, script, *more = shlex.split(command)
            command = command if more else script
    return in_one_line(f"$ {command}")
