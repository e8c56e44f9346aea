"""New values as YAML text, written as people write configuration files. Pure."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence

import yaml

STEP = 2  # columns from a key to those below it

Value = str | Mapping[str, "Value"]
Notes = Mapping[str, Sequence[str]]  # entry → the comment lines to put above it, each with its `#`


@dataclasses.dataclass(frozen=True, slots=True)
class Manner:
    """How entries are written: `short`: a mapping of one word in one line, its brace at column `width` of the key's."""

    short: bool = True
    width: int = 0
    spaced: bool = True


def lines(
    entries: Mapping[str, Value],
    column: int,
    step: int = STEP,
    notes: Notes | None = None,
    manner: Manner | None = None,
) -> list[str]:
    """Entries as lines that begin at `column`, each level `step` further in."""
    made: list[str] = []
    margin = " " * column
    manner = manner or Manner()
    short = {name: _in_braces(value, manner) for name, value in entries.items() if manner.short and _is_word(value)}
    width = max([manner.width, *(len(scalar(name)) + 2 for name in short)])
    for name, value in entries.items():
        made += [margin + note for note in (notes or {}).get(name, ())]
        head = f"{scalar(name)}:"
        if isinstance(value, str):
            first, *others = scalar_lines(value, column + step)
            made += [f"{margin}{head} {first}", *others]
        elif name in short:
            made.append(f"{margin}{head:<{width}}{short[name]}")
        else:
            made += [f"{margin}{head}", *lines(value, column + step, step, notes)]
    return made


def in_flow(entries: Mapping[str, Value]) -> str:
    """Entries as they stand between braces."""
    return ", ".join(
        f"{scalar(name)}: {scalar(value) if isinstance(value, str) else f'{{{in_flow(value)}}}'}"
        for name, value in entries.items()
    )


def scalar_lines(value: str, column: int) -> list[str]:
    """A scalar after its key: several words on lines of their own at `column`, all else in the key's line."""
    parts = value.split("\n")
    if not re.search(r"\s", value) or value != value.strip() or not all(part.isprintable() for part in parts):
        return [scalar(value)]
    return [">" if len(parts) == 1 else "|", *(f"{' ' * column}{part}" if part else "" for part in parts)]


def scalar(value: str) -> str:
    """Text as a scalar in one line, quoted where anything would read it as something else."""
    style = None if value.isprintable() else '"'
    shown = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=sys.maxsize)
    return str(shown).rstrip("\n")[1:-1]


def _is_word(value: Value) -> bool:
    """Whether a mapping is worth one line: `{ backend: claude }`."""
    if isinstance(value, str) or len(value) != 1:
        return False
    return all(isinstance(each, str) and not re.search(r"\s", each) for each in value.values())


def _in_braces(value: Value, manner: Manner) -> str:
    assert not isinstance(value, str)
    return f"{{ {in_flow(value)} }}" if manner.spaced else f"{{{in_flow(value)}}}"
