"""The home side of the mirror: keeps a task's home copy and Redis the same.

`sync` brings home what a worker published, `push` sends what a person put into the home copy by hand. One process a
host does this all the time (see homemirror.py); where none does, every command reconciles its project first.
"""

import contextlib
import logging
import os
from pathlib import Path

from dispatch_queue import files, ipc, plan, taskdir, when
from dispatch_queue.change import Change, GuardFailed, Outline, Pulled, Record, Waits, step, write_questions
from dispatch_queue.clock import SYSTEM, Clock, stamp
from dispatch_queue.errors import BadInput, DispatchError, Refused, StoreDown, UntrustedPath
from dispatch_queue.home import actor
from dispatch_queue.record import Isolation, Ref, Standing, Task, current, draft, fold, notes_of
from dispatch_queue.states import HELD, Event, FailReason, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import Journal, TaskDir, Writer
from dispatch_queue.tickets import key_of, message, queue_of

log = logging.getLogger(__name__)


def routing(task: Task) -> dict[str, str | int]:
    """The fields of a record that never change: what a worker and a reader of Redis need to know of a task."""
    return {
        "title": task.title,
        "model": task.model,
        "backend": task.backend,
        "isolation": task.isolation,
        "home": task.host,
        "queue": key_of(queue_of(task), task.priority),
        "priority": task.priority,
        "ticket": message(task.ref, queue=queue_of(task), model=task.model, priority=task.priority),
        "attempts": task.attempts,
        "after_any": "1" if task.after_any else "",
    }


def sync(store: Store, home: TaskDir, ref: Ref) -> Standing:
    """Bring a home copy up to what Redis knows; returns where the task stands then.

    Files before the journal, whose last line says how far the copy is. Raises StoreDown, FileNotFoundError when
    the home copy is gone, UntrustedPath, OSError (ENOSPC, …), after which it can be done again.
    """
    task = home.task()
    shared = task.isolation is Isolation.SHARED
    with files.locked(home.base, home.name(taskdir.JOURNAL)) as handle:
        journal = Journal(handle)
        pulled = store.pull(ref, max(0, journal.seq - 1))  # with the last line again, to compare
        fresh = [entry for entry in pulled.entries if entry.seq > journal.seq]
        ended = shared and any(entry.state is not None and entry.state not in HELD for entry in fresh)
        if pulled.seq >= 0 and (ended or journal.last not in pulled.entries):
            pulled = store.pull(ref, 0)
            if pulled.seq >= 0:  # else it was lost this moment, and nothing says what is right
                _correct(journal, home, pulled)
        _lay_down(home, pulled, shared)
        journal.append(pulled.entries)
        entries = home.entries()
        standing = fold(entries)
        notes = notes_of(entries)
        # Two writers would write a note twice: so it is done under the lock, and while an attempt runs in the checkout
        # itself, by its worker alone.
        if notes and not (shared and standing.state in HELD):
            merge_notes(home, notes)
    return standing


def _correct(journal: Journal, home: TaskDir, pulled: Pulled) -> None:
    """Take out of a home copy's journal what was not from us: an agent in the checkout can write there.

    Also what a Redis forgot that lost its last second; what is taken out is kept beside the journal.
    """
    try:
        kept = home.entries()
    except UntrustedPath:  # too large
        kept = []
    right = taskdir.agreed(kept, pulled.entries, pulled.seq)
    if kept == right[: len(kept)] and (kept or not journal.size):
        return
    name = home.name(taskdir.JOURNAL)
    log.warning("%s was not as it was left, and is corrected", name, extra={"action": "journal_corrected"})
    files.write(home.base, home.name(taskdir.REJECTED), journal.replace(right))


def _lay_down(home: TaskDir, pulled: Pulled, shared: bool) -> None:
    """Write what is new of the files of the table into a home copy."""
    for name, data in pulled.files.items():
        known = taskdir.writer_of(name)
        try:
            # In shared isolation the home copy is the live one, and newer than what was published of it.
            if known is not None and known[0] is Writer.AGENT and not shared:
                if not home.has(name, data):
                    home.write(name, data)
            elif known is not None and known[0] is Writer.DISPATCHER:
                home.write(name, data, replace=False)
        except FileExistsError:
            continue
        except UntrustedPath as error:  # an agent's doing, which must not keep the task's end from home
            log.warning("%s: %s", home.id, error, extra={"action": "file_passed_over"})


def merge_notes(copy: TaskDir, notes: list[str]) -> bool:
    """Append to a copy's plan the notes it lacks; returns whether there were any.

    Appended in place in one write, so that an agent which edits the plan at this moment loses nothing.
    """
    try:
        seen = copy.read(taskdir.PLAN)
    except FileNotFoundError:
        return False
    merged = plan.merge_notes(seen, notes)
    if merged == seen:
        return False
    files.append(copy.base, copy.name(taskdir.PLAN), merged[len(seen) :])
    return True


def push(store: Store, home: TaskDir, ref: Ref, *, clock: Clock = SYSTEM) -> Standing:
    """Send what Redis does not know of a home copy: the task itself, answers written by hand.

    Returns where the task stands by the home copy. Raises StoreDown.
    """
    standing = home.standing()
    if not standing.final:
        record = store.record(ref)
        if record is None or _is_former(record, home.task()):
            enroll(store, home, ref, standing)
        push_answers(store, home, ref, standing, clock=clock)
    return standing


def _is_former(record: Record, task: Task) -> bool:
    """Whether a record is of an earlier task of this id, whose directory somebody removed."""
    return record.created not in ("", task.created)


def push_answers(store: Store, home: TaskDir, ref: Ref, standing: Standing, *, clock: Clock = SYSTEM) -> None:
    """Send the answers in a home copy that Redis does not know. Raises StoreDown, UntrustedPath."""
    for number in _answered(home, standing):
        publish_answer(store, home, ref, number, clock=clock)


def _answered(home: TaskDir, standing: Standing) -> list[int]:
    """The open questions that have an answer in the home copy."""
    answers = home.ipc().answers if standing.questions else {}
    return [number for number in standing.questions if number in answers]


def is_foreign(home: TaskDir, ref: Ref) -> bool:
    """Whether a task came with a cloned or copied `.dispatch`: it was submitted in another project, and is not run."""
    try:
        return home.task().project != ref.project
    except (DispatchError, OSError):
        return False


def enroll(store: Store, home: TaskDir, ref: Ref, standing: Standing) -> bool:
    """Tell Redis of a task that only the files know: newly submitted, or lost there. False: it knew it already.

    The journal's own entries are not sent: the record goes on from their last seq. A running task is running again,
    with the token of its claim: its worker goes on, or the reaper takes it back. What Redis still knows of an earlier
    task of this id, whose directory is gone, is forgotten. Raises Refused while that one runs or is waited for.
    """
    task = current(home.task(), standing)
    if task.project != ref.project:
        raise Refused(f"task `{task.id}` was submitted in another project", state="foreign", hint="submit it here")
    former = store.record(ref)
    if former is not None and _is_former(former, task) and store.forget(ref, former.seq, unfinished=True) is False:
        said = f"an earlier task `{task.id}`, whose directory was removed, is {former.state} or waited for"
        raise Refused(said, state=former.state, hint=f"dispatch cancel {task.id}, then dispatch ls")
    fields = routing(task) | {
        "made": os.urandom(4).hex(),
        "created": task.created,
        "seq": standing.seq,
        "token": standing.token,
        "attempt": standing.attempt,
        "tries": standing.tries,
        "stalls": standing.stalls,
        "worker": standing.worker,
        "questions": write_questions(standing.questions),
        "done": standing.done,
        "total": standing.total,
        "changed": standing.changed,
        "reason": standing.reason,
    }
    at = stamp(SYSTEM.now())
    if standing.state is not State.WAITING:
        return store.enroll(ref, standing.state or State.QUEUED, fields, at=at, by=actor())
    fields |= {"hold": "1" if standing.held else "", "until": when.shown(standing.until)}
    others = [Ref(ref.project, name) for name in standing.after]
    gone = _tell_ended(store, home.base, others)
    after = tuple(other for other in others if not task.after_any or other not in gone)
    waits = Waits(after, when.milliseconds(standing.until))
    made = store.enroll(ref, State.WAITING, fields, waits=waits, at=at, by=actor())
    if made and gone and not task.after_any:
        with contextlib.suppress(Refused):  # another one has failed it
            why = f"{FailReason.DEPENDENCY}: `{gone[0].task}` is gone"
            store.change(ref, step(Event.FAIL, at=at, by=actor(), reason=why))
    return made


def _tell_ended(store: Store, base: Path, others: list[Ref]) -> list[Ref]:
    """Tell Redis of those tasks that have ended and that it does not know, so that they count; those that are gone."""
    known = store.records(others)
    gone = []
    for other in others:
        copy = TaskDir(base, other.task)
        if other not in known and not copy.exists():
            gone.append(other)
        elif other not in known:
            with contextlib.suppress(UntrustedPath, BadInput, OSError):  # nobody knows that it has ended
                end = copy.standing()
                if end.final:
                    enroll(store, copy, other, end)
    return gone


def publish_answer(store: Store, home: TaskDir, ref: Ref, number: int, *, clock: Clock = SYSTEM) -> bool:
    """Tell Redis that question `number` has its answer in the home copy.

    A parked task is queued again by the answer to its last open question. Returns False when the answer was known
    already or nobody asks any more. Raises StoreDown.
    """
    name = ipc.name_of(number, ipc.Kind.ANSWER)
    try:
        data = home.read(name)
    except (FileNotFoundError, UntrustedPath):  # it stood there a moment ago
        return False
    if not data.strip():  # it is being written anew
        return False
    while True:
        record = store.record(ref)
        if record is None or number not in record.questions:
            return False
        rest = [open_one for open_one in record.questions if open_one != number]
        change = step(
            Event.ANSWER,
            at=stamp(clock.now()),
            by=actor(),
            reason=record.reason if rest else "",
            facts={"question": number, "text": data.decode(errors="replace").strip()},
            guard=("questions", write_questions(record.questions)),
            stay=frozenset(
                {State.RUNNING, State.QUEUED, State.WAITING, *([State.ASKING, State.PARKED] if rest else [])}
            ),
            fields={"questions": write_questions(rest)},
            files={name: data},
        )
        try:
            store.change(ref, change)
            return True
        except GuardFailed:
            continue
        except Refused:
            return False


def publish_note(store: Store, ref: Ref, text: str, *, clock: Clock = SYSTEM) -> None:
    """Add a dispatcher's note to a task's journal; whoever owns the plan now merges it in.

    Raises Refused when Redis has no such task, StoreDown.
    """
    record = store.record(ref)
    if record is None:
        raise Refused(f"task `{ref.task}` is unknown to Redis", state="")
    entry = draft("note", at=stamp(clock.now()), by=actor(), text=text)
    store.change(ref, Change(entries=[entry]))


def reconcile(store: Store, base: Path, project_id: str, only: str | None = None) -> None:
    """Sync and push every unfinished task of a project (or just one). A broken task is logged and passed over.

    Raises StoreDown.
    """
    copies = [TaskDir(base, task_id) for task_id in ([only] if only is not None else taskdir.known_ids(base))]
    outlines = store.outlines([Ref(project_id, home.id) for home in copies])
    for home in copies:
        ref = Ref(project_id, home.id)
        if settled(home, outlines.get(ref)) is None:
            both(store, home, ref)


def settled(home: TaskDir, outline: Outline | None) -> Standing | None:
    """Where a task stands if its home copy and Redis say the same and have nothing to tell each other, else None.

    A look that is a fifth of what `both` costs, for the many tasks of which nothing is new.
    """
    try:
        entries = home.entries()
        standing = fold(entries)
        here = Outline(standing.state, standing.seq, standing.changed, standing.questions)
        same = here == outline and not notes_of(entries) and not _answered(home, standing)
    except (OSError, DispatchError, ValueError):
        return None
    return standing if same else None


def both(store: Store, home: TaskDir, ref: Ref, *, level: int = logging.WARNING) -> Standing | None:
    """Push and sync. What stands in the way is logged; None then."""
    if is_foreign(home, ref):
        return Standing()
    try:
        try:
            standing = home.standing()
        except (FileNotFoundError, UntrustedPath):
            if not home.exists() or store.record(ref) is None or not home.mend_journal():
                raise
            standing = Standing()  # Redis knows it all
        if standing.final and store.record(ref) is None:
            return standing
        try:
            push(store, home, ref)
        except UntrustedPath as error:  # news is brought home all the same: the task may have failed for it
            log.log(level, "%s: no answers are sent: %s", ref, error, extra={"action": "push_failed"})
        return sync(store, home, ref)
    except StoreDown:
        raise
    except (OSError, DispatchError, ValueError) as error:
        log.log(level, "the home copy of %s cannot be mirrored: %s", ref, error, extra={"action": "mirror_failed"})
        return None
