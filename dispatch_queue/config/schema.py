"""What a configuration holds. Plain values, so that a command which only reads it imports nothing heavy.

Names in `config.yaml` are the names of these fields. A model whose id is its backend's name means whatever
model that CLI takes by itself: nothing is added to its command. `shell` is such a model, and so is each
entry of the old `agents:` format.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

SHELL = "shell"  # the model and the backend that exist without being written in the file
KNOWN_BACKENDS = ("claude", "codex", "cursor", SHELL)  # those that need no `command`
SLOTS = 8  # of a worker; agents mostly wait for their model, so more than cores
QUESTION_TIMEOUT_SECONDS = 180.0
DRAIN_SECONDS = 5.0
QUIET_AFTER_SECONDS = 600.0
LOCAL_POOL = "local"
KEEP_DAYS = 30  # of `dispatch gc`, where `worker.keep_days` says nothing
MIN_FREE_MIB = 512  # room for a checkout and what an agent builds in it
MODEL_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}"  # nothing that a shell or an option could be made of
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
REDIS_HINT = f"it begins with {', '.join(REDIS_SCHEMES[:-1])} or {REDIS_SCHEMES[-1]}"


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """How to start one CLI. `command` None: the built-in one of that name. `env`: variables it may see."""

    command: str | None = None
    env: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    backend: str


@dataclasses.dataclass(frozen=True, slots=True)
class Alias:
    """Another name for a model, with text that is put before the worker's prompt."""

    model: str
    prompt: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RedisSection:
    url: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSection:
    """`question_timeout`, `drain` and `quiet_after` are seconds; `backends` None means every one that can run here.

    `keep_days` None: workers remove no records by themselves. Below `min_free_mib` of free disk they begin no attempt.
    """

    slots: int | None = None
    question_timeout: float = QUESTION_TIMEOUT_SECONDS
    drain: float = DRAIN_SECONDS
    quiet_after: float = QUIET_AFTER_SECONDS
    backends: tuple[str, ...] | None = None
    pool: str = LOCAL_POOL
    keep_days: int | None = None
    min_free_mib: int = MIN_FREE_MIB


@dataclasses.dataclass(frozen=True, slots=True)
class LimitsSection:
    """How many attempts may run at once over all workers: by model, by backend, by host."""

    models: Mapping[str, int] = dataclasses.field(default_factory=dict)
    backends: Mapping[str, int] = dataclasses.field(default_factory=dict)
    hosts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `fallback`: the models that take over, in order, from one that fails.

    `notify` is as written, each scalar as its text.
    """

    default: str | None = None
    backends: Mapping[str, Backend] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Model] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, Alias] = dataclasses.field(default_factory=dict)
    redis: RedisSection = RedisSection()
    worker: WorkerSection = WorkerSection()
    limits: LimitsSection = LimitsSection()
    fallback: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notify: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def backend_of(self, model: str) -> str | None:
        """The backend that runs `model`; None for a model that is not configured."""
        if model in self.models:
            return self.models[model].backend
        return SHELL if model == SHELL else None

    def fallback_of(self, model: str) -> tuple[str, ...]:
        """What takes over from `model`, as `backend/model`."""
        return tuple(f"{self.backend_of(other)}/{other}" for other in self.fallback.get(model, ()))

    def command_of(self, backend: str) -> str | None:
        """The command line configured for `backend`; None where the built-in one is meant."""
        return self.backends[backend].command if backend in self.backends else None


def from_plain(plain: Mapping[str, Any]) -> Config:
    """The config that `dataclasses.asdict` and JSON made plain, unchecked.

    Raises KeyError, TypeError, ValueError or AttributeError where the shape is another.
    """
    worker = dict(plain["worker"])
    if worker["backends"] is not None:
        worker["backends"] = tuple(worker["backends"])
    return Config(
        default=plain["default"],
        backends={name: Backend(part["command"], tuple(part["env"])) for name, part in plain["backends"].items()},
        models={name: Model(**part) for name, part in plain["models"].items()},
        aliases={name: Alias(**part) for name, part in plain["aliases"].items()},
        redis=RedisSection(**plain["redis"]),
        worker=WorkerSection(**worker),
        limits=LimitsSection(**plain["limits"]),
        fallback={name: tuple(models) for name, models in plain["fallback"].items()},
        notify=dict(plain["notify"]),
    )
