"""Times that a person gives and is shown: `2h`, `16:11`, `2026-11-24T16:11`. Pure; local time is the machine's."""

import re
from datetime import datetime, time, timedelta

from dispatch_queue.clock import parse_stamp
from dispatch_queue.errors import BadInput

LONGEST = timedelta(days=366)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DELAY = re.compile(r"(?:[0-9]{1,9}[smhd])+")
_PART = re.compile(r"([0-9]+)([smhd])")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")


def parse_delay(text: str) -> timedelta:
    """`90s`, `10m`, `2h`, `1d`, `1h30m` as a distance. Raises BadInput."""
    bare = text.replace(" ", "").lower()
    if not _DELAY.fullmatch(bare):
        raise BadInput(f"not a delay: {text[:40]!r}", hint="write a number with its unit: 90s, 10m, 2h, 1d, 1h30m")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(bare))
    if seconds > LONGEST.total_seconds():
        raise BadInput(f"{text[:40]} is more than {LONGEST.days} days", hint="hold the task instead: --hold")
    return timedelta(seconds=seconds)


def parse_time(text: str, now: datetime) -> datetime:
    """A moment after `now`: `HH:MM` is the next one in local time, ISO 8601 without a zone is local too.

    Raises BadInput for what is neither, and for a time that has passed.
    """
    bare = text.strip()
    found = _CLOCK.fullmatch(bare)
    if found:
        hour, minute, second = (int(part or 0) for part in found.groups())
        today = now.astimezone().date()
        # Through naive values: a day may have 23 or 25 hours.
        moments = (datetime.combine(today + timedelta(days=later), time(hour, minute, second)) for later in (0, 1, 2))
        return next(moment.astimezone() for moment in moments if moment.astimezone() > now)
    try:
        moment = datetime.fromisoformat(bare).astimezone()
        far = moment - now > LONGEST
    except (ValueError, OverflowError) as error:
        raise BadInput(f"not a time: {text[:40]!r}", hint="write 16:30, or 2026-11-24T16:30") from error
    if moment <= now:
        raise BadInput(f"{text[:40]} has passed; it is {local(now)}", hint="leave the time out to start at once")
    if far:
        raise BadInput(f"{text[:40]} is more than {LONGEST.days} days away", hint="hold the task instead: --hold")
    return moment


def local(moment: datetime) -> str:
    """A moment as a person is shown it: local time, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def clock(moment: datetime) -> str:
    """A moment of today as a person is shown it: local time, to the second."""
    return moment.astimezone().strftime("%H:%M:%S")


def shown(stamp: str) -> str:
    """The moment of a `clock.stamp` as a person is shown it; something else as it is."""
    try:
        return local(parse_stamp(stamp))
    except (ValueError, OverflowError):
        return stamp


def milliseconds(stamp: str) -> int:
    """The moment of a `clock.stamp` in milliseconds since 1970; 0 for something else."""
    try:
        return max(0, int(parse_stamp(stamp).timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0
