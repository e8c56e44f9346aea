"""What is known of a task: what was asked (task.yaml), what happened (the journal), and where it stands.

`Task` never changes after submit. `Entry` is a line of journal.jsonl. `Standing` is computed from entries alone
(`fold`) or read from the Redis record, which holds the same facts.
"""

import dataclasses
import enum
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch_queue.errors import BadInput, DispatchError
from dispatch_queue.ids import is_id
from dispatch_queue.states import FINAL, HELD, Event, State

_PLAIN = (str, int, bool)  # types of task.yaml's values that are taken as they are
WARNING = "warning"  # the event of an entry that tells what went otherwise than asked
LAST_SEQ = 10**12  # no journal gets there; Lua writes larger numbers as 1e+15, which is no stream id
FORMAT = 1  # of task.yaml and the journal; a reader refuses a newer one

_NUMBERS = (
    "attempt",
    "token",
    "tries",
    "stalls",
    "done",
    "total",
    "question",
    "max_turns",
)  # facts of an entry that a standing is computed from
_WAITS = frozenset({Event.HOLD, Event.RELEASE, Event.LIMIT})  # entries of a waiting task
# Legal in JSON as they are, but the end of a line to some, and unreadable in YAML or UTF-8 to others.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


class Isolation(enum.StrEnum):
    SHARED = "shared"
    WORKTREE = "worktree"


@dataclass(frozen=True, slots=True)
class Ref:
    """A task's name everywhere: the project's id and the task's id in it."""

    project: str
    task: str

    def __str__(self) -> str:
        return f"{self.project}/{self.task}"

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """The ref that `str` wrote. Raises ValueError."""
        project, _, task = text.partition("/")
        if not project or not task or "/" in task:
            raise ValueError(f"not a task reference: {text!r}")
        return cls(project, task)


@dataclass(frozen=True, slots=True)
class Task:
    """What was asked: the content of task.yaml. Times in seconds."""

    id: str
    project: str
    title: str
    model: str
    backend: str
    isolation: Isolation
    host: str  # of the home copy
    created: str  # as clock.stamp writes it
    prompt: str = ""  # what the user said, for a plan the agent makes itself
    preamble: str = ""  # an alias's addition to the prompt
    self_planned: bool = False
    context: str = ""
    read: tuple[str, ...] = ()
    pool: str = "local"
    priority: int = 6  # of Celery on Redis: 0 is the highest; steps 0, 3, 6, 9
    attempts: int = 3
    timeout: int = 7200
    question_timeout: int = 180
    question_default: str = ""
    verify: str = ""
    max_turns: int = 0  # of the model, over all attempts; 0: no cap
    max_cost_usd: float = 0.0
    fallback: tuple[str, ...] = ()  # `backend/model`: what takes over, in order, from a model that fails
    after: tuple[str, ...] = ()  # tasks of the project that must have ended
    after_any: bool = False  # however they ended
    not_before: str = ""  # as clock.stamp writes it
    hold: bool = False  # until somebody releases it
    name: str = ""  # what --name said; with `fingerprint` it makes a second submit harmless
    fingerprint: str = ""  # of all that was asked
    format: int = FORMAT

    @property
    def ref(self) -> Ref:
        return Ref(self.project, self.id)


def dump_task(task: Task) -> bytes:
    """`task` as YAML with one JSON value a line, so that reading it needs no YAML parser."""
    values = dataclasses.asdict(task)
    lines = (f"{key}: {_json(value)}\n" for key, value in values.items())
    return "".join(lines).encode()


class NewerFormat(DispatchError):
    """The record was written by a newer version; it is left alone."""


def load_task(data: bytes, *, name: str = "task.yaml") -> Task:
    """The task that `dump_task` wrote. Unknown keys of a later minor version are passed over.

    Raises BadInput for anything else, NewerFormat for a later format.
    """
    written: dict[str, str] = {}
    try:
        for number, line in enumerate(data.decode().split("\n"), 1):
            if not line.strip() or line.startswith("#"):
                continue
            key, colon, value = line.partition(": ")
            if not colon:
                raise BadInput(f"{name}:{number}: not `key: value`: {line[:60]!r}")
            written[key] = value
        # All at once takes a fifth of the time of one by one, which `dispatch ls` needs for each task.
        values = dict(zip(written, json.loads(f"[{','.join(written.values())}]"), strict=True))
        if int(values.get("format", FORMAT)) > FORMAT:
            raise NewerFormat(
                f"{name}: written by a newer version (format {values['format']}, this one reads {FORMAT})",
                hint="pip install --upgrade dispatch-queue",
            )
        known = {item.name: item.type for item in dataclasses.fields(Task)}
        values = {key: value for key, value in values.items() if key in known}
        for key, value in values.items():
            if known[key] in _PLAIN and type(value) is not known[key]:
                raise BadInput(f"{name}: `{key}` cannot be {str(value)[:60]!r}")
        values["isolation"] = Isolation(values["isolation"])
        values["max_cost_usd"] = float(values.get("max_cost_usd", 0))
        for name_of_list in ("read", "fallback", "after"):
            values[name_of_list] = tuple(values.get(name_of_list, ()))
        return Task(**values)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{name}: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal. `seq` is given by Redis, one step a change; `facts` are the event's own."""

    seq: int
    at: str
    event: str  # of states.Event, or `tick`, `note`, `attempt`, `warning`, …
    by: str  # who acted: `host:pid`
    state: State | None = None  # after this entry, where it changed
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        values = {"event": self.event, "at": self.at, "by": self.by, **self.facts}
        return f'{{"seq":{self.seq},' + (f'"state":"{self.state}",' if self.state else "") + _json(values)[1:]


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def draft(event: str, *, at: str, by: str, **facts: Any) -> str:
    """An entry without its seq and state, as the change script takes it: it adds both at the front."""
    return _json({"event": event, "at": at, "by": by, **facts})


def parse_entry(line: str) -> Entry:
    """The entry of one line. Raises ValueError, whatever the line is: an agent can write to a journal."""
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        state = values.pop("state", None)
        entry = Entry(
            seq=int(values.pop("seq")),
            event=str(values.pop("event")),
            at=str(values.pop("at")),
            by=str(values.pop("by")),
            state=State(state) if state else None,
            facts=values,
        )
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an entry: {error!r}") from error
    if not isinstance(values.get("max_cost_usd", 0), int | float):
        raise ValueError("not an entry: a cost is no number")
    missing = {"total"} if "done" in values else {"question"} if entry.event in (Event.ASK, Event.ANSWER) else set()
    if (
        not 0 <= entry.seq <= LAST_SEQ
        or missing - values.keys()
        or any(type(values.get(name, 0)) is not int for name in _NUMBERS)
    ):
        raise ValueError("not an entry: a number is missing or is none")
    return entry


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task stands. Unknown is None or empty, never a guess."""

    state: State | None = None
    reason: str = ""
    seq: int = 0
    attempt: int = 0
    token: int = 0
    tries: int = 0  # attempts that ended without finishing, and were not parked or drained
    stalls: int = 0  # failures of the provider in a row
    done: int = 0  # items
    total: int = 0
    questions: tuple[int, ...] = ()  # open ones
    worker: str = ""  # that holds it
    branch: str = ""
    quiet: str = ""  # the evidence, while the agent does nothing to be seen
    check: str = ""  # what --verify said when it failed last
    warned: bool = False  # since a person queued it last
    held: bool = False  # a waiting task: until somebody releases it
    after: tuple[str, ...] = ()  # a waiting task: the tasks that it waits for still
    until: str = ""  # a waiting task: as clock.stamp writes it
    model: str = ""  # that a retry chose in the place of the task's own, or that took over from it
    backend: str = ""
    preamble: str = ""
    fallback: tuple[str, ...] | None = None  # that came with a model which a retry chose
    max_turns: int | None = None  # that a retry allows in the place of the task's own
    max_cost_usd: float | None = None
    failed: tuple[str, ...] = ()  # models that others took over from, since the task was last queued by a person
    changed: str = ""  # when it last did

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def limited(self) -> bool:
        """Whether it waits for the end of a limit, or of some trouble of its provider."""
        return self.state is State.WAITING and self.attempt > 0 and bool(self.until) and not self.held


def step(standing: Standing, entry: Entry) -> Standing:
    """The standing after one more entry."""
    facts = entry.facts
    values: dict[str, Any] = {"seq": max(standing.seq, entry.seq), "changed": entry.at}
    if entry.state is not None:
        values["state"] = entry.state
        values["reason"] = str(facts.get("reason", ""))
        if entry.state is not State.WAITING:
            values |= {"held": False, "after": (), "until": ""}
    if entry.event in _WAITS and entry.state in (None, State.WAITING):
        values |= {"reason": str(facts.get("reason", "")), **_waits(standing, facts)}
    if entry.event in (Event.RETRY, Event.GIVE_BACK) and "model" in facts:
        values |= {name: str(facts.get(name, "")) for name in ("model", "backend", "preamble")}
    if entry.event == Event.RETRY:
        values["failed"] = ()
        values |= {name: facts[name] for name in ("max_turns", "max_cost_usd") if name in facts}
        if "model" in facts:
            given = facts.get("fallback", ())
            values["fallback"] = tuple(str(one) for one in given) if isinstance(given, list | tuple) else ()
    elif "failed" in facts:
        values["failed"] = (*standing.failed, str(facts["failed"]))
    if entry.event == Event.CLAIM:
        values["attempt"] = int(facts.get("attempt", standing.attempt + 1))
        values["token"] = int(facts.get("token", standing.token + 1))
        values["worker"] = str(facts.get("worker", ""))
    if entry.state is not None and entry.state not in HELD:
        values["worker"] = ""
        if standing.state in HELD:
            values["token"] = standing.token + 1  # as scripts/change.lua does it
    for name in ("tries", "stalls"):
        if name in facts:
            values[name] = int(facts[name])
    if "done" in facts:
        values["done"], values["total"] = int(facts["done"]), int(facts["total"])
    if entry.event == Event.ASK:
        values["questions"] = tuple(sorted({*standing.questions, int(facts["question"])}))
    if entry.event == Event.ANSWER:
        values["questions"] = tuple(n for n in standing.questions if n != int(facts["question"]))
    if entry.state in FINAL:
        values["questions"] = ()
    values["quiet"] = str(facts.get("text", "")) if entry.event == "quiet" else ""
    if "check" in facts or entry.event == Event.RETRY:
        values["check"] = str(facts.get("check", ""))
    if entry.event in (WARNING, Event.RETRY):
        values["warned"] = entry.event == WARNING
    if "branch" in facts:
        values["branch"] = str(facts["branch"])
    return dataclasses.replace(standing, **values)


def _waits(standing: Standing, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a waiting task waits for after an entry with these facts."""
    names = facts.get("after", standing.after)
    known = [name for name in names if isinstance(name, str) and is_id(name)] if isinstance(names, list | tuple) else []
    return {
        "held": facts.get("held", standing.held) is True,
        "until": str(facts.get("until", standing.until)),
        "after": tuple(name for name in known if name != facts.get("ended")),
    }


def fold(entries: Iterable[Entry]) -> Standing:
    """Where a task stands after these entries, in their order."""
    standing = Standing()
    for entry in entries:
        standing = step(standing, entry)
    return standing


def current(task: Task, standing: Standing) -> Task:
    """`task` with the model and the caps that a retry chose, or that took over: what the next attempt runs with."""
    task = dataclasses.replace(
        task,
        max_turns=task.max_turns if standing.max_turns is None else standing.max_turns,
        max_cost_usd=task.max_cost_usd if standing.max_cost_usd is None else standing.max_cost_usd,
    )
    if not standing.model:
        return task
    fallback = task.fallback if standing.fallback is None else standing.fallback
    return dataclasses.replace(
        task, model=standing.model, backend=standing.backend, preamble=standing.preamble, fallback=fallback
    )


def others(task: Task, standing: Standing) -> tuple[str, ...]:
    """The models, as `backend/model`, that can still take over from the task's current one."""
    used = {*standing.failed, current(task, standing).model}
    return tuple(one for one in current(task, standing).fallback if one.partition("/")[2] not in used)


def notes_of(entries: Iterable[Entry]) -> list[str]:
    """The dispatcher's notes, oldest first."""
    return [str(entry.facts.get("text", "")) for entry in entries if entry.event == "note"]
