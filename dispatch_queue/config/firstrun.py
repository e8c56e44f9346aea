"""The first run: find the agent CLIs on this machine and write `config.yaml` for them."""

import contextlib
import dataclasses
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from dispatch_queue import files
from dispatch_queue.clock import SYSTEM
from dispatch_queue.config.choose import PROVIDERS, UnknownModel, backend_for, best_model, provider_of
from dispatch_queue.config.load import CONFIG_NAME, shown
from dispatch_queue.config.rules import MODEL_ID
from dispatch_queue.errors import BadConfig

LISTING_LIMIT = timedelta(seconds=5)
_MAX_LISTING_BYTES = 1024 * 1024
_MAX_CHOICES = 4

CLAUDE_MODELS = ("opus", "sonnet", "haiku")  # names that stay while versions come and go
CODEX_MODELS = ("gpt-5.3-codex", "gpt-5.3-codex-spark", "gpt-5.2")  # codex cannot list its own

Ask = Callable[[list[str]], str]


class Cli(NamedTuple):
    """One CLI that we look for: its back end, its program, the command to write, how to get it."""

    backend: str
    program: str
    title: str
    command: str
    install: str


CLIS = (
    Cli(
        "claude",
        "claude",
        "Claude Code",
        "env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions",
        "npm install -g @anthropic-ai/claude-code",
    ),
    Cli(
        "codex",
        "codex",
        "Codex",
        'codex exec --dangerously-bypass-approvals-and-sandbox -C "$(pwd)"',
        "npm install -g @openai/codex",
    ),
    Cli(
        "cursor",
        "agent",
        "Cursor CLI",
        'agent -p --force --trust --workspace "$(pwd)"',
        "see https://cursor.com/cli",
    ),
)


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


class Listing(NamedTuple):
    """What `agent models` listed, the one it marked as current, and, where that is nothing, why."""

    models: list[str]
    current: str | None
    failure: str | None


def first_run(home: Path, *, ask: Ask | None = None, path: str | None = None) -> FirstRun:
    """Write `home/config.yaml` for the CLIs found on `path` (default: PATH).

    `ask` is given three or four models and answers with the default one, any of the found; without it the best is
    taken. With no CLI found nothing is written. A file that another process made meanwhile is left as it is.
    Raises UnknownModel for an answer that is no found model, BadConfig where the file cannot be written.
    """
    programs = {cli.backend: shutil.which(cli.program, path=path) for cli in CLIS}
    found = {backend: program for backend, program in programs.items() if program}
    said: list[str] = []
    listing = Listing([], None, None)
    if "cursor" in found:
        listing = list_models(found["cursor"])
        if not listing.models:
            del found["cursor"]
            said.append(f"`agent models` listed nothing ({listing.failure}), so Cursor is left out: try `agent login`.")
    if not found:
        return FirstRun({}, {}, None, None, [*said, _nothing_found()])
    models = models_of(found, listing.models)
    default = best_model(models) or next(iter(models))
    if ask is not None:
        default = _answered(ask(choices(models, listing.current)), models)
    said += [f"Found {_found_titles(found, models)}.", _written(home, default)]
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(home, CONFIG_NAME, render(found, models, default).encode(), replace=False, mode=0o600)
    except FileExistsError:
        return FirstRun(found, models, default, None, [f"{shown(home)} was made meanwhile; it is used as it is."])
    except OSError as error:
        raise BadConfig(
            f"{shown(home)}: cannot be written: {error.strerror}",
            hint="point DISPATCH_HOME at a folder that you can write",
        ) from error
    return FirstRun(found, models, default, home / CONFIG_NAME, said)


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
    return [model for model in dict.fromkeys(wanted) if model in models][:_MAX_CHOICES]


def render(found: Iterable[str], models: Mapping[str, str], default: str) -> str:
    """The text of a config file."""
    found = list(found)
    width = max(len(model) for model in models) + 1
    lines = [
        "# What `dispatch` found on this machine. Edit it here or with `dispatch config`.",
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


_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MARKER = re.compile(r"\(\s*(current|default)(?:\s*,\s*(?:current|default))*\s*\)")
_LINE = re.compile(rf"(?:[*•>]\s+)?({MODEL_ID.pattern})\s+-\s+\S.*")


def read_listing(text: str) -> tuple[list[str], str | None]:
    """The ids in the output of `agent models`, and the one marked as current; other lines mean nothing."""
    models: dict[str, None] = {}
    current = None
    for line in re.split(r"[\r\n]+", _ESCAPE.sub("", text)):
        marked = "(current" in line
        if found := _LINE.fullmatch(_MARKER.sub("", line).strip()):
            models[found[1]] = None
            current = found[1] if marked else current
    return list(models), current


def list_models(program: str, limit: timedelta = LISTING_LIMIT) -> Listing:
    """Run `PROGRAM models` and read what it lists; after `limit` it is ended with what it started."""
    try:
        process = subprocess.Popen(
            [program, "models"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Listing([], None, f"it cannot be started: {error.strerror}")
    assert process.stdout is not None
    deadline = SYSTEM.monotonic() + limit.total_seconds()
    ended = False
    with process.stdout as stream:
        output = _read_until(stream.fileno(), deadline)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - SYSTEM.monotonic()) if output is not None else 0)
            ended = True
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Listing([], None, f"no end after {limit.total_seconds():g} s")
    if process.returncode != 0:
        return Listing([], None, f"exit status {process.returncode}")
    models, current = read_listing((output or b"").decode(errors="replace"))
    return Listing(models, current, None if models else "no line of it names a model")


def _read_until(handle: int, deadline: float) -> bytes | None:
    """All that comes before the end of the stream; None where that did not come in time or was too much."""
    output = b""
    while (left := deadline - SYSTEM.monotonic()) > 0 and len(output) <= _MAX_LISTING_BYTES:
        if select.select([handle], [], [], left)[0]:
            part = os.read(handle, 65536)
            if not part:
                return output
            output += part
    return None


def _answered(answer: str, models: Mapping[str, str]) -> str:
    for model in models:
        if model.casefold() == answer.strip().casefold():
            return model
    raise UnknownModel(answer, near=None)


def _found_titles(found: Iterable[str], models: Mapping[str, str]) -> str:
    counts = {cli.title: list(models.values()).count(cli.backend) for cli in CLIS if cli.backend in found}
    return ", ".join(f"{title} ({count} model{'s' * (count != 1)})" for title, count in counts.items())


def _written(home: Path, default: str) -> str:
    return f"Wrote {shown(home)} with `{default}` as the default; another: `dispatch config default NAME`."


def _nothing_found() -> str:
    ways = "; ".join(f"{cli.title}: {cli.install}" for cli in CLIS)
    return f"No agent CLI was found. Install one ({ways}). `--model shell` runs the commands of a plan without one."
