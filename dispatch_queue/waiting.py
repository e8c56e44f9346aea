"""What a waiting task waits for, as its request has it and as a person reads it."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from dispatch_queue import when
from dispatch_queue.record import Standing, Task
from dispatch_queue.states import State

SHOWN_NAMES = 4  # of tasks in a reason; scripts/common.lua says it alike


def reason(task_id: str, *, held: bool = False, after: Iterable[str] = (), until: str = "") -> str:
    """What a waiting task waits for, as a person reads it; `until` is a `clock.stamp`."""
    parts = [f"held: dispatch release {task_id}"] if held else []
    names = sorted(after)
    if names:
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        parts.append(f"after {', '.join(names[:SHOWN_NAMES])}{more}")
    if until:
        parts.append(f"until {when.shown(until)}")
    return "; ".join(parts)


def facts(task: Task) -> dict[str, Any]:
    """The facts of the first journal entry of a task that waits; none for one that is queued at once."""
    if not (task.after or task.not_before or task.hold):
        return {}
    said = reason(task.id, held=task.hold, after=task.after, until=task.not_before)
    return {"reason": said, "held": task.hold, "after": list(task.after), "until": task.not_before}


def as_submitted(task: Task, standing: Standing) -> Standing:
    """`standing` of a task whose journal has lost in which state it is: as it was when it was submitted."""
    asked = facts(task)
    return dataclasses.replace(
        standing,
        state=State.WAITING if asked else State.QUEUED,
        reason=asked.get("reason", ""),
        held=task.hold,
        after=task.after,
        until=task.not_before,
        changed=standing.changed or task.created,
    )
