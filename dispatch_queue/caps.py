"""Caps on what a task may use of its model, over all its attempts: turns and cost. Unknown use counts as none."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dispatch_queue.config.clis import cli_of
from dispatch_queue.config.commands import words_of
from dispatch_queue.config.schema import Config
from dispatch_queue.errors import BadInput
from dispatch_queue.record import Task

LARGEST_COST_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be used; 0 is no cap."""

    turns: int = 0
    cost_usd: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.turns or self.cost_usd)

    def left(self, used: "Used") -> "Caps | None":
        """What may still be used; None where a cap is reached."""
        turns, cost = self.turns - used.turns, self.cost_usd - used.cost_usd
        if (self.turns and turns <= 0) or (self.cost_usd and cost <= 0):
            return None
        return Caps(turns if self.turns else 0, round(cost, 6) if self.cost_usd else 0.0)

    @property
    def lifted(self) -> str:
        """The options of `dispatch retry` that take them away."""
        return " ".join([*(["--max-turns 0"] if self.turns else []), *(["--max-cost 0"] if self.cost_usd else [])])

    def said(self, used: "Used") -> str:
        """How much of each cap is used, as a reason says it."""
        parts = [f"{used.turns} of {self.turns} turns"] if self.turns else []
        parts += [f"${used.cost_usd:.2f} of ${self.cost_usd:.2f}"] if self.cost_usd else []
        return f"{', '.join(parts)} used"


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Used:
    """What the attempts of a task have used, as far as their CLI told."""

    turns: int = 0
    cost_usd: float = 0.0


def caps_of(task: Task) -> Caps:
    return Caps(task.max_turns, task.max_cost_usd)


def used(results: Iterable[Mapping[str, Any]]) -> Used:
    """The use that `result.json` of each attempt tells. A CLI counts the cost of a session over all its attempts."""
    turns, costs = 0, dict[Any, float]()
    for number, result in enumerate(results):
        usage = result.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        told = usage.get("turns")
        turns += told if type(told) is int and told > 0 else 0
        cost = usage.get("cost_usd")
        if isinstance(cost, int | float) and cost > 0:
            session = result.get("session") or number
            costs[session] = max(costs.get(session, 0.0), float(cost))
    return Used(turns, sum(costs.values()))


def can_cap(config: Config, backend: str) -> bool:
    """Whether the CLI of `backend` can be told where to stop."""
    command = config.command_of(backend)
    cli = cli_of(backend, words_of(command) if command is not None else None)
    return cli is not None and cli.capped


def check(config: Config, backend: str, caps: Caps, models: Sequence[str], *, again: bool = False) -> None:
    """Refuse caps that cannot be kept; `models` are offered. `again`: it is about a retry. Raises BadInput."""
    if math.isnan(caps.cost_usd):
        raise BadInput("--max-cost: not a number", hint="write an amount in USD: --max-cost 2.50")
    if not caps or can_cap(config, backend):
        return
    option, what = ("--max-cost", "cost") if caps.cost_usd else ("--max-turns", "turns")
    able = [model for model in models if can_cap(config, config.backend_of(model) or "")]
    without = f"add {caps.lifted}, for no cap" if again else f"leave {option} out and set a --timeout"
    instead = f", or take a model that does: --model {able[0]}" if able else ""
    raise BadInput(
        f"{option} cannot be kept: backend `{backend}` does not tell its {what}",
        hint=f"{without}{instead}",
    )
