"""YAML as plain mappings, lists and text, with the line of each key.

YAML gives the shape only. Each scalar is the text that stands in the file, so that a model `5.10` or an alias
`on` stays what the user wrote; whoever wants a number makes one.
"""

import dataclasses
from typing import Any, NamedTuple

import yaml

MAX_NODES = 10_000  # with each YAML alias counted as all that it stands for
MAX_DEPTH = 20
MAX_SEEN_CHARS = 60

Place = tuple[str | int, ...]

_NULL = "tag:yaml.org,2002:null"


class Problem(NamedTuple):
    """What stops a file from being used. `line` is 1-based; `text` begins with the key, if there is one."""

    line: int
    text: str
    hint: str


@dataclasses.dataclass(slots=True)
class Document:
    """`plain` is the whole file; `lines` has a line for each place in it."""

    plain: Any = None
    lines: dict[Place, int] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def line_of(self, place: Place) -> int:
        """The line of a place, or of what it would stand in."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def problem(self, place: Place, what: str, hint: str) -> None:
        key = ".".join(str(part) for part in place)
        self.problems.append(Problem(self.line_of(place), f"{key}: {what}" if key else what, hint))


class _TooMuch(Exception):
    """The document holds more than a configuration can; `place` is where that was seen."""

    def __init__(self, place: Place) -> None:
        self.place = place


def seen(text: object) -> str:
    """`text` as a message shows it: one line, no control characters, not long."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text)[: MAX_SEEN_CHARS + 1])
    return f"`{line[:MAX_SEEN_CHARS]}…`" if len(line) > MAX_SEEN_CHARS else f"`{line}`"


def read(text: str) -> Document:
    """Read YAML. What it breaks is in `problems`; then `plain` may lack the rest."""
    document = Document()
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except RecursionError:
        document.problem((), "is nested too deeply", f"{MAX_DEPTH} levels are the most")
    except yaml.reader.ReaderError as error:
        document.lines[()] = text.count("\n", 0, error.position) + 1
        document.problem((), f"has a character that YAML does not allow: {seen(text[error.position])}", "remove it")
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax(error, text))
    else:
        try:
            document.plain = _Walk(document).plain(root, ()) if root is not None else None
        except _TooMuch as error:
            document.problem(
                error.place,
                f"holds more than {MAX_NODES} values or {MAX_DEPTH} levels",
                "write out what the YAML aliases (`*name`) stand for, and leave out what is not needed",
            )
    return document


def words_in(plain: Any) -> set[str]:
    """Every key and scalar of a value."""
    if isinstance(plain, dict):
        return {*plain, *words_in(list(plain.values()))}
    if isinstance(plain, list):
        return set().union(*map(words_in, plain))
    return {plain} if isinstance(plain, str) else set()


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(1, f"not YAML: {error.problem or error.context}", "see the YAML of the README")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1] and not line[: mark.column].strip():
        return Problem(mark.line + 1, f"a tab in {seen(line.strip())}", "YAML indents with spaces")
    what = f"not YAML: {error.problem}"
    if line.strip():
        what += f", in {seen(line.strip())}"
    return Problem(mark.line + 1, what, "quote text that holds `: `, ` #`, or begins with one of `{[*&!|>%@`")


@dataclasses.dataclass(slots=True)
class _Walk:
    """Makes nodes plain, and counts them as it goes: an alias is met once for each place that it stands in."""

    document: Document
    count: int = 0

    def plain(self, node: yaml.Node, place: Place) -> Any:
        self.count += 1
        if self.count > MAX_NODES or len(place) > MAX_DEPTH:
            raise _TooMuch(place[:1])
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(part, (*place, number)) for number, part in enumerate(node.value)]
        return None if node.tag == _NULL else node.value.strip()

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.document.lines[place] = line
                self.document.problem(place, "a key that is not plain text", "write `key: value`")
                continue
            name = key.value.strip()
            if name in made:
                first = self.document.lines[*place, name]
                self.document.problems.append(
                    Problem(
                        line,
                        f"{'.'.join(map(str, (*place, name)))}: is written twice, first in line {first}",
                        "keep one of the two",
                    )
                )
                continue
            self.document.lines[*place, name] = line
            made[name] = self.plain(value, (*place, name))
        return made
