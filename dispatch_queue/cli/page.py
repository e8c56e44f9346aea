"""`dispatch show`: all that is known of one task, as lines. Pure; compared with snapshots."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dispatch_queue.cli import attempt as attempts_in_words
from dispatch_queue.cli.attempt import Attempt, Offer, cures, switches
from dispatch_queue.cli.render import (
    PAGE,
    activity,
    age,
    answering,
    attention,
    checklist,
    command,
    line,
    silence,
    summary,
    unread,
    unreadable,
)
from dispatch_queue.overview import Card, Warned, has_output
from dispatch_queue.record import Isolation
from dispatch_queue.states import HELD, State


def page(
    card: Card,
    attempts: Sequence[Attempt],
    answers: Sequence[Mapping[str, Any]],
    now: datetime,
    *,
    warnings: Sequence[Warned] = (),
    offer: Offer | None = None,
) -> list[str]:
    """The page of a task; `offer` is what there is instead of a model that failed."""
    lines = [summary(card, PAGE)]
    if card.broken or card.task is None:
        return [*lines, *attention(card)]
    lines.append(f"  {line(card.task.title)}")
    lines.append(f"  {line(card.model)}, {card.task.isolation}, submitted {age(card.task.created, now)} ago")
    lines += ["", "plan", *checklist(card)]
    if answers or card.questions or card.unreadable:
        lines += ["", "questions"]
        for one in answers:
            lines += [f"  {one['number']}. {line(one['question'])}", f"     → {line(one['answer'])}"]
        for number, text in sorted(card.questions.items()):
            lines += [f"  {number}. {line(text)}  (open)", *(f"     {why}" for why in unread(card, number))]
        lines += [f"  {text}" for text in unreadable(card)]
    if attempts:
        lines += ["", "attempts"]
        for tried in attempts:
            running = card.standing.state in HELD and tried.attempt == card.standing.attempt
            first, *more = attempts_in_words.words(tried, now, running=running)
            more += [*activity(card, now), *silence(card)] if running else []
            lines += [f"  {first}", *(f"     {text}" for text in more)]
    if warnings:
        told = (f"attempt {one.attempt}, {age(one.at, now)} ago: {line(one.text, PAGE)}" for one in warnings)
        lines += ["", "warnings", *(f"  {text}" for text in told)]
    if card.standing.branch:
        lines += ["", f"branch  {line(card.standing.branch)}"]
    if has_output(card.home):
        lines += ["", f"output  {card.home.path / 'output.md'}"]
    steps = next_steps(card, attempts, offer)
    return lines + (["", "next", *(f"  {step}" for step in steps)] if steps else [])


def next_steps(card: Card, attempts: Sequence[Attempt], offer: Offer | None) -> list[str]:
    """The commands that make sense now."""
    state = card.standing.state
    steps = [answering(card, number) for number in sorted(card.questions)]
    if card.unserved is not None:
        steps.append(line(card.unserved.fix))
    if state is State.WAITING:
        steps.append(command(card, "release", "" if card.standing.held else "--now"))
        if offer is not None:
            steps += [f"{command(card, 'cancel')} && {step}" for step in switches(command(card, "retry"), offer)]
    if state in HELD:
        steps += [command(card, "logs", "-f"), command(card, "note", '"…"')]
    if state in (State.DONE, State.FAILED) and attempts:
        steps.append(command(card, "logs"))
    if card.isolation is Isolation.WORKTREE and card.standing.branch:
        steps.append(command(card, "diff"))
    if state is State.FAILED and attempts:
        steps += cures(attempts[-1], command(card, "retry"), offer)
    elif state in (State.FAILED, State.CANCELLED):
        steps.append(command(card, "retry"))
    return list(dict.fromkeys(steps))
