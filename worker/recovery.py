"""What a failure of an agent's CLI means for its task: another model, a wait, or the end. Pure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from dispatch_queue import when
from dispatch_queue.clock import stamp
from dispatch_queue.states import Event, FailReason
from worker.backends.failures import Failure, Fault
from worker.verdict import Verdict

LONGEST_LIMIT = timedelta(days=15)  # no provider's window is longer; a later time is a mistake
MARGIN = timedelta(seconds=5)  # after a limit's end: clocks differ
MOST_STALLS = 8  # failures of a passing kind in a row, with nothing checked in between


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to wait after a passing failure: twice as long each time in a row."""

    first: timedelta
    longest: timedelta

    def after(self, stalls: int) -> timedelta:
        """The wait after `stalls` earlier ones."""
        return min(self.first * float(2**stalls), self.longest)


PAUSES: Mapping[Failure, Pause] = MappingProxyType(
    {
        # By now the CLI has tried for minutes itself.
        Failure.RATE: Pause(timedelta(seconds=30), timedelta(minutes=15)),
        Failure.OVERLOADED: Pause(timedelta(seconds=30), timedelta(minutes=15)),
        Failure.NETWORK: Pause(timedelta(seconds=30), timedelta(minutes=15)),
        # An allowance without a time comes back in hours, if at all.
        Failure.LIMIT: Pause(timedelta(minutes=15), timedelta(hours=2)),
    }
)

REASONS: Mapping[Failure, FailReason] = MappingProxyType(
    {
        Failure.AUTH: FailReason.AUTH,
        Failure.LIMIT: FailReason.LIMIT,
        Failure.RATE: FailReason.LIMIT,
        Failure.CREDIT: FailReason.CREDIT,
        Failure.OVERLOADED: FailReason.PROVIDER,
        Failure.NETWORK: FailReason.PROVIDER,
        Failure.MODEL: FailReason.MODEL,
        Failure.MISSING: FailReason.START,
        Failure.ROOT: FailReason.START,
        Failure.OPTION: FailReason.START,
        Failure.BUDGET: FailReason.BUDGET,
        Failure.SESSION: FailReason.AGENT,
        Failure.AGENT: FailReason.AGENT,
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a failure happened. `others`, as `backend/model`, can take over in this order.

    `stalls` counts the passing failures before this one since an item was checked; `hold` names what a limit holds.
    """

    backend: str
    model: str
    host: str
    others: tuple[str, ...] = ()
    stalls: int = 0
    hold: str = ""


def recover(fault: Fault, setting: Setting, now: datetime) -> Verdict:
    """What to do about `fault`. Not for Failure.AGENT, of which the plan tells more."""
    if fault.kind is Failure.LIMIT and fault.until is not None and now < fault.until <= now + LONGEST_LIMIT:
        return held_back(fault.until + MARGIN, setting, fault.text)
    if fault.kind is Failure.SESSION:
        return Verdict(Event.GIVE_BACK, f"a fresh session begins: {fault.text}")
    passing = fault.kind in PAUSES
    if passing and setting.stalls < MOST_STALLS:
        over = fault.until is not None and fault.until <= now  # while the CLI was at its end
        again = now + PAUSES[Failure.RATE if over else fault.kind].after(setting.stalls)
        said = f"{setting.backend}: {fault.kind}, again at {when.clock(again)}: {fault.text}"
        return Verdict(Event.LIMIT, said, until=stamp(again), stalls=setting.stalls + 1)
    said = f"{REASONS[fault.kind]}: {fault.text}"
    if fault.kind is Failure.OPTION:
        said = f"{said}; correct `backends.{setting.backend}.command`, see dispatch doctor"
    if setting.others and fault.kind is not Failure.BUDGET:
        return _taken_over(setting, said)
    where = f" ({setting.backend} on {setting.host})" if fault.kind in _OF_A_MACHINE else ""
    tried = f", {setting.stalls + 1} times in a row" if passing else ""
    return Verdict(Event.FAIL, f"{said}{tried}{where}")


def held_back(until: datetime, setting: Setting, text: str = "an attempt before reached it") -> Verdict:
    """What to do while the account of the task's model is at its limit."""
    hold = (setting.hold, stamp(until))
    if setting.others:
        return dataclasses.replace(_taken_over(setting, f"{FailReason.LIMIT}: {text}"), hold=hold)
    said = f"{setting.backend} limit until {when.local(until)} ({setting.model})"
    return Verdict(Event.LIMIT, said, until=stamp(until), hold=hold)


def _taken_over(setting: Setting, why: str) -> Verdict:
    model = setting.others[0].partition("/")[2]
    said = f"{model} takes over from {setting.model}: {why}"
    return Verdict(Event.GIVE_BACK, said, instead=setting.others[0])


_OF_A_MACHINE = frozenset({Failure.AUTH, Failure.MISSING, Failure.ROOT, Failure.OPTION})
