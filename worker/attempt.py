"""One attempt: claim → prepare → spawn → supervise → collect → publish → release."""

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from dispatch_queue import files, plan, registry
from dispatch_queue.change import Changed, Record, step
from dispatch_queue.clock import stamp
from dispatch_queue.errors import DispatchError, Refused, StoreDown
from dispatch_queue.home import actor
from dispatch_queue.mirror import sync
from dispatch_queue.plan import Mark
from dispatch_queue.record import NewerFormat, Ref, Task, current
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.taskdir import TaskDir
from worker import space
from worker.ending import Ending, Ran, log_name
from worker.livecopy import LiveCopy, View
from worker.prepare import Prepared, make_workspace, prepare
from worker.process import AgentProcess, Command, ProcessExit, WardenDied, spawn, sweep_attempts
from worker.publisher import Publisher
from worker.quiet import Quiet
from worker.supervisor import PARK_GRACE, Limits, Mailbox, Stop, Watching, supervise
from worker.transcript import Transcript
from worker.verdict import End, Verdict, conclude, how, judge, not_begun

if TYPE_CHECKING:
    from worker.services import Services

log = logging.getLogger(__name__)


def run(services: "Services", ref: Ref) -> None:
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
        _refuse(services, record, "the task's directory is not on this machine any more")
        return
    try:
        home.task()
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
    claim = _claim(services, record)
    if claim is None:
        return
    with services.holding(ref, claim.token) as held:
        Attempt(services, home, record, claim, mailbox=held.mailbox, slot=held.slot).run()


def _refuse(services: "Services", record: Record, why: str) -> None:
    log.error("%s cannot run here: %s", record.ref, why, extra={"action": "attempt_refused"})
    at = stamp(services.clock.now())
    with contextlib.suppress(Refused):
        services.store.change(record.ref, step(Event.FAIL, at=at, by=actor(), reason=f"{FailReason.START}: {why}"))


def _claim(services: "Services", record: Record) -> Changed | None:
    change = step(
        Event.CLAIM,
        at=stamp(services.clock.now()),
        by=actor(),
        facts={"worker": services.name, "host": services.settings.host},
        fields={"worker": services.name},
        claim=True,
    )
    try:
        return services.store.change(record.ref, change)
    except Refused:
        return None


class Attempt:
    """The run of one agent on one task, under one claim."""

    def __init__(
        self,
        services: "Services",
        home: TaskDir,
        record: Record,
        claim: Changed,
        *,
        mailbox: Mailbox,
        slot: int,
    ) -> None:
        self._services, self._store, self._clock = services, services.store, services.clock
        self._record, self._ref, self._claim = record, record.ref, claim
        self._mailbox, self._slot = mailbox, slot
        self._home = home
        self._publisher = Publisher(services, home, record, claim, mailbox)
        self._submitted = 0  # items
        self._ending = Ending(services, home, record, claim, self._publisher)

    @property
    def number(self) -> int:
        return self._claim.attempt

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                prepared = self._prepare()
                name = log_name(self._home, self.number)
                files.clear(self._home.base, name)
                stack.callback(os.close, handle := files.open_log(self._home.base, name))
                process = spawn(prepared.command)
            except WardenDied as error:
                verdict = not_begun(str(error), tries=self._record.tries, limit=self._record.attempts)
                self._ending.end(verdict)
                return
            except (DispatchError, OSError) as error:
                said = error.message if isinstance(error, DispatchError) else str(error)
                hint = f" — {error.hint}" if isinstance(error, DispatchError) and error.hint else ""
                self._fail_start(f"{said}{hint}")
                return
            self._supervise(prepared, process, handle)

    def _fail_start(self, why: str) -> None:
        self._ending.end(Verdict(Event.FAIL, f"{FailReason.START}: {why}"))

    def _prepare(self) -> Prepared:
        try:
            sync(self._store, self._home, self._ref)
        except StoreDown:
            log.warning("%s starts without Redis", self._ref, extra={"action": "store_down"})
        if self.number > 1:
            sweep_attempts(self._ref, until=self.number - 1)
        task = current(self._home.task(), self._home.standing())
        place = make_workspace(self._services.settings, self._home, task, self.number)
        return prepare(
            self._services.settings, self._home, place, task, attempt=self.number, slot=self._slot, lost=self._is_lost
        )

    def _is_lost(self) -> bool:
        """Whether the claim is another's by now, as far as Redis can be asked."""
        try:
            record = self._store.record(self._ref)
        except StoreDown:
            return False
        return record is not None and record.token != self._claim.token

    def _supervise(self, prepared: Prepared, process: AgentProcess, handle: int) -> None:
        live, task, publisher = prepared.live, prepared.task, self._publisher
        before = live.view
        if not task.self_planned:  # read now: later an agent can have been at the journal
            self._submitted = next((int(entry.facts.get("total", 0)) for entry in self._home.entries()), 0)
        log.info("attempt %d of %s runs as %d", self.number, self._ref, process.pid, extra={"action": "attempt_start"})
        place = prepared.workspace
        publisher.note(
            "attempt", attempt=self.number, pid=process.pid, branch=place.branch or "", workspace=str(place.path)
        )
        for notice in prepared.notices:
            publisher.note("warning", text=notice)
        publisher.begin(live, again=self.number > 1, has_default=bool(task.question_default))
        publisher.ticked = lambda: self._services.saver.soon(place)
        with (
            open(handle, "ab", buffering=0, closefd=False) as stream,
            self._services.watching(self._mailbox, live.copy.path, live.copy.path / "ipc"),
        ):
            transcript = Transcript(stream, hear=prepared.listener.feed)
            with self._services.saver.keeping(place, lambda text: publisher.note("warning", text=text)):
                exit, stopped = self._watch_over(process, transcript, live, task)
        if not exit.started:
            self._fail_start(how(exit, transcript.last_line()))
            return
        publisher.turn(live, {"files", "news"})
        end = self._look_back(before, live, exit, stopped, transcript.last_line(), task)
        verdict = conclude(end)
        if verdict is not None and verdict.event is Event.FINISH and task.verify:
            verdict = self._check(prepared)
        self._ending.end(verdict, Ran(prepared, exit, stopped, end.progressed, handle))

    def _watch_over(
        self, process: AgentProcess, transcript: Transcript, live: LiveCopy, task: Task
    ) -> tuple[ProcessExit, Stop | None]:
        """Supervise a process in the attempt's workspace to its end."""
        publisher, settings = self._publisher, self._services.settings
        default = task.question_default

        def turn(words: set[str]) -> Watching:
            return publisher.turn(live, words)

        def quiet(change: Quiet | None) -> None:
            publisher.note("active" if change is None else "quiet", text=str(change or ""))
            self._mailbox.tell("news")

        grace = 0.0 if default else PARK_GRACE.total_seconds()
        try:
            return supervise(
                process,
                self._mailbox,
                transcript,
                turn,
                clock=self._clock,
                limits=Limits(
                    timeout=task.timeout,
                    question=task.question_timeout + grace,
                    drain=lambda: self._services.drain_seconds,
                    quiet=settings.quiet_seconds,
                ),
                overdue=lambda: bool(default) and publisher.answer_overdue(live, default),
                quiet=quiet,
            )
        finally:
            process.close()
            transcript.close()

    def _check(self, prepared: Prepared) -> Verdict | None:
        """Run the task's own check in the workspace: the agent says that all is done."""
        argv = ("sh", "-c", prepared.task.verify)
        command = Command(argv=argv, cwd=prepared.workspace.path, env=prepared.command.env)
        try:
            process = spawn(command)
        except DispatchError as error:
            return Verdict(Event.FAIL, f"{FailReason.VERIFY}: {error.message}")
        name = self._home.name(f"attempts/{self.number}/verify.log")
        files.clear(self._home.base, name)
        with open(files.open_log(self._home.base, name), "ab", buffering=0) as stream:
            transcript = Transcript(stream)
            exit, stopped = self._watch_over(process, transcript, prepared.live, prepared.task)
        said = transcript.tail.decode(errors="replace")
        stopped = Stop.LOST if self._publisher.lost else stopped
        return judge(exit, stopped, said, failed_before=bool(self._home.standing().check))

    def _look_back(
        self, before: View, live: LiveCopy, exit: ProcessExit, stopped: Stop | None, last_line: str, task: Task
    ) -> End:
        view = live.view
        was_blocked = {item.text for item in before.plan.items if item.mark is Mark.ASKING}
        blocked = [item for item in view.plan.items if item.mark is Mark.ASKING and item.text not in was_blocked]
        rewritten = len(view.plan.items) != len(before.plan.items)
        return End(
            view=view,
            exit=exit,
            stop=Stop.LOST if self._publisher.lost else stopped,
            progressed=rewritten or bool(plan.changes(before.plan, view.plan)),
            last_line=last_line,
            strangers=tuple(live.strangers()),
            newly_blocked=tuple(item.number for item in blocked),
            tries=self._record.tries,
            idle_before=self._record.idle,
            limit=task.attempts,
            items_before=self._submitted,
        )
