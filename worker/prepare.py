"""Before an agent starts: its workspace, its live copy, its prompt, its command."""

import contextlib
import functools
import logging
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dispatch_queue import files, ipc, plan, taskdir
from dispatch_queue.caps import Caps
from dispatch_queue.clock import SYSTEM
from dispatch_queue.config.schema import Config
from dispatch_queue.errors import DispatchError, TooLarge, UntrustedPath
from dispatch_queue.plan import Mark
from dispatch_queue.record import Entry, Isolation, Task
from dispatch_queue.states import Event
from dispatch_queue.taskdir import TaskDir, Writer
from worker import prompt, provision, workspace
from worker.backends.base import BIN
from worker.backends.listener import Listener
from worker.backends.table import invoke, listener
from worker.livecopy import LiveCopy, put_aside
from worker.masking import Masker
from worker.process import Command
from worker.session import to_resume
from worker.settings import PORT_BASE, PORTS_PER_SLOT, Settings
from worker.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_GRACE_SECONDS = 60  # an agent waits so much longer for an answer when there is a default one


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything an agent needs to start. `notices` tell what does not run as it was configured."""

    task: Task
    workspace: Workspace
    live: LiveCopy
    command: Command
    listener: Listener
    resumed: bool = False  # the CLI's own session of an earlier attempt is carried on
    notices: tuple[str, ...] = ()


def make_workspace(settings: Settings, home: TaskDir, task: Task, attempt: int) -> Workspace:
    """Where the attempt works. Raises DispatchError when there is nothing to make a worktree from."""
    if task.isolation is Isolation.SHARED:
        return workspace.shared(home.base)
    return workspace.worktree(
        home.base,
        root=settings.home / "worktrees",
        project_id=task.project,
        task_id=task.id,
        attempt=attempt,
        branch=home.standing().branch or None,
    )


def prepare(
    settings: Settings,
    config: Config,
    home: TaskDir,
    place: Workspace,
    task: Task,
    *,
    attempt: int,
    slot: int,
    caps: Caps,
    masker: Masker,
    over: Callable[[], bool],
) -> Prepared:
    """Lay everything down in the workspace. `caps` are what is left of the task's own.

    `over`: the claim is another's, or the worker stops, and a setup that runs is to end.

    Raises DispatchError, OSError.
    """
    copy = TaskDir(place.path, task.id)
    patience = task.question_timeout + (DEFAULT_GRACE_SECONDS if task.question_default else 0)
    values = {
        "DISPATCH_TASK_ID": task.id,
        "DISPATCH_ATTEMPT": str(attempt),
        "DISPATCH_TASK_DIR": str(copy.path),
        "DISPATCH_SLOT": str(slot),
        "DISPATCH_PORT_BASE": str(PORT_BASE + slot * PORTS_PER_SLOT),
        "DISPATCH_QUESTION_TIMEOUT": str(patience),
    }
    if place.isolation is Isolation.WORKTREE:
        lay_down(home, copy)
        if place.before is not None and was_lost(home.entries(), attempt):
            take_over(TaskDir(place.before, task.id), copy)
        log = home.attempt_folder(attempt) / "setup.log"
        files.remove(home.base, home.name(f"attempts/{attempt}/setup.log"))
        provision.set_up(home.base, place.path, environ={**os.environ, **values}, output=log, masker=masker, over=over)
    cleared = put_aside(copy)  # by whom it was put there cannot be told: no agent has run
    asked = copy.ipc()
    standing = home.standing()
    reopen(copy, asked, again=bool(standing.check))
    live = LiveCopy(copy, masker)
    live.hear(home.entries(), {})
    live.look()
    text = prompt.build(
        task,
        live.view.plan,
        attempt=attempt,
        ask=shlex.quote(str(BIN / "dispatch-ask")),
        branch=place.branch,
        exchanges=[(asked.questions[n], answer) for n, answer in asked.answers.items() if n in asked.questions],
        waiting=[asked.questions[n] for n in asked.open],
        has_context=(copy.path / taskdir.CONTEXT).exists(),
        check=standing.check,
    )
    files.write(home.base, home.name(f"attempts/{attempt}/prompt.md"), text.encode())
    hears = functools.partial(listener, config, task.backend, SYSTEM, masker.text)
    session = to_resume(home, before=attempt - 1, host=settings.host, backend=task.backend, listener=hears())
    made = invoke(
        config,
        task.backend,
        model=task.model,
        prompt=text,
        workspace=place.path,
        values=values,
        session=session,
        caps=caps,
    )
    command = Command(argv=made.argv, cwd=place.path, env=made.env, stdin=made.stdin)
    said = [f"{name} could not be read, and was put aside" for name in cleared]
    return Prepared(task, place, live, command, hears(), resumed=session in made.argv, notices=(*said, *made.notices))


def lay_down(home: TaskDir, live: TaskDir) -> None:
    """Copy a task's record into a fresh workspace."""
    files.make_folder(live.base, live.name("ipc"))
    for name in (taskdir.TASK, taskdir.PLAN, taskdir.CONTEXT, taskdir.OUTPUT):
        with contextlib.suppress(FileNotFoundError, TooLarge):
            live.write(name, home.read(name))
    for name in [f"{ipc.FOLDER}/{below}" for below in files.names(home.base, home.name(ipc.FOLDER))]:
        if taskdir.writer_of(name) is not None:
            with contextlib.suppress(FileNotFoundError, UntrustedPath):
                live.write(name, home.read(name))


def was_lost(entries: Sequence[Entry], attempt: int) -> bool:
    """Whether the attempt before this one ended because its worker died."""
    moves = [entry for entry in entries if entry.state is not None]
    before = [entry for entry in moves if entry.event != Event.CLAIM or entry.facts.get("attempt") != attempt]
    return bool(before) and before[-1].event == Event.LOSE


def take_over(older: TaskDir, copy: TaskDir) -> None:
    """Take from the live copy of a lost attempt what its worker could not publish any more. A broken one is left."""
    try:
        plan.parse(older.read(taskdir.PLAN))
        names = [taskdir.PLAN, taskdir.CONTEXT, taskdir.OUTPUT]
        names += [f"ipc/{name}" for name in files.names(older.base, older.name("ipc"))]
        for name in names:
            known = taskdir.writer_of(name)
            if known is not None and known[0] is Writer.AGENT:
                with contextlib.suppress(FileNotFoundError):
                    copy.write(name, older.read(name))
    except (DispatchError, OSError) as error:
        log.warning("the record in %s is not taken over: %s", older.path, error, extra={"action": "record_left"})


def reopen(copy: TaskDir, asked: ipc.Ipc, *, again: bool) -> None:
    """Make a plan ready for another attempt: a blocked item whose question is answered is open again.

    A completion marker beside unchecked items is left over, and is taken away; so it is when the work is to be done
    `again`, as its check failed.
    """
    data = copy.read(taskdir.PLAN)
    shown = plan.parse(data, name=copy.name(taskdir.PLAN))
    blocked = [item for item in shown.items if item.mark is Mark.ASKING]
    if blocked and not asked.open:
        for item in blocked:
            data = plan.set_mark(data, item.number, Mark.OPEN)
        copy.write(taskdir.PLAN, data)
    if asked.done and (again or not shown.complete):
        files.remove(copy.base, copy.name(ipc.DONE))
