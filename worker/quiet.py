"""Whether an agent still does anything: output, changes in its record, CPU time of its processes.

A quiet agent is shown as such, with the evidence. It is not ended for it: it may wait for a slow model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import psutil

CPU_SECONDS = 0.5  # in a quiet time: a process that only waits uses less
_SAMPLES = 4  # of CPU time in the time after which an agent is quiet


@dataclass(frozen=True, slots=True)
class Quiet:
    """The evidence: nothing for so many seconds, `processes` alive, CPU seconds they used in that time."""

    seconds: float
    processes: int
    cpu_seconds: float

    def __str__(self) -> str:
        return (
            f"no output and no change of the plan for {self.seconds / 60:.0f} min, "
            f"{self.processes} process{'es' * (self.processes != 1)} used {self.cpu_seconds:.1f} s of CPU"
        )


class Attention:
    """Watches one agent's tree. Times in seconds on the caller's monotonic clock."""

    def __init__(self, pid: int, *, now: float, after: float) -> None:
        self._pid, self._after = pid, after
        self._since = self._sampled = now
        self._cpu: float | None = None  # at `_since`
        self._quiet = False

    def stirred(self, now: float) -> None:
        """There was output, or a change in the record."""
        self._since, self._cpu = now, None

    def look(self, now: float) -> Quiet | Literal[False] | None:
        """The evidence when the agent has just fallen quiet, None when it has just stirred, False for no change."""
        if now - self._since < self._after:
            if now - self._sampled >= self._after / _SAMPLES and self._cpu is None:
                self._sampled, self._cpu = now, self._measure()[1]
            if self._quiet:
                self._quiet = False
                return None
            return False
        if self._quiet and now - self._sampled < self._after / _SAMPLES:
            return False
        self._sampled = now
        processes, cpu = self._measure()
        used = cpu - (self._cpu if self._cpu is not None else cpu)
        if used >= CPU_SECONDS:
            self._since, self._cpu = now, cpu
            if self._quiet:
                self._quiet = False
                return None
            return False
        if self._quiet:
            return False
        self._quiet = True
        return Quiet(now - self._since, processes, used)

    def _measure(self) -> tuple[int, float]:
        """How many processes the tree has, and their CPU seconds so far, ended children included."""
        import psutil

        try:
            top = psutil.Process(self._pid)
            tree = [top, *top.children(recursive=True)]
        except psutil.Error:
            return 0, 0.0
        return len(tree), sum(_cpu_of(process) for process in tree)


def _cpu_of(process: "psutil.Process") -> float:
    import psutil

    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0))
