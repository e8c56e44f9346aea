"""A task whose model failed while a person looks on: which other model, and is the configuration to follow?"""

import sys

import click

from dispatch_queue import overview
from dispatch_queue.cli.again import queue_again
from dispatch_queue.cli.attempt import Attempt
from dispatch_queue.cli.follow import run
from dispatch_queue.cli.look import offer_of
from dispatch_queue.cli.render import line
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.edit import Edit, RemoveModel, SetDefault, apply
from dispatch_queue.errors import DispatchError, Exit
from dispatch_queue.taskdir import TaskDir

_NONE = "none"
_SHOWN = 5


def follow_through(here: Here, home: TaskDir, *, quiet: bool, as_json: bool, since: int | None) -> Exit:
    """`follow.run` for one task; on a terminal a person may choose another model for one that failed.

    Raises what `ask` and `follow.run` do.
    """
    asks = not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    while True:
        end = run(here, [home], quiet=quiet, as_json=as_json, since=since)
        since = home.standing().seq
        # A submit may have made the project, which its own view of it does not show.
        if end is not Exit.FAILED or not asks or not ask(Here(), home):
            return end


def ask(here: Here, home: TaskDir) -> bool:
    """Ask which model is to go on, and queue the task again with it; whether that was done.

    The configuration is changed only after a yes. Raises BadConfig, StoreDown, Refused.
    """
    card = overview.look(home)
    found = offer_of(here, card, [Attempt.read(tried) for tried in overview.attempts(home)])
    if found is None or not found.models or found.lifted:
        return False
    chosen: str = click.prompt(
        f"{line(found.failed)} failed. Which model instead?",
        type=click.Choice([*found.models[:_SHOWN], _NONE]),
        default=_NONE,
        err=True,
    )
    if chosen == _NONE:
        return False
    click.echo(queue_again(here, home, model=chosen))
    edits: list[Edit] = []
    if found.was_default and click.confirm(f"Make {chosen} your default from now on?", default=False, err=True):
        edits.append(SetDefault(chosen))
    keeps_default = found.was_default and not edits
    if found.gone and not keeps_default and click.confirm(f"Remove {found.failed} from your config?", err=True):
        edits.append(RemoveModel(found.failed))
    try:
        for said in apply(here.home, edits) if edits else ():
            click.echo(said)
    except DispatchError as error:  # the task goes on all the same
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    return True
