"""watch and wait: sit on tasks until one asks, or all have ended."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from dispatch_queue import overview, taskdir
from dispatch_queue.cli import render
from dispatch_queue.cli.standing import Here
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import DispatchError, Exit, StoreDown
from dispatch_queue.overview import Card
from dispatch_queue.record import Entry
from dispatch_queue.states import FINAL, Event, State
from dispatch_queue.taskdir import TaskDir

_LOOK_AGAIN_SECONDS = 5.0  # a file watch sees nothing that another host writes to a network disk


def outcome(cards: Sequence[Card]) -> Exit | None:
    """How a wait for these tasks ends now; None while there is something to wait for."""
    if any(card.questions and not (card.task and card.task.question_default) for card in cards):
        return Exit.QUESTION
    if all(card.standing.state in FINAL or card.broken for card in cards):
        return Exit.DONE if all(card.standing.state is State.DONE for card in cards) else Exit.FAILED
    return None


@contextlib.contextmanager
def _changes(here: Here, homes: Sequence[TaskDir]) -> Iterator[threading.Event]:
    """An event that is set whenever something happened to the home copies."""
    from dispatch_queue.locks import MIRROR, is_held
    from dispatch_queue.watching import Watch

    changed = threading.Event()

    def news(_: set[Path]) -> None:
        changed.set()

    mirror = None
    if not is_held(here.home, MIRROR):
        # No worker of this host brings the news home, so this process does.
        from dispatch_queue.home import host_name
        from dispatch_queue.homemirror import HomeMirror

        with contextlib.suppress(StoreDown):
            mirror = HomeMirror(here.store(start=False), here.home, host=host_name())
            mirror.start()
    watch = Watch(news, name="watch")
    watch.set(folder for home in homes for folder in (home.path, home.path / "ipc"))
    try:
        yield changed
    finally:
        watch.close()
        if mirror is not None:
            mirror.close()


def follow(
    here: Here,
    homes: Sequence[TaskDir],
    tell: Callable[[str, Entry], None],
    *,
    since: Mapping[str, int],
    timeout_seconds: float | None = None,
) -> tuple[Exit, list[Card]]:
    """Wait until a task of `homes` asks or all have ended; the cards at the end.

    Tells what their journals have or gain after the entry that `since` names for each.
    """
    seen = dict(since)
    until = None if timeout_seconds is None else SYSTEM.monotonic() + timeout_seconds
    with _changes(here, homes) as changed:
        while True:
            changed.clear()
            for home in homes:
                with contextlib.suppress(OSError, DispatchError):
                    for entry in home.entries():
                        if entry.seq > seen[home.id]:
                            seen[home.id] = entry.seq
                            tell(home.id, entry)
            cards = [overview.look(home) for home in homes]
            end = outcome(cards)
            if end is not None:
                return end, cards
            left = _LOOK_AGAIN_SECONDS if until is None else min(_LOOK_AGAIN_SECONDS, until - SYSTEM.monotonic())
            if left <= 0:
                return Exit.TIMED_OUT, cards
            changed.wait(left)


def _homes(here: Here, tasks: Sequence[str]) -> list[TaskDir]:
    here.reconcile()
    if tasks:
        return list(dict.fromkeys(here.task(task) for task in tasks))
    homes = [TaskDir(here.project.path, task_id) for task_id in taskdir.known_ids(here.project.path)]
    return [home for home in homes if overview.look(home).standing.state not in FINAL]


def report(cards: Sequence[Card], end: Exit) -> None:
    """Say what came of it: the questions with their commands, or how each task ended."""
    for card in cards:
        for number, text in sorted(card.questions.items()):
            first, *more = render.plain(text).splitlines() or [""]
            click.echo(f"{card.id}  question {number}: {first}")
            for part in [*more, *render.unread(card, number)]:
                click.echo(f"    {part}")
            click.echo(f"  {render.answering(card, number)}")
        if end is not Exit.QUESTION:
            click.echo(render.summary(card))
            if card.standing.state is State.DONE and overview.has_output(card.home):
                click.echo(f"  {card.home.path / taskdir.OUTPUT}")
            if card.standing.state is State.FAILED:
                click.echo(f"  {render.command(card, 'show')}")


def run(
    here: Here,
    homes: Sequence[TaskDir],
    *,
    quiet: bool,
    as_json: bool,
    since: int | None = None,
    timeout_seconds: float | None = None,
) -> Exit:
    """`watch` or `wait` for these tasks: what happens after entry `since`, or from now on, and where they stand now.

    A `quiet` one tells of limits alone, on standard error.
    """

    def tell(task_id: str, entry: Entry) -> None:
        if as_json and not quiet:
            click.echo(render.plain_json(json.dumps({"task": task_id, **json.loads(entry.line())}, ensure_ascii=False)))
        elif not quiet:
            text = render.event_line(task_id, entry)
            if text is not None:
                click.echo(text)
        elif entry.event == Event.LIMIT and entry.state is State.WAITING:
            click.echo(render.event_line(task_id, entry), err=True)  # it may take hours

    now = [overview.look(home) for home in homes] if since is None else []
    for card in now:
        if not quiet or card.standing.limited:
            click.echo(render.summary(card), err=True)
    starts = {card.id: card.standing.seq for card in now} or {home.id: since or 0 for home in homes}
    end, cards = follow(here, homes, tell, since=starts, timeout_seconds=timeout_seconds)
    if as_json:
        ended = {"exit": int(end), "tasks": [render.as_json(card) for card in cards]}
        click.echo(render.plain_json(json.dumps(ended, ensure_ascii=False)))
    else:
        report(cards, end)
    return end


_timeout = click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up; exit status 124.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_tasks = click.argument("tasks", nargs=-1, metavar="[TASK]…")


@click.command()
@_tasks
@_timeout
@_as_json
def watch(tasks: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """Follow tasks (all unfinished ones of the project) live.

    Ends with 3 when a question waits, else when all have ended: 0 if all are done, 1 if one is not.
    """
    here = Here()
    homes = _homes(here, tasks)
    if not homes:
        click.echo("nothing to watch: no unfinished task here", err=True)
        return Exit.DONE
    return run(here, homes, quiet=False, as_json=as_json, timeout_seconds=timeout)


@click.command()
@_tasks
@_timeout
@_as_json
def wait(tasks: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """Wait quietly for tasks to end. Exit statuses as of `watch`: a question ends the wait too."""
    here = Here()
    homes = _homes(here, tasks)
    if not homes:
        click.echo("nothing to wait for: no unfinished task here", err=True)
        return Exit.DONE
    return run(here, homes, quiet=True, as_json=as_json, timeout_seconds=timeout)
