"""Changes to `config.yaml`, as values, and carrying them out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class AddModel:
    """A model more. `backend` None: the one that its id and the CLIs found on this machine call for."""

    model: str
    backend: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveModel:
    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class SetDefault:
    """`name` is a model or an alias."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class AddAlias:
    """Makes an alias, or changes the one of that name. `prompt` is put before the worker's prompt."""

    name: str
    model: str
    prompt: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveAlias:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Migrate:
    """From the old `agents:` to backends, models and aliases."""


Edit = AddModel | RemoveModel | SetDefault | AddAlias | RemoveAlias | Migrate


def apply(home: Path, edits: Sequence[Edit]) -> list[str]:
    """Make all `edits` to `home/config.yaml`, one after the other, in one write; what was done, as sentences.

    Raises BadConfig for a file that cannot be edited, BadInput for an edit that cannot be made; then the file is
    as it was.
    """
    raise NotImplementedError
