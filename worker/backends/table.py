"""The table of back ends, and how an agent of one is started here."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from dispatch_queue.caps import NO_CAPS, Caps
from dispatch_queue.clock import Clock
from dispatch_queue.config.clis import cli_of
from dispatch_queue.config.commands import placed, program_at, words_of
from dispatch_queue.config.load import CONFIG_NAME
from dispatch_queue.config.schema import QUESTION_TIMEOUT_SECONDS, Config
from dispatch_queue.errors import BadConfig
from worker.backends.account import digest
from worker.backends.base import Kind, Order, environment
from worker.backends.claude import CLAUDE
from worker.backends.codex import CODEX
from worker.backends.cursor import CURSOR
from worker.backends.custom import CUSTOM
from worker.backends.listener import Listener, Mask
from worker.backends.shell import SHELL

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (CLAUDE, CODEX, CURSOR, SHELL)}


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """An agent ready to be started: `env` is all it sees, `stdin` None is at its end at once.

    `notices` are for the task's journal: what was not run as the configuration says, and the edit that settles it.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes | None
    notices: tuple[str, ...] = ()


def invoke(
    config: Config,
    backend: str,
    *,
    model: str,
    prompt: str,
    workspace: Path,
    values: Mapping[str, str],
    session: str | None = None,
    caps: Caps = NO_CAPS,
    base: Mapping[str, str] | None = None,
) -> Invocation:
    """How to start an agent of `backend` here, one that stops at `caps`.

    `values` are the task's own variables, `base` the environment to take from (default: this process's), `session`
    one of the same CLI on this machine. Raises BadConfig where this machine has no such back end.
    """
    base = os.environ if base is None else base
    kind, words = _resolved(backend, config.command_of(backend))
    order = Order(
        backend=backend,
        words=placed(words, workspace, base.get("HOME", "~")),
        model=None if model == backend else model,
        prompt=prompt,
        session=session,
        workspace=workspace,
        root=os.geteuid() == 0,
        caps=caps,
    )
    if caps and not (kind.cli and kind.cli.capped):
        raise BadConfig(
            f"backend `{backend}` cannot be told to stop at a cost or a number of turns",
            hint="take another model, or dispatch it again without --max-cost and --max-turns",
        )
    recipe = kind.build(order)
    env = environment(
        base,
        kind,
        recipe,
        values,
        passed=config.backends[backend].env if backend in config.backends else (),
        question_timeout=float(values.get("DISPATCH_QUESTION_TIMEOUT", QUESTION_TIMEOUT_SECONDS)),
    )
    return Invocation(recipe.argv, env, recipe.stdin, recipe.notices)


def listener(config: Config, backend: str, clock: Clock, mask: Mask) -> Listener:
    """What hears an agent of `backend`, and tells it through `mask`. Raises BadConfig as `invoke` does."""
    kind, _ = _resolved(backend, config.command_of(backend))
    return Listener(kind.read, clock, mask)


def account(config: Config, backend: str, *, base: Mapping[str, str] | None = None) -> str | None:
    """A word for the account that `backend` uses here, none of its secrets; None where that cannot be told."""
    try:
        kind, _ = _resolved(backend, config.command_of(backend))
    except BadConfig:
        return None
    secret = kind.account(os.environ if base is None else base)
    return f"{kind.name}-{digest(secret)}" if secret else None


def runnable(config: Config, *, path: str | None = None) -> list[str]:
    """The back ends whose executable is on this machine, of those that the configuration names or lists to serve."""
    named = {SHELL.name, *config.backends, *(model.backend for model in config.models.values())}
    wanted = named if config.worker.backends is None else set(config.worker.backends)
    return sorted(name for name in wanted if available(name, config.command_of(name), path=path))


def available(backend: str, command: str | None, *, path: str | None = None) -> str | None:
    """The executable that runs `backend` with `command`, looked for on `path` (default: PATH); None without one."""
    try:
        _, words = _resolved(backend, command)
    except BadConfig:
        return None
    words = placed(words, Path("/"), os.environ.get("HOME", "~"))
    at = program_at(words)
    return shutil.which(words[at], path=path) if at < len(words) else None


def _resolved(backend: str, command: str | None) -> tuple[Kind, tuple[str, ...]]:
    """How a back end is driven, and its words: by its command's program, else by its name, else as any command."""
    if command is None:
        kind = KINDS.get(backend, CUSTOM)
        if not kind.command:
            raise BadConfig(
                f"backend `{backend}` has no command on this machine",
                hint=f"add it under `backends:` in its {CONFIG_NAME}, or take another model: --model",
            )
        return kind, kind.command
    words = words_of(command)
    cli = cli_of(backend, words)
    return KINDS.get(cli.backend if cli else backend, CUSTOM), words
