"""Waiting for a condition instead of sleeping for luck."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01
PATIENCE_SECONDS = 60.0  # for what takes a moment on a machine that has nothing else to do


def seconds_of(limit: timedelta | float) -> float:
    """`limit` in seconds, whichever way it was given."""
    return limit.total_seconds() if isinstance(limit, timedelta) else float(limit)


def wait_for(condition: Callable[[], T], what: str, limit: timedelta | float = PATIENCE_SECONDS) -> T:
    """The first true value of `condition`, asked every 10 ms; an exception counts as "not yet".

    Fails with an AssertionError that names `what` and the last value or exception after `limit` (seconds).
    """
    allowed = seconds_of(limit)
    deadline = time.monotonic() + allowed
    while True:
        # Looked at before asking, so that a condition slower than the limit is asked once more after a stall.
        late = time.monotonic() >= deadline
        last_error: Exception | None = None
        seen = "nothing"
        try:
            value = condition()
        except Exception as error:  # noqa: BLE001
            last_error = error
            seen = f"{type(error).__name__}: {error}"
        else:
            if value:
                return value
            seen = repr(value)
        if late:
            raise AssertionError(f"waited {allowed:g} s for {what}; last seen: {seen}") from last_error
        time.sleep(POLL_SECONDS)
