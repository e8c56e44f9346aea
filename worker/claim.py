"""From a ticket to an attempt: whether the task can and may run here now, and the claim."""

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch_queue import registry
from dispatch_queue.change import Change, Changed, Limit, LimitReached, Record, step
from dispatch_queue.clock import stamp
from dispatch_queue.config.load import load
from dispatch_queue.errors import BadConfig, ClaimLost, DispatchError, Refused, StoreDown
from dispatch_queue.home import actor
from dispatch_queue.mirror import sync
from dispatch_queue.record import NewerFormat, Ref, Task, current
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.taskdir import TaskDir
from dispatch_queue.tickets import host_queue, key_of, message
from worker import space
from worker.attempt import Attempt
from worker.limits import REACHED, let_next, limits_for

if TYPE_CHECKING:
    from worker.services import Services

STRANGE = "for a worker with the DISPATCH_HOME of its submit: "

log = logging.getLogger(__name__)


def answer(services: "Services", ref: Ref) -> None:
    """Answer a ticket: claim the task and run its next attempt to its end. A ticket nobody needs is dropped.

    Raises StoreDown when Redis went away before the claim; from then on the attempt waits for it.
    """
    record = services.store.record(ref)
    if record is None or record.state is not State.QUEUED:
        state = record.state if record else "unknown"
        log.info("the ticket of %s is dropped: the task is %s", ref, state, extra={"action": "ticket_drop"})
        return
    base = registry.path_of(services.settings.home, ref.project)
    home = TaskDir(base, ref.task) if base is not None else None
    if home is None or not home.exists():
        if record.home != services.settings.host:
            _hand_over(services, record)
        elif registry.registered_path(services.settings.home, ref.project) is None:
            strange = f"{STRANGE}{services.name} has no project `{ref.project}` in {services.settings.home}"
            log.warning("%s is left alone: %s", ref, strange, extra={"action": "strange_project"})
            space.delay(services.store, record, strange, at=stamp(services.clock.now()))
        else:
            _refuse(services, record, "the task's directory is not on this machine any more")
        return
    task = None
    try:
        standing = home.standing()
        if standing.seq < record.seq:  # a retry may have changed the model
            standing = sync(services.store, home, ref)
        task = current(home.task(), standing)
    except NewerFormat as error:
        log.warning("%s is left alone: %s", ref, error, extra={"action": "newer_format"})
        space.delay(services.store, record, str(error), at=stamp(services.clock.now()))
        return
    except (DispatchError, OSError):
        pass  # the attempt tells of it
    full = space.refusal(services.settings, home)
    if full is not None:
        log.warning("%s does not begin: %s", ref, full, extra={"action": "no_space"})
        space.delay(services.store, record, full, at=stamp(services.clock.now()))
        return
    limits = _limits(services, task)
    try:
        claim = _claim(services, record, home, limits)
    except LimitReached as error:
        space.delay(services.store, record, f"{REACHED}{error.message}", at=stamp(services.clock.now()))
        return
    if claim is None:
        return
    with services.holding(ref, claim.token) as held:
        Attempt(services, home, record, claim, mailbox=held.mailbox, slot=held.slot).run()
    if limits:
        let_next(services.store)


def _hand_over(services: "Services", record: Record) -> None:
    """Send a task that only its own host can run to the queue of that host."""
    queue = host_queue(record.home)
    ticket = message(record.ref, queue=queue, model=record.model, priority=record.priority)
    fields = {"queue": key_of(queue, record.priority), "ticket": ticket}
    log.info("%s is for %s, which has its project", record.ref, record.home, extra={"action": "ticket_pass"})
    with contextlib.suppress(Refused, ClaimLost):
        services.store.change(record.ref, Change(entries=[], guard=("sent", str(record.sent)), fields=fields))
        services.store.resend(record.ref, record.sent)


def _refuse(services: "Services", record: Record, why: str) -> None:
    log.error("%s cannot run here: %s", record.ref, why, extra={"action": "attempt_refused"})
    at = stamp(services.clock.now())
    with contextlib.suppress(Refused):
        services.store.change(record.ref, step(Event.FAIL, at=at, by=actor(), reason=f"{FailReason.START}: {why}"))


def _limits(services: "Services", task: Task | None) -> Sequence[Limit]:
    """The configuration's limits for an attempt of `task`; none where one of them cannot be read: the attempt tells."""
    if task is None:
        return ()
    try:
        return limits_for(load(services.settings.home).config.limits, task, services.settings.host)
    except BadConfig:
        return ()


def _begun(home: TaskDir, attempt: int) -> int:
    """The last attempt that has begun here, if `attempt` is the last that Redis knows of: it may have forgotten one."""
    while _is_file(home.path / f"attempts/{attempt + 1}/prompt.md"):
        attempt += 1
    return attempt


def _is_file(path: Path) -> bool:
    """Whether this is a file of ours, and no link that an agent put there."""
    return path.is_file() and not path.is_symlink()


def _claim(services: "Services", record: Record, home: TaskDir, limits: Sequence[Limit]) -> Changed | None:
    change = step(
        Event.CLAIM,
        at=stamp(services.clock.now()),
        by=actor(),
        facts={"worker": services.name, "host": services.settings.host},
        fields={"worker": services.name},
        claim=True,
        begun=_begun(home, record.attempt),
        limits=limits,
        once=f"claim-{os.urandom(8).hex()}",
    )
    while True:
        try:
            claimed = services.store.change(record.ref, change)
        except LimitReached:
            raise
        except Refused:
            return None
        except StoreDown:  # it may be ours all the same, and nobody else would ask
            if services.stopping.is_set() or not services.wait_for_store():
                raise
            continue
        return claimed if claimed.state is State.RUNNING else None
