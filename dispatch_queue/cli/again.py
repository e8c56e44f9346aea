"""retry, requeue: a finished task once more."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import click

from dispatch_queue import again, producer
from dispatch_queue.caps import LARGEST_COST_USD, caps_of, check
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.schema import SHELL
from dispatch_queue.errors import BadInput, DispatchError, Exit, StoreDown
from dispatch_queue.record import Isolation, current
from dispatch_queue.taskdir import TaskDir


def _numbers(given: tuple[str, ...]) -> list[int]:
    words = [word.strip() for one in given for word in one.split(",") if word.strip()]
    wrong = next((word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)), None)
    if wrong is not None:
        raise BadInput(f"--skip {wrong[:40]}: not the number of an item", hint="count from 1, top to bottom")
    return [int(word) for word in words]


@click.command()
@click.argument("task")
@click.option("-m", "--model", help="Run it with this model from now on.")
@click.option("--from-start", is_flag=True, help="Open every item again, the checked ones too.")
@click.option("--skip", multiple=True, metavar="N", help="Check item N without doing it; repeat it, or 2,3.")
@click.option("--max-turns", type=click.IntRange(min=0), metavar="N", help="With those so far; 0: without a cap.")
@click.option(
    "--max-cost", type=click.FloatRange(0, LARGEST_COST_USD), metavar="USD", help="With that so far; 0: without a cap."
)
@click.option("--make-default", is_flag=True, help="With --model: it is your default from now on.")
def retry(
    task: str,
    model: str | None,
    from_start: bool,
    skip: tuple[str, ...],
    max_turns: int | None,
    max_cost: float | None,
    make_default: bool,
) -> int:
    """Queue a failed, cancelled or done TASK again, from its first unchecked item."""
    here = Here()
    home = here.task(task)
    if make_default and model is None:
        raise BadInput("--make-default says that --model is the default from now on", hint="name it: --model M")
    here.reconcile(home.id)
    caps = {name: most for name, most in (("max_turns", max_turns), ("max_cost_usd", max_cost)) if most is not None}
    click.echo(queue_again(here, home, model=model, from_start=from_start, skip=_numbers(skip), caps=caps))
    unfinished = _not_done(home)
    if unfinished:
        click.echo(f"note: it no longer waits for {', '.join(unfinished)}", err=True)
    if make_default and model is not None:
        from dispatch_queue.config.edit import SetDefault, apply

        for said in apply(here.home, [SetDefault(model)]):
            click.echo(said)
    return Exit.DONE


def queue_again(
    here: Here,
    home: TaskDir,
    *,
    model: str | None = None,
    from_start: bool = False,
    skip: Sequence[int] = (),
    caps: Mapping[str, int | float] = again.NO_CAPS,
) -> str:
    """Queue a finished task again, as `again.retry`; what was done, as a sentence.

    Raises NotAvailable, BadConfig, BadInput, Refused, StoreDown.
    """
    chosen = None
    fallback: tuple[str, ...] = ()
    if model is not None:
        from dispatch_queue.cli.model import Models, startable

        models = Models(here)
        choice, _ = startable(here, models.choose("", model))
        if choice.backend == SHELL and home.task().self_planned:
            raise BadInput(
                f"`{choice.model}` runs commands, and cannot work on a prompt",
                hint=f"take an agent's model, or give commands: dispatch submit -m {SHELL} -i 'Test: `make`'",
            )
        models.keep()
        fallback = here.config.fallback_of(choice.model)
        before = current(home.task(), home.standing()).preamble  # an alias's, which another model gets too
        preamble = choice.prompt_addition if choice.name in here.config.aliases else before
        chosen = (choice.model, choice.backend, preamble)
    now = current(home.task(), dataclasses.replace(home.standing(), **dict[str, Any](caps)))
    check(here.config, chosen[1] if chosen else now.backend, caps_of(now), list(here.config.models), again=True)
    store, ref = here.store(), here.ref(home)
    from dispatch_queue.mirror import enroll, sync

    enroll(store, home, ref, home.standing())
    again.retry(store, home, ref, from_start=from_start, skip=skip, model=chosen, fallback=fallback, caps=caps)
    sync(store, home, ref)
    return f"Queued `{home.id}` again{f' using {chosen[0]}' if chosen else ''}."


def _not_done(home: TaskDir) -> list[str]:
    """The tasks that a task was to wait for, with their states, as far as they are not done."""
    asked = home.task()
    found = []
    for name in () if asked.after_any else asked.after:
        try:
            state = TaskDir(home.base, name).standing().state
        except (DispatchError, OSError):
            continue
        if state != "done":
            found.append(f"`{name}` ({state})")
    return found


@click.command()
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def requeue(task: str, as_json: bool) -> int:
    """Dispatch the unchecked items of a finished TASK as a new one, with its settings; TASK stays as it is."""
    from dispatch_queue.mirror import enroll

    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    request = again.rest_of(home)
    sent = producer.record_locally(request, here.project, home=here.home, wanted=home.id)
    down = None
    try:
        enroll(here.store(), sent.home, sent.task.ref, sent.home.standing())
    except StoreDown as error:
        here.mark_unsent()
        down = error
    if as_json:
        from dispatch_queue import overview
        from dispatch_queue.cli import render
        from dispatch_queue.cli.look import print_json

        print_json(render.as_json(overview.look(sent.home)) | {"sent": down is None})
    else:
        left = len(request.items)
        click.echo(f"Dispatched `{sent.task.id}` with {left} item{'s' if left > 1 else ''} of `{home.id}`.")
        if request.isolation is Isolation.WORKTREE:
            click.echo("note: it starts from your HEAD, without what is on the branch of that one", err=True)
    if down is not None:
        raise StoreDown(f"{down.message}; `{sent.task.id}` is kept in its files", hint="dispatch rebuild") from down
    return Exit.DONE
