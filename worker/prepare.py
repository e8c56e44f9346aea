"""Before an agent starts: its workspace, its live copy, its prompt, its command."""

import os
from dataclasses import dataclass

from dispatch_queue import files, ipc, plan, taskdir
from dispatch_queue.config.load import load
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Task, notes_of
from dispatch_queue.taskdir import TaskDir
from worker import prompt, provision, workspace
from worker.backends import invoke
from worker.livecopy import LiveCopy
from worker.process import Command
from worker.settings import PORT_BASE, PORTS_PER_SLOT, Settings
from worker.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything an agent needs to start. `notices` tell what does not run as it was configured."""

    task: Task
    workspace: Workspace
    live: LiveCopy
    command: Command
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


def prepare(settings: Settings, home: TaskDir, place: Workspace, task: Task, *, attempt: int, slot: int) -> Prepared:
    """Lay everything down in the workspace. Raises DispatchError, OSError."""
    copy = TaskDir(place.path, task.id)
    values = {
        "DISPATCH_TASK_ID": task.id,
        "DISPATCH_ATTEMPT": str(attempt),
        "DISPATCH_TASK_DIR": str(copy.path),
        "DISPATCH_SLOT": str(slot),
        "DISPATCH_PORT_BASE": str(PORT_BASE + slot * PORTS_PER_SLOT),
        "DISPATCH_QUESTION_TIMEOUT": str(task.question_timeout),
    }
    if place.isolation is Isolation.WORKTREE:
        lay_down(home, copy)
        log = home.attempt_folder(attempt) / "setup.log"
        files.remove(home.base, home.name(f"attempts/{attempt}/setup.log"))
        provision.set_up(home.base, place.path, environ={**os.environ, **values}, output=log)
    asked = copy.ipc()
    reopen(copy, asked)
    live = LiveCopy(copy)
    live.notes = notes_of(home.entries())
    live.keep_notes()
    live.look()
    text = prompt.build(
        task,
        live.view.plan,
        attempt=attempt,
        branch=place.branch,
        exchanges={asked.questions[n]: answer for n, answer in asked.answers.items() if n in asked.questions},
        has_context=(copy.path / taskdir.CONTEXT).exists(),
    )
    files.write(home.base, home.name(f"attempts/{attempt}/prompt.md"), text.encode())
    made = invoke(
        load(settings.home).config, task.backend, model=task.model, prompt=text, workspace=place.path, values=values
    )
    command = Command(argv=made.argv, cwd=place.path, env=made.env, stdin=made.stdin)
    return Prepared(task, place, live, command, made.notices)


def lay_down(home: TaskDir, live: TaskDir) -> None:
    """Copy a task's record into a fresh workspace."""
    files.make_folder(live.base, live.name("ipc"))
    names = [taskdir.TASK, taskdir.PLAN, taskdir.CONTEXT, taskdir.OUTPUT]
    names += [f"ipc/{name}" for name in files.names(home.base, home.name("ipc"))]
    for name in names:
        if taskdir.writer_of(name) is None:
            continue
        try:
            live.write(name, home.read(name))
        except FileNotFoundError:
            continue


def reopen(copy: TaskDir, asked: ipc.Ipc) -> None:
    """Make a plan ready for another attempt: a blocked item whose question is answered is open again.

    A completion marker beside unchecked items is left over, and is taken away.
    """
    data = copy.read(taskdir.PLAN)
    shown = plan.parse(data, name=copy.name(taskdir.PLAN))
    blocked = [item for item in shown.items if item.mark is Mark.ASKING]
    if blocked and not asked.open:
        for item in blocked:
            data = plan.set_mark(data, item.number, Mark.OPEN)
        copy.write(taskdir.PLAN, data)
    if asked.done and not shown.complete:
        files.remove(copy.base, copy.name(ipc.DONE))
