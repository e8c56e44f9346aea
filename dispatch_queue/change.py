"""One step of a task as a value, what it led to, and the task's record as Redis has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dispatch_queue.errors import Refused
from dispatch_queue.record import Entry, Ref, draft
from dispatch_queue.states import Event, State


@dataclass(frozen=True, slots=True)
class Record:
    """A task as Redis knows it: the hash, typed. Unknown is empty or 0."""

    ref: Ref
    state: State
    reason: str
    seq: int
    token: int
    attempt: int
    beat: int
    worker: str
    home: str  # host of the home copy
    queue: str
    title: str
    model: str
    priority: int
    done: int
    total: int
    questions: tuple[int, ...]
    changed: str
    isolation: str
    sent: int = 0  # tickets so far
    attempts: int = 3  # the limit of tries
    hold: bool = False
    tries: int = 0  # attempts that ended without finishing, and were not parked or drained
    idle: bool = False  # the last of them checked nothing
    stalls: int = 0  # failures of the provider in a row
    made: str = ""  # a word of this record's own: Redis lost it and was told again if there is another
    created: str = ""  # when the task was submitted; of another time, it is of another task that had this id

    @classmethod
    def read(cls, ref: Ref, found: Mapping[str, str]) -> "Record":
        def number(name: str) -> int:
            return int(found.get(name) or 0)

        return cls(
            ref=ref,
            state=State(found["state"]),
            reason=found.get("reason", ""),
            seq=number("seq"),
            token=number("token"),
            attempt=number("attempt"),
            beat=number("beat"),
            worker=found.get("worker", ""),
            home=found.get("home", ""),
            queue=found.get("queue", ""),
            title=found.get("title", ""),
            model=found.get("model", ""),
            priority=number("priority"),
            done=number("done"),
            total=number("total"),
            questions=read_questions(found.get("questions", "")),
            changed=found.get("changed", ""),
            isolation=found.get("isolation", ""),
            sent=number("sent"),
            attempts=number("attempts"),
            hold=bool(found.get("hold")),
            tries=number("tries"),
            idle=bool(number("idle")),
            stalls=number("stalls"),
            made=found.get("made", ""),
            created=found.get("created", ""),
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """What tells whether a home copy is up to date. `state` is None where nothing is known."""

    state: State | None
    seq: int
    changed: str
    questions: tuple[int, ...]


def write_questions(numbers: Sequence[int]) -> str:
    """Open questions as the record's field has them."""
    return ",".join(str(number) for number in sorted(numbers))


def read_questions(text: str) -> tuple[int, ...]:
    """What `write_questions` wrote."""
    return tuple(int(number) for number in text.split(",") if number)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` attempts at once of which the record's field `field` (or its worker's `host`) is `value`."""

    field: str
    value: str
    most: int


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a task. All of it happens, or nothing does.

    `entries` are drafts (`record.draft`); the first carries the new state. `stay` names states in which the
    event is taken note of without a move. `guard` is a field of the record and the value it must have. A `claim` is
    for the next attempt, which is one after `begun` at least. A task that becomes queued gets its ticket, one that
    becomes final releases those that wait for it. A change without a token is somebody else's than the worker's that
    holds the task, which is told of it. One whose answer was lost can be sent again if `once` names it: if it is the
    last that had a name, nothing happens again. With `limits` it happens only while fewer attempts run than they
    allow. `hold` is a family of models of an account that is at its limit, and until when, in milliseconds since 1970.
    """

    entries: Sequence[str]
    event: Event | None = None
    token: int | None = None
    guard: tuple[str, str] | None = None
    stay: frozenset[State] = frozenset()
    claim: bool = False
    begun: int = 0
    limits: Sequence[Limit] = ()
    hold: tuple[str, int] | None = None
    once: str = ""
    fields: Mapping[str, str | int] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    at: str = ""  # of entries that follow for other tasks
    by: str = ""


def step(
    event: Event, *, at: str, by: str, reason: str = "", facts: Mapping[str, Any] = MappingProxyType({}), **more: Any
) -> Change:
    """The change for `event`: its entry, the record's reason and time, and what else `Change` takes."""
    fields = {"reason": reason, "changed": at, **more.pop("fields", {})}
    known = {"reason": reason} if reason else {}
    return Change(
        entries=[draft(event, at=at, by=by, **known, **facts)], event=event, fields=fields, at=at, by=by, **more
    )


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change led to."""

    seq: int
    state: State
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Waits:
    """What a task waits for: other tasks to end, a time (0: none)."""

    after: tuple[Ref, ...] = ()
    due_milliseconds: int = 0


NOTHING = Waits()


@dataclass(frozen=True, slots=True)
class Beaten:
    """Claims without a heartbeat: `lost` to another token, `unknown` to Redis, which lost its data."""

    lost: tuple[Ref, ...]
    unknown: tuple[Ref, ...]


class LimitReached(Refused):
    """As many attempts run as one of the change's limits allows."""

    def __init__(self, limit: str, running: int) -> None:
        self.limit, self.running = limit, running
        super().__init__(f"{running} of {limit} run, which is the limit", state="queued")


class GuardFailed(Refused):
    """A guarded field had another value: somebody was quicker; look again."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is new of a task. `seq` is -1 when Redis has no such task."""

    seq: int
    entries: tuple[Entry, ...]
    files: Mapping[str, bytes]
