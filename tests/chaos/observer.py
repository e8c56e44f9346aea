"""Watches from outside, all the time: which agents live, and what was ever ticked in a file. Linux only."""

import contextlib
import glob
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from dispatch_queue import plan
from dispatch_queue.errors import BadPlan
from dispatch_queue.plan import Mark

LOOK_SECONDS = 0.02
YOUNG_SECONDS = 1.0  # a process may be between fork and exec: looked at again
WARDENS = ("guard", "warden")

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Member:
    """A process of an agent's tree. `mark` is that of its attempt's tree."""

    pid: int
    task: str
    mark: str
    attempt: int
    role: str  # `guard`, `warden`, `agent`, or `child` of an agent


@dataclass
class Overlap:
    """Two trees of one task that lived at the same time; times of the monotonic clock."""

    task: str
    attempts: tuple[int, int]
    first: float
    last: float

    @property
    def seconds(self) -> float:
        return self.last - self.first


@dataclass
class Observer:
    """One thread. `folder` is where all live copies are, `projects` those with home copies."""

    folder: Path
    plans: tuple[str, ...]  # patterns of plan.md below the folder
    overlaps: dict[tuple[str, str, str], Overlap] = field(default_factory=dict)
    ticked: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))  # task → item → wall time
    first_seen: dict[tuple[str, str], float] = field(default_factory=dict)  # (task, mark) → wall time of its agent
    looks: int = 0
    _known: dict[tuple[int, int], Member | None] = field(default_factory=dict)
    _stats: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look_at_processes()
                self._look_at_plans()
                self.looks += 1
                self._stop.wait(LOOK_SECONDS)
        except BaseException as error:  # noqa: BLE001
            self._error = error

    def members(self, task: str | None = None) -> list[Member]:
        """The living processes of agents' trees, wardens too."""
        found = []
        for name in (entry.name for entry in Path("/proc").iterdir()):
            if name.isdigit():
                member = self._member(int(name))
                if member is not None and task in (None, member.task):
                    found.append(member)
        return found

    def _member(self, pid: int) -> Member | None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                return None
            started = int(fields[19])
            if (pid, started) in self._known:
                return self._known[pid, started]
            member = self._read(pid)
        except OSError:
            return None
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / _TICKS
        if (member is not None and member.role not in WARDENS) or age > YOUNG_SECONDS:
            self._known[pid, started] = member
        return member

    def _read(self, pid: int) -> Member | None:
        environ = dict(
            part.split(b"=", 1) for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in part
        )
        mark, task = environ.get(b"DISPATCH_TREE"), environ.get(b"DISPATCH_TASK_ID")
        if (
            mark is None
            or task is None
            or not environ.get(b"DISPATCH_TASK_DIR", b"").startswith(os.fsencode(self.folder))
        ):
            return None
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        role = "agent" if b"import shell_agent" in argv else "child"
        if b"import warden" in argv:
            role = "guard" if os.getsid(pid) == pid else "warden"
        return Member(pid, task.decode(), mark.decode(), int(environ.get(b"DISPATCH_ATTEMPT", b"0")), role)

    def alive(self, member: Member) -> bool:
        return self._member(member.pid) == member

    def _look_at_processes(self) -> None:
        trees: dict[str, dict[str, Member]] = defaultdict(dict)
        for member in self.members():
            if member.role in WARDENS:
                continue
            for mark, other in trees[member.task].items():
                # Seen first and still there: only then both were there at once.
                if mark != member.mark and self.alive(other):
                    self._note(other, member)
            trees[member.task].setdefault(member.mark, member)
            if member.role == "agent":
                self.first_seen.setdefault((member.task, member.mark), time.time())

    def _note(self, one: Member, other: Member) -> None:
        first, second = sorted((one.mark, other.mark))
        attempts = (min(one.attempt, other.attempt), max(one.attempt, other.attempt))
        now = time.monotonic()
        self.overlaps.setdefault((one.task, first, second), Overlap(one.task, attempts, now, now)).last = now

    def _look_at_plans(self) -> None:
        for pattern in self.plans:
            # Path.glob fails for a folder that goes while it looks.
            for path in map(Path, glob.iglob(str(self.folder / pattern))):  # noqa: PTH207
                with contextlib.suppress(OSError, BadPlan):
                    found = path.stat()
                    if self._stats.get(path) == (found.st_mtime_ns, found.st_ino):
                        continue
                    data = path.read_bytes()
                    for item in plan.parse(data, name=str(path)).items:
                        if item.mark is Mark.DONE:
                            self.ticked[path.parent.name].setdefault(item.text, time.time())
                    self._stats[path] = (found.st_mtime_ns, found.st_ino)
