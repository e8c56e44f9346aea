"""What an agent's CLI says that its session has used. Unknown is None, and said as unknown, never 0."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

_MOST = 10**15  # more is a forgery, and would fill a screen
_OF_A_SESSION = ("input_tokens", "cached_tokens", "output_tokens", "cost_usd")


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a session has used so far, earlier attempts in it included. `input_tokens` has the cached ones in it."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    turns: int | None = None

    @classmethod
    def read(cls, facts: Any) -> "Usage":
        """What of `facts`, whatever that is, can be such a number."""
        known = facts if isinstance(facts, Mapping) else {}
        return cls(
            input_tokens=_count(known.get("input_tokens")),
            cached_tokens=_count(known.get("cached_tokens")),
            output_tokens=_count(known.get("output_tokens")),
            cost_usd=_dollars(known.get("cost_usd")),
            turns=_count(known.get("turns")),
        )

    def since(self, before: "Usage") -> "Usage":
        """What was used after `before` in the same session. Turns are told of each run alone.

        Where less is told than before, the CLI has begun to count anew.
        """
        pairs = [(name, getattr(self, name), getattr(before, name)) for name in _OF_A_SESSION]
        known = [(name, now, was) for name, now, was in pairs if now is not None and was is not None]
        if any(now < was for _, now, was in known):
            return self
        return dataclasses.replace(self, **{name: round(now - was, 9) for name, now, was in known})

    def most(self, other: "Usage") -> "Usage":
        """The larger of each figure that one of them knows."""
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in _OF_A_SESSION]
        return Usage(**{name: max((one for one in both if one is not None), default=None) for name, *both in pairs})

    def words(self) -> str:
        """`2 turns, 300 tokens in (60 cached), 50 out, $0.0010`."""
        turns = [] if self.turns is None else [f"{self.turns} turn{'s' * (self.turns != 1)}"]
        cost = "cost unknown" if self.cost_usd is None else f"${self.cost_usd:.{2 if self.cost_usd >= 1 else 4}f}"
        if self.input_tokens is None or self.output_tokens is None:
            return ", ".join([*turns, "tokens unknown", cost])
        cached = f" ({self.cached_tokens} cached)" if self.cached_tokens else ""
        return ", ".join([*turns, f"{self.input_tokens} tokens in{cached}, {self.output_tokens} out", cost])


_OF_A_RUN = {
    "input_tokens": ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
    "cached_tokens": ("cache_read_input_tokens",),
    "output_tokens": ("output_tokens",),
}
_OF_A_MODEL = {
    "input_tokens": ("inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens"),
    "cached_tokens": ("cacheReadInputTokens",),
    "output_tokens": ("outputTokens",),
}


def of_claude(result: Mapping[str, Any]) -> Usage:
    """What a `result` of claude's tells. Raises AttributeError, TypeError for one of another shape.

    Its `usage` is of one run only, and without the request that broke a cap; its `modelUsage` and cost are of all.
    """
    models = list((result.get("modelUsage") or {}).values())
    used, names = (models, _OF_A_MODEL) if models else ([result.get("usage") or {}], _OF_A_RUN)
    facts = {
        fact: sum(each.get(key, 0) for each in used for key in keys)
        for fact, keys in names.items()
        if any(key in each for each in used for key in keys)
    }
    return Usage.read({**facts, "cost_usd": result.get("total_cost_usd"), "turns": result.get("num_turns")})


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST else None


def _dollars(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and 0 <= value < _MOST else None
