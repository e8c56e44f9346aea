"""Many tasks from one file: read, checked as a whole, put in an order, written all or none."""

import contextlib
import dataclasses
import enum
import graphlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dispatch_queue import ids, producer, taskdir
from dispatch_queue.clock import SYSTEM, Clock
from dispatch_queue.config import document, rules
from dispatch_queue.config.document import Document, Problem, seen
from dispatch_queue.errors import BadInput, DispatchError
from dispatch_queue.producer import PRIORITIES, Drafted, Request, Submitted
from dispatch_queue.project import Project
from dispatch_queue.record import Isolation
from dispatch_queue.taskdir import TaskDir

LIMIT_BYTES = 1024 * 1024
SHOWN_PROBLEMS = 20

_LARGEST_NUMBER = 10**9
_PLACE = re.compile(r"^[0-9]+(?:\.|: )")  # which task it is, of a list; its line says that better
_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Kind(enum.Enum):
    """What a key's value must be."""

    TEXT = "text"
    TEXTS = "a list of texts"
    NAMES = "a list of task names"
    NUMBER = "a whole number from 1"
    AMOUNT = "a number above 0"
    FLAG = "true or false"


KEYS: Mapping[str, Kind] = MappingProxyType(
    {
        "name": Kind.TEXT,
        "title": Kind.TEXT,
        "prompt": Kind.TEXT,
        "items": Kind.TEXTS,
        "plan": Kind.TEXT,
        "model": Kind.TEXT,
        "isolation": Kind.TEXT,
        "worktree": Kind.FLAG,
        "after": Kind.NAMES,
        "after_any": Kind.FLAG,
        "at": Kind.TEXT,
        "delay": Kind.TEXT,
        "hold": Kind.FLAG,
        "context": Kind.TEXT,
        "read": Kind.NAMES,
        "verify": Kind.TEXT,
        "max_turns": Kind.NUMBER,
        "max_cost": Kind.AMOUNT,
        "timeout": Kind.NUMBER,
        "attempts": Kind.NUMBER,
        "priority": Kind.TEXT,
        "question_timeout": Kind.NUMBER,
        "question_default": Kind.TEXT,
    }
)
CHOICES: Mapping[str, Collection[str]] = MappingProxyType({"isolation": list(Isolation), "priority": list(PRIORITIES)})


class BadBatch(BadInput):
    """A file of tasks cannot be dispatched as it is; nothing was written. `problems` in the order of their lines."""

    def __init__(self, shown: str, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems)
        first = self.problems[0]
        if len(self.problems) == 1:
            super().__init__(f"{shown}:{first.line}: {first.text}", hint=first.hint or None)
            return
        lines = [f"  {shown}:{one.line}: {one.text}" for one in self.problems[:SHOWN_PROBLEMS]]
        more = len(self.problems) - SHOWN_PROBLEMS
        lines += [f"  and {more} more"] if more > 0 else []
        said = f"{shown} has {len(self.problems)} problems; nothing was dispatched\n" + "\n".join(lines)
        super().__init__(said, hint=f"line {first.line}: {first.hint}" if first.hint else None)


class Faulty(BadInput):
    """A task of a file has faults, which it keeps itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A task as the file has it: `values` by their keys, checked for their kind, with the line of each.

    `faults` are what was found to be wrong with it so far.
    """

    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    faults: list[Problem] = field(default_factory=list)

    def text(self, key: str) -> str:
        return str(self.values.get(key, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self.values.get(key, ()))

    def problem(self, key: str, text: str, hint: str = "") -> Problem:
        return Problem(self.lines.get(key, self.line), text, hint)

    @contextlib.contextmanager
    def blaming(self, key: str) -> Iterator[None]:
        """Keep an error told to a person as this key's fault, and go on behind the `with`."""
        try:
            yield
        except Faulty:
            pass
        except DispatchError as error:
            self.faults.append(self.problem(key, error.message, error.hint or ""))

    def check(self) -> None:
        """Raise Faulty for a task that has faults."""
        if self.faults:
            raise Faulty(self.faults[0].text)


@dataclass(frozen=True, slots=True)
class Node:
    """A task of the file with its request, its id, and the ids of all that it waits for."""

    asked: Asked
    request: Request
    id: str
    after: tuple[str, ...] = ()


def parse(text: str, shown: str) -> list[Asked]:
    """The tasks in the text of a file, with their faults; `shown` is its name in messages.

    Raises BadBatch where there is no list of tasks to be read.
    """
    read = document.read(text)
    if not isinstance(read.plain, list) or not read.plain:
        if not read.problems:
            what = "has no tasks" if not read.plain else "must be a list of tasks"
            read.problem((), what, "begin each task with a dash: `- title: …`")
        raise BadBatch(shown, read.problems)
    found = [_task(read, number, value) for number, value in enumerate(read.plain)]
    for one in read.problems:  # of keys: each stands in the task that began last before it
        within = next((task for task in reversed(found) if task.line <= one.line), found[0])
        within.faults.append(one._replace(text=_PLACE.sub("", one.text)))
    return found


def _task(read: Document, number: int, value: Any) -> Asked:
    line = read.line_of((number,))
    if not isinstance(value, dict):
        return Asked(line, faults=[Problem(line, f"not a task: {seen(value)}", "write its keys: `- title: …`")])
    values: dict[str, Any] = {}
    faults: list[Problem] = []
    for key, given in value.items():
        at = read.line_of((number, key))
        if key not in KEYS:
            near = rules.nearest(key, KEYS)
            meant = f"; did you mean `{near}`?" if near else ""
            faults.append(Problem(at, f"unknown key {seen(key)}{meant}", f"known are: {', '.join(KEYS)}"))
            continue
        try:
            values[key] = _value(key, given)
        except ValueError as error:
            hint = "quote text that holds `: `" if isinstance(given, dict | list) else ""
            faults.append(Problem(at, f"`{key}` must be {error}, not {_kind(given)}", hint))
    lines = {key: read.line_of((number, key)) for key in value}
    return Asked(line, values, lines, faults)


def _value(key: str, given: Any) -> Any:
    """The value of a key. Raises ValueError that says what it must be."""
    kind = KEYS[key]
    if kind in (Kind.TEXTS, Kind.NAMES):
        if isinstance(given, str) and kind is Kind.NAMES:
            given = given.split(",") if key == "after" else [given]
        if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
            raise ValueError(kind.value)
        return tuple(one.strip() for one in given)
    if not isinstance(given, str):
        raise ValueError(kind.value)
    if kind is Kind.FLAG:
        if given.lower() not in _FLAGS:
            raise ValueError(kind.value)
        return _FLAGS[given.lower()]
    if kind is Kind.NUMBER:
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:12]) <= _LARGEST_NUMBER):
            raise ValueError(kind.value)
        return int(given)
    if kind is Kind.AMOUNT:
        if not _AMOUNT.fullmatch(given) or not float(given):
            raise ValueError(kind.value)
        return float(given)
    if key in CHOICES and given not in CHOICES[key]:
        raise ValueError(f"one of {', '.join(CHOICES[key])}")
    return given


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        odd = next((one for one in value if not isinstance(one, str) or not one.strip()), None)
        return f"a list with {_kind(odd)} in it"
    return seen(value) if value else "nothing"


def gather(asked: Sequence[Asked], make: Any, shown: str) -> list[Request]:
    """`make` a request of each task; the faults of all are told together. Raises BadBatch."""
    made = []
    for one in asked:
        with one.blaming(""):
            made.append(make(one))
    problems = [fault for one in asked for fault in one.faults]
    if problems:
        raise BadBatch(shown, problems)
    return made


def arrange(
    asked: Sequence[Asked], requests: Sequence[Request], shown: str, *, names: Collection[str], known: Collection[str]
) -> list[Node]:
    """Give each task its id and say what it waits for; those waited for come first.

    `names` are taken in the project, `known` are its tasks. Raises BadBatch: bad text, unknown names, cycles.
    """
    nodes, problems = _named(asked, requests, names)
    handles: dict[str, list[int]] = {}
    for number, (node, bare) in enumerate(nodes):
        for handle in {node.id, bare, node.request.title} - {""}:
            handles.setdefault(handle, []).append(number)
    ready = []
    for node, _ in nodes:
        after: list[str] = []
        for name in node.asked.texts("after"):
            try:
                after.append(_meant(name, [nodes[number][0].id for number in handles.get(name, ())], known))
            except BadInput as error:
                problems.append(node.asked.problem("after", f"`after`: {error.message}", error.hint or ""))
        if node.asked.values.get("after_any") and not node.asked.texts("after"):
            said = "`after_any` says how tasks may end, and `after` names none"
            problems.append(node.asked.problem("after_any", said, "name them: `after: [TASK]`"))
        after = list(dict.fromkeys(after))
        ready.append(dataclasses.replace(node, after=tuple(after), request=_waiting(node.request, after)))
    order = _order(ready, problems)
    if problems:
        raise BadBatch(shown, problems)
    return order


def _waiting(request: Request, after: Sequence[str]) -> Request:
    return dataclasses.replace(request, after=tuple(after))


def _named(
    asked: Sequence[Asked], requests: Sequence[Request], names: Collection[str]
) -> tuple[list[tuple[Node, str]], list[Problem]]:
    """Every task with its id, and the id it would have if that were free; and what keeps some from having one."""
    problems: list[Problem] = []
    first_line: dict[str, int] = {}
    nodes = []
    taken = {*names, *(request.name for request in requests)}
    for one, request in zip(asked, requests, strict=True):
        try:
            task_id = producer.draft(request, project_id="unwritten", taken=taken).task.id
            bare = producer.draft(request, project_id="unwritten").task.id
        except BadInput as error:
            key = "name" if error.message.startswith("bad task id") else ""
            problems.append(one.problem(key, error.message, error.hint or ""))
            continue
        if request.name and request.name in first_line:
            said = f"the name `{request.name}` is given twice, first in line {first_line[request.name]}"
            problems.append(one.problem("name", said, "give each task its own"))
            continue
        first_line.setdefault(request.name, one.lines.get("name", one.line))
        taken.add(task_id)
        nodes.append((Node(one, request, task_id), bare))
    return nodes, problems


def _meant(name: str, here: Sequence[str], known: Collection[str]) -> str:
    """The id of the task that a name in `after` means: one of the file, else one of the project. Raises BadInput."""
    if len(here) > 1:
        raise BadInput(f"{seen(name)} is more than one task of this file", hint="give them a `name:` each")
    return here[0] if here else ids.resolve(name, known)


def _order(nodes: Sequence[Node], problems: list[Problem]) -> list[Node]:
    """The nodes, those waited for first; each cycle is a problem."""
    by_id = {node.id: node for node in nodes}
    graph = {node.id: [other for other in node.after if other in by_id] for node in nodes}
    while True:
        try:
            return [by_id[task_id] for task_id in graphlib.TopologicalSorter(graph).static_order()]
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1][::-1]  # each one waits for the next
            first = min(cycle, key=lambda task_id: by_id[task_id].asked.line)
            turned = cycle.index(first)
            way = [*cycle[turned:-1], *cycle[:turned], first]
            told = " → ".join(f"`{task_id}`" for task_id in way)
            said = f"tasks wait for each other: {told}" if len(way) > 2 else f"`{first}` waits for itself"
            problems.append(by_id[first].asked.problem("after", said, "take one of them out of `after`"))
            for task_id in cycle:
                graph[task_id] = []


def draft(nodes: Sequence[Node], *, project_id: str, clock: Clock = SYSTEM) -> list[Drafted]:
    """The tasks as they will be written. Raises BadInput."""
    return [producer.draft(node.request, project_id=project_id, wanted=node.id, clock=clock) for node in nodes]


def record_locally(
    asked: Sequence[Asked],
    requests: Sequence[Request],
    project: Project,
    shown: str,
    *,
    home: Path,
    clock: Clock = SYSTEM,
) -> list[Submitted]:
    """Write all tasks into their project, or none; those waited for first. `mirror.enroll` tells Redis of each.

    Raises BadBatch, and BadInput when the project cannot be written.
    """
    while True:
        base = project.path
        names, known = taskdir.known_names(base), taskdir.known_ids(base)
        nodes = arrange(asked, requests, shown, names=names, known=known)
        there = _there(nodes, base, names, shown)
        project, project_id = producer.made_project(project, home)
        new = [one for one in draft(nodes, project_id=project_id, clock=clock) if one.task.id not in there]
        try:
            made = taskdir.create_all(base, [(one.task, one.plan, producer.first_entry(one)) for one in new])
        except FileExistsError:
            continue  # somebody else took an id meanwhile
        created = {copy.id: Submitted(one.task, copy, created=True) for one, copy in zip(new, made, strict=True)}
        return [created.get(node.id) or there[node.id] for node in nodes]


def _there(nodes: Sequence[Node], base: Path, names: Collection[str], shown: str) -> dict[str, Submitted]:
    """The tasks that were dispatched before under the same name with the same content. Raises BadBatch for other."""
    found, problems = {}, []
    for node in nodes:
        if node.request.name and node.request.name in names:
            home = TaskDir(base, node.request.name)
            try:
                if not taskdir.put_aside_leftover(home):
                    found[node.id] = producer.same_name(node.request, home)
            except DispatchError as error:
                again = f"dispatch show {node.id}; a file is dispatched once if each task in it has a `name:`"
                hint = again if home.exists() else error.hint or ""
                problems.append(node.asked.problem("name", error.message, hint))
    if problems:
        raise BadBatch(shown, problems)
    return found
