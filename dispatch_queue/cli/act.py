"""answer, note, cancel: what a person does to a task."""

import sys
from collections.abc import Callable, Sequence

import click

from dispatch_queue import producer
from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import BadInput, DispatchError, Exit, StoreDown
from dispatch_queue.record import Ref
from dispatch_queue.taskdir import TaskDir

_STDIN_LIMIT_BYTES = 1024 * 1024


def _text(words: tuple[str, ...]) -> str:
    """The words as one text; `-` alone reads standard input."""
    if words == ("-",):
        data = sys.stdin.buffer.read(_STDIN_LIMIT_BYTES + 1)
        if len(data) > _STDIN_LIMIT_BYTES:
            raise BadInput(f"standard input has more than {_STDIN_LIMIT_BYTES} bytes")
        return data.decode(errors="replace")
    return " ".join(words)


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("task")
@click.argument("words", nargs=-1, required=True, metavar="[N] TEXT|-")
def answer(task: str, words: tuple[str, ...]) -> int:
    """Answer question N of TASK (its only open one without N). TEXT may be `-` for standard input."""
    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    number = None
    if len(words) > 1 and words[0].isdigit():
        number, words = int(words[0]), words[1:]
    chosen = producer.answer(home, number, _text(words))
    try:
        from dispatch_queue.mirror import push

        push(here.store(), home, here.ref(home))
    except StoreDown as error:
        click.echo(f"Answered question {chosen} of `{home.id}`, in its files only: {error.message}", err=True)
        click.echo(
            "\nhint: the answer is sent as soon as Redis is back and a worker or command of dispatch runs", err=True
        )
        return Exit.UNREACHABLE
    click.echo(f"Answered question {chosen} of `{home.id}`.")
    return Exit.DONE


@click.command()
@click.argument("task")
@click.argument("words", nargs=-1, required=True, metavar="TEXT|-")
def note(task: str, words: tuple[str, ...]) -> int:
    """Add a note to TASK's plan; its agent reads it before its next item."""
    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    text = producer.check_note(home, _text(words))
    store, ref = here.store(), here.ref(home)
    from dispatch_queue.mirror import publish_note, push, sync

    push(store, home, ref)
    publish_note(store, ref, text)
    sync(store, home, ref)
    click.echo(f"Noted in the plan of `{home.id}`.")
    return Exit.DONE


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK…")
def cancel(tasks: tuple[str, ...]) -> int:
    """Cancel tasks. Returns when no process of their agents is left."""
    here = Here()

    def act(home: TaskDir, ref: Ref) -> str:
        before = producer.cancel(here.store(), ref)
        return f"Cancelled `{home.id}` (it was {before.state})."

    return each(here, tasks, act)


def each(here: Here, tasks: Sequence[str], act: Callable[[TaskDir, Ref], str]) -> int:
    """Do something to each task, and print what came of it; a task that refuses it keeps no other one from it."""
    homes = list(dict.fromkeys(here.task(task) for task in tasks))
    here.reconcile()
    from dispatch_queue.mirror import push, sync

    worst: int = Exit.DONE
    for home in homes:
        try:
            store, ref = here.store(), here.ref(home)
            push(store, home, ref)
            said = act(home, ref)
            sync(store, home, ref)
            click.echo(said)
        except StoreDown:
            raise
        except DispatchError as error:
            click.echo(f"error: {error.message}", err=True)
            if error.hint:
                click.echo(f"\nhint: {error.hint}", err=True)
            worst = Exit.FAILED
    return worst
