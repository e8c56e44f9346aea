"""The first run: a `config.yaml` for the agent CLIs of this machine."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dispatch_queue.config import emit
from dispatch_queue.config.choose import PROVIDERS, UnknownModel, best_model, provider_of
from dispatch_queue.config.clis import CLIS
from dispatch_queue.config.grouping import headings
from dispatch_queue.config.listing import CODEX_WORDS
from dispatch_queue.config.load import CONFIG_NAME, shown
from dispatch_queue.config.machine import Machine
from dispatch_queue.config.rewrite import create

_MAX_CHOICES = 4

Ask = Callable[[list[str]], str]


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """The file to write for a machine; `text` None where no CLI was found. `said` are sentences for the user."""

    text: str | None
    models: Mapping[str, str]
    default: str | None
    said: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class FirstRun:
    """What was found and done. `models` maps ids to back ends; `written` None: no file was made.

    `said` are sentences for the user.
    """

    models: Mapping[str, str]
    default: str | None
    written: Path | None
    said: list[str]


def first_run(home: Path, *, ask: Ask | None = None, path: str | None = None) -> FirstRun:
    """Write `home/config.yaml` for the CLIs found on `path` (default: PATH).

    `ask` is given three or four models and answers with the default one, any of the found; without it the best is
    taken. With no CLI found nothing is written. A file that another process made meanwhile is left as it is.
    Raises UnknownModel for an answer that is no found model, BadConfig where the file cannot be written.
    """
    made = propose(Machine(path), ask)
    if made.text is None:
        return FirstRun({}, None, None, made.said)
    if not create(home, made.text.encode()):
        return FirstRun(made.models, made.default, None, [f"{shown(home)} was made meanwhile; it is used as it is."])
    written = f"Wrote {shown(home)} with `{made.default}` as the default; another: dispatch config default NAME"
    return FirstRun(made.models, made.default, home / CONFIG_NAME, [*made.said, written])


def propose(machine: Machine, ask: Ask | None = None) -> Proposal:
    """What the first run would write; `ask` is as for `first_run`. Raises UnknownModel."""
    said = []
    if machine.listing.failure is not None:
        said = [f"`agent models` listed nothing ({machine.listing.failure}), so Cursor is left out: try `agent login`."]
    if machine.catalog.failure is not None:
        asked = f"`codex {' '.join(CODEX_WORDS)}`"
        said.append(f"{asked} listed nothing ({machine.catalog.failure}), so its usual models are taken.")
    models = machine.models()
    if not models:
        return Proposal(None, {}, None, [*said, _nothing_found()])
    default = best_model(models) or next(iter(models))
    if ask is not None:
        default = _answered(ask(choices(models, machine.listing.current)), models)
    found = machine.backends()
    said.append(f"Found {_found_titles(found, models)}.")
    return Proposal(render(found, models, default), models, default, said)


def choices(models: Mapping[str, str], current: str | None) -> list[str]:
    """Three or four models worth being the default, the best first."""
    firsts = [next((model for model in models if provider_of(model) == heading), None) for heading in PROVIDERS]
    wanted = [best_model(models), "sonnet", current, *firsts, *models]
    return [model for model in dict.fromkeys(wanted) if model and model in models][:_MAX_CHOICES]


def render(found: Iterable[str], models: Mapping[str, str], default: str) -> str:
    """The text of a config file."""
    found = list(found)
    lines = [
        "# What `dispatch` found on this machine. Change it here, or with `dispatch config`.",
        "",
        *emit.lines({"default": default}, 0),
        "",
        "# How each CLI is started. These commands let an agent work without being asked for leave,",
        "# as nobody is there to give it; the model and the prompt are added.",
        *emit.lines({"backends": {cli.backend: {"command": cli.command} for cli in CLIS if cli.backend in found}}, 0),
        "",
        *emit.lines({"models": {model: {"backend": models[model]} for model in models}}, 0, notes=headings(models)),
        "",
        "# Names of your own, with text that is put before the prompt:",
        "# aliases:",
        "#   reviewer:",
        f"#     model: {default}",
        "#     prompt: Look for mistakes first, then for style.",
    ]
    return "\n".join(lines) + "\n"


def _answered(answer: str, models: Mapping[str, str]) -> str:
    for model in models:
        if model.casefold() == answer.strip().casefold():
            return model
    raise UnknownModel(answer)


def _found_titles(found: Iterable[str], models: Mapping[str, str]) -> str:
    counts = {cli.title: list(models.values()).count(cli.backend) for cli in CLIS if cli.backend in found}
    return ", ".join(f"{title} ({count} model{'s' * (count != 1)})" for title, count in counts.items())


def _nothing_found() -> str:
    ways = "; ".join(f"{cli.title}: {cli.install}" for cli in CLIS)
    return f"No agent CLI was found. Install one ({ways}). `--model shell` runs the commands of a plan without one."
