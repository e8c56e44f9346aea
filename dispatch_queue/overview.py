"""A task as a person looks at it, read off its home copy alone."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dispatch_queue import files, ipc, taskdir
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import DispatchError, UntrustedPath
from dispatch_queue.plan import Plan
from dispatch_queue.record import WARNING, Entry, Isolation, Standing, Task, current
from dispatch_queue.states import HELD, Event, State
from dispatch_queue.taskdir import TaskDir, read_plan_or_none

RESULT_LIMIT_BYTES = 1024 * 1024
SETTLED_AFTER_SECONDS = 2.0
WARNINGS = 5  # told of a task
_NUMBER = re.compile("[1-9][0-9]{0,5}")

# What needs a person comes first.
ORDER = (
    State.ASKING,
    State.PARKED,
    State.FAILED,
    State.RUNNING,
    State.QUEUED,
    State.WAITING,
    State.DONE,
    State.CANCELLED,
)


class Doing(NamedTuple):
    """What a running agent does, in a line, and since when it was silent after that, as clock.stamp writes it."""

    text: str
    since: str


class Warned(NamedTuple):
    """What went otherwise than asked in an attempt, and when, as clock.stamp writes it."""

    attempt: int
    at: str
    text: str


class Unserved(NamedTuple):
    """Why no worker takes a queued task, or nobody lets a waiting one go, and the command that changes it."""

    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to know of a task. `plan` is None while it cannot be read; `broken` says why the record cannot.

    `doing` and `unserved` are known only where somebody looked for them; `elsewhere`: it is shown in another project.
    """

    home: TaskDir
    task: Task | None
    standing: Standing
    plan: Plan | None = None
    questions: Mapping[int, str] = field(default_factory=dict)  # the open ones
    unreadable: Mapping[str, str] = field(default_factory=dict)  # as of Ipc, with the answers to these that are unread
    broken: str = ""
    doing: Doing | None = None
    unserved: Unserved | None = None
    elsewhere: bool = False

    @property
    def id(self) -> str:
        return self.home.id

    @property
    def done(self) -> int:
        return self.plan.done if self.plan else self.standing.done

    @property
    def total(self) -> int:
        return len(self.plan.items) if self.plan else self.standing.total

    @property
    def reason(self) -> str:
        """Why it is in its state; "" if there is nothing to say."""
        return "; ".join(filter(None, (self.standing.reason, self.unserved.reason if self.unserved else "")))

    @property
    def model(self) -> str:
        """What its next attempt runs with, or the last one ran with; "" if unknown."""
        return current(self.task, self.standing).model if self.task else ""

    @property
    def isolation(self) -> Isolation | None:
        return self.task.isolation if self.task else None


def look(home: TaskDir) -> Card:
    """The card of a task. Never raises for what stands in its files."""
    try:
        task = home.task()
        standing = home.standing()
    except (DispatchError, OSError) as error:
        return Card(home, None, Standing(), broken=str(error))
    questions: dict[int, str] = {}
    unreadable: Mapping[str, str] = {}
    if not standing.final:
        try:
            seen = home.ipc()
            told = standing.questions
            questions = {n: seen.questions[n].strip() for n in seen.open if n in told or _is_settled(home, standing, n)}
            unread = {n: why for n in questions if (why := seen.why_unread(n))}
            unreadable = {**seen.unreadable, **{ipc.name_of(n, ipc.Kind.ANSWER): why for n, why in unread.items()}}
        except UntrustedPath as error:
            unreadable = {ipc.FOLDER: error.reason}
        except OSError:
            questions = {}
    return Card(home, task, standing, read_plan_or_none(home), questions, unreadable)


def _is_settled(home: TaskDir, standing: Standing, number: int) -> bool:
    """Whether a question that the journal does not have may be shown.

    The worker of a running task first takes the secrets of its environment out of it, at once when it is written.
    """
    if standing.state not in HELD:
        return True
    written = (home.path / ipc.name_of(number, ipc.Kind.QUESTION)).lstat().st_mtime
    return not 0 <= SYSTEM.now().timestamp() - written < SETTLED_AFTER_SECONDS


def cards(base: Path) -> list[Card]:
    """The tasks of a project, what needs a person first, then the newest change."""
    found = [look(TaskDir(base, task_id)) for task_id in taskdir.known_ids(base)]
    found.sort(key=lambda card: card.standing.changed, reverse=True)
    return sorted(found, key=lambda card: ORDER.index(card.standing.state) if card.standing.state else -1)


def attempts(home: TaskDir) -> list[dict[str, Any]]:
    """result.json of every attempt, in order; of one that has none, or none to be read, the `reason` at most."""
    found = []
    entries: list[Entry] | None = None
    for number in attempt_numbers(home):
        value: dict[str, Any] = {"end": None}
        try:
            data = files.read(home.base, home.name(f"attempts/{number}/result.json"), limit_bytes=RESULT_LIMIT_BYTES)
            read = json.loads(data)
            value = read if isinstance(read, dict) else value
        except FileNotFoundError:
            entries = _entries(home) if entries is None else entries
            value |= _told_at_the_end(entries, number)
        except (DispatchError, OSError, ValueError, RecursionError) as error:
            value["reason"] = str(error)
        found.append({**value, "attempt": number})
    return found


def _told_at_the_end(entries: Sequence[Entry], number: int) -> Mapping[str, Any]:
    """The reason that the journal gives for the end of an attempt: one whose worker died wrote none itself."""
    ends = [entry for entry in entries if entry.state not in (None, *HELD) and entry.facts.get("attempt") == number]
    return {"reason": ends[-1].facts.get("reason")} if ends else {}


def warnings(home: TaskDir) -> list[Warned]:
    """The newest warnings of a task, each text once, oldest first."""
    found: dict[str, Warned] = {}
    attempt = 0
    for entry in _entries(home):
        if entry.event == Event.CLAIM:
            attempt = entry.facts.get("attempt", attempt + 1)
        elif entry.event == WARNING:
            text = str(entry.facts.get("text", ""))
            found.pop(text, None)
            found[text] = Warned(attempt, entry.at, text)
    return list(found.values())[-WARNINGS:]


def _entries(home: TaskDir) -> list[Entry]:
    try:
        return home.entries()
    except (DispatchError, OSError):
        return []


def attempt_numbers(home: TaskDir) -> list[int]:
    """The attempts that have a folder, in order; none where the agent put something else in the folders' place.

    A folder of an attempt that was not made yet is the agent's own.
    """
    try:
        names = files.names(home.base, home.name("attempts"))
        last = home.standing().attempt
    except (DispatchError, OSError):
        return []
    return sorted(number for number in (int(name) for name in names if _NUMBER.fullmatch(name)) if number <= last)


def answered(home: TaskDir) -> list[dict[str, Any]]:
    """Questions that have their answer, in order."""
    try:
        seen = home.ipc()
    except (DispatchError, OSError):
        return []
    return [
        {"number": number, "question": seen.questions[number].strip(), "answer": seen.answers[number].strip()}
        for number in sorted(seen.questions)
        if number in seen.answers
    ]


def has_output(home: TaskDir) -> bool:
    """Whether there is an artifact: a file, and no link to one."""
    path = home.path / taskdir.OUTPUT
    return path.is_file() and not path.is_symlink()


def output(home: TaskDir) -> str | None:
    """The artifact's text, or None without one."""
    try:
        return home.read(taskdir.OUTPUT).decode(errors="replace")
    except (DispatchError, OSError):
        return None


def workspace(home: TaskDir) -> Path | None:
    """Where the newest attempt works, as its journal says; None if it does not."""
    places = [
        str(entry.facts["workspace"])
        for entry in _entries(home)
        if entry.event == "attempt" and "workspace" in entry.facts
    ]
    return Path(places[-1]) if places else None
