"""The first run: find the agent CLIs on this machine and write `config.yaml` for them."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dispatch_queue.config.choose import PROVIDERS, UnknownModel, backend_for, best_model, provider_of
from dispatch_queue.config.clis import CLIS
from dispatch_queue.config.load import CONFIG_NAME, shown
from dispatch_queue.errors import BadConfig

_MAX_CHOICES = 4

CLAUDE_MODELS = ("opus", "sonnet", "haiku")  # names that stay while versions come and go
CODEX_MODELS = ("gpt-5.3-codex", "gpt-5.3-codex-spark", "gpt-5.2")  # codex cannot list its own

Ask = Callable[[list[str]], str]


@dataclasses.dataclass(frozen=True, slots=True)
class FirstRun:
    """What was found and done. `models` maps ids to back ends; `written` None: no file was made.

    `said` are sentences for the user.
    """

    found: Mapping[str, str]
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
    found = look(os.environ.get("PATH", os.defpath) if path is None else path)
    said: list[str] = []
    listed: list[str] = []
    current = None
    if "cursor" in found:
        from dispatch_queue.config.listing import list_models

        listed, current, failure = list_models(found["cursor"])
        if not listed:
            del found["cursor"]
            said.append(f"`agent models` listed nothing ({failure}), so Cursor is left out: try `agent login`.")
    if not found:
        return FirstRun({}, {}, None, None, [*said, _nothing_found()])
    models = models_of(found, listed)
    default = best_model(models) or next(iter(models))
    if ask is not None:
        default = _answered(ask(choices(models, current)), models)
    if not _put(home, render(found, models, default)):
        return FirstRun(found, models, default, None, [f"{shown(home)} was made meanwhile; it is used as it is."])
    said += [f"Found {_found_titles(found, models)}.", _written(home, default)]
    return FirstRun(found, models, default, home / CONFIG_NAME, said)


def look(path: str) -> dict[str, str]:
    """The programs of the CLIs that are on `path`, by back end. Every submit without a config file does this."""
    folders = [Path(folder) for folder in path.split(os.pathsep) if folder]
    found = {}
    for cli in CLIS:
        for folder in folders:
            program = folder / cli.program
            if program.is_file() and os.access(program, os.X_OK):
                found[cli.backend] = str(program)
                break
    return found


def models_of(found: Iterable[str], listed: Iterable[str]) -> dict[str, str]:
    """Every model for the back ends `found`, with its back end, grouped by provider; `listed` are Cursor's."""
    found = list(found)
    ids = [
        *(CLAUDE_MODELS if "claude" in found else ()),
        *(CODEX_MODELS if "codex" in found else ()),
        *listed,
    ]
    backends = {model: backend for model in dict.fromkeys(ids) if (backend := backend_for(model, found))}
    return {model: backends[model] for heading in PROVIDERS for model in backends if provider_of(model) == heading}


def choices(models: Mapping[str, str], current: str | None) -> list[str]:
    """Three or four models worth being the default, the best first."""
    firsts = [next((model for model in models if provider_of(model) == heading), None) for heading in PROVIDERS]
    wanted = [best_model(models), "sonnet", current, *firsts, *models]
    return [model for model in dict.fromkeys(wanted) if model and model in models][:_MAX_CHOICES]


def render(found: Iterable[str], models: Mapping[str, str], default: str) -> str:
    """The text of a config file."""
    found = list(found)
    width = max(len(model) for model in models) + 1
    lines = [
        "# What `dispatch` found on this machine. Edit it here.",
        "",
        f"default: {default}",
        "",
        "# How each CLI is started. These commands let an agent work without being asked for leave,",
        "# as nobody is there to give it; the model and the prompt are added.",
        "backends:",
    ]
    for cli in CLIS:
        if cli.backend in found:
            lines += [f"  {cli.backend}:", "    command: >", f"      {cli.command}"]
    lines += ["", "models:"]
    for heading in PROVIDERS:
        group = [model for model in models if provider_of(model) == heading]
        if group:
            lines += [
                f"  # {heading}",
                *(f"  {f'{model}:':<{width}} {{ backend: {models[model]} }}" for model in group),
            ]
    lines += [
        "",
        "# Names of your own, with text that is put before the prompt:",
        "# aliases:",
        "#   reviewer:",
        f"#     model: {default}",
        "#     prompt: Look for mistakes first, then for style.",
    ]
    return "\n".join(lines) + "\n"


def _put(home: Path, text: str) -> bool:
    """Write the config file; False where there is one by now. Raises BadConfig."""
    from dispatch_queue import files

    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(home, error) from error
    try:
        files.write(home, CONFIG_NAME, text.encode(), replace=False, mode=0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritable(home, error) from error
    return True


def _unwritable(home: Path, error: OSError) -> BadConfig:
    hint = "point DISPATCH_HOME at a folder that you can write"
    return BadConfig(f"{shown(home)}: cannot be written: {error.strerror}", hint=hint)


def _answered(answer: str, models: Mapping[str, str]) -> str:
    for model in models:
        if model.casefold() == answer.strip().casefold():
            return model
    raise UnknownModel(answer, near=None)


def _found_titles(found: Iterable[str], models: Mapping[str, str]) -> str:
    counts = {cli.title: list(models.values()).count(cli.backend) for cli in CLIS if cli.backend in found}
    return ", ".join(f"{title} ({count} model{'s' * (count != 1)})" for title, count in counts.items())


def _written(home: Path, default: str) -> str:
    return f"Wrote {shown(home)} with `{default}` as the default; another: edit `default:` there."


def _nothing_found() -> str:
    ways = "; ".join(f"{cli.title}: {cli.install}" for cli in CLIS)
    return f"No agent CLI was found. Install one ({ways}). `--model shell` runs the commands of a plan without one."
