"""When a task may start: what it waits for, and how a person holds and releases it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dispatch_queue import waiting, when
from dispatch_queue.clock import SYSTEM, Clock, stamp
from dispatch_queue.errors import BadInput, Refused
from dispatch_queue.home import actor
from dispatch_queue.mirror import sync
from dispatch_queue.record import Ref
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir

if TYPE_CHECKING:
    from dispatch_queue.store import Store

LIMIT_AFTER = 500  # tasks that one can wait for


def not_before(at: str, delay: str, *, clock: Clock = SYSTEM) -> str:
    """The `clock.stamp` that `--at` or `--delay` means, "" for neither. Raises BadInput."""
    if at and delay:
        raise BadInput("--at and --delay were both given", hint="leave one out")
    if delay:
        return stamp(clock.now() + when.parse_delay(delay))
    return stamp(when.parse_time(at, clock.now())) if at else ""


def names_in(given: Iterable[str]) -> list[str]:
    """The ids that were given one by one or separated by commas, each once. Raises BadInput for too many."""
    names = list(dict.fromkeys(name.strip() for words in given for name in words.split(",") if name.strip()))
    if len(names) > LIMIT_AFTER:
        raise BadInput(f"a task can wait for {LIMIT_AFTER} others, not {len(names)}", hint="put a task in between")
    return names


def hold(store: "Store", home: TaskDir, ref: Ref, *, clock: Clock = SYSTEM) -> None:
    """Keep a queued or waiting task from starting until it is released. Raises Refused for another one, StoreDown."""
    standing = sync(store, home, ref)
    from dispatch_queue.change import step

    change = step(
        Event.HOLD,
        at=stamp(clock.now()),
        by=actor(),
        reason=waiting.reason(ref.task, held=True, after=standing.after, until=standing.until),
        facts={"held": True},
        fields={"hold": "1"},
        stay=frozenset({State.WAITING}),
    )
    try:
        store.change(ref, change)
    except Refused as error:
        raise Refused(
            f"task `{ref.task}` is {error.state}; only a queued or waiting one can be held",
            state=error.state,
            hint=f"dispatch cancel {ref.task}" if error.state in ("running", "asking") else f"dispatch show {ref.task}",
        ) from error


def release(store: "Store", ref: Ref, *, now: bool = False, clock: Clock = SYSTEM) -> bool:
    """Take the hold of a task away, with `now` whatever it waits for; whether it is queued by that.

    Raises Refused for a task that does not wait, or is not held; StoreDown.
    """
    record = store.record(ref)
    if record is not None and record.state is State.WAITING and not record.hold and not now:
        raise Refused(
            f"task `{ref.task}` is not held; it waits: {record.reason}",
            state=record.state,
            hint=f"dispatch release {ref.task} --now starts it all the same",
        )
    queued = store.release(ref, "" if now else "hold", at=stamp(clock.now()), by=actor())
    if queued is None:
        state = record.state if record else "unknown"
        raise Refused(f"task `{ref.task}` is {state}; it waits for nothing", state=state, hint="dispatch ls")
    return queued
