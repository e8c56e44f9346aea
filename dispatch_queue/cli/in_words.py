"""Requests about the configuration in words: carried out, asked about, or answered with the command to take."""

import shlex

import click

from dispatch_queue.cli import render
from dispatch_queue.cli.model import on_terminal
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.choose import choose
from dispatch_queue.config.edit import apply, check
from dispatch_queue.config.schema import SHELL
from dispatch_queue.config.wish import Look, Unclear
from dispatch_queue.config.words import command_of, read
from dispatch_queue.errors import BadInput, Exit

_SHOWN_CHARS = 100  # of the words, in a command that has them
_LINE = 4096


class NotUnderstood(BadInput):
    """A request that is, or may be, about the configuration; nothing was dispatched and nothing changed."""


def carry_out(here: Here, text: str, *, as_json: bool, dry_run: bool) -> int | None:
    """Do what `text` asks for; the exit status, or None if it is a task.

    Raises NotUnderstood, NotAvailable for a model that no CLI here runs, and what `apply` does, also for a dry run.
    """
    wish = read(text, here.config)
    if wish is None:
        return None
    if isinstance(wish, Look):
        return _look(wish, as_json=as_json)
    if isinstance(wish, Unclear):
        raise NotUnderstood(
            render.line(wish.reason) or "that is about the configuration, and not understood",
            hint=f"{render.line(wish.command)}{_as_task(here, text)}",
        )
    commands = [command_of(edit) for edit in wish.edits]
    if not wish.sure and not _is_about_config(here, text, commands):
        return None
    if dry_run:
        check(here.home, wish.edits)
    said = [f"Would do: {render.line(command)}" for command in commands] if dry_run else apply(here.home, wish.edits)
    if as_json:
        from dispatch_queue.cli.look import print_json

        print_json({"dispatched": False, "dry_run": dry_run, "said": said})
    else:
        for sentence in said:
            click.echo(render.line(sentence, _LINE))
    return Exit.DONE


def _look(look: Look, *, as_json: bool) -> int:
    """What `dispatch config show`, `check` or `path` does."""
    from dispatch_queue.cli.config import config

    status = config.main(
        [look.value, *(["--json"] if as_json else [])], prog_name="dispatch config", standalone_mode=False
    )
    return int(status or Exit.DONE)


def _is_about_config(here: Here, text: str, commands: list[str]) -> bool:
    """Ask whether unclear words are meant for the configuration. Raises NotUnderstood where nobody can be asked."""
    if not on_terminal():
        raise NotUnderstood(
            "that may be about the configuration, or a task for an agent",
            hint=f"{' && '.join(map(render.line, commands))}{_as_task(here, text)}",
        )
    click.echo(f"That may be a change of your configuration: {' && '.join(map(render.line, commands))}", err=True)
    answer = click.prompt("Which is it?", type=click.Choice(["config", "task"]), err=True)
    return bool(answer == "config")


def _as_task(here: Here, text: str) -> str:
    """The command that dispatches the words all the same."""
    model = choose(here.config, "", None).model
    quoted = render.line(shlex.quote(text)) if len(text) <= _SHOWN_CHARS else '"…"'
    return f"\nas a task: dispatch submit --model {model if model != SHELL else 'NAME'} {quoted}"
