"""A task's directory: its layout, who writes which file, and what can be read off it.

`base` is the folder above `.dispatch/`: the project for the home copy, the workspace for the live copy.
"""

import contextlib
import enum
import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue import files, ids, ipc, plan
from dispatch_queue.errors import BadInput, BadPlan, DispatchError, UntrustedPath
from dispatch_queue.record import Entry, Standing, Task, dump_task, fold, load_task, parse_entry
from dispatch_queue.waiting import as_submitted

TASKS = ".dispatch/tasks"
TASK, PLAN, JOURNAL = "task.yaml", "plan.md", "journal.jsonl"
REJECTED = "journal.rejected.jsonl"  # what stood in a journal and was not from us
CONTEXT, OUTPUT = "context.md", "output.md"

MIB = 1024 * 1024
TASK_LIMIT_BYTES = 2 * MIB
JOURNAL_LIMIT_BYTES = 64 * MIB
CONTEXT_LIMIT_BYTES = MIB
OUTPUT_LIMIT_BYTES = 8 * MIB
_TAIL_BYTES = 256 * 1024
_ATTEMPTS = "attempts"


class Writer(enum.Enum):
    """Who may write a file, and so which way it travels: the agent's from live to home, the dispatcher's back."""

    SUBMIT = enum.auto()
    DISPATCHER = enum.auto()
    AGENT = enum.auto()


# plan.md also carries the dispatcher's notes; they travel as journal entries and are merged in.
TABLE: Sequence[tuple[re.Pattern[str], Writer, int]] = (
    (re.compile(r"task\.yaml"), Writer.SUBMIT, TASK_LIMIT_BYTES),
    (re.compile(r"plan\.md"), Writer.AGENT, plan.LIMIT_BYTES),
    (re.compile(r"context\.md"), Writer.AGENT, CONTEXT_LIMIT_BYTES),
    (re.compile(r"output\.md"), Writer.AGENT, OUTPUT_LIMIT_BYTES),
    (re.compile(r"ipc/[0-9]{3}\.question"), Writer.AGENT, ipc.QUESTION_LIMIT_BYTES),
    (re.compile(r"ipc/[0-9]{3}\.done"), Writer.AGENT, ipc.QUESTION_LIMIT_BYTES),
    (re.compile(r"ipc/\.done"), Writer.AGENT, ipc.QUESTION_LIMIT_BYTES),
    (re.compile(r"ipc/[0-9]{3}\.answer"), Writer.DISPATCHER, ipc.ANSWER_LIMIT_BYTES),
)


def writer_of(name: str) -> tuple[Writer, int] | None:
    """Who writes the file `name` of a task and its limit in bytes; None for a name outside the table."""
    for pattern, writer, limit_bytes in TABLE:
        if pattern.fullmatch(name):
            return writer, limit_bytes
    return None


@dataclass(frozen=True, slots=True)
class TaskDir:
    """One copy of a task's record."""

    base: Path
    id: str

    @property
    def folder(self) -> str:
        return f"{TASKS}/{self.id}"

    @property
    def path(self) -> Path:
        return self.base / TASKS / self.id

    def exists(self) -> bool:
        return (self.path / TASK).is_file()

    def name(self, below: str) -> str:
        return f"{self.folder}/{below}"

    def read(self, name: str) -> bytes:
        """The bytes of a file of the table. Raises FileNotFoundError, UntrustedPath."""
        known = writer_of(name)
        if known is None:
            raise UntrustedPath(name, "is no file of a task's record")
        return files.read(self.base, self.name(name), limit_bytes=known[1])

    def write(self, name: str, data: bytes, *, replace: bool = True) -> None:
        """Put a file of the table in place whole. Raises FileExistsError with `replace=False`, UntrustedPath."""
        known = writer_of(name)
        if known is None or len(data) > known[1]:
            raise UntrustedPath(name, "is no file of a task's record" if known is None else "is too large")
        files.write(self.base, self.name(name), data, replace=replace)

    def has(self, name: str, data: bytes) -> bool:
        """Whether a file of the table holds just these bytes."""
        try:
            return self.read(name) == data
        except (FileNotFoundError, UntrustedPath):
            return False

    def task(self) -> Task:
        """What was asked. Raises BadInput, FileNotFoundError, UntrustedPath."""
        name = self.name(TASK)
        task = load_task(self.read(TASK), name=name)
        if task.id != self.id:
            raise BadInput(f"{name}: is of another task, {task.id[:80]!r}")
        return task

    def plan(self) -> plan.Plan:
        """The checklist as it stands. Raises BadPlan, FileNotFoundError, UntrustedPath."""
        return plan.parse(self.read(PLAN), name=f"{self.folder}/{PLAN}")

    def ipc(self) -> ipc.Ipc:
        """Questions and answers as they stand. Raises UntrustedPath."""
        return ipc.look(self.base, self.folder)

    def entries(self) -> list[Entry]:
        """The journal, oldest first, without torn and foreign lines. Raises FileNotFoundError, UntrustedPath."""
        return list(_entries_in(files.read(self.base, self.name(JOURNAL), limit_bytes=JOURNAL_LIMIT_BYTES)))

    def mend_journal(self) -> bool:
        """Put an empty journal in the place of something that is none; whether that was needed. Raises OSError."""
        made = files.clear(self.base, self.name(JOURNAL), limit_bytes=JOURNAL_LIMIT_BYTES)
        try:
            files.write(self.base, self.name(JOURNAL), b"", replace=False)
        except FileExistsError:
            return made
        return True

    def standing(self) -> Standing:
        """Where the task stands by its directory alone. Raises FileNotFoundError, UntrustedPath."""
        standing = fold(self.entries())
        if standing.state is None:
            with contextlib.suppress(DispatchError, OSError):
                return as_submitted(self.task(), standing)
        return standing

    def attempt_folder(self, attempt: int) -> Path:
        """The folder of an attempt's prompt.md, agent.log and result.json; made if missing."""
        name = self.name(f"{_ATTEMPTS}/{attempt}")
        files.make_folder(self.base, name)
        return self.base / name


def _entries_in(data: bytes) -> Iterator[Entry]:
    for line in data.split(b"\n")[:-1]:
        try:
            yield parse_entry(line.decode())
        except (ValueError, KeyError, TypeError):
            continue


def create(base: Path, task: Task, plan_bytes: bytes, first: Entry) -> TaskDir:
    """Make a task's directory whole or not at all.

    Raises FileExistsError when the id is taken, BadInput when the project cannot be written, DispatchError when the
    disk is full.
    """
    home = TaskDir(base, task.id)
    making = f"{TASKS}/.{task.id}.{os.getpid()}.making"
    try:
        if home.path.exists():
            raise FileExistsError(home.path)
        _stage(base, making, task, plan_bytes, first)
        os.rename(base / making, home.path)
    except FileExistsError:
        raise
    except OSError as error:
        if home.path.exists():
            raise FileExistsError(home.path) from error
        raise _unwritable(base, error) from error
    finally:
        shutil.rmtree(base / making, ignore_errors=True)
    return home


def create_all(base: Path, made: Sequence[tuple[Task, bytes, Entry]]) -> list[TaskDir]:
    """Make the directories of many tasks, in their order; all of them, or none where one cannot be made.

    Raises FileExistsError when an id is taken, BadInput when the project cannot be written, DispatchError when the
    disk is full.
    """
    homes = [TaskDir(base, task.id) for task, _, _ in made]
    staged = {home: f"{TASKS}/.{home.id}.{os.getpid()}.making" for home in homes}
    reserved: list[TaskDir] = []
    try:
        for home, (task, plan_bytes, first) in zip(homes, made, strict=True):
            _stage(base, staged[home], task, plan_bytes, first)
        for home in homes:
            home.path.mkdir()
            reserved.append(home)
        for home in homes:
            os.rename(base / staged[home], home.path)  # onto an empty folder
    except BaseException as error:
        for home in reserved:
            shutil.rmtree(home.path, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            raise _unwritable(base, error) from error
        raise
    finally:
        for making in staged.values():
            shutil.rmtree(base / making, ignore_errors=True)
    return homes


def _stage(base: Path, making: str, task: Task, plan_bytes: bytes, first: Entry) -> None:
    files.make_folder(base, f"{making}/ipc")
    for name, data in ((TASK, dump_task(task)), (PLAN, plan_bytes), (JOURNAL, (first.line() + "\n").encode())):
        files.write(base, f"{making}/{name}", data)


def _unwritable(base: Path, error: OSError) -> DispatchError:
    said = f"cannot write the task to {base / TASKS}: {error.strerror}"
    if error.errno in files.FULL:
        return DispatchError(said, hint="free some space, and submit again; nothing was kept")
    return BadInput(said, hint="make the folder writable, and submit again; nothing was kept")


def put_aside_leftover(home: TaskDir) -> bool:
    """Rename what is left of a task whose directory was removed while it ran: its attempts alone; whether it did.

    Raises UntrustedPath, OSError.
    """
    return files.names(home.base, home.folder) == [_ATTEMPTS] and files.clear(home.base, home.folder)


def known_ids(base: Path) -> list[str]:
    """Ids of the tasks in a project, sorted."""
    return [name for name in files.names(base, TASKS) if ids.is_id(name) and TaskDir(base, name).exists()]


def known_names(base: Path) -> list[str]:
    """Every name that stands in the folder of tasks: a new task can have none of them."""
    return files.names(base, TASKS)


def changed(base: Path) -> int:
    """The time, in nanoseconds, when a name in the folder of tasks came, went or changed last; 0 without one."""
    try:
        return (base / TASKS).stat().st_mtime_ns
    except OSError:
        return 0


class Journal:
    """The journal of a home copy, open under its lock: nobody else reads its end or appends meanwhile.

    Only what Redis has given a seq is appended, in that order, so the last line says how far the copy is. An agent
    in the checkout can write there too: `agreed` says what must stand in it.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        size, span = self.size, _TAIL_BYTES
        while True:
            data = os.pread(handle, span, max(0, size - span))
            self.last = next(iter(reversed(list(_entries_in(data)))), None)
            if self.last or span >= size:
                break
            span *= 2  # the last lines are long
        torn = len(data) - (data.rfind(b"\n") + 1)
        if torn:
            os.ftruncate(handle, size - torn)  # by a crash; Redis has the entry still

    @property
    def seq(self) -> int:
        return self.last.seq if self.last else 0

    @property
    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def append(self, entries: Sequence[Entry]) -> None:
        """Add the entries that are new, in one write. Raises OSError; a torn line is cut off at the next opening."""
        fresh = [entry for entry in entries if entry.seq > self.seq]
        if fresh:
            self._write(fresh)

    def replace(self, entries: Sequence[Entry]) -> bytes:
        """Put these entries in the place of all that stands there, which is returned, its end if it is too long."""
        end = os.fstat(self._handle).st_size
        before = os.pread(self._handle, JOURNAL_LIMIT_BYTES, max(0, end - JOURNAL_LIMIT_BYTES))
        os.ftruncate(self._handle, 0)
        self.last = None
        if entries:
            self._write(entries)
        return before

    def _write(self, entries: Sequence[Entry]) -> None:
        data = "".join(entry.line() + "\n" for entry in entries).encode()
        if os.write(self._handle, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), JOURNAL)
        self.last = entries[-1]


def agreed(kept: Sequence[Entry], known: Sequence[Entry], seq: int) -> list[Entry]:
    """What a journal must hold: all that Redis knows, which is at `seq`, and before it what only the file knows."""
    first = known[0].seq if known else seq + 1
    before: list[Entry] = []
    for entry in kept:
        if entry.seq < first and (not before or entry.seq > before[-1].seq):
            before.append(entry)
    return [*before, *known]


def read_plan_or_none(home: TaskDir) -> plan.Plan | None:
    """The plan, or None while it is missing, half-written or not a plan."""
    try:
        return home.plan()
    except (BadPlan, FileNotFoundError, UntrustedPath):
        return None


def facts_of(shown: plan.Plan) -> Mapping[str, int]:
    """The progress as a journal entry carries it."""
    return {"done": shown.done, "total": len(shown.items)}
