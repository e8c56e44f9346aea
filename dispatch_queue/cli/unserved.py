"""Why queued tasks are taken by no worker, and waiting ones let go by nobody, as far as that is known here."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dispatch_queue.cli.render import command, line
from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import BadConfig, StoreDown
from dispatch_queue.locks import MIRROR, is_held
from dispatch_queue.overview import Card, Unserved
from dispatch_queue.record import Task, current
from dispatch_queue.states import State
from dispatch_queue.taskdir import TaskDir

if TYPE_CHECKING:
    from dispatch_queue.producer import Submitted
    from dispatch_queue.served import Served


def with_reasons(here: Here, cards: Sequence[Card]) -> list[Card]:
    """The cards, with why a queued or waiting task stays so. Asks Redis only if this command has done so."""
    cards = [dataclasses.replace(card, unserved=_left_alone(card)) for card in cards]
    if not any(card.standing.state is State.QUEUED for card in cards):
        return cards
    try:
        served = _seen(here)
        own = here.config.redis.url is None
    except (BadConfig, StoreDown):
        served = None
    if served is None:
        return cards
    from dispatch_queue.served import unserved

    return [
        dataclasses.replace(card, unserved=unserved(current(card.task, card.standing), served, own_server=own))
        if card.task is not None and card.standing.state is State.QUEUED
        else card
        for card in cards
    ]


def _left_alone(card: Card) -> Unserved | None:
    """What there is to know of a task that waits for one whose directory somebody has removed."""
    if card.standing.state is not State.WAITING:
        return None
    gone = [name for name in card.standing.after if not TaskDir(card.home.base, name).exists()]
    return Unserved(f"`{gone[0]}` is not there any more", command(card, "release", "--now")) if gone else None


def _seen(here: Here) -> "Served | None":
    """What workers serve; None while that is not known. Raises BadConfig, StoreDown."""
    from dispatch_queue import embedded
    from dispatch_queue.served import Served, kept

    if (here.home / "run").is_dir() and is_held(here.home, MIRROR):
        return kept(here.home)
    if here.config.redis.url is None:
        return None if embedded.worker_lives(here.home) else Served()  # one that lives has only begun
    return Served.by(here.connected.workers().values()) if here.connected is not None else None


def say(here: Here, sent: "Sequence[Submitted]") -> None:
    """After a submit: say of tasks that are queued why no worker takes them, each reason once."""
    queued = [current(one.task, at) for one in sent if (at := one.home.standing()).state is State.QUEUED]
    found = [_told_by_redis(here, task) for task in queued] if here.connected is not None else []
    for why in dict.fromkeys(one for one in found if one is not None):
        click.echo(f"note: it stays queued: {line(why.reason)}", err=True)
        click.echo(f"\nhint: {line(why.fix)}", err=True)


def _told_by_redis(here: Here, task: Task) -> Unserved | None:
    from dispatch_queue import embedded
    from dispatch_queue.served import Served, unserved

    own = here.config.redis.url is None
    if own and embedded.going_down(here.home):
        return Unserved("`dispatch down` is under way", "dispatch up  # when it has ended")
    try:
        workers = here.connected.workers() if here.connected is not None else {}
    except StoreDown:
        return None
    if own and not workers:
        return None  # a worker that was just started has not said yet what it serves
    return unserved(task, Served.by(workers.values()), own_server=own)
