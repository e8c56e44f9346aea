"""Changes of YAML text at one place, with every other byte of it as it was. Pure.

A text is composed for the marks of its nodes; new text is put in, or old text taken out, at these. The outcome is
read again, and what would mean anything but the change that was asked for is refused.
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import yaml

from dispatch_queue.config import document, emit, marks
from dispatch_queue.config.document import Place, seen
from dispatch_queue.config.emit import STEP, Manner, Notes, Value
from dispatch_queue.config.marks import Pair
from dispatch_queue.errors import BadConfig

SECTIONS = ("default", "backends", "models", "aliases", "agents")  # in the order in which a new file has them


class Unchangeable(BadConfig):
    """What stands at `place` is written in a way that it cannot be changed without changing something else."""

    def __init__(self, place: Place) -> None:
        self.place = place
        name = ".".join(map(str, place))
        super().__init__(
            f"{seen(name)} cannot be changed here without changing more of the file",
            hint="write it as plain `key: value` lines, without anchors (`&`), `*` and `?`, or change it by hand",
        )


def put(
    text: str,
    place: Place,
    value: Value,
    *,
    after: str | None = None,
    below: str | None = None,
    notes: Notes | None = None,
) -> str:
    """`text` with `value` at `place`, where there is another scalar, nothing, or an empty mapping.

    A new entry goes below the one named `after`, or the comment line `below`, where these exist, else to the end of
    its mapping. Raises Unchangeable.
    """
    return _confirmed(text, _put(text, place, value, _Where(after, below, notes or {})), place, value)


def drop(text: str, place: Place) -> str:
    """`text` without the entry at `place`, which is there. Raises Unchangeable."""
    parent = marks.find(text, place[:-1]).node
    at = marks.index(parent, place[-1])
    if at is None or not isinstance(parent, yaml.MappingNode):
        raise Unchangeable(place)
    if parent.flow_style:
        dropped = _out_of_flow(text, parent, at)
    else:
        key, value = parent.value[at]
        start, stop = marks.line_start(text, key.start_mark.index), marks.line_end(text, marks.end(text, value))
        rest = _without_break(text[stop:])
        if len(place) == 1 and text[:start].endswith(marks.eol(text) * 2) and not _first_line(rest).strip():
            rest = _without_break(rest)  # one of the blank lines that set a section off
        dropped = text[:start] + rest
    return _confirmed(text, dropped, place, None)


@dataclasses.dataclass(frozen=True, slots=True)
class _Where:
    """Where among its siblings a new entry goes, and the comments that go with it."""

    after: str | None
    below: str | None
    notes: Notes


@functools.lru_cache(maxsize=2)
def _read(text: str) -> document.Document:
    """What the text means; not to be changed."""
    return document.read(text)


def _put(text: str, place: Place, value: Value, where: _Where) -> str:
    found = marks.find(text, place)
    if found.node is None and place:
        parent = marks.find(text, place[:-1])
        name = str(place[-1])
        if not isinstance(parent.node, yaml.MappingNode) or not parent.node.value:
            return _put(text, place[:-1], {name: value}, where)
        if parent.node.flow_style:
            return _into_flow(text, parent.node, name, value)
        if parent.pair is None:
            return _new_section(text, parent.node, name, value, where)
        return _into_block(text, parent.pair, parent.node, name, value, where)
    if not isinstance(value, str):
        if not _is_empty(found.node):
            raise Unchangeable(place)
        return _fill(text, found, value, where)
    if not isinstance(found.node, yaml.ScalarNode) or found.pair is None:
        raise Unchangeable(place)
    start, stop = found.node.start_mark.index, marks.end(text, found.node)
    space = "" if start < stop else " "
    one_line = found.in_flow or text[stop : marks.line_end(text, stop)].strip()
    new = (
        emit.scalar(value)
        if one_line
        else marks.eol(text).join(emit.scalar_lines(value, found.pair[0].start_mark.column + STEP))
    )
    return text[:start] + space + new + text[stop:]


def _is_empty(node: yaml.Node | None) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return bool(node.tag == "tag:yaml.org,2002:null")
    return node is None or (isinstance(node, yaml.MappingNode) and not node.value)


def _fill(text: str, found: marks.Found, entries: Mapping[str, Value], where: _Where) -> str:
    """Put entries where there is nothing, `null` or `{}`."""
    node, eol = found.node, marks.eol(text)
    if node is None or (found.pair is None and isinstance(node, yaml.ScalarNode)):  # the text has no value at all
        lines = emit.lines(entries, 0, STEP, where.notes)
        return text + (eol if text and text[-1] not in marks.BREAKS else "") + eol.join(lines) + eol
    start, stop = node.start_mark.index, node.end_mark.index
    if found.pair is None or (
        isinstance(node, yaml.MappingNode) and (found.in_flow or text[start:stop].strip("{} \t"))
    ):
        within = text.index("{", start) + 1
        return text[:within] + emit.in_flow(entries) + text[within:]
    if found.in_flow:
        return text[:start] + ("" if start < stop else " ") + f"{{{emit.in_flow(entries)}}}" + text[stop:]
    column = found.pair[0].start_mark.column + STEP
    line_end = marks.line_end(text, stop)
    if not text[stop:line_end].strip():
        start = len(text[:start].rstrip(" \t"))
    lines = emit.lines(entries, column, STEP, where.notes)
    return text[:start] + text[stop:line_end] + eol + eol.join(lines) + text[line_end:]


def _into_block(text: str, owner: Pair, mapping: yaml.MappingNode, name: str, value: Value, where: _Where) -> str:
    """Put a new entry into a mapping of lines."""
    eol, pairs = marks.eol(text), mapping.value
    column = pairs[0][0].start_mark.column
    sibling = marks.index(mapping, where.after)
    like = pairs[-1 if sibling is None else sibling]
    at = marks.line_end(text, marks.end(text, like[1]))
    if where.below is not None:
        found = (each.end() for each in marks.comments_in(text, owner[0], mapping) if each[1].rstrip() == where.below)
        at = next(found, at)
    lines = emit.lines(
        {name: value}, column, column - owner[0].start_mark.column, where.notes, _manner(text, pairs, like)
    )
    return text[:at] + eol + eol.join(lines) + text[at:]


def _manner(text: str, pairs: list[Pair], like: Pair) -> Manner:
    """How the entry `like` is written, and the column of its brace where a sibling has it too."""
    if not isinstance(like[1], yaml.MappingNode):
        return Manner()
    if not like[1].flow_style:
        return Manner(short=False)
    columns = [value.start_mark.column - key.start_mark.column for key, value in pairs]
    own = like[1].start_mark.column - like[0].start_mark.column
    return Manner(width=own if columns.count(own) > 1 else 0, spaced=text[like[1].start_mark.index + 1] == " ")


def _new_section(text: str, root: yaml.MappingNode, name: str, value: Value, where: _Where) -> str:
    """Put a section before those that a new file has below it, else at the end."""
    eol = marks.eol(text)
    lines = emit.lines({name: value}, root.value[0][0].start_mark.column, STEP, where.notes)
    later = SECTIONS[SECTIONS.index(name) + 1 :]
    following = next((key for key, _ in root.value if key.value in later), None)
    if following is None and name == "default":
        following = root.value[0][0]
    if following is not None:
        at = marks.line_start(text, following.start_mark.index)
        if following.value != "agents":  # its comment tells of all that it becomes
            at = _above_comments(text, at)
        return text[:at] + eol.join([*lines, "", ""]) + text[at:]
    end = "" if text[-1] in marks.BREAKS else eol
    return text + end + eol + eol.join(lines) + eol


def _above_comments(text: str, at: int) -> int:
    """The beginning of the comment lines directly above the line that begins at `at`, unless they begin the text."""
    begin = at
    while begin:
        before = marks.line_start(text, begin - len(marks.eol(text)))
        if not text[before:begin].lstrip().startswith("#"):
            return begin
        begin = before
    return at


def _into_flow(text: str, mapping: yaml.MappingNode, name: str, value: Value) -> str:
    at = marks.end(text, mapping.value[-1][1])
    return f"{text[:at]}, {emit.in_flow({name: value})}{text[at:]}"


def _out_of_flow(text: str, mapping: yaml.MappingNode, at: int) -> str:
    pairs = mapping.value
    start, stop = pairs[at][0].start_mark.index, marks.end(text, pairs[at][1])
    if at + 1 < len(pairs):
        stop = pairs[at + 1][0].start_mark.index
    elif at:
        start = marks.end(text, pairs[at - 1][1])
    else:
        stop += len(re.match(r"[ \t]*,?", text[stop:])[0])  # type: ignore[index]
    return text[:start] + text[stop:]


def _first_line(text: str) -> str:
    return text[: marks.line_end(text, 0)]


def _without_break(text: str) -> str:
    return text[2:] if text.startswith("\r\n") else text[1:]


def _confirmed(before: str, after: str, place: Place, value: Value | None) -> str:
    """`after`, if all that it means besides `before` is `value` at `place` (None: nothing there)."""
    expected = copy.deepcopy(_read(before).plain) or {}
    inner: Any = expected
    for part in place[:-1]:
        inner[part] = inner.get(part) or {}
        inner = inner[part]
    inner[place[-1]] = value
    if _read(after).problems or _full(_read(after).plain) != _full(expected):
        raise Unchangeable(place)
    return after


def _full(plain: Any) -> Any:
    """`plain` without what has no value: a key without one is as good as none."""
    if not isinstance(plain, Mapping):
        return plain
    full = {key: _full(value) for key, value in plain.items()}
    return {key: value for key, value in full.items() if value is not None} or None
