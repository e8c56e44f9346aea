"""The result as a table for people and as JSON: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.figures import PARTS, Series, percentile, ratios

HEADINGS: Mapping[str, str] = {
    "start": "start: a submit → the agent's first act",
    "tick": "tick: written by the agent → in the home copy",
    "question": "question: written by the agent → `dispatch watch` returns",
    "answer": "answer: written in the home copy → in the agent's live copy",
    "cold": "cold: a command from its start to its end",
    "memory": "memory: of a worker and its wardens, without the agents (PSS)",
}
_NUMBER_WIDTH = 9


def table(series: Sequence[Series], machine: Mapping[str, str]) -> str:
    """Everything that was measured, in the order of `PARTS`."""
    width = max(len(one.name) for one in series) + 2
    lines = [f"{name.ljust(12)} {value}" for name, value in machine.items()]
    for part in PARTS:
        rows = [one for one in series if one.part == part]
        if not rows:
            continue
        head = "".join(title.rjust(_NUMBER_WIDTH) for title in ("p50", "p95", "max"))
        lines += ["", HEADINGS[part], f"  {''.ljust(width)}{'n'.rjust(4)}{head}"]
        lines += [_row(one, width) for one in rows]
    compared = ratios(series)
    if compared:
        lines += ["", "ratios of the medians"]
        groups: dict[tuple[str, str], list[str]] = {}
        for one in compared:
            groups.setdefault((one.group, one.ours), []).append(f"{one.value:.2f} × {one.peer}")
        lines += [f"  {ours} ({group}): {' · '.join(found)}" for (group, ours), found in groups.items()]
    aimed = [one for one in series if one.met is not None]
    missed = [one for one in aimed if not one.met]
    if aimed:
        lines += ["", f"aims: {len(aimed) - len(missed)} of {len(aimed)} met"]
        lines += [f"  missed: {one.part}, {one.name}: {_number(one.p50)} {one.unit}, aim {_aim(one)}" for one in missed]
    return "\n".join(lines) + "\n"


def _row(one: Series, width: int) -> str:
    single = len(one.values) == 1
    numbers = [one.p50] if single else [percentile(one.values, percent) for percent in (50, 95, 100)]
    cells = "".join(_number(value).rjust(_NUMBER_WIDTH) for value in numbers).ljust(3 * _NUMBER_WIDTH)
    verdict = f"  aim {_aim(one)}: {'met' if one.met else 'MISSED'}" if one.aim is not None else ""
    return f"  {one.name.ljust(width)}{str(len(one.values)).rjust(4)}{cells} {one.unit.ljust(7)}{verdict}".rstrip()


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _aim(one: Series) -> str:
    return f"≤ {one.aim:g} {one.unit}"


def as_json(series: Sequence[Series], machine: Mapping[str, str], *, quick: bool) -> dict[str, Any]:
    """The same as data, every single value with it."""
    return {
        "machine": dict(machine),
        "quick": quick,
        "series": [
            {
                "part": one.part,
                "name": one.name,
                "unit": one.unit,
                "group": one.group or None,
                "peer": one.peer,
                "n": len(one.values),
                "p50": one.p50,
                "p95": percentile(one.values, 95),
                "max": max(one.values),
                "aim": one.aim,
                "met": one.met,
                "values": list(one.values),
            }
            for one in series
        ],
        "ratios": [
            {"group": one.group, "ours": one.ours, "peer": one.peer, "value": one.value} for one in ratios(series)
        ],
    }
