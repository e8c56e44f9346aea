"""The result as a table for people and as JSON: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.figures import PARTS, Series, percentile, ratios

HEADINGS: Mapping[str, str] = {
    "start": "start: from a submit to the agent's first act",
    "tick": "tick: written by the agent → in the home copy",
    "question": "question: written by the agent → told",
    "answer": "answer: written in the home copy → in the agent's live copy",
    "cold": "cold: a command from its start to its end",
    "memory": "memory: PSS, without the agents themselves",
    "parked": "parked: what tasks cost that wait for an answer",
    "recover": "recover: killed with its jobs → the next run",
}
MATRICES = ("recover",)  # a row a group, a column a name: many small numbers side by side
_NUMBER_WIDTH = 9


def table(series: Sequence[Series], machine: Mapping[str, str]) -> str:
    """Everything that was measured, in the order of `PARTS`."""
    parts = {one.part for one in series}
    width = max(*(len(one.name) + 4 for one in series), *(len(HEADINGS[part]) for part in parts))
    key_width = max(len(name) for name in machine) + 2
    lines = [f"{name.ljust(key_width)}{value}" for name, value in machine.items()]
    for part in PARTS:
        rows = [one for one in series if one.part == part]
        if not rows:
            continue
        head = "".join(title.rjust(_NUMBER_WIDTH) for title in ("p50", "p95", "max"))
        if part in MATRICES:
            lines += ["", *_matrix(rows, HEADINGS[part])]
            continue
        lines += ["", HEADINGS[part].ljust(width + 2) + "n".rjust(4) + head]
        for group in dict.fromkeys(one.group for one in rows):
            members = [one for one in rows if one.group == group]
            lines += [f"  {group}", *(_row(one, width) for one in members), *_compared(members)]
    return "\n".join([*lines, *_aims(series)]) + "\n"


def _row(one: Series, width: int) -> str:
    single = len(one.values) == 1
    numbers = [one.p50] if single else [percentile(one.values, percent) for percent in (50, 95, 100)]
    cells = "".join(_number(value, one.unit).rjust(_NUMBER_WIDTH) for value in numbers).ljust(3 * _NUMBER_WIDTH)
    verdict = f"aim {_aim(one)}: {'met' if one.met else 'MISSED'}" if one.aim is not None else ""
    return (
        f"    {one.name.ljust(width - 2)}{str(len(one.values)).rjust(4)}{cells} {one.unit.ljust(4)}{verdict}".rstrip()
    )


def _matrix(rows: Sequence[Series], heading: str) -> list[str]:
    """The median of each, as a table whose columns are what was measured and whose rows are of whom."""
    columns = list(dict.fromkeys(one.name for one in rows))
    groups = list(dict.fromkeys(one.group for one in rows))
    width = max(len(heading), *(len(group) + 4 for group in groups))
    widths = {name: max(len(name) + 2, _NUMBER_WIDTH) for name in columns}
    lines = [heading.ljust(width) + "".join(name.rjust(widths[name]) for name in columns)]
    for group in groups:
        found = {one.name: one for one in rows if one.group == group}
        aimed = [one for one in found.values() if one.aim is not None]
        cells = [_cell(found.get(name)).rjust(widths[name]) for name in columns]
        verdict = "" if not aimed else "  aims met" if all(one.met for one in aimed) else "  aims MISSED"
        lines.append(f"    {group}".ljust(width) + "".join(cells) + verdict)
    return lines


def _cell(one: Series | None) -> str:
    return "–" if one is None else f"{_number(one.p50, one.unit)} {one.unit}".rstrip()


def _compared(members: Sequence[Series]) -> list[str]:
    """Each of ours as a multiple of each peer's."""
    found: dict[str, list[str]] = {}
    for one in ratios(members):
        found.setdefault(one.ours.name, []).append(f"{one.value:.2f} × {one.peer.name}")
    return [f"    = {name}: {', '.join(texts)}" for name, texts in found.items()]


def _aims(series: Sequence[Series]) -> list[str]:
    aimed = [one for one in series if one.aim is not None]
    if not aimed:
        return []
    missed = [one for one in aimed if not one.met]
    lines = [
        f"  missed: {one.part}, {one.group}, {one.name}: {_number(one.p50, one.unit)}, aim {_aim(one)}"
        for one in missed
    ]
    return ["", f"aims: {len(aimed) - len(missed)} of {len(aimed)} met", *lines]


def _number(value: float, unit: str) -> str:
    return f"{value:.0f}" if not unit or abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _aim(one: Series) -> str:
    return f"≤ {one.aim:g} {one.unit}".rstrip()


def as_json(series: Sequence[Series], machine: Mapping[str, str], *, quick: bool) -> dict[str, Any]:
    """The same as data, every single value with it."""
    return {
        "machine": dict(machine),
        "quick": quick,
        "series": [
            {
                "part": one.part,
                "group": one.group,
                "name": one.name,
                "peer": one.peer,
                "unit": one.unit,
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
            {
                "part": one.ours.part,
                "group": one.ours.group,
                "ours": one.ours.name,
                "peer": one.peer.name,
                "value": one.value,
            }
            for one in ratios(series)
        ],
    }
