"""A task's directory: its layout, who writes which file, and what can be read off it.

`base` is the folder above `.dispatch/`: the project for the home copy, the workspace for the live copy.
"""

import enum
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue import files, ids, ipc, plan
from dispatch_queue.errors import BadInput, BadPlan, UntrustedPath
from dispatch_queue.record import Entry, Standing, Task, dump_task, fold, load_task, parse_entry

TASKS = ".dispatch/tasks"
TASK, PLAN, JOURNAL = "task.yaml", "plan.md", "journal.jsonl"
CONTEXT, OUTPUT = "context.md", "output.md"

MIB = 1024 * 1024
TASK_LIMIT_BYTES = 2 * MIB
JOURNAL_LIMIT_BYTES = 64 * MIB
CONTEXT_LIMIT_BYTES = MIB
OUTPUT_LIMIT_BYTES = 8 * MIB
_TAIL_BYTES = 256 * 1024


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

    def task(self) -> Task:
        """What was asked. Raises BadInput, FileNotFoundError, UntrustedPath."""
        return load_task(self.read(TASK), name=f"{self.folder}/{TASK}")

    def plan(self) -> plan.Plan:
        """The checklist as it stands. Raises BadPlan, FileNotFoundError, UntrustedPath."""
        return plan.parse(self.read(PLAN), name=f"{self.folder}/{PLAN}")

    def ipc(self) -> ipc.Ipc:
        """Questions and answers as they stand. Raises UntrustedPath."""
        return ipc.look(self.base, self.folder)

    def entries(self) -> list[Entry]:
        """The journal, oldest first. Torn and foreign lines are passed over."""
        return list(_entries_in(files.read(self.base, self.name(JOURNAL), limit_bytes=JOURNAL_LIMIT_BYTES)))

    def standing(self) -> Standing:
        """Where the task stands by its directory alone. Raises FileNotFoundError, UntrustedPath."""
        return fold(self.entries())

    def attempt_folder(self, attempt: int) -> Path:
        """The folder of an attempt's prompt.md, agent.log and result.json; made if missing."""
        name = self.name(f"attempts/{attempt}")
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

    Raises FileExistsError when the id is taken, BadInput when the project cannot be written.
    """
    home = TaskDir(base, task.id)
    making = f"{TASKS}/.{task.id}.{os.getpid()}.making"
    try:
        if home.path.exists():
            raise FileExistsError(home.path)
        files.make_folder(base, f"{making}/ipc")
        for name, data in ((TASK, dump_task(task)), (PLAN, plan_bytes), (JOURNAL, (first.line() + "\n").encode())):
            files.write(base, f"{making}/{name}", data)
        os.rename(base / making, home.path)
    except FileExistsError:
        raise
    except OSError as error:
        if home.path.exists():
            raise FileExistsError(home.path) from error
        raise BadInput(
            f"cannot write the task to {base / TASKS}: {error.strerror}",
            hint="free some space, or make the folder writable, and submit again; nothing was kept",
        ) from error
    finally:
        shutil.rmtree(base / making, ignore_errors=True)
    return home


def known_ids(base: Path) -> list[str]:
    """Ids of the tasks in a project, sorted."""
    return [name for name in files.names(base, TASKS) if ids.is_id(name) and TaskDir(base, name).exists()]


def known_names(base: Path) -> list[str]:
    """Every name that stands in the folder of tasks: a new task can have none of them."""
    return files.names(base, TASKS)


class Journal:
    """The journal of a home copy, open under its lock: nobody else reads its end or appends meanwhile.

    Only what Redis has given a seq is appended, in that order, so the last line says how far the copy is.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        data = os.pread(handle, _TAIL_BYTES, max(0, os.fstat(handle).st_size - _TAIL_BYTES))
        if data and not data.endswith(b"\n"):
            # A crash tore the last line; Redis has it still.
            torn = len(data) - (data.rfind(b"\n") + 1)
            os.ftruncate(handle, os.fstat(handle).st_size - torn)
            data = data[: len(data) - torn]
        self.seq = max((entry.seq for entry in _entries_in(data)), default=0)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add the entries that are new, in one write."""
        fresh = [entry for entry in entries if entry.seq > self.seq]
        if fresh:
            os.write(self._handle, "".join(entry.line() + "\n" for entry in fresh).encode())
            self.seq = fresh[-1].seq


def read_plan_or_none(home: TaskDir) -> plan.Plan | None:
    """The plan, or None while it is missing, half-written or not a plan."""
    try:
        return home.plan()
    except (BadPlan, FileNotFoundError, UntrustedPath):
        return None


def facts_of(shown: plan.Plan) -> Mapping[str, int]:
    """The progress as a journal entry carries it."""
    return {"done": shown.done, "total": len(shown.items)}
