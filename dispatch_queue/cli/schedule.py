"""hold, release: when a task may start."""

import click

from dispatch_queue import schedule
from dispatch_queue.cli.act import each
from dispatch_queue.cli.standing import Here
from dispatch_queue.record import Ref
from dispatch_queue.taskdir import TaskDir

_tasks = click.argument("tasks", nargs=-1, required=True, metavar="TASK…")


@click.command()
@_tasks
def hold(tasks: tuple[str, ...]) -> int:
    """Keep queued or waiting tasks from starting, until `dispatch release`."""
    here = Here()

    def act(home: TaskDir, ref: Ref) -> str:
        schedule.hold(here.store(), home, ref)
        return f"Holding `{home.id}`. It goes on with: dispatch release {home.id}"

    return each(here, tasks, act)


@click.command()
@_tasks
@click.option("--now", is_flag=True, help="Start them whatever they wait for: other tasks, a time.")
def release(tasks: tuple[str, ...], now: bool) -> int:
    """Let held tasks go. What else they wait for counts still, without --now."""
    here = Here()

    def act(home: TaskDir, ref: Ref) -> str:
        if schedule.release(here.store(), ref, now=now):
            return f"Released `{home.id}`: it is queued."
        record = here.store().record(ref)
        return f"Released `{home.id}`; it waits on: {record.reason if record else '?'}"

    return each(here, tasks, act)
