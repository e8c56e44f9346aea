"""Changes to `config.yaml`, as values, and carrying them out: all of them or none."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class AddModel:
    """A model more, or another backend for one. `backend` None: what its id and the CLIs of this machine call for."""

    model: str
    backend: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class AddAgent:
    """A command that takes a prompt, as a backend `name` and a model of that name; or another command for that one."""

    name: str
    command: str


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveModel:
    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class SetDefault:
    """`name` is a model or an alias."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class AddAlias:
    """Makes an alias, or changes the one of that name. `prompt` is put before the worker's; empty: as it was."""

    name: str
    model: str
    prompt: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveAlias:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Migrate:
    """From the old `agents:` to backends, models and aliases, with the models found on this machine."""


Edit = AddModel | AddAgent | RemoveModel | SetDefault | AddAlias | RemoveAlias | Migrate


def apply(home: Path, edits: Sequence[Edit], *, path: str | None = None) -> list[str]:
    """Make all `edits` to `home/config.yaml`, one after the other, in one write; what was done, as sentences.

    Where there is no file they are made to the one that the first run would write. CLIs are looked for on `path`
    (default: PATH). Raises BadConfig for a file that cannot be edited, BadInput for an edit that cannot be made;
    then the file is as it was.
    """
    from dispatch_queue.config import editing  # reads YAML, which whoever only names an edit has no need of

    return editing.carry_out(home, edits, path)


def check(home: Path, edits: Sequence[Edit], *, path: str | None = None) -> None:
    """Raise what `apply` raises for edits that cannot be made; writes nothing."""
    from dispatch_queue.config import editing

    editing.rehearse(home, edits, path)
