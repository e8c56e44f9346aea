"""Which model a command uses: chosen, looked up and added where it is unknown, confirmed on a terminal."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence

import click

from dispatch_queue.cli import render
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.choose import Choice, Source, UnknownModel, choose, members
from dispatch_queue.config.mention import FAMILIES, asked_for, mentions
from dispatch_queue.config.schema import Config, Model
from dispatch_queue.errors import BadConfig, DispatchError

UNNAMED = (Source.DEFAULT, Source.BEST)  # how a model is chosen where nobody names one

_OFFERED = 3
_YES, _NO = ("", "y", "yes", "ok", "okay", "sure"), ("n", "no")


class Models:
    """The configured models, and those that were looked up for this command; `keep` adds these to the file."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._config: Config = here.config
        self._found: dict[str, str] = {}

    def choose(self, prompt: str, flag: str | None) -> Choice:
        """The model for a prompt or for `--model`. Raises NotAvailable for one that no CLI here is known to run."""
        try:
            return choose(self._config, prompt, flag)
        except UnknownModel as unknown:
            model, backend = _look_up(unknown, named_in_prompt=flag is None)
        self._found[model] = backend
        self._config = dataclasses.replace(self._config, models={**self._config.models, model: Model(backend)})
        return choose(self._config, prompt, flag)

    def confirmed(self, choice: Choice, what: str = "this") -> Choice:
        """Ask whether `choice` is right for `what`; the answer may name another. Raises click.Abort for a no."""
        why = f'"{render.line(choice.phrase)}": {choice.why}' if choice.phrase else choice.why
        question = f"I'll dispatch {what} using {choice.model} ({why}). Sound good? [Y/n, or another model]"
        while True:
            answer = click.prompt(question, default="", show_default=False, prompt_suffix=" ", err=True).strip()
            if answer.casefold().rstrip(".!") in _YES:
                return choice
            if answer.casefold().rstrip(".!") in _NO:
                click.echo("Nothing was dispatched; --model NAME takes another model.", err=True)
                raise click.Abort
            try:
                return dataclasses.replace(self.choose("", self._named_in(answer)), source=Source.ANSWER)
            except DispatchError as error:
                click.echo(f"{error.message}\n{error.hint or ''}".rstrip(), err=True)

    def keep(self) -> None:
        """Add what was looked up to the config file. Raises BadConfig, BadInput."""
        if not self._found:
            return
        from dispatch_queue.config.edit import AddModel, apply

        for said in apply(self._here.home, [AddModel(model, backend) for model, backend in self._found.items()]):
            click.echo(said, err=True)
        self._found.clear()

    def _named_in(self, answer: str) -> str:
        """The name in an answer such as "use sonnet, please"."""
        named = mentions(answer, [*self._config.models, *self._config.aliases])
        asked = named[-1] if named else asked_for(answer)
        return asked.name if asked else answer


def _look_up(unknown: UnknownModel, *, named_in_prompt: bool) -> tuple[str, str]:
    """The id and the back end of a model that the config lacks. Raises NotAvailable."""
    from dispatch_queue.config.machine import Machine, NotAvailable

    model, machine = unknown.model, Machine()
    if machine.runs(model):  # "use codex": whichever model that CLI takes by itself
        return model, model
    family = members(model, unknown.near) or (members(model, machine.models()) if model in FAMILIES else [])
    try:
        return machine.offered(family[0] if len(family) == 1 else model)
    except NotAvailable as error:
        near = next(iter(family or unknown.near), None)
        refused = NotAvailable(model, near=near, failure=machine.listing.failure) if near else error
        if named_in_prompt:
            refused.hint = f"{refused.hint}\nnot meant as a model? name one: --model NAME"
        raise refused from None


def is_to_be_confirmed(choice: Choice, options: Mapping[str, object], *, is_new: bool) -> bool:
    """Whether there is something to ask, somebody to answer, and nothing against it in the options.

    A default that `is_new` was just asked for.
    """
    doubtful = (choice.source in UNNAMED and not is_new) or bool(choice.phrase)
    quiet = options["yes"] or options["as_json"] or options["dry_run"]
    return doubtful and not quiet and on_terminal()


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def say_doubt(choice: Choice) -> None:
    """Where a name was perhaps not meant as one, and nobody was asked: say so."""
    if choice.phrase:
        click.echo(
            f'note: `{choice.name}` in "{render.line(choice.phrase)}" was taken for the model; another: --model NAME',
            err=True,
        )


def startable(here: Here, choice: Choice, others: Sequence[str] = ()) -> tuple[Choice, tuple[str, ...]]:
    """`choice` and the `others` (`backend/model`) that may take over from it; the first of them that the local worker
    can start, and those after it, where it cannot start the chosen one.

    Workers of a Redis of one's own may have commands of their own. Raises BadConfig where none can be started.
    """
    program = _missing(here.config, choice.backend)
    if program is None or here.config.redis.url is not None:
        return choice, tuple(others)
    said = f"backend `{choice.backend}` cannot run: `{program}` is not on PATH"
    for at, other in enumerate(others, 1):
        backend, _, model = other.partition("/")
        if _missing(here.config, backend) is None:
            click.echo(f"note: {model} takes over from {choice.model}: {said}", err=True)
            return dataclasses.replace(choice, model=model, backend=backend), tuple(others[at:])
    able = [name for name, model in here.config.models.items() if _missing(here.config, model.backend) is None]
    raise BadConfig(
        said,
        hint=f"install `{program}`, or correct the command in {here.home / 'config.yaml'}, or take another --model"
        f"{': ' if able else ''}{' or '.join(able[:_OFFERED])}",
    )


def _missing(config: Config, backend: str) -> str | None:
    """The program of a back end, if it is looked for on PATH or at its place, and is not there."""
    import shutil

    from dispatch_queue.config.clis import cli_of
    from dispatch_queue.config.commands import program_at, words_of

    command = config.command_of(backend)
    words = words_of(command) if command is not None else ()
    at, cli = program_at(words) if words else 0, cli_of(backend, None)
    program = words[at] if at < len(words) else cli.program if cli and not words else ""
    looked_up = "/" not in program or program.startswith("/")  # others begin in the workspace, or at home
    return program if program and looked_up and shutil.which(program) is None else None


def first_run_if_new(here: Here, *, dry_run: bool = False) -> bool:
    """Without a config file: look for agent CLIs and write one; for a `dry_run` it is only taken for there.

    Whether somebody was asked for the default.
    """
    if os.path.lexists(here.home / "config.yaml") or os.environ.get("DISPATCH_TASK_ID"):
        return False
    if dry_run:
        _suppose_first_run(here)
        return False
    from dispatch_queue.cli.config import ask_default
    from dispatch_queue.config.firstrun import first_run

    ask = ask_default()
    ran = first_run(here.home, ask=ask)
    for said in ran.said:
        click.echo(said, err=True)
    return ask is not None and ran.written is not None


def _suppose_first_run(here: Here) -> None:
    from dispatch_queue.config.firstrun import propose
    from dispatch_queue.config.load import shown
    from dispatch_queue.config.machine import Machine
    from dispatch_queue.config.parse import parse

    made = propose(Machine())
    said = [f"Without --dry-run {shown(here.home)} is written, with `{made.default}` as the default."]
    for text in [*made.said, *(said if made.text is not None else [])]:
        click.echo(text, err=True)
    here.suppose(parse(made.text or "", shown(here.home)).config)
