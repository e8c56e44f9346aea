"""What a measurement is, and what is computed from it. Values only; nothing here measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

PARTS = ("start", "tick", "question", "answer", "cold", "memory", "parked", "recover")


@dataclass(frozen=True, slots=True)
class Series:
    """One row: the same thing measured several times. `aim` is an upper limit for the median.

    `group` is what was measured, `name` of whom; those with `peer` are others', for comparing.
    """

    part: str
    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    aim: float | None = None
    peer: bool = False

    @property
    def p50(self) -> float:
        return percentile(self.values, 50)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the aim; None where there is none."""
        return None if self.aim is None else self.p50 <= self.aim


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times the median of `peer` the median of `ours` is."""

    ours: Series
    peer: Series

    @property
    def value(self) -> float:
        return self.ours.p50 / self.peer.p50


@dataclass
class Sample:
    """Values of several series, collected side by side in the order in which they were first named."""

    _values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    def of(self, name: str) -> tuple[float, ...]:
        return tuple(self._values.get(name, ()))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` % of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def ratios(series: Sequence[Series]) -> list[Ratio]:
    """Each of our series beside each peer's of its group, where both medians are more than nothing."""
    return [
        Ratio(ours, peer)
        for ours in series
        for peer in series
        if peer.peer
        and not ours.peer
        and (ours.part, ours.group, ours.unit) == (peer.part, peer.group, peer.unit)
        and min(ours.p50, peer.p50) > 0
    ]
