"""What a person or a program asks for: submit a task, answer, note, cancel. Files first, then Redis."""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dispatch_queue import ids, ipc, plan, registry, taskdir, waiting
from dispatch_queue.clock import SYSTEM, Clock, stamp
from dispatch_queue.errors import BadInput, Refused
from dispatch_queue.home import actor, host_name
from dispatch_queue.project import Project, ensure, owner_of, renew
from dispatch_queue.record import Entry, Isolation, Ref, Task
from dispatch_queue.states import FINAL, Event, after
from dispatch_queue.taskdir import TaskDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch_queue.change import Record
    from dispatch_queue.store import Store

TITLE_LIMIT = 72  # characters
ITEM_LIMIT = 2000  # characters of a prompt in the plan; the agent is told all of it
TEXT_LIMIT_BYTES = 256 * 1024  # of a prompt, a context
PRIORITIES: Mapping[str, int] = MappingProxyType({"high": 0, "normal": 6, "low": 9})
CANCEL_WAIT_SECONDS = 30.0
SELF_PLANNED_ITEM = "Replace this item by concrete steps sized to the work, then do them: {prompt}"


@dataclass(frozen=True, slots=True)
class Request:
    """All that a submit asks for, model already chosen. Empty means not given; times in seconds."""

    prompt: str = ""
    items: tuple[str, ...] = ()
    plan: bytes | None = None
    title: str = ""
    name: str = ""
    model: str = ""
    backend: str = ""
    preamble: str = ""
    isolation: Isolation = Isolation.SHARED
    context: str = ""
    read: tuple[str, ...] = ()
    pool: str = "local"
    priority: int = 6
    attempts: int = 3
    timeout: int = 7200
    question_timeout: int = 180
    question_default: str = ""
    verify: str = ""
    max_turns: int = 0  # of the model, over all attempts; 0: no cap
    max_cost_usd: float = 0.0
    fallback: tuple[str, ...] = ()  # `backend/model`, in the order in which they take over
    after: tuple[str, ...] = ()  # ids of tasks of the project
    after_any: bool = False
    not_before: str = ""  # as clock.stamp writes it
    hold: bool = False

    def fingerprint(self) -> str:
        """A digest of all that is asked, but the time: two equal ones ask for the same."""
        values = dataclasses.asdict(self) | {
            "plan": (self.plan or b"").decode(errors="replace"),
            "not_before": "",
            "fallback": (),  # of the configuration, not of the request
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Drafted:
    """A task ready to be written: what `--dry-run` shows."""

    task: Task
    plan: bytes


@dataclass(frozen=True, slots=True)
class Submitted:
    task: Task
    home: TaskDir
    created: bool  # False: the same content was dispatched under this name before


def _title(request: Request, parsed: plan.Plan | None) -> str:
    if request.title.strip():
        return " ".join(request.title.split())
    if parsed is not None and parsed.title:
        return parsed.title
    said = request.prompt or (request.items[0] if request.items else "") or (parsed.items[0].text if parsed else "")
    return _cut(said, TITLE_LIMIT)


def _cut(text: str, limit: int) -> str:
    """`text` on one line, and whole words of it where it has more than `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rsplit(" ", 1)[0] + "…"


def _check_text(what: str, text: str) -> None:
    """Raises BadInput for a text that cannot be kept."""
    if len(text.encode(errors="replace")) > TEXT_LIMIT_BYTES:
        raise BadInput(f"the {what} has more than {TEXT_LIMIT_BYTES // 1024} KiB", hint="put it in a file: --read FILE")
    if "\0" in text:
        raise BadInput(f"the {what} contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the {what} is not valid text: it cannot be written as UTF-8") from error


def draft(
    request: Request, *, project_id: str, taken: Collection[str] = (), wanted: str = "", clock: Clock = SYSTEM
) -> Drafted:
    """The task and the plan for a request. Raises BadInput, BadPlan; nothing is written.

    The id is the request's name, else `wanted`, else made of its words, with the first of -2, -3, … not `taken`.
    """
    files = (("name of a file to read", name) for name in request.read)
    for what, text in (("prompt", request.prompt), ("context", request.context), ("title", request.title), *files):
        _check_text(what, text)
    if request.plan is not None and request.items:
        raise BadInput("--plan and --item were both given", hint="put the items into the plan file")
    parsed = plan.parse(request.plan) if request.plan is not None else None
    if parsed is None and not request.items and not request.prompt.strip():
        raise BadInput("nothing to dispatch", hint='dispatch submit "what to do"  (or --item, --plan)')
    title = _title(request, parsed)
    self_planned = parsed is None and not request.items
    if request.plan is not None:
        plan_bytes = request.plan
    else:
        one = SELF_PLANNED_ITEM.format(prompt=_cut(request.prompt, ITEM_LIMIT))
        plan_bytes = plan.render(title, [one] if self_planned else request.items)
    if request.name:
        task_id = ids.check(request.name)
    else:
        named = request.title or (parsed.title if parsed else "")
        made = ids.from_title(named) if named else ids.from_prompt(request.prompt or title)
        task_id = ids.free(wanted or made, taken)
    task = Task(
        id=task_id,
        project=project_id,
        title=title,
        model=request.model,
        backend=request.backend,
        isolation=request.isolation,
        host=host_name(),
        created=stamp(clock.now()),
        prompt=request.prompt,
        preamble=request.preamble,
        self_planned=self_planned,
        context=request.context,
        read=request.read,
        pool=request.pool,
        priority=request.priority,
        attempts=request.attempts,
        timeout=request.timeout,
        question_timeout=request.question_timeout,
        question_default=request.question_default,
        verify=request.verify,
        max_turns=request.max_turns,
        max_cost_usd=request.max_cost_usd,
        fallback=request.fallback,
        after=request.after,
        after_any=request.after_any,
        not_before=request.not_before,
        hold=request.hold,
        name=request.name,
        fingerprint=request.fingerprint(),
    )
    return Drafted(task, plan_bytes)


def first_entry(drafted: Drafted) -> Entry:
    """The entry that a task's journal begins with: it is queued, or it waits and says for what."""
    task = drafted.task
    progress = {"done": 0, "total": len(plan.parse(drafted.plan).items)}
    waits = waiting.facts(task)
    event = Event.HOLD if waits else Event.SUBMIT
    return Entry(seq=1, at=task.created, event=event, by=actor(), state=after(None, event), facts={**progress, **waits})


def record_locally(
    request: Request, project: Project, *, home: Path, wanted: str = "", clock: Clock = SYSTEM
) -> Submitted:
    """Write the task into its project, `wanted` as of `draft`. What is written is kept; `mirror.enroll` tells Redis.

    Raises BadInput, BadPlan, and Refused for a name that was dispatched with other content.
    """
    draft(request, project_id="unwritten", clock=clock)  # bad input leaves not even a `.dispatch` behind
    project, project_id = made_project(project, home)
    while True:
        taken = frozenset(() if request.name else taskdir.known_names(project.path))
        drafted = draft(request, project_id=project_id, taken=taken, wanted=wanted, clock=clock)
        try:
            copy = taskdir.create(project.path, drafted.task, drafted.plan, first_entry(drafted))
            return Submitted(drafted.task, copy, created=True)
        except FileExistsError:
            if request.name:
                there = TaskDir(project.path, request.name)
                if not taskdir.put_aside_leftover(there):
                    return same_name(request, there)


def made_project(project: Project, home: Path) -> tuple[Project, str]:
    """The project with its `.dispatch` and its id, known on this host. Raises BadInput, OSError.

    A `.dispatch` that came with a clone or a copy gets an id of its own: tasks in it are somebody else's, and not run.
    One that another DISPATCH_HOME of this machine keeps is left to that: its tasks would be lost there, or run twice.
    """
    is_new = project.id is None
    project = ensure(project, home)
    if not is_new and project.id is not None and not registry.is_ours(home, project.id, project.path):
        owner = owner_of(project.path)
        if owner is not None and owner != home and registry.registered_path(owner, project.id) == project.path:
            raise BadInput(
                f"the tasks in {project.path} are those of another DISPATCH_HOME, {owner}",
                hint=f"DISPATCH_HOME={shlex.quote(str(owner))} dispatch ls; or remove {owner} if nobody uses it",
            )
        project = renew(project, home)
    assert project.id is not None
    registry.register(home, project.id, project.path)
    return project, project.id


def same_name(request: Request, home: TaskDir) -> Submitted:
    """The task that was dispatched before under a request's name. Raises Refused if other content was."""
    try:
        task = home.task()
    except FileNotFoundError as error:
        raise Refused(
            f"{home.path} is there, and is no task", state="taken", hint="choose another --name, or move it away"
        ) from error
    if task.fingerprint == request.fingerprint():
        return Submitted(task, home, created=False)
    raise Refused(
        f"task `{task.id}` was dispatched before with other content",
        state="taken",
        hint=f"choose another --name, or look at it: dispatch show {task.id}",
    )


def question_to_answer(home: TaskDir, number: int | None) -> int:
    """Which question an answer is for: the given one, or the only open one. Raises BadInput."""
    seen = home.ipc()
    if number is not None:
        name = ipc.name_of(number, ipc.Kind.QUESTION)
        if name in seen.unreadable and number not in home.standing().questions:
            raise BadInput(
                f"question {number} of task `{home.id}` cannot be read: it {seen.unreadable[name]}",
                hint=f"look at it, and move it away: {ipc.put_aside(str(home.path / name))}",
            )
        return number
    if len(seen.open) == 1:
        return seen.open[0]
    if not seen.open:
        raise BadInput(f"task `{home.id}` has no open question", hint=f"dispatch show {home.id}")
    listed = ", ".join(str(one) for one in seen.open)
    raise BadInput(f"task `{home.id}` has several open questions: {listed}", hint=f'dispatch answer {home.id} N "…"')


def answer(home: TaskDir, number: int | None, text: str) -> int:
    """Write an answer into the home copy; the mirror, or `mirror.push`, tells Redis.

    Returns the question's number. Raises BadInput, Refused when it is answered or the task is final.
    """
    standing = home.standing()
    if standing.final:
        raise Refused(
            f"task `{home.id}` is {standing.state}; nobody waits for an answer",
            state=str(standing.state),
            hint=f"dispatch retry {home.id}",
        )
    chosen = question_to_answer(home, number)
    ipc.write_answer(home.base, home.folder, chosen, text)
    return chosen


def check_note(home: TaskDir, text: str) -> str:
    """The note as it will be written. Raises BadInput, Refused for a finished task, FileNotFoundError."""
    standing = home.standing()
    if standing.final:
        raise Refused(
            f"task `{home.id}` is {standing.state}; a note would not be read",
            state=str(standing.state),
            hint=f"dispatch retry {home.id}",
        )
    plan.add_note(home.read(taskdir.PLAN), text)  # once it is in the journal it must fit into the plan
    return text.strip()


def cancel(store: "Store", ref: Ref, *, clock: Clock = SYSTEM) -> "Record":
    """Cancel a task, and wait until its agent's processes are gone. Returns the record as it was before.

    Raises Refused when the task is final already or unknown, StoreDown.
    """
    from dispatch_queue import keys
    from dispatch_queue.change import step

    record = store.record(ref)
    if record is None or record.state in FINAL:
        state = record.state if record else "unknown"
        raise Refused(f"task `{ref.task}` is {state}; nothing to cancel", state=state, hint=f"dispatch show {ref.task}")
    listener = store.listen(keys.home_channel(record.home), timeout_seconds=0.5)
    try:
        change = step(Event.CANCEL, at=stamp(clock.now()), by=actor(), reason="cancelled", fields={"questions": ""})
        store.change(ref, change)
        until = clock.monotonic() + CANCEL_WAIT_SECONDS
        while record.worker and clock.monotonic() < until:
            now = store.record(ref)
            if now is None or not now.worker or now.worker not in store.workers():
                break
            listener.next()
    finally:
        listener.close()
    return record
