"""The live copy of a running attempt: what the agent did to it, and what others said meanwhile.

`look` reads the files and tells what is new; `hear` lays down answers and notes that came through Redis. What holds a
secret of the environment is replaced as soon as it is seen.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatch_queue import files, ipc, plan, taskdir
from dispatch_queue.errors import BadInput, BadPlan, UntrustedPath
from dispatch_queue.ipc import Ipc
from dispatch_queue.mirror import merge_notes
from dispatch_queue.plan import Mark, Plan
from dispatch_queue.record import Entry, notes_of
from dispatch_queue.taskdir import TaskDir, Writer
from worker.masking import NO_SECRETS, Masker

_TRAVELLING = (taskdir.CONTEXT, taskdir.OUTPUT)
_NO_IPC = Ipc(questions={}, answers={}, acknowledged=frozenset(), done=False, foreign=())
_MARK = re.compile(rb"^((?:[-*+]|[0-9]+[.)])\s+)\[[^\]]?\]")
_TEXT_LIMIT = 400  # characters of an item's text, and of its note, in the journal
LIMIT_OPEN = 32  # questions at once; nobody answers more
LIMIT_EVENTS = 2000  # of an attempt: four for each item of the longest plan


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
            facts = {"item": one.number, "mark": one.mark_after.value, "text": one.text[:_TEXT_LIMIT], **progress}
            events.append(("tick", facts | ({"note": one.note[:_TEXT_LIMIT]} if one.note else {})))
        if not moved and len(after.plan.items) != len(before.plan.items):
            events.append(("plan", progress))
    asked = tuple(n for n in sorted(after.ipc.questions) if n not in before.ipc.questions)
    answered = tuple(n for n in sorted(after.ipc.answers) if n not in before.ipc.answers)
    # One that was read half-written is asked once, but travels again.
    reworded = [n for n in sorted(after.ipc.questions) if after.ipc.questions[n] != before.ipc.questions.get(n)]
    changed += [ipc.name_of(n, ipc.Kind.QUESTION) for n in reworded]
    changed += [ipc.name_of(n, ipc.Kind.DONE) for n in sorted(after.ipc.acknowledged - before.ipc.acknowledged)]
    if after.ipc.done and not before.ipc.done:
        changed.append(ipc.DONE)
    changed += [name for name, stat in after.others.items() if before.others.get(name) != stat]
    return News(tuple(events), tuple(changed), asked, answered, progress)


def put_aside(copy: TaskDir) -> list[str]:
    """Make room where no readable question, answer or marker stands, but something else; the names of those.

    Raises UntrustedPath for too many files, and where the folder is none, OSError.
    """
    cleared = []
    for below in files.names(copy.base, copy.name(ipc.FOLDER), limit=ipc.LIMIT_FILES):
        name = f"{ipc.FOLDER}/{below}"
        known = taskdir.writer_of(name)
        if known is not None:
            limit = None if known[0] is Writer.DISPATCHER else known[1]  # a person's to make shorter
            if files.clear(copy.base, copy.name(name), limit_bytes=limit):
                cleared.append(name)
    return cleared


def _bare(line: bytes) -> bytes:
    """A line of a plan without what ticking it changes."""
    return _MARK.sub(rb"\1", line.replace(b"~~", b"").strip())


class LiveCopy:
    """Looks at one live copy and remembers what it saw last."""

    def __init__(self, copy: TaskDir, masker: Masker = NO_SECRETS) -> None:
        self.copy, self._masker = copy, masker
        data = copy.read(taskdir.PLAN)
        self.view = View(plan=plan.parse(data, name=copy.name(taskdir.PLAN)), plan_bytes=data, ipc=copy.ipc())
        self._begun = data
        self.notes: list[str] = []
        self._heard = 0  # seq of the last entry that was heard
        self._answers: dict[str, bytes] = {}  # arrived, and not yet laid down
        self.answered_before = frozenset(self.view.ipc.answers)  # when the attempt began
        self._neighbours = self._beside()
        self._asked = self._task_bytes()
        self._events = 0

    def look(self) -> tuple[View, News]:
        """The copy as it is now, and what is new since the last look. Never raises for what an agent did."""
        self._lay_down()
        before = self.view
        plan_now, plan_bytes, broken, hostile = before.plan, before.plan_bytes, "", ""
        try:
            data = self.copy.read(taskdir.PLAN)
            if data != before.plan_bytes:
                data = self._plan_without_secrets(data)
                plan_now, plan_bytes = plan.parse(data, name=taskdir.PLAN), data
        except FileNotFoundError:
            broken = "plan.md is gone"
        except (BadPlan, OSError) as error:  # OSError: it may be the machine's fault, as too many open files are
            broken = str(error)
        except UntrustedPath as error:
            hostile = str(error)
        ipc_now = before.ipc
        try:
            found = self.copy.ipc()
            found.check()
            if len(found.open) > LIMIT_OPEN:
                hostile = hostile or f"{len(found.open)} questions without an answer, the limit is {LIMIT_OPEN}"
            else:
                ipc_now = self._masked_questions(found)
        except UntrustedPath as error:
            hostile = hostile or str(error)
        except OSError as error:
            broken = broken or str(error)
        if self._events > LIMIT_EVENTS:
            hostile = hostile or f"plan.md was changed too often: more than {LIMIT_EVENTS} ticks in one attempt"
        others = {}
        for name in _TRAVELLING:
            stat = self._stat(name)
            if stat is not None:
                others[name] = stat
        self.view = View(plan_now, plan_bytes, ipc_now, others, broken, hostile)
        news = compare(before, self.view)
        self._events += len(news.events)
        return self.view, news

    def _plan_without_secrets(self, data: bytes) -> bytes:
        """What plan.md may hold of `data`. What stood in it before, and notes, are a person's: a command of theirs is
        not to become another one."""
        if self._masker.mask(data) == data:
            return data
        blocks = [self._begun]
        for note in self.notes:
            with contextlib.suppress(BadInput):
                blocks.append(plan.note_block(note).encode())
        given = {_bare(line) for block in blocks for line in block.splitlines()}
        return self._put(taskdir.PLAN, data, self._masker.unlike(given, data, _bare))

    def _without_secrets(self, name: str, data: bytes) -> bytes:
        """What a file may hold of `data`; the file is written anew if that is less. Raises UntrustedPath."""
        return self._put(name, data, self._masker.mask(data))

    def _put(self, name: str, data: bytes, masked: bytes) -> bytes:
        if masked != data:
            with contextlib.suppress(OSError):  # a full disk: at the next look, or at the end
                self.copy.write(name, masked)
        return masked

    def _masked_questions(self, seen: Ipc) -> Ipc:
        questions = {number: self._masker.text(text) for number, text in seen.questions.items()}
        for number, text in questions.items():
            if text != seen.questions[number]:
                name = ipc.name_of(number, ipc.Kind.QUESTION)
                self._without_secrets(name, self.copy.read(name))
        return dataclasses.replace(seen, questions=questions)

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
                plain = name == taskdir.PLAN
                found[name] = self.view.plan_bytes if plain else self._without_secrets(name, self.copy.read(name))
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
        """Lay down what the dispatcher wrote: answers as files, notes in the plan; entries heard before are not new."""
        for name, data in arrived.items():
            known = taskdir.writer_of(name)
            if known is not None and known[0] is Writer.DISPATCHER:
                self._answers[name] = data
        self._lay_down()
        self.notes += notes_of(entry for entry in entries if entry.seq > self._heard)
        self._heard = max([self._heard, *(entry.seq for entry in entries)])
        self.keep_notes()

    def recall(self, entries: Sequence[Entry]) -> None:
        """Take these entries for all that was heard so far."""
        self.notes = notes_of(entries)
        self._heard = max((entry.seq for entry in entries), default=0)

    def _lay_down(self) -> None:
        for name, data in list(self._answers.items()):
            try:
                self.copy.write(name, data, replace=False)
            except FileExistsError:
                pass
            except (UntrustedPath, OSError):
                continue  # a full disk, or the agent's doing, which a look tells: at the next look
            del self._answers[name]

    def keep_notes(self) -> None:
        """Append the notes that the plan lacks: new ones, and those the agent wrote over."""
        if not self.notes:
            return
        try:
            plan.parse(self.copy.read(taskdir.PLAN))
            merge_notes(self.copy, self.notes)
        except (BadInput, UntrustedPath, OSError):
            return  # half-written, or a full disk: at the next look

    def mark(self, number: int, mark: Mark, note: str) -> None:
        """Set an item's mark for an agent that was stopped before it did."""
        self.copy.write(taskdir.PLAN, plan.set_mark(self.copy.read(taskdir.PLAN), number, mark, note))

    def restore(self, keep_at: str) -> None:
        """Set right what the agent did to the record: what is no folder or file where one must be, task.yaml, plan.md.

        Questions and answers that went with their folder are put back. Raises UntrustedPath, OSError.
        """
        base, name = self.copy.base, self.copy.name
        for folder in (self.copy.folder, name("attempts"), name(ipc.FOLDER)):
            files.clear(base, folder, for_folder=True)
            files.make_folder(base, folder)
        if self._asked is not None and self._task_bytes() != self._asked:
            files.clear(base, name(taskdir.TASK))
            self.copy.write(taskdir.TASK, self._asked)
        self._restore_ipc()
        try:
            plan.parse(self.copy.read(taskdir.PLAN))
        except (BadPlan, UntrustedPath, FileNotFoundError):
            self.restore_plan(keep_at)

    def _restore_ipc(self) -> None:
        with contextlib.suppress(UntrustedPath):  # too many for anybody to look through
            put_aside(self.copy)
        seen = self.view.ipc
        for kind, texts in ((ipc.Kind.QUESTION, seen.questions), (ipc.Kind.ANSWER, seen.answers)):
            for number, text in texts.items():
                with contextlib.suppress(FileExistsError, UntrustedPath):
                    self.copy.write(ipc.name_of(number, kind), text.encode() + b"\n", replace=False)

    def _task_bytes(self) -> bytes | None:
        try:
            return self.copy.read(taskdir.TASK)
        except (UntrustedPath, OSError):
            return None

    def restore_plan(self, keep_at: str) -> None:
        """Put the last good plan back in the place of what the agent left there, which is kept if it is a file."""
        name = self.copy.name(taskdir.PLAN)
        try:
            rejected = files.read(self.copy.base, name, limit_bytes=taskdir.MIB)
            files.write(self.copy.base, self.copy.name(keep_at), rejected)
        except (FileNotFoundError, UntrustedPath, OSError):
            pass
        files.clear(self.copy.base, name)
        self.copy.write(taskdir.PLAN, self.view.plan_bytes)

    def strangers(self) -> list[str]:
        """Files that appeared beside the task's folder since the start: in a worktree, the agent's own doing.

        Those with a leading dot are a desktop's, or in the making.
        """
        return sorted(os.fsencode(name).decode(errors="backslashreplace") for name in self._beside() - self._neighbours)

    def _beside(self) -> frozenset[str]:
        try:
            with os.scandir(self.copy.base / taskdir.TASKS) as found:  # thousands, and nearly all are folders
                names = [entry.name for entry in found if not entry.is_dir() and not entry.name.startswith(".")]
        except OSError:
            return frozenset()
        return frozenset(f"{taskdir.TASKS}/{name}" for name in names)
