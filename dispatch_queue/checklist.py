"""Finding the items of a Markdown checklist in bytes, and the offsets at which to write.

An item is a list line with a box, at any depth: `- [ ] text`, also with `*`, `+`, `1.` or `1)`. Not items: lines
in a fenced or indented code block, in an HTML comment and in a quote. The rules are those of CommonMark, with
three differences because people and agents indent carelessly: two columns are enough to stand under a numbered
item, an item indented too far directly under another one is an item and not its continued sentence, and only
`-->` ends a comment, which must be there.
"""

import re
from dataclasses import dataclass, field

from dispatch_queue.errors import BadPlan

LIMIT_BYTES = 1024 * 1024
LIMIT_ITEMS = 500
BOM = b"\xef\xbb\xbf"
NOTE_HEAD = "**Note from dispatcher:**"
NOTE_LINE = re.compile(rb">[ \t]?" + re.escape(NOTE_HEAD.encode()))

_MARKS = b" xX?!"
_SHOWN = 60  # characters of a line in an error
_CODE_COLUMNS = 4
_ITEM_HINT = "write each step on a line of its own: `- [ ] step`"

# What begins a block, at the first byte of a line that is not white space. Possessive, so that no line is slow.
_BLOCK = re.compile(
    rb"""
    (?P<rule>(?:-[ \t]*+){3,}+\Z|(?:\*[ \t]*+){3,}+\Z|(?:_[ \t]*+){3,}+\Z)
    |(?P<bullet>(?:[-*+]|[0-9]{1,9}[.)])(?=[ \t]|\Z))
    |(?P<fence>~{3,}+|`{3,}+(?=[^`]*+\Z))
    |(?P<comment><!--)
    |(?P<heading>\#{1,6}(?=[ \t]|\Z))
    |(?P<quote>>)
    """,
    re.VERBOSE,
)
_GAP = re.compile(rb"[ \t]{1,4}(?![ \t])")  # wider: an indented code block in a list
# A link, its definition and a footnote begin with a bracket too.
_BOX = re.compile(rb"\[([^\[\]]{0,10})\](?![(\[:])")


@dataclass(slots=True)
class Entry:
    """An item and where it stands. Offsets are in bytes."""

    line: int  # from 1
    text: str
    parent: int | None  # index of the item that it stands under
    bullet: bytes  # all before the box, as written
    indent: bytes  # what aligns a line under the item with its box
    start: int  # of its line
    mark_at: int
    under: int  # end of its own paragraph, where a note goes
    end: int  # end of the last line that belongs to it and not to an item under it
    below: list[bytes] = field(default_factory=list)  # the lines of its note, as written
    gap: bool = False  # blank lines since the last of `below`

    def take(self, line: bytes, end: int) -> None:
        if self.gap and self.below:
            self.below.append(b"")
        self.gap = False
        self.below.append(line)
        self.end = end


@dataclass(slots=True)
class _List:
    """An open list entry: the columns of its bullet and of its content, and the item its lines belong to."""

    column: int
    content: int
    owner: int | None

    @property
    def inside(self) -> int:
        return self.column + 2


@dataclass(slots=True)
class Checklist:
    """The title ("" without a heading) and the items of a plan."""

    title: str
    entries: list[Entry]


def scan(data: bytes, name: str) -> Checklist:
    """Read the whole of `data`. Raises BadPlan for everything that is no plan; takes time linear in its size."""
    _check(data, name)
    scanner = _Scanner(data, name)
    at = 0
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        start, at = at, at + len(raw)
        if number == 1 and raw.startswith(BOM):
            start, raw = len(BOM), raw[len(BOM) :]
        scanner.feed(number, raw.rstrip(b" \t\r\n"), start, at)
    if not scanner.entries:
        raise BadPlan(name, 0, "has no items", hint=_ITEM_HINT)
    return Checklist(scanner.title or "", scanner.entries)


def begins_block(line: bytes) -> bool:
    """Whether a line would be read as more than a line of text."""
    return _BLOCK.match(line.lstrip(b" \t")) is not None


def columns(lead: bytes) -> int:
    return len(lead.expandtabs(4))


def split_lead(line: bytes) -> tuple[bytes, bytes]:
    """A line's white space and the rest."""
    body = line.lstrip(b" \t")
    return line[: len(line) - len(body)], body


def _check(data: bytes, name: str) -> None:
    if len(data) > LIMIT_BYTES:
        raise BadPlan(name, 0, f"has {len(data)} bytes, the limit is {LIMIT_BYTES}", hint="split it into several tasks")
    if not data.removeprefix(BOM).strip():
        raise BadPlan(name, 0, "is empty", hint=_ITEM_HINT)
    if (nul := data.find(b"\0")) >= 0:
        raise BadPlan(name, _line_of(data, nul), "is binary: it has a NUL byte", hint="save it as UTF-8 text")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        wrong = f"is not UTF-8: byte 0x{data[error.start]:02x}"
        raise BadPlan(name, _line_of(data, error.start), wrong, hint="save it as UTF-8 text") from error


def _line_of(data: bytes, offset: int) -> int:
    return len((data[:offset] + b".").splitlines())


class _Scanner:
    """Takes one line after the other; what it remembers is what CommonMark calls the open blocks."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.title: str | None = None
        self.entries: list[Entry] = []
        self._lists: list[_List] = []
        self._fence = b""
        self._fence_column = 0  # from which its closing line may be indented
        self._comment_end = 0
        self._blank = True  # the line before was blank
        self._code = False  # the last line of text was indented code
        self._paragraph = False  # the line before was one that the next may continue

    def feed(self, number: int, line: bytes, start: int, end: int) -> None:
        lead, body = split_lead(line)
        if not body:
            if (entry := self._owner()) is not None:
                entry.gap = True
            self._blank, self._paragraph = True, False
            return
        column = columns(lead)
        if start < self._comment_end:
            self._keep(None, end)
        elif self._fence and not (self._lists and column < self._lists[-1].inside):
            closes = body.startswith(self._fence) and not body.strip(self._fence[:1])
            if closes and column < self._fence_column + _CODE_COLUMNS:
                self._fence = b""
            self._keep(line, end)
        else:
            self._fence = b""
            self._block(number, line, body, column, start, end)
        self._blank = False

    def _block(self, number: int, line: bytes, body: bytes, column: int, start: int, end: int) -> None:
        found = _BLOCK.match(body)
        kind = found.lastgroup if found else None
        continues = self._paragraph and (kind is None or (kind == "quote" and not NOTE_LINE.match(body)))
        sibling = not continues and self._leave(column)
        base = self._lists[-1].content if self._lists else 0
        too_deep = column - base >= _CODE_COLUMNS
        if too_deep and not self._lists:
            self._keep(line, end, code=not self._paragraph, paragraph=self._paragraph)
        elif too_deep and (self._blank or self._code) and not sibling:
            self._keep(line, end, code=True)
        elif found is None or kind == "quote":
            entry = self._owner()
            joins = kind is None and entry is not None and self._paragraph and entry.under == start
            self._keep(line, end, paragraph=True)
            if joins and entry is not None:
                entry.under = end
        elif kind == "bullet":
            self._bullet(number, line, body, found.end(), column, start, end)
        elif kind == "comment":
            self._hide(number, start + len(line) - len(body))
            self._keep(None, end)
        else:
            self._keep(line, end)
            if kind == "fence":
                self._fence, self._fence_column = found.group(), max(base, column - _CODE_COLUMNS + 1)
            elif kind == "heading" and self.title is None and not self._lists:
                self.title = body[found.end() :].decode().strip()

    def _leave(self, column: int) -> bool:
        """Close the list entries that a line at `column` is not part of; whether it is level with one of them."""
        level = False
        while self._lists and column < self._lists[-1].inside:
            level = column >= self._lists.pop().column
            self._code = False
        return level

    def _bullet(self, number: int, line: bytes, body: bytes, width: int, column: int, start: int, end: int) -> None:
        gap = _GAP.match(body, width)
        inner = gap.end() if gap else width + 1
        lead = line[: len(line) - len(body)]
        content = columns(lead + body[:inner]) if gap else column + inner
        owner = self._lists[-1].owner if self._lists else None
        box = _BOX.match(body, inner) if gap else None
        if box is None or not self._is_box(box.group(1), number, body):
            self._keep(line, end, paragraph=len(body) > width)
            self._lists.append(_List(column, content, owner))
            found = _BLOCK.match(body, inner) if gap else None
            if found and found.lastgroup == "fence":
                self._fence, self._fence_column, self._paragraph = found.group(), content, False
            elif found and found.lastgroup == "comment":
                self._paragraph = False
                self._hide(number, start + len(lead) + inner)
            return
        if len(self.entries) == LIMIT_ITEMS:
            raise BadPlan(
                self.name, number, f"more than {LIMIT_ITEMS} items, the limit", hint="split it into several tasks"
            )
        self.entries.append(
            Entry(
                line=number,
                text=body[box.end() :].decode().strip(),
                parent=owner,
                bullet=lead + body[:inner],
                indent=lead + b" " * (content - column),
                start=start,
                mark_at=start + len(lead) + inner + 1,
                under=end,
                end=end,
            )
        )
        self._lists.append(_List(column, content, len(self.entries) - 1))
        self._paragraph, self._code = True, False

    def _is_box(self, inside: bytes, number: int, body: bytes) -> bool:
        """Whether brackets are an item's. Raises BadPlan where they can only be a mark that we do not know."""
        if len(inside) == 1 and inside in _MARKS:
            return True
        sign = inside.decode().strip()
        if sign.isdigit() or len(sign) > 2 or (len(sign) == 2 and any(letter.isalnum() for letter in sign)):
            return False
        shown = body.decode()
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        raise BadPlan(self.name, number, f"unknown mark in {shown!r}", hint="use one of `[ ]`, `[x]`, `[?]`, `[!]`")

    def _hide(self, number: int, at: int) -> None:
        close = self.data.find(b"-->", at + 2)  # `<!-->` is a whole comment
        if close < 0:
            raise BadPlan(self.name, number, "the comment is never closed", hint="end it with `-->`")
        self._comment_end = close + 3

    def _keep(self, line: bytes | None, end: int, *, paragraph: bool = False, code: bool = False) -> None:
        """Give a line to the item that it stands under; None for one that is not shown."""
        self._paragraph, self._code = paragraph, code
        if (entry := self._owner()) is not None:
            if line is None:
                entry.end = end
            else:
                entry.take(line, end)

    def _owner(self) -> Entry | None:
        owner = self._lists[-1].owner if self._lists else None
        return None if owner is None else self.entries[owner]
