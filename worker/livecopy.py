"""The live copy of a running attempt: what the agent did to it, and what others said meanwhile.

`look` reads the files and tells what is new; `hear` lays down answers and notes that came through Redis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatch_queue import files, ipc, plan, taskdir
from dispatch_queue.errors import BadPlan, UntrustedPath
from dispatch_queue.ipc import Ipc
from dispatch_queue.mirror import merge_notes
from dispatch_queue.plan import Mark, Plan
from dispatch_queue.record import Entry
from dispatch_queue.taskdir import TaskDir, Writer

_TRAVELLING = (taskdir.CONTEXT, taskdir.OUTPUT)
_NO_IPC = Ipc(questions={}, answers={}, acknowledged=frozenset(), done=False, foreign=())
_NOTE_LIMIT = 400  # characters of an item's note in the journal


@dataclass(frozen=True, slots=True)
class View:
    """One look at a live copy. `plan` is the last good one; `broken` says why the newest is none."""

    plan: Plan
    plan_bytes: bytes
    ipc: Ipc = _NO_IPC
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # name → mtime in ns, size
    broken: str = ""  # plan.md is no plan right now; it may be half-written
    hostile: str = ""  # a link or a folder stands where a file must be

    @property
    def finished(self) -> bool:
        """Every item ticked and the end marked."""
        return self.plan.complete and self.ipc.done


@dataclass(frozen=True, slots=True)
class News:
    """What an agent did since the last look: journal events with their facts, and the files that changed."""

    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    files: tuple[str, ...] = ()
    questions: tuple[int, ...] = ()  # asked since
    answers: tuple[int, ...] = ()  # seen since
    facts: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.events or self.files or self.questions or self.answers)


def compare(before: View, after: View) -> News:
    """What is new in `after`."""
    events: list[tuple[str, Mapping[str, Any]]] = []
    changed: list[str] = []
    progress = taskdir.facts_of(after.plan)
    if after.plan_bytes != before.plan_bytes:
        changed.append(taskdir.PLAN)
        moved = plan.changes(before.plan, after.plan)
        for one in moved:
            facts = {"item": one.number, "mark": one.mark_after.value, "text": one.text, **progress}
            events.append(("tick", facts | ({"note": one.note[:_NOTE_LIMIT]} if one.note else {})))
        if not moved and len(after.plan.items) != len(before.plan.items):
            events.append(("plan", progress))
    asked = tuple(n for n in sorted(after.ipc.questions) if n not in before.ipc.questions)
    answered = tuple(n for n in sorted(after.ipc.answers) if n not in before.ipc.answers)
    changed += [ipc.name_of(n, ipc.Kind.QUESTION) for n in asked]
    changed += [ipc.name_of(n, ipc.Kind.DONE) for n in sorted(after.ipc.acknowledged - before.ipc.acknowledged)]
    if after.ipc.done and not before.ipc.done:
        changed.append(ipc.DONE)
    changed += [name for name, stat in after.others.items() if before.others.get(name) != stat]
    return News(tuple(events), tuple(changed), asked, answered, progress)


class LiveCopy:
    """Looks at one live copy and remembers what it saw last."""

    def __init__(self, copy: TaskDir) -> None:
        self.copy = copy
        data = copy.read(taskdir.PLAN)
        self.view = View(plan=plan.parse(data, name=copy.name(taskdir.PLAN)), plan_bytes=data, ipc=copy.ipc())
        self.notes: list[str] = []
        self._neighbours = self._beside()

    def look(self) -> tuple[View, News]:
        """The copy as it is now, and what is new since the last look. Never raises for what an agent did."""
        before = self.view
        plan_now, plan_bytes, broken, hostile = before.plan, before.plan_bytes, "", ""
        try:
            data = self.copy.read(taskdir.PLAN)
            if data != before.plan_bytes:
                plan_now, plan_bytes = plan.parse(data, name=taskdir.PLAN), data
        except FileNotFoundError:
            broken = "plan.md is gone"
        except BadPlan as error:
            broken = str(error)
        except (UntrustedPath, OSError) as error:
            hostile = str(error)
        ipc_now = before.ipc
        try:
            ipc_now = self.copy.ipc()
        except (UntrustedPath, OSError) as error:
            hostile = hostile or str(error)
        others = {}
        for name in _TRAVELLING:
            stat = self._stat(name)
            if stat is not None:
                others[name] = stat
        self.view = View(plan_now, plan_bytes, ipc_now, others, broken, hostile)
        return self.view, compare(before, self.view)

    def _stat(self, name: str) -> tuple[int, int] | None:
        try:
            found = (self.copy.path / name).lstat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def read_changed(self, news: News) -> tuple[dict[str, bytes], list[str]]:
        """The bytes of the files that changed, and complaints about those that cannot travel."""
        found: dict[str, bytes] = {}
        complaints = []
        for name in news.files:
            try:
                found[name] = self.view.plan_bytes if name == taskdir.PLAN else self.copy.read(name)
            except FileNotFoundError:
                continue
            except (UntrustedPath, OSError) as error:
                complaints.append(str(error))
        return found, complaints

    def read_all(self) -> dict[str, bytes]:
        """The bytes of every file that travels home, as it is now."""
        seen = self.view.ipc
        names = [taskdir.PLAN, *self.view.others, *([ipc.DONE] if seen.done else [])]
        names += [ipc.name_of(number, ipc.Kind.QUESTION) for number in seen.questions]
        names += [ipc.name_of(number, ipc.Kind.DONE) for number in seen.acknowledged]
        return self.read_changed(News(files=tuple(names)))[0]

    def hear(self, entries: Sequence[Entry], arrived: Mapping[str, bytes]) -> None:
        """Lay down what the dispatcher wrote: answers as files, notes in the plan."""
        for name, data in arrived.items():
            known = taskdir.writer_of(name)
            if known is not None and known[0] is Writer.DISPATCHER:
                try:
                    self.copy.write(name, data, replace=False)
                except FileExistsError:
                    continue
        self.notes += [str(entry.facts.get("text", "")) for entry in entries if entry.event == "note"]
        self.keep_notes()

    def keep_notes(self) -> None:
        """Append the notes that the plan lacks: new ones, and those the agent wrote over."""
        if not self.notes:
            return
        try:
            plan.parse(self.copy.read(taskdir.PLAN))
            merge_notes(self.copy, self.notes)
        except (BadPlan, UntrustedPath, FileNotFoundError, OSError):
            return  # half-written: at the next look

    def mark(self, number: int, mark: Mark, note: str) -> None:
        """Set an item's mark for an agent that was stopped before it did."""
        self.copy.write(taskdir.PLAN, plan.set_mark(self.copy.read(taskdir.PLAN), number, mark, note))

    def restore_plan(self, keep_at: str) -> None:
        """Put the last good plan back in the place of what the agent left there, which is kept if it is a file."""
        name = self.copy.name(taskdir.PLAN)
        try:
            rejected = files.read(self.copy.base, name, limit_bytes=taskdir.MIB)
            files.write(self.copy.base, self.copy.name(keep_at), rejected)
        except (FileNotFoundError, UntrustedPath, OSError):
            pass
        place = self.copy.path / taskdir.PLAN
        if place.is_dir() and not place.is_symlink():
            place.rename(place.with_name(f"{taskdir.PLAN}.rejected"))
        self.copy.write(taskdir.PLAN, self.view.plan_bytes)

    def strangers(self) -> list[str]:
        """Files that appeared beside the task's folder since the start: the agent wrote outside its record."""
        return sorted(self._beside() - self._neighbours)

    def _beside(self) -> frozenset[str]:
        root = self.copy.base / taskdir.TASKS
        try:
            return frozenset(f"{taskdir.TASKS}/{entry.name}" for entry in root.iterdir() if not entry.is_dir())
        except OSError:
            return frozenset()
