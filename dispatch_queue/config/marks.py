"""Where things stand in YAML text: entries, their ends, the comments that belong to them. Pure."""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

from dispatch_queue.config.document import Place

Pair = tuple[yaml.Node, yaml.Node]

BREAKS = "\n\r\x85\u2028\u2029"
_BREAK = re.compile(f"[{BREAKS}]")
_COMMENT = re.compile(rf"(?<![^{BREAKS}])[ \t]*(#[^{BREAKS}]*)")
_BLANK = re.compile(rf"(?:\s+|#[^{BREAKS}]*)*")


class Found(NamedTuple):
    """The entry at a place, and its value: `pair` is None for the root and for what is not there."""

    pair: Pair | None
    node: yaml.Node | None
    in_flow: bool  # it stands within `{…}`


class _Composer(yaml.SafeLoader):
    """Composes `*name` as a scalar with marks of its own, where PyYAML takes the node that it stands for."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode("*", event.anchor, event.start_mark, event.end_mark, style="*")
        return super().compose_node(parent, index)


@functools.lru_cache(maxsize=2)
def _composed(text: str) -> yaml.Node | None:
    root: yaml.Node | None = yaml.compose(text, _Composer)
    return root


def find(text: str, place: Place) -> Found:
    """What stands at a place, of a text that is YAML."""
    node = _composed(text)
    pair: Pair | None = None
    in_flow = False
    for part in place:
        if not isinstance(node, yaml.MappingNode):
            return Found(None, None, in_flow)
        in_flow = in_flow or bool(node.flow_style)
        at = index(node, part)
        if at is None:
            return Found(None, None, in_flow)
        pair = node.value[at]
        node = pair[1]
    return Found(pair, node, in_flow)


def index(mapping: yaml.Node | None, name: object) -> int | None:
    """Which of a mapping's entries has that name."""
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((at for at, (key, _) in enumerate(mapping.value) if key.value.strip() == name), None)


def comments(text: str, place: Place) -> list[str]:
    """The comment lines of the section at `place` that are indented as its entries; each from its `#` on."""
    found = find(text, place)
    if found.pair is None or not isinstance(found.node, yaml.MappingNode) or not found.node.value:
        return []
    return [comment[1].rstrip() for comment in comments_in(text, found.pair[0], found.node)]


def comments_of(text: str, place: Place) -> list[str]:
    """The comments of the entry at `place`: those in its lines, and those between it and the entry before it."""
    parent = find(text, place[:-1])
    at = index(parent.node, place[-1])
    if at is None or not isinstance(parent.node, yaml.MappingNode):
        return []
    pairs = parent.node.value
    before = pairs[at - 1][1] if at else parent.pair[0] if parent.pair else None
    start = 0 if before is None else end(text, before)
    if at:  # the rest of that line belongs to the entry before
        start = line_end(text, start)
    stop = line_end(text, end(text, pairs[at][1]))
    rest = _without_scalars(text, pairs[at], start, stop)
    return [comment.rstrip() for comment in re.findall(rf"#[^{BREAKS}]*", rest)]


def end(text: str, node: yaml.Node) -> int:
    """The index behind a node's last character."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    start, stop = node.start_mark.index, node.end_mark.index
    return start + len(text[start:stop].rstrip())


def comments_in(text: str, key: yaml.Node, entries: yaml.MappingNode) -> Iterator[re.Match[str]]:
    """The comment lines indented as `entries`, from their `key` on to what follows them."""
    column = entries.value[0][0].start_mark.column
    stop = _BLANK.match(text, line_end(text, end(text, entries)))
    assert stop is not None
    for comment in _COMMENT.finditer(text, line_end(text, key.end_mark.index), stop.end()):
        if comment.start(1) - comment.start() == column:
            yield comment


def _without_scalars(text: str, pair: Pair, start: int, stop: int) -> str:
    """What stands from `start` to `stop` besides the scalars of an entry."""
    rest = ""
    for scalar in [*_scalars(pair[0]), *_scalars(pair[1])]:
        rest += text[start : scalar.start_mark.index]
        start = end(text, scalar)
    return rest + text[start:stop]


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _scalars(part)


def line_start(text: str, at: int) -> int:
    """Where the line begins that `at` is in."""
    return max(text.rfind(each, 0, max(at, 0)) for each in BREAKS) + 1


def line_end(text: str, at: int) -> int:
    """Where the line ends that `at` is in, before its break."""
    found = _BREAK.search(text, at)
    return found.start() if found else len(text)


def eol(text: str) -> str:
    """The line break of a text."""
    return "\r\n" if "\r\n" in text else "\n"
