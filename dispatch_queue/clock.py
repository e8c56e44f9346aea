"""The two clocks. Wall time is for people and records; only monotonic time measures a distance."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What code that waits or dates takes as an argument, so that a test can hold the hands."""

    def now(self) -> datetime:
        """Wall time in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an unknown instant; never steps back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


SYSTEM: Clock = SystemClock()


def stamp(moment: datetime) -> str:
    """`moment` as ISO 8601 in UTC with milliseconds: `2026-11-23T12:00:00.000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_stamp(text: str) -> datetime:
    """The moment that `stamp` wrote. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
