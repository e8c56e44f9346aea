"""The job whose worker is killed: it counts to ten, and writes each number down. What became of its ticks."""

import itertools
import os
import shlex
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COUNT: Final = 10
PAUSE_SECONDS: Final = 0.5
GOES_ON_SECONDS: Final = 1.0  # a run that still writes so long after the kill was not ended by it

# One tick. As a step of dispatch's task it is an item's command; RUN tells the runs of a job apart.
_STEP: Final = """\
#!/bin/sh
# step JOB RUN NUMBER PAUSE
echo "$1 $2 begin $3" > {pipe}
sleep "$4"
echo "$1 $2 tick $3" > {pipe}
"""

_COUNT: Final = """\
#!/bin/sh
# count JOB PAUSE: all ticks in one process, as an agent is one
number=1
while [ $number -le {count} ]; do
  {step} "$1" $$ $number "$2"
  number=$((number + 1))
done
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a run of a job wrote, and when that was heard, in seconds of the monotonic clock."""

    at: float
    run: str
    word: str  # `begin` or `tick`
    number: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a job. `after` is the time from the kill to the next run's first act, None without one."""

    after: float | None
    twice: int  # numbers that were written again
    lost: int  # numbers that were never written
    together: bool  # two of its runs were alive at the same time
    went_on: bool  # the run that was to be ended went on
    ticked_twice: int = 0  # items that dispatch's own record has as done more than once


def judge(lines: Sequence[Line], killed: float | None) -> Fate:
    """What became of a job that was under way at `killed`, or of one that nobody killed."""
    runs: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        runs[line.run].append(line.at)
    spans = sorted((min(times), max(times)) for times in runs.values())
    again = [span[0] for span in spans if killed is not None and span[0] > killed]
    ends = [span[1] for span in spans if killed is not None and span[0] <= killed]
    ticks = Counter(line.number for line in lines if line.word == "tick")
    return Fate(
        after=min(again) - killed if again and killed is not None else None,
        twice=sum(ticks.values()) - len(ticks),
        lost=COUNT - len(ticks),
        together=any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)),
        went_on=any(end > (killed or 0.0) + GOES_ON_SECONDS for end in ends) or (not again and is_whole(lines)),
    )


def is_whole(lines: Sequence[Line]) -> bool:
    """Whether every tick was written."""
    return len({line.number for line in lines if line.word == "tick"}) == COUNT


class Ledger:
    """Hears all jobs through one named pipe. `step` and `count` are the jobs' programs."""

    def __init__(self, folder: Path) -> None:
        pipe = folder / "ticks"
        self.step, self.count = folder / "step", folder / "count"
        for path, text in ((self.step, _STEP), (self.count, _COUNT)):
            path.write_text(text.format(pipe=shlex.quote(str(pipe)), step=shlex.quote(str(self.step)), count=COUNT))
            path.chmod(0o755)
        os.mkfifo(pipe, 0o600)
        self._handle = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)  # for writing too, so that it never ends
        self._lines: dict[str, list[Line]] = defaultdict(list)
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="ledger", daemon=True).start()

    def of(self, job: str) -> list[Line]:
        """What the runs of a job have written so far."""
        with self._lock:
            return [*self._lines[job]]

    def items(self, job: str) -> tuple[str, ...]:
        """The job as items for the shell backend."""
        step = shlex.quote(str(self.step))
        return tuple(f"{n}: `{step} {job} $DISPATCH_ATTEMPT {n} {PAUSE_SECONDS}`" for n in range(1, COUNT + 1))

    def _listen(self) -> None:
        rest = b""
        while True:
            data = os.read(self._handle, 65536)
            at = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            with self._lock:
                for job, run, word, number in (line.decode().split() for line in lines):
                    self._lines[job].append(Line(at, run, word, int(number)))
