"""What becomes of a task when its agent has ended: a pure decision over what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from dispatch_queue.plan import Item, Mark, Plan
from dispatch_queue.record import Entry
from dispatch_queue.states import Event, FailReason
from worker.livecopy import View
from worker.process import ProcessExit
from worker.supervisor import Stop

_SHOWN = 3  # items named in a reason
_ITEM_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class End:
    """All that the decision needs. `tries` counts this attempt's predecessors that ended unfinished."""

    view: View
    exit: ProcessExit
    stop: Stop | None
    progressed: bool  # an item was checked, or the plan rewritten, in this attempt
    last_line: str
    strangers: tuple[str, ...] = ()
    newly_blocked: tuple[int, ...] = ()  # items the agent marked [?] in this attempt
    tries: int = 0
    idle_before: bool = False
    limit: int = 3
    items_before: int = 0  # as submitted; 0 where the agent makes the plan
    recovery: "Verdict | None" = None  # what to do about a failure of the CLI or its provider


@dataclass(frozen=True, slots=True)
class Verdict:
    """The event that ends the attempt. `counts`: it is one of the task's tries."""

    event: Event
    reason: str = ""
    counts: bool = False
    idle: bool = False  # nothing was checked in it
    check: str = ""  # what the failed check said, for the next attempt
    instead: str = ""  # `backend/model` of the next attempt, where the task's own failed
    until: str = ""  # when the next attempt may begin, as clock.stamp writes it
    stalls: int = 0  # failures of the provider in a row, this one counted
    hold: tuple[str, str] | None = None  # an account's family of models at its limit, and until when, as `until`


STOPPED = Verdict(Event.GIVE_BACK, "its worker stopped")


def _failed(why: FailReason, text: str) -> Verdict:
    return Verdict(Event.FAIL, f"{why}: {text}")


def _named(item: Item) -> str:
    text = item.text if len(item.text) <= _ITEM_CHARACTERS else item.text[: _ITEM_CHARACTERS - 1] + "…"
    return f"{item.number} {text!r}"


def unchecked(plan: Plan) -> str:
    """The items that are not done, as a reason names them."""
    left = [item for item in plan.items if item.mark is not Mark.DONE]
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return "unchecked: " + ", ".join(_named(item) for item in left[:_SHOWN]) + more


def how(exit: ProcessExit, last_line: str) -> str:
    """How an agent ended, in words, with the last thing it said."""
    said = f"; its last line: {last_line[:200]}" if last_line else ""
    if exit.error:
        return exit.error + said
    if exit.signal is not None:
        return f"the agent was killed by signal {exit.signal}{said}"
    if exit.code is None:
        return f"the agent ended; nobody saw how{said}"
    return f"the agent ended with exit status {exit.code}{said}"


def conclude(end: End) -> Verdict | None:
    """What the end of an agent means for its task; None when the task is not ours any more."""
    view, plan = end.view, end.view.plan
    if end.stop is Stop.LOST:
        return None
    if view.hostile:
        return _failed(FailReason.AGENT, f"the agent broke the task's record: {view.hostile}")
    if end.strangers:
        return _failed(
            FailReason.AGENT, f"the agent wrote outside its task's record: {', '.join(end.strangers[:_SHOWN])}"
        )
    if view.broken:
        return _failed(FailReason.AGENT, f"the agent left no readable plan: {view.broken}")
    if view.finished and len(plan.items) < end.items_before:
        removed = f"it had {end.items_before} items, and now {len(plan.items)}"
        return _failed(FailReason.AGENT, f"the agent took items out of the plan: {removed}")
    if view.finished:
        return Verdict(Event.FINISH)
    if end.stop is Stop.DRAIN:
        return STOPPED
    missing = unchecked(plan) if not plan.complete else "every item is checked but ipc/.done is missing"
    if end.stop is Stop.TIMEOUT:
        return _failed(FailReason.TIMEOUT, f"the attempt's time is up; {missing}")
    wrong = next((item for item in plan.items if item.mark is Mark.FAILED), None)
    if wrong is not None:
        return _failed(FailReason.ITEM, f"{_named(wrong)}: {wrong.note or 'no reason was given'}")
    if view.ipc.open:
        return Verdict(Event.PARK, f"question {view.ipc.open[0]}")
    if end.newly_blocked:
        return Verdict(Event.PARK, f"item {end.newly_blocked[0]} is blocked")
    if end.recovery is not None:
        return end.recovery
    if not end.progressed and end.exit.code not in (0, None):
        return _failed(FailReason.AGENT, how(end.exit, end.last_line))
    # An agent that was killed tells nothing of what the next one can do.
    idle = not end.progressed and end.exit.signal is None and end.exit.error is None
    if idle and end.idle_before:
        return _failed(
            FailReason.AGENT, f"two attempts in a row checked nothing; {how(end.exit, end.last_line)}; {missing}"
        )
    if end.tries + 1 >= end.limit:
        last = "" if end.exit.ok else f", the last so: {how(end.exit, end.last_line)}"
        return _failed(
            FailReason.AGENT, f"{end.limit} attempt{'s' * (end.limit > 1)} ended unfinished{last}; {missing}"
        )
    cut = f"; {end.exit.error}" if end.exit.error else ""
    return Verdict(
        Event.GIVE_BACK,
        f"to be continued: {plan.done} of {len(plan.items)} items are checked{cut}",
        counts=True,
        idle=idle,
    )


def items_agreed(entries: Sequence[Entry]) -> int:
    """How many items a person gave a task: when it was submitted, or queued again since."""
    given = [entry.facts.get("total", 0) for entry in entries if _is_a_persons(entry)]
    return int(given[-1]) if given else 0


def _is_a_persons(entry: Entry) -> bool:
    return entry.event in (Event.SUBMIT, Event.HOLD, Event.RETRY) and "total" in entry.facts


def not_begun(why: str, *, tries: int, limit: int) -> Verdict:
    """What it means that an agent did not begin, for a reason that is not its own."""
    if tries + 1 >= limit:
        return _failed(FailReason.START, why)
    return Verdict(Event.GIVE_BACK, f"the agent did not begin: {why}", counts=True)


def broken_off(why: str, *, tries: int, limit: int) -> Verdict:
    """What it means that an error of the worker's own ended an attempt."""
    said = f"an error of its worker broke the attempt off (the traceback is in its log): {why}"
    if tries + 1 >= limit:
        return _failed(FailReason.LOST, said)
    return Verdict(Event.GIVE_BACK, said, counts=True)


def judge(exit: ProcessExit, stop: Stop | None, said: str, *, failed_before: bool) -> Verdict | None:
    """What the end of a `--verify` command means for a task whose agent says that all is done.

    Its first failure makes one more attempt, which is told what it said; the second one fails the task.
    """
    match stop:
        case Stop.LOST:
            return None
        case Stop.DRAIN:
            return STOPPED
        case Stop.TIMEOUT:
            return _failed(FailReason.VERIFY, "the check did not end in the attempt's time")
    if exit.ok:
        return Verdict(Event.FINISH)
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    ended = how(exit, last).replace("the agent", "the check")
    if failed_before:
        return _failed(FailReason.VERIFY, ended)
    return Verdict(Event.GIVE_BACK, f"one more attempt: {ended}", check=said.strip() or ended)
