"""`python -P stepped_clock.py STEPS PYTHON … -m MODULE ARGUMENT…`: runs the module with a wall clock that can be set.

The clock is off by the seconds that stand in the file STEPS, from the moment that they do. Monotonic time goes on as it
is, as after a `date -s`. libfaketime cannot do this to a threaded Python: it breaks every wait with a time limit.
"""

import datetime
import runpy
import sys
import time
from pathlib import Path


def set_to(steps: Path, seconds: float) -> None:
    """Set the clock, in one step: whoever asks for the time while it is set gets the one or the other."""
    new = steps.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(steps)


def set_up(steps: Path) -> None:
    """Put the clock in the place of this process's own."""
    real = time.time_ns

    def time_ns() -> int:
        return real() + int(float(steps.read_text()) * 10**9)

    class Stepped(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Stepped":
            return cls.fromtimestamp(time.time(), tz)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 10**9
    datetime.datetime = Stepped  # type: ignore[misc]


if __name__ == "__main__":
    _, steps, *command = sys.argv
    set_up(Path(steps))
    sys.argv = command[command.index("-m") + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
