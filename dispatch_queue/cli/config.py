"""config: show, check and change `config.yaml`."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dispatch_queue.cli import render
from dispatch_queue.config.load import CONFIG_NAME, load, read_text, shown
from dispatch_queue.errors import BadConfig, BadInput, Exit
from dispatch_queue.home import dispatch_home

if TYPE_CHECKING:
    from dispatch_queue.config.edit import Edit
    from dispatch_queue.config.firstrun import Ask
    from dispatch_queue.config.inforce import Setting

_LINE = 4096  # characters of a value: it is there to be copied
_NO_FILE = "there is no file yet; this writes it: dispatch config init"

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Show, check and change the configuration.

    A change keeps your comments, and is made whole or not at all.
    """


@config.command()
@_as_json
def show(as_json: bool) -> int:
    """Show what is in force, and where it comes from."""
    from dispatch_queue.config.inforce import as_nested, settings

    home = dispatch_home()
    loaded = load(home)
    rows = settings(loaded.config, read_text(home), os.environ)
    if as_json:
        sources = {row.name: f"file:{row.line}" if row.line else row.source for row in rows}
        facts = {"file": str(home / CONFIG_NAME), "exists": loaded.exists}
        _print_json({**facts, "config": as_nested(rows), "sources": sources, "notices": loaded.notices})
        return Exit.DONE
    for notice in loaded.notices:
        click.echo(f"note: {notice}", err=True)
    click.echo(f"{shown(home)}{'' if loaded.exists else f': {_NO_FILE}'}", err=True)
    for line in table(rows):
        click.echo(line)
    return Exit.DONE


@config.command()
@_as_json
def path(as_json: bool) -> int:
    """Print the file's path."""
    place = dispatch_home() / CONFIG_NAME
    if as_json:
        _print_json({"file": str(place), "exists": place.exists()})
    else:
        click.echo(str(place))
    return Exit.DONE


@config.command()
@_as_json
def check(as_json: bool) -> int:
    """Say what is wrong with the file, with line and fix.

    It prints "ok", or every problem, and then the exit status is 4.
    """
    from dispatch_queue.config.parse import parse

    home = dispatch_home()
    notices: list[str] = []
    problems: list[dict[str, Any]] = []
    try:
        parsed = parse(read_text(home) or "", shown(home))
        notices = parsed.notices
        problems = [{"line": line, "problem": text, "fix": hint} for line, text, hint in parsed.problems]
        if not problems:
            load(home)  # under the variables of the environment
    except BadConfig as error:
        problems = [{"line": None, "problem": error.message, "fix": error.hint}]
    if as_json:
        facts = {"file": str(home / CONFIG_NAME), "ok": not problems}
        _print_json({**facts, "problems": problems, "notices": notices})
        return Exit.CONFIG if problems else Exit.DONE
    for each in problems:
        where = f"{shown(home)}:{each['line']}: " if each["line"] else ""
        click.echo(render.line(f"{where}{each['problem']} — {each['fix']}", _LINE))
    for notice in notices:
        click.echo(render.line(f"note: {notice}", _LINE))
    if not problems:
        click.echo("ok")
    if not (home / CONFIG_NAME).exists():
        click.echo(_NO_FILE, err=True)
    return Exit.CONFIG if problems else Exit.DONE


@config.command()
@click.argument("model")
@click.option("--backend", metavar="NAME", help="The CLI that runs it; it is not looked up then.")
@_as_json
def add_model(model: str, backend: str | None, as_json: bool) -> int:
    """Add a model, with the CLI that runs it."""
    from dispatch_queue.config.edit import AddModel

    return _change([AddModel(model, backend)], as_json)


@config.command()
@click.argument("name")
@click.argument("command")
@_as_json
def add_agent(name: str, command: str, as_json: bool) -> int:
    """Let --model NAME run COMMAND.

    COMMAND is one word in quotes; the prompt comes on its standard input, or where {prompt} stands.
    """
    from dispatch_queue.config.edit import AddAgent

    return _change([AddAgent(name, command)], as_json)


@config.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@_as_json
def remove_model(models: tuple[str, ...], as_json: bool) -> int:
    """Remove models that nothing else names."""
    from dispatch_queue.config.edit import RemoveModel

    return _change([RemoveModel(model) for model in models], as_json)


@config.command()
@click.argument("name")
@click.argument("model", required=False)
@click.option("--prompt", metavar="TEXT", help="Put before the prompt of a task; without it an alias keeps its own.")
@click.option("--remove", is_flag=True, help="Remove the alias.")
@_as_json
def alias(name: str, model: str | None, prompt: str | None, remove: bool, as_json: bool) -> int:
    """Let NAME stand for MODEL.

    It makes a new alias, or changes the one there is.
    """
    from dispatch_queue.config.edit import AddAlias, RemoveAlias

    if remove:
        if model is not None or prompt is not None:
            raise BadInput("--remove takes nothing but the NAME", hint=f"dispatch config alias {name} --remove")
        return _change([RemoveAlias(name)], as_json)
    if model is None:
        raise BadInput("the MODEL is missing", hint=f"dispatch config alias {name} MODEL")
    if prompt is not None and not prompt.strip():
        hint = f"an alias without one: dispatch config alias {name} --remove && dispatch config alias {name} {model}"
        raise BadInput("--prompt is empty", hint=hint)
    return _change([AddAlias(name, model, prompt or "")], as_json)


@config.command()
@click.argument("name", metavar="MODEL|ALIAS")
@_as_json
def default(name: str, as_json: bool) -> int:
    """Set the model for tasks that name none."""
    from dispatch_queue.config.edit import SetDefault

    return _change([SetDefault(name)], as_json)


@config.command()
@_as_json
def migrate(as_json: bool) -> int:
    """Turn the old `agents:` into the new format.

    They become backends, models and aliases; each name starts what it started before.
    """
    from dispatch_queue.config.edit import Migrate

    if read_text(dispatch_home()) is None:
        raise BadConfig("there is no file to migrate", hint="dispatch config init")
    return _change([Migrate()], as_json)


@config.command()
@_as_json
def init(as_json: bool) -> int:
    """Look for agent CLIs and write a new file for them."""
    from dispatch_queue.config.firstrun import first_run

    home = dispatch_home()
    if read_text(home) is not None:
        hint = "change it with dispatch config add-model, alias or default; see it with dispatch config show"
        raise BadConfig(f"{shown(home)} is there already", hint=hint)
    ran = first_run(home, ask=None if as_json else ask_default())
    if as_json:
        _print_json({"file": str(home / CONFIG_NAME), "default": ran.default, "said": ran.said})
    else:
        for sentence in ran.said:
            click.echo(sentence)
    return Exit.DONE if ran.default is not None else Exit.CONFIG


def ask_default() -> "Ask | None":
    """What asks for the default model; None where nobody is there to answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(models: list[str]) -> str:
        for number, model in enumerate(models, 1):
            click.echo(f"  {number}  {render.line(model)}", err=True)
        question = "Which model should be the default? Its number or name"
        answer: str = click.prompt(question, default=models[0], value_proc=lambda said: _chosen(said, models), err=True)
        return answer

    return ask


def _chosen(said: str, models: Sequence[str]) -> str:
    """The model that an answer means. Raises click.UsageError, upon which it is asked again."""
    known = {str(number): model for number, model in enumerate(models, 1)} | {each.casefold(): each for each in models}
    if model := known.get(said.strip().rstrip(".)").casefold()):
        return model
    raise click.UsageError(f"`{render.line(said)}` is none of these; another one later: dispatch config default NAME")


def _change(edits: Sequence["Edit"], as_json: bool) -> int:
    from dispatch_queue.config.edit import apply

    home = dispatch_home()
    said = apply(home, edits)
    if as_json:
        _print_json({"file": str(home / CONFIG_NAME), "said": said})
        return Exit.DONE
    for sentence in said:
        click.echo(render.line(sentence, _LINE))
    return Exit.DONE


def table(rows: Sequence["Setting"]) -> list[str]:
    """The settings in three columns."""
    cells = [("KEY", "FROM", "VALUE")]
    cells += [(row.name, f"line {row.line}" if row.line else row.source, row.shown) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(2)]
    return [f"{key:<{widths[0]}}  {source:<{widths[1]}}  {render.line(value, _LINE)}" for key, source, value in cells]


def _print_json(value: object) -> None:
    from dispatch_queue.cli.look import print_json

    print_json(value)
