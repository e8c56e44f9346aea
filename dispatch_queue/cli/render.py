"""How tasks look on a terminal and as JSON: pure functions, compared with snapshots."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dispatch_queue import ipc
from dispatch_queue.clock import parse_stamp
from dispatch_queue.overview import Card
from dispatch_queue.plan import Mark
from dispatch_queue.record import Entry
from dispatch_queue.states import State

COLUMNS = ("TASK", "STATE", "ITEMS", "MODEL", "WHERE", "AGE")
INDENT = 17
BROKEN = "broken"  # in the place of a state, of a record that cannot be read
_UNREADABLE = 3  # files named of a task
_LINE = 160  # characters of a text shown in a list
PAGE = 1000  # characters of one on a page of its own
_OBEYED = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))

COLOURS: Mapping[State, str] = {
    State.ASKING: "yellow",
    State.PARKED: "yellow",
    State.FAILED: "red",
    State.RUNNING: "cyan",
    State.DONE: "green",
}


def plain(text: str) -> str:
    """Text of an agent with everything a terminal would obey shown as `\\x1b` and the like; line ends stay."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(part if part.isprintable() else _shown(part) for part in lines)  # a transcript may have 64 MiB


def _shown(text: str) -> str:
    return "".join(char if char == "\t" or char.isprintable() else repr(char)[1:-1] for char in text)


def plain_json(text: str) -> str:
    """JSON with what a terminal would obey, and JSON lets stand, as `\\u009b` and the like."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def line(text: str, limit: int = _LINE) -> str:
    """`plain` text on one line, cut to `limit` characters."""
    one = " ".join(plain(text).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def age(since: str, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `12m`."""
    try:
        seconds = max(0, int((now - parse_stamp(since)).total_seconds()))
    except (ValueError, TypeError):  # TypeError: a time without a zone
        return "?"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def command(card: Card, verb: str, rest: str = "") -> str:
    """A command about a task, as it can be given where the card is shown."""
    there = f"-C {shlex.quote(_shown(str(card.home.base)))} " if card.elsewhere else ""
    return f"dispatch {there}{verb} {card.id} {rest}".rstrip()


def answering(card: Card, number: int) -> str:
    """The command that answers a question, once what stands in its way is gone."""
    answer, name = command(card, "answer", f'{number} "…"'), ipc.name_of(number, ipc.Kind.ANSWER)
    return f"{_put_aside(card, name)} && {answer}" if name in card.unreadable else answer


def unread(card: Card, number: int) -> list[str]:
    """Why what stands there as the answer to a question is not taken."""
    why = card.unreadable.get(ipc.name_of(number, ipc.Kind.ANSWER))
    return [f"its answer is not read: it {why}"] if why else []


def unreadable(card: Card) -> list[str]:
    """What else of the questions and answers cannot be read, and what to do about each."""
    with_questions = {ipc.name_of(number, ipc.Kind.ANSWER) for number in card.questions}
    others = sorted((name, why) for name, why in card.unreadable.items() if name not in with_questions)
    lines = []
    for name, why in others[:_UNREADABLE]:
        way_out = f"look into {shlex.quote(_path(card, name))}" if name == ipc.FOLDER else _put_aside(card, name)
        lines += [f"{name} cannot be read: it {why}", way_out]
    more = len(others) - _UNREADABLE
    return lines + ([f"and {more} more"] if more > 0 else [])


def _path(card: Card, name: str) -> str:
    return _shown(str(card.home.path / name))


def _put_aside(card: Card, name: str) -> str:
    return ipc.put_aside(_path(card, name))


def attention(card: Card) -> list[str]:
    """What a person has to know or do about a task, the fixing command last."""
    standing = card.standing
    if card.broken:
        return [f"the record cannot be read: {line(card.broken)}", f"look into {line(str(card.home.path))}"]
    if card.questions:
        lines = []
        for number, text in sorted(card.questions.items()):
            lines += [f"question {number}: {line(text)}", *unread(card, number), answering(card, number)]
        return lines + unreadable(card)
    if card.unreadable:
        return unreadable(card)
    if silence(card):
        return [*silence(card), command(card, "logs")]
    if standing.state is State.FAILED:
        return [line(standing.reason), command(card, "show")]
    if standing.state in (State.WAITING, State.QUEUED):
        told = [line(standing.reason)] if standing.reason else []
        return told + ([line(card.unserved.reason), line(card.unserved.fix)] if card.unserved else [])
    return []


def warned(card: Card) -> list[str]:
    """Where the warnings of a task are told."""
    return [f"with warnings: {command(card, 'show')}"] if card.standing.warned else []


def activity(card: Card, now: datetime) -> list[str]:
    """What a running agent does, and for how long it has said nothing else; nothing while that is not known."""
    return [f"{line(card.doing.text)} ({age(card.doing.since, now)})"] if card.doing else []


def silence(card: Card) -> list[str]:
    """The evidence that a running agent does nothing."""
    standing = card.standing
    return [f"quiet: {line(standing.quiet)}"] if standing.quiet and standing.state is State.RUNNING else []


def where(card: Card) -> str:
    """The host that runs a task, or ran it last."""
    return line(card.standing.worker.partition(":")[0]) or "-"


def row(card: Card, now: datetime) -> tuple[str, ...]:
    state = str(card.standing.state or BROKEN)
    model = line(card.model) or "?"
    return (card.id, state, f"{card.done}/{card.total}", model, where(card), age(card.standing.changed, now))


def projects(cards: Sequence[Card]) -> dict[Path, str]:
    """A name for each project of the cards: its folder's, or its path where two have the same name."""
    bases = {card.home.base for card in cards}
    names = Counter(base.name for base in bases)
    return {base: line(base.name if names[base.name] == 1 else str(base)) for base in bases}


def table(cards: Sequence[Card], now: datetime) -> list[tuple[str, State | None]]:
    """The lines of `dispatch ls`, each with the state it is coloured by; with the projects if one is elsewhere."""
    columns: tuple[str, ...] = COLUMNS
    rows = [(card, row(card, now)) for card in cards]
    if any(card.elsewhere for card in cards):
        names = projects(cards)
        columns = (columns[0], "PROJECT", *columns[1:])
        rows = [(card, (cells[0], names[card.home.base], *cells[1:])) for card, cells in rows]
    widths = [max(map(len, column)) for column in zip(columns, *(cells for _, cells in rows), strict=True)]

    def joined(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines: list[tuple[str, State | None]] = [(joined(columns), None)]
    for card, cells in rows:
        lines.append((joined(cells), card.standing.state))
        told = [*activity(card, now), *attention(card), *warned(card)]
        lines += [(" " * INDENT + text, None) for text in told]
    return lines


def checklist(card: Card) -> list[str]:
    """The plan as lines: mark, number, text, and the agent's note under it."""
    if card.plan is None:
        return ["(the plan cannot be read right now)"]
    lines = []
    for item in card.plan.items:
        lines.append(f"  [{item.mark.value}] {item.number}. {line(item.text, 200)}")
        if item.note and item.mark is not Mark.OPEN:
            lines += [f"        {part}" for part in plain(item.note).splitlines()[:6]]
    return lines


def summary(card: Card, limit: int = _LINE) -> str:
    """One line on where a task stands, its reason of `limit` characters at most."""
    reason = f": {line(card.reason, limit)}" if card.reason else ""
    return f"{card.id}  {card.standing.state or BROKEN}  {card.done}/{card.total}{reason}"


def event_line(task_id: str, entry: Entry) -> str | None:
    """A journal entry as `dispatch watch` tells it; None for one nobody waits for."""
    facts = entry.facts
    match entry.event:
        case "tick":
            return f"{task_id}  [{_fact(facts, 'mark')}] {_fact(facts, 'item')}. {_fact(facts, 'text')}"
        case "claim":
            return f"{task_id}  attempt {_fact(facts, 'attempt')} begins on {_fact(facts, 'host')}"
        case "answer":
            return f"{task_id}  question {_fact(facts, 'question')} is answered"
        case "note":
            return f"{task_id}  note: {_fact(facts, 'text')}"
        case "warning":
            return f"{task_id}  warning: {_fact(facts, 'text', PAGE)}"
    if entry.state in (State.QUEUED, State.PARKED, State.DONE, State.FAILED, State.CANCELLED, State.WAITING):
        reason = f": {line(str(facts['reason']))}" if facts.get("reason") else ""
        return f"{task_id}  {entry.state}{reason}"
    return None


def _fact(facts: Mapping[str, Any], name: str, limit: int = _LINE) -> str:
    return line(str(facts.get(name, "?")), limit)


def as_json(card: Card) -> dict[str, Any]:
    """A task as data. Unknown is null."""
    task, standing = card.task, card.standing
    return {
        "id": card.id,
        "project": task.project if task else None,
        "path": str(card.home.path),
        "title": task.title if task else None,
        "state": standing.state,
        "reason": card.reason or None,
        "model": card.model or None,
        "isolation": task.isolation if task else None,
        "attempt": standing.attempt,
        "items": {"done": card.done, "total": card.total},
        "plan": [
            {"number": item.number, "mark": item.mark.value, "text": item.text, "note": item.note or None}
            for item in (card.plan.items if card.plan else ())
        ],
        "questions": [{"number": number, "text": text} for number, text in sorted(card.questions.items())],
        "unreadable": [{"file": name, "why": why} for name, why in sorted(card.unreadable.items())],
        "doing": {"text": card.doing.text, "since": card.doing.since} if card.doing else None,
        "quiet": standing.quiet or None,
        "branch": standing.branch or None,
        "worker": standing.worker or None,
        "created": task.created if task else None,
        "changed": standing.changed or None,
        "broken": card.broken or None,
    }
