"""ls, status, show, questions: what the files say."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dispatch_queue import overview
from dispatch_queue.cli import render, unserved
from dispatch_queue.cli.standing import Here
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import BadConfig, Exit
from dispatch_queue.overview import Card
from dispatch_queue.record import current
from dispatch_queue.states import FINAL, State

if TYPE_CHECKING:
    from dispatch_queue.cli.attempt import Attempt, Offer

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_everywhere = click.option("--all", "everywhere", is_flag=True, help="Tasks of all projects of this machine.")


def print_json(value: object) -> None:
    click.echo(render.plain_json(json.dumps(value, ensure_ascii=False, indent=2)))


def _cards(here: Here, everywhere: bool) -> list[Card]:
    here.reconcile()
    bases = here.bases(everywhere or here.project.id is None)
    found = [card for base in bases for card in overview.cards(base)]
    alive = [dataclasses.replace(_alive(card), elsewhere=card.home.base != here.project.path) for card in found]
    return unserved.with_reasons(here, alive)


def _alive(card: Card) -> Card:
    """The card with what its agent does, if one runs."""
    if card.standing.state is not State.RUNNING:
        return card
    from dispatch_queue.cli.transcript import doing

    return dataclasses.replace(card, doing=doing(card.home, card.standing.attempt))


def _print_table(cards: Sequence[Card]) -> None:
    for text, state in render.table(cards, SYSTEM.now()):
        click.secho(text, fg=render.COLOURS.get(state) if state else None)


@click.command()
@_everywhere
@_as_json
def ls(everywhere: bool, as_json: bool) -> int:
    """List tasks, what needs you first."""
    cards = _cards(Here(), everywhere)
    if as_json:
        print_json([render.as_json(card) for card in cards])
    elif not cards:
        click.echo('no tasks here yet. Dispatch one: dispatch submit "what to do"', err=True)
    else:
        _print_table(cards)
    return Exit.DONE


@click.command()
@click.argument("task", required=False)
@_everywhere
@_as_json
def status(task: str | None, everywhere: bool, as_json: bool) -> int:
    """Say where TASK stands, item by item; without one, how many tasks are in which state, and what needs you."""
    here = Here()
    if task is None:
        return _overall(_cards(here, everywhere), as_json)
    home = here.task(task)
    here.reconcile(home.id)
    [card] = unserved.with_reasons(here, [_alive(overview.look(home))])
    if as_json:
        print_json(render.as_json(card))
    else:
        click.echo(render.summary(card, render.PAGE))
        for text in [*render.checklist(card), *render.attention(card)]:
            click.echo(text)
    return Exit.DONE


def _overall(cards: Sequence[Card], as_json: bool) -> int:
    counts = {str(state): sum(card.standing.state is state for card in cards) for state in overview.ORDER}
    if as_json:
        print_json({state: count for state, count in counts.items() if count})
        return Exit.DONE
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no tasks")
    needing = [card for card in cards if render.attention(card) and card.standing.state not in FINAL]
    if needing:
        _print_table(needing)
    return Exit.DONE


@click.command()
@click.argument("task")
@_as_json
def show(task: str, as_json: bool) -> int:
    """Show TASK: plan, questions and answers, attempts, result, and what to do next."""
    from dispatch_queue.cli.attempt import Attempt, alone
    from dispatch_queue.cli.page import page

    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    [card] = unserved.with_reasons(here, [_alive(overview.look(home))])
    attempts = alone(map(Attempt.read, overview.attempts(home)))
    answers, warnings = overview.answered(home), overview.warnings(home)
    if as_json:
        told = [dataclasses.asdict(attempt) for attempt in attempts]
        warned = [warning._asdict() for warning in warnings]
        print_json(render.as_json(card) | {"attempts": told, "answered": answers, "warnings": warned})
        return Exit.DONE
    offer = offer_of(here, card, attempts)
    for text in page(card, attempts, answers, SYSTEM.now(), warnings=warnings, offer=offer):
        click.echo(text)
    return Exit.DONE


def offer_of(here: Here, card: Card, attempts: "Sequence[Attempt]") -> "Offer | None":
    """What there is instead of the model a task failed with, or whose limit it waits for.

    None where the configuration cannot tell.
    """
    from dispatch_queue.caps import caps_of
    from dispatch_queue.cli.attempt import offer

    standing = card.standing
    if card.task is None or not attempts or not (standing.state is State.FAILED or standing.limited):
        return None
    try:
        caps = caps_of(current(card.task, standing))
        return offer(here.config, attempts[-1], card.model, standing.failed, caps=caps)
    except BadConfig:
        return None


@click.command()
@_everywhere
@_as_json
def questions(everywhere: bool, as_json: bool) -> int:
    """List the questions that wait for you, whole, each with the command that answers it."""
    cards = [card for card in _cards(Here(), everywhere) if card.questions or card.unreadable]
    if as_json:
        found = [{"task": card.id, "number": n, "text": text} for card in cards for n, text in card.questions.items()]
        print_json(found)
        return Exit.DONE
    if not cards:
        click.echo("no question waits", err=True)
    for card in cards:
        for number, text in sorted(card.questions.items()):
            click.echo(f"{card.id}  question {number}:")
            for part in render.plain(text).splitlines():
                click.echo(f"    {part}")
            for part in [*render.unread(card, number), render.answering(card, number)]:
                click.echo(f"    {part}")
        if card.unreadable:
            click.echo(f"{card.id}:")
            for part in render.unreadable(card):
                click.echo(f"    {part}")
    return Exit.DONE
