"""A finished task once more: queued again from where it stopped, or its rest as a new task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dispatch_queue import files, ipc, plan, taskdir
from dispatch_queue.clock import SYSTEM, Clock, stamp
from dispatch_queue.config.schema import SHELL
from dispatch_queue.errors import BadInput, Refused, UntrustedPath
from dispatch_queue.home import actor
from dispatch_queue.mirror import routing
from dispatch_queue.ownnotes import SKIPPED, cleared, of_a_retry, of_the_shell
from dispatch_queue.plan import Mark
from dispatch_queue.producer import Request
from dispatch_queue.record import Ref, Standing, Task, current
from dispatch_queue.states import FINAL, Event, State
from dispatch_queue.taskdir import TaskDir

if TYPE_CHECKING:
    from dispatch_queue.store import Store

NO_CAPS: Mapping[str, int | float] = MappingProxyType({})


def reopened(
    data: bytes,
    *,
    from_start: bool = False,
    skip: Iterable[int] = (),
    is_ours: Callable[[str], bool] = of_a_retry,
    name: str = "plan.md",
) -> bytes:
    """A plan for another round: failed and blocked items are open, with `from_start` all are; `skip` ones are checked.

    Lines of their notes that are ours go: they tell of a round before, and stand in the journal.

    Raises BadPlan, BadInput for a number that the plan does not have.
    """
    for item in plan.parse(data, name=name).items:
        if item.mark is not Mark.OPEN and (from_start or item.mark is not Mark.DONE):
            data = plan.set_mark(cleared(data, item.number, is_ours), item.number, Mark.OPEN)
    items = plan.parse(data, name=name).items
    for number in sorted(set(skip)):
        if not 1 <= number <= len(items) or items[number - 1].mark is not Mark.DONE:
            data = plan.set_mark(cleared(data, number, is_ours), number, Mark.DONE, SKIPPED)
    return data


def retry(
    store: "Store",
    home: TaskDir,
    ref: Ref,
    *,
    from_start: bool = False,
    skip: Iterable[int] = (),
    model: tuple[str, str, str] | None = None,
    fallback: Sequence[str] = (),
    caps: Mapping[str, int | float] = NO_CAPS,
    clock: Clock = SYSTEM,
) -> None:
    """Queue a finished task again; the checked items stay checked. `model` is a model, its backend and preamble,
    `fallback` what takes over from it; `caps` (`max_turns`, `max_cost_usd`, 0 for none) take the place of the
    task's own.

    Raises Refused for a task that is not finished or has nothing left to do, BadPlan, BadInput, StoreDown.
    """
    from dispatch_queue.change import step

    record = store.record(ref)
    if record is None or record.state not in FINAL:
        state = record.state if record else "unknown"
        raise Refused(
            f"task `{ref.task}` is {state}; only a finished one can be retried",
            state=state,
            hint=_of_a_waiting(ref.task, model[0] if model else "M") if state == State.WAITING else "dispatch ls",
        )
    data = reopened(
        home.read(taskdir.PLAN),
        from_start=from_start,
        skip=skip,
        is_ours=_own_notes(home),
        name=home.name(taskdir.PLAN),
    )
    shown = plan.parse(data)
    if record.state is State.DONE and shown.complete:
        raise Refused(
            f"task `{ref.task}` is done; every item is checked",
            state=record.state,
            hint=f"dispatch retry {ref.task} --from-start",
        )
    facts: dict[str, Any] = {"tries": 0, "stalls": 0, **taskdir.facts_of(shown)}
    fields: dict[str, int | str] = {"tries": 0, "stalls": 0, "idle": 0, "questions": "", **taskdir.facts_of(shown)}
    if model is not None:
        name, backend, preamble = model
        facts |= {"model": name, "backend": backend, "preamble": preamble, "fallback": list(fallback)}
        fields |= routing(current(home.task(), Standing(model=name, backend=backend, preamble=preamble)))
    facts |= caps
    # In a checkout nobody else brings the plan there, and the next attempt may start at once.
    home.write(taskdir.PLAN, data)
    if not shown.complete:
        files.remove(home.base, home.name(ipc.DONE))
    change = step(
        Event.RETRY, at=stamp(clock.now()), by=actor(), facts=facts, fields=fields, files={taskdir.PLAN: data}
    )
    store.change(ref, change)


def _of_a_waiting(task: str, model: str) -> str:
    """How a waiting task is started, with the model that it has or another one."""
    return (
        f"dispatch release {task} --now  starts it with its model\n"
        f"dispatch cancel {task} && dispatch retry {task} --model {model}  with another one"
    )


def _own_notes(home: TaskDir) -> Callable[[str], bool]:
    """Tells the lines of notes that dispatch wrote; those of the `shell` agent only where that was the agent."""
    if current(home.task(), home.standing()).backend != SHELL:
        return of_a_retry
    try:
        seen = home.ipc()
    except UntrustedPath:
        return of_the_shell()
    return of_the_shell([*seen.questions.values(), *seen.answers.values()])


def rest_of(home: TaskDir) -> Request:
    """A request for the unchecked items of a finished task, with its settings.

    Raises Refused for a task that is not finished, BadInput when nothing of it is left.
    """
    standing = home.standing()
    if not standing.final:
        raise Refused(
            f"task `{home.id}` is {standing.state}; only a finished one can be dispatched again",
            state=str(standing.state),
            hint=f"dispatch cancel {home.id}",
        )
    items = [" ".join(item.text.split("\n")) for item in home.plan().items if item.mark is not Mark.DONE]
    if not items:
        raise BadInput(f"every item of `{home.id}` is checked", hint=f"dispatch retry {home.id} --from-start")
    task: Task = current(home.task(), standing)
    return Request(
        prompt=task.prompt,
        items=tuple(items),
        title=task.title,
        model=task.model,
        backend=task.backend,
        preamble=task.preamble,
        isolation=task.isolation,
        context=task.context,
        read=task.read,
        pool=task.pool,
        priority=task.priority,
        attempts=task.attempts,
        timeout=task.timeout,
        question_timeout=task.question_timeout,
        question_default=task.question_default,
        verify=task.verify,
        max_turns=task.max_turns,
        max_cost_usd=task.max_cost_usd,
        fallback=task.fallback,
    )
