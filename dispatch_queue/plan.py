"""The plan: a Markdown checklist, read and changed as bytes so that what is not touched stays as it is.

What counts as an item is in `checklist.py`; this module gives the items their meaning and writes.
"""

import enum
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dispatch_queue.checklist import (
    BOM,
    LIMIT_BYTES,
    LIMIT_ITEMS,
    NOTE_HEAD,
    NOTE_LINE,
    Entry,
    begins_block,
    scan,
    split_lead,
)
from dispatch_queue.errors import BadInput

__all__ = [
    "LIMIT_BYTES",
    "LIMIT_ITEMS",
    "NOTE_LIMIT_BYTES",
    "Change",
    "Item",
    "Mark",
    "Plan",
    "add_note",
    "changes",
    "insert_items",
    "merge_notes",
    "note_block",
    "note_missing",
    "notes_in",
    "parse",
    "render",
    "set_mark",
]

NOTE_LIMIT_BYTES = 64 * 1024

_BREAK = re.compile(r"\r\n|\n|\r")
_REST = re.compile(rb"[^\r\n]*")
_COUNTED = re.compile(rb"([ \t]*)([0-9]{1,9})(.*)", re.DOTALL)


class Mark(enum.StrEnum):
    """What stands between the brackets."""

    OPEN = " "
    DONE = "x"
    ASKING = "?"
    FAILED = "!"


_MARKS = {b" ": Mark.OPEN, b"x": Mark.DONE, b"X": Mark.DONE, b"?": Mark.ASKING, b"!": Mark.FAILED}


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist. `number` and `line` count from 1; `note` is "" where there is none."""

    number: int
    line: int
    mark: Mark
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was read. `title` is its first heading, or ""."""

    title: str
    items: tuple[Item, ...]

    @property
    def done(self) -> int:
        return sum(item.mark is Mark.DONE for item in self.items)

    @property
    def first_open(self) -> Item | None:
        """The first item that is not done, whatever else its mark says."""
        return next((item for item in self.items if item.mark is not Mark.DONE), None)

    @property
    def complete(self) -> bool:
        return self.first_open is None


@dataclass(frozen=True, slots=True)
class Change:
    """An item whose mark differs from before. `mark_before` is None for an item that was not there."""

    number: int
    text: str
    mark_before: Mark | None
    mark_after: Mark
    note: str


def parse(data: bytes, *, name: str = "plan.md") -> Plan:
    """The plan in `data`. Raises BadPlan, which names the line, for everything that is not a plan."""
    seen = scan(data, name)
    return Plan(
        seen.title,
        tuple(
            Item(number, entry.line, _mark_at(data, entry), entry.text, _dedent(entry.below))
            for number, entry in enumerate(seen.entries, 1)
        ),
    )


def set_mark(data: bytes, number: int, mark: Mark, note: str = "") -> bytes:
    """`data` with one mark changed and the note, if any, put under the item's own text.

    Raises BadPlan where `data` is no plan, BadInput for a number that it does not have and a bad note.
    """
    entry = _entry(scan(data, "plan.md").entries, number)
    if _mark_at(data, entry) is not mark:
        data = data[: entry.mark_at] + mark.value.encode() + data[entry.mark_at + 1 :]
    if not note.strip():
        return data
    lines = [_plain(line) for line in _encode(note.strip(), "the note of an item").splitlines() if line.strip()]
    return _insert(data, entry.under, [entry.indent + line for line in lines])


def note_block(text: str) -> str:
    """A dispatcher's note as it stands in a plan. Raises BadInput for one that is empty or too long."""
    _encode(text, "the note")
    if not text.strip():
        raise BadInput("the note is empty", hint="give its text, or `-` to read it from standard input")
    first, *rest = _BREAK.split(text.strip())
    return "\n".join([f"> {NOTE_HEAD} {first}".rstrip(), *(f"> {line}".rstrip() for line in rest)])


def add_note(data: bytes, text: str) -> bytes:
    """`data` with a dispatcher's note at its end; what was there is a prefix of the result, so it can be appended.

    Raises BadInput for a note that is empty, or that makes the plan too large to be read.
    """
    longer = _append(data, note_block(text))
    if len(longer) > LIMIT_BYTES:
        raise BadInput(f"with this note the plan would have {len(longer)} bytes, the limit is {LIMIT_BYTES}")
    return longer


def notes_in(data: bytes) -> list[str]:
    """The dispatcher's notes that stand in `data`, first to last, whatever else it holds."""
    notes: list[list[str]] = []
    within = False
    for line in data.removeprefix(BOM).splitlines():
        quoted = line.strip(b" \t")
        if head := NOTE_LINE.match(quoted):
            notes.append([_text(quoted[head.end() :])])
            within = True
        elif within and quoted.startswith(b">"):
            notes[-1].append(_text(quoted[1:].removeprefix(b" ")))
        else:
            within = False
    return ["\n".join(lines).strip() for lines in notes]


def note_missing(data: bytes, notes: Sequence[str]) -> list[str]:
    """Those of `notes` that are not in `data`, in order; one that was given twice must be there twice.

    White space does not count, so that an agent may indent and wrap what it keeps.
    """
    there = Counter(_key(note) for note in notes_in(data))
    missing = []
    for note in notes:
        # A note that quotes the heading of a note reads as several.
        needed = Counter(_key(part) for part in notes_in(note_block(note).encode()))
        if needed <= there:
            there -= needed
        else:
            missing.append(note)
    return missing


def merge_notes(data: bytes, notes: Sequence[str]) -> bytes:
    """`data` with those of `notes` appended that an agent's rewriting of the plan has lost.

    One with which the plan would be too large to be read is left out: it stands in the journal.
    """
    for note in note_missing(data, notes):
        longer = _append(data, note_block(note))
        data = longer if len(longer) <= LIMIT_BYTES else data
    return data


def insert_items(data: bytes, after: int, texts: Sequence[str]) -> bytes:
    """`data` with new open items behind item `after`, or before the first for 0, written as their neighbour is.

    The new items get the numbers `after + 1` and up. Raises BadPlan where `data` is no plan, BadInput for a
    number that it does not have, a bad text, or more than `LIMIT_ITEMS` items.
    """
    entries = scan(data, "plan.md").entries
    if not 0 <= after <= len(entries):
        _entry(entries, after)
    if len(entries) + len(texts) > LIMIT_ITEMS:
        raise BadInput(f"the plan would have {len(entries) + len(texts)} items, the limit is {LIMIT_ITEMS}")
    lines = [_item_text(text) for text in texts]
    if not lines:
        return data
    is_parent = 0 < after < len(entries) and entries[after].parent == after - 1
    if after == 0 or is_parent:
        neighbour = entries[after]
        at, bullets = neighbour.start, [neighbour.bullet] * len(lines)
    else:
        neighbour = entries[after - 1]
        at, bullets = neighbour.end, [_counted(neighbour.bullet, step) for step in range(1, len(lines) + 1)]
    added = [bullet + b"[ ] " + line for bullet, line in zip(bullets, lines, strict=True)]
    if _would_join(data, at):
        added.append(b"")
    return _insert(data, at, added)


def render(title: str, items: Sequence[str]) -> bytes:
    """A new plan. Raises BadInput for an empty title, no items, and a text that is empty or has several lines."""
    if not items:
        raise BadInput("a plan needs at least one item", hint="give one with `--item`")
    if len(items) > LIMIT_ITEMS:
        raise BadInput(f"the plan would have {len(items)} items, the limit is {LIMIT_ITEMS}")
    steps = [b"- [ ] " + _item_text(text) for text in items]
    heading = " ".join(title.split())
    if not heading:
        raise BadInput("the title is empty", hint="give one with `--title`")
    lines = [b"# " + _encode(heading, "the title"), b"", *steps]
    data = b"\n".join(lines) + b"\n"
    if len(data) > LIMIT_BYTES:
        raise BadInput(f"the plan would have {len(data)} bytes, the limit is {LIMIT_BYTES}")
    return data


def changes(before: Plan, after: Plan) -> list[Change]:
    """The items of `after` whose mark changed, and its new ones that are not open, in order.

    An item is recognised by its text, then by a text that was only made longer or shorter, then by a mark
    that a lost item had (so that a reworded done item is no new tick), and last by its number.
    """
    found: dict[int, Item] = {}
    lost = {item.number: item for item in before.items}

    def pair(item: Item, candidate: Item | None) -> None:
        if candidate is not None:
            found[item.number] = lost.pop(candidate.number)

    by_text: dict[str, list[Item]] = {}
    for item in reversed(before.items):
        by_text.setdefault(_key(item.text), []).append(item)
    for item in after.items:
        same = by_text.get(_key(item.text))
        pair(item, same.pop() if same else None)
    for item in _without(after, found):
        pair(item, next((old for old in lost.values() if _is_edit(old.text, item.text)), None))
    for item in _without(after, found):
        if item.mark is not Mark.OPEN:
            pair(item, next((old for old in lost.values() if old.mark is item.mark), None))
    for item in _without(after, found):
        pair(item, lost.get(item.number))

    return [
        Change(item.number, item.text, mark_before, item.mark, item.note)
        for item in after.items
        for mark_before in [found[item.number].mark if item.number in found else None]
        if item.mark is not (mark_before or Mark.OPEN)
    ]


def _without(plan: Plan, found: dict[int, Item]) -> list[Item]:
    return [item for item in plan.items if item.number not in found]


def _is_edit(one: str, other: str) -> bool:
    short, long = sorted((_key(one), _key(other)), key=len)
    return bool(short) and long.startswith(short) and not long[len(short) :][:1].isalnum()


def _key(text: str) -> str:
    return " ".join(text.replace("~~", "").split())


def _mark_at(data: bytes, entry: Entry) -> Mark:
    return Mark(data[entry.mark_at : entry.mark_at + 1].decode().lower())


def _entry(entries: Sequence[Entry], number: int) -> Entry:
    if not 1 <= number <= len(entries):
        raise BadInput(f"no item {number}: the plan has {len(entries)}", hint="count from 1, top to bottom")
    return entries[number - 1]


def _dedent(lines: Sequence[bytes]) -> str:
    if not lines:
        return ""
    depth = min(len(split_lead(line)[0]) for line in lines if line)
    return "\n".join(line[depth:].decode() for line in lines).strip()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip()


def _encode(text: str, what: str) -> bytes:
    """`text` for a plan. Raises BadInput for what would make the plan unreadable."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{what} is not valid text: it cannot be written as UTF-8") from error
    if b"\0" in data:
        raise BadInput(f"{what} contains a NUL character")
    if len(data) > NOTE_LIMIT_BYTES:
        raise BadInput(f"{what} has {len(data)} bytes, the limit is {NOTE_LIMIT_BYTES}", hint="put it into a file")
    return data


def _item_text(text: str) -> bytes:
    bare = text.strip()
    if not bare:
        raise BadInput("the text of an item is empty", hint="give each item one line of text")
    if _BREAK.search(bare):
        raise BadInput(f"the text of an item has several lines: {bare[:40]!r}", hint="give each line as its own item")
    return _encode(bare, "the text of an item")


def _plain(line: bytes) -> bytes:
    """A line of a note, with a backslash before what would begin a block: an item, a fence, a heading."""
    if not begins_block(line):
        return line
    lead, body = split_lead(line)
    digits = len(body) - len(body.lstrip(b"0123456789"))
    return lead + body[:digits] + b"\\" + body[digits:]


def _counted(bullet: bytes, step: int) -> bytes:
    """The bullet `step` lines further down a numbered list; any other is the same for all."""
    found = _COUNTED.fullmatch(bullet)
    if found is None:
        return bullet
    lead, number, rest = found.groups()
    return bytes(lead + b"%d" % min(int(number) + step, 999_999_999) + rest)


def _newline(data: bytes) -> bytes:
    at = data.find(b"\n")
    if at < 0:
        return b"\r" if b"\r" in data else b"\n"
    return b"\r\n" if data[at - 1 : at] == b"\r" else b"\n"


def _insert(data: bytes, at: int, lines: Sequence[bytes]) -> bytes:
    """`data` with whole lines put in at the start of a line, or behind a last line that has no end."""
    newline = _newline(data)
    block = newline.join(lines)
    is_unended = at == len(data) and not data.endswith((b"\n", b"\r"))
    return data[:at] + (newline + block if is_unended else block + newline) + data[at:]


def _append(data: bytes, block: str) -> bytes:
    """`data` with a block of lines at its end, after a blank line."""
    newline = _newline(data)
    lines = data.removeprefix(BOM).splitlines(keepends=True)
    last = lines[-1] if lines else newline
    before = b"" if last.endswith((b"\n", b"\r")) else newline
    if last.strip():
        before += newline
    return data + before + newline.join(line.encode() for line in _BREAK.split(block)) + newline


def _would_join(data: bytes, at: int) -> bool:
    """Whether the line at `at` would be read as the continued text of an item put in before it."""
    found = _REST.match(data, at)
    line = found.group().strip(b" \t") if found else b""
    return bool(line) and (not begins_block(line) or (line.startswith(b">") and not NOTE_LINE.match(line)))
