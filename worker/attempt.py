"""One attempt: claim → prepare → spawn → supervise → collect → publish → release."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from dispatch_queue import files, overview, plan
from dispatch_queue.caps import Used, caps_of, used
from dispatch_queue.change import Changed, Record
from dispatch_queue.config.load import load
from dispatch_queue.errors import DispatchError, StoreDown
from dispatch_queue.mirror import sync
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Task, current
from dispatch_queue.states import Event, FailReason
from dispatch_queue.taskdir import TaskDir
from worker import space
from worker.backends.failures import Failure, Fault
from worker.ending import Ending, Ran, log_name
from worker.limits import setting
from worker.livecopy import LiveCopy, View
from worker.masking import Masker
from worker.prepare import Prepared, make_workspace, prepare
from worker.process import AgentProcess, Command, ProcessExit, StartFailed, WardenDied, spawn, sweep_attempts
from worker.publisher import Publisher
from worker.quiet import Quiet
from worker.recovery import Setting, held_back, recover
from worker.supervisor import PARK_GRACE, Limits, Mailbox, Stop, Watching, supervise
from worker.transcript import Transcript
from worker.verdict import STOPPED, End, Verdict, broken_off, conclude, items_agreed, judge, not_begun

if TYPE_CHECKING:
    from worker.services import Services

log = logging.getLogger(__name__)

SHOWN_STRANGERS = 3  # of the files beside the record


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
        self._masker = Masker(os.environ)
        self._ending = Ending(services, home, record, claim, self._publisher)

    @property
    def number(self) -> int:
        return self._claim.attempt

    def run(self) -> None:
        """To its end, whatever that is. One that an error of ours breaks off leaves no process and no claim."""
        try:
            self._run()
        except Exception as error:
            log.exception("attempt %d of %s broke off", self.number, self._ref, extra={"action": "attempt_broke"})
            why = f"{type(error).__name__}: {error}"
            self._ending.end(broken_off(why, tries=self._record.tries, limit=self._record.attempts))

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                self._config = load(self._services.settings.home).config
                self._catch_up()
                verdict = self._used_up() or self._held_back()
                if verdict is not None:
                    self._ending.end(verdict)
                    return
                prepared = self._prepare()
                name = log_name(self._home, self.number)
                files.clear(self._home.base, name)
                stack.callback(os.close, handle := files.open_log(self._home.base, name))
                process = spawn(prepared.command)
                stack.callback(process.close)
            except WardenDied as error:
                verdict = not_begun(str(error), tries=self._record.tries, limit=self._record.attempts)
                self._ending.end(verdict)
                return
            except (DispatchError, OSError) as error:
                if self._services.drain_left() <= 0:
                    self._ending.end(STOPPED)
                    return
                said = error.message if isinstance(error, DispatchError) else str(error)
                hint = f" — {error.hint}" if isinstance(error, DispatchError) and error.hint else ""
                if isinstance(error, StartFailed) and error.missing:
                    fault = Fault(Failure.MISSING, f"{said}{hint}")
                    self._ending.end(self._recovery(fault, progressed=False), fault=fault)
                    return
                self._fail_start(f"{said}{hint}")
                return
            self._supervise(prepared, process, handle)

    def _fail_start(self, why: str) -> None:
        self._ending.end(self._wait_for_room() or Verdict(Event.FAIL, f"{FailReason.START}: {why}"))

    def _wait_for_room(self) -> Verdict | None:
        return space.wait_for_room(self._services.settings, self._home, self._clock.now())

    def _catch_up(self) -> None:
        """Bring home what led to this attempt: it may have begun before whoever queued it could write it down."""
        try:
            sync(self._store, self._home, self._ref)
        except StoreDown:
            log.warning("%s starts without Redis", self._ref, extra={"action": "store_down"})

    def _prepare(self) -> Prepared:
        if self.number > 1:
            sweep_attempts(self._ref, until=self.number - 1)
        task = current(self._home.task(), self._home.standing())
        place = make_workspace(self._services.settings, self._home, task, self.number)
        return prepare(
            self._services.settings,
            self._config,
            self._home,
            place,
            task,
            attempt=self.number,
            slot=self._slot,
            caps=self._caps,
            masker=self._masker,
            over=lambda: self._services.drain_left() <= 0 or self._is_lost(),
        )

    def _used_up(self) -> Verdict | None:
        """The end of a task that has used what it may."""
        caps = caps_of(current(self._home.task(), self._home.standing()))
        spent = used(overview.attempts(self._home)) if caps else Used()
        left = caps.left(spent)
        if left is None:
            return Verdict(Event.FAIL, f"{FailReason.BUDGET}: {caps.said(spent)}")
        self._caps = left
        return None

    def _held_back(self) -> Verdict | None:
        """What to do instead of running, if another attempt found the account of the task's model at its limit."""
        holds = self._holds()
        if not holds:
            return None
        setting = self._setting(holds)
        until = holds.get(setting.hold)
        return held_back(until, setting) if until is not None else None

    def _holds(self) -> Mapping[str, datetime]:
        try:
            return self._store.holds()
        except StoreDown:
            return {}

    def _setting(self, holds: Mapping[str, datetime], *, progressed: bool = False) -> Setting:
        return setting(
            self._config,
            self._home.task(),
            self._home.standing(),
            self._services.settings.host,
            holds,
            progressed=progressed,
        )

    def _recovery(self, fault: Fault | None, *, progressed: bool) -> Verdict | None:
        """What to do about a failure that is not the agent's own."""
        full = self._wait_for_room()
        if full is not None:
            return full
        if fault is None or fault.kind is Failure.AGENT:
            return None
        return recover(fault, self._setting(self._holds(), progressed=progressed), self._clock.now())

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
            self._submitted = items_agreed(self._home.entries())
        log.info("attempt %d of %s runs as %d", self.number, self._ref, process.pid, extra={"action": "attempt_start"})
        place = prepared.workspace
        publisher.note(
            "attempt",
            attempt=self.number,
            pid=process.pid,
            backend=task.backend,
            branch=place.branch or "",
            workspace=str(place.path),
        )
        for notice in prepared.notices:
            publisher.note("warning", text=notice)
        publisher.begin(live, again=self.number > 1, has_default=bool(task.question_default))
        publisher.ticked = lambda: self._services.saver.soon(place)
        with (
            open(handle, "ab", buffering=0, closefd=False) as stream,
            self._services.watching(self._mailbox, live.copy.path, live.copy.path / "ipc"),
        ):
            transcript = Transcript(stream, self._masker, hear=prepared.listener.feed)
            with self._services.saver.keeping(place, lambda text: publisher.note("warning", text=text)):
                exit, stopped = self._watch_over(process, transcript, live, task)
        publisher.turn(live, {"files", "news"})
        fault = _fault(prepared, exit)
        end = self._look_back(before, live, exit, stopped, prepared.listener.last_words(), task, fault)
        verdict = conclude(end)
        if verdict is not None and verdict.event is Event.FINISH and task.verify:
            verdict = self._check(prepared)
        self._ending.end(verdict, Ran(prepared, exit, stopped, end.progressed, handle, fault))

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
                    drain=self._services.drain_left,
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
        if not self._home.exists():
            return Verdict(Event.FAIL, f"{FailReason.VERIFY}: the task's directory was removed")
        if self._services.stopping.is_set():
            self._mailbox.tell("drain")  # the agent's supervisor may have taken the word
        argv = ("sh", "-c", prepared.task.verify)
        command = Command(argv=argv, cwd=prepared.workspace.path, env=prepared.command.env)
        name = self._home.name(f"attempts/{self.number}/verify.log")
        files.clear(self._home.base, name)
        with open(files.open_log(self._home.base, name), "ab", buffering=0) as stream:
            try:
                process = spawn(command)
            except DispatchError as error:
                return Verdict(Event.FAIL, f"{FailReason.VERIFY}: {error.message}")
            transcript = Transcript(stream, self._masker)
            exit, stopped = self._watch_over(process, transcript, prepared.live, prepared.task)
        said = transcript.tail.decode(errors="replace")
        stopped = Stop.LOST if self._publisher.lost else stopped
        return judge(exit, stopped, said, failed_before=bool(self._home.standing().check))

    def _look_back(
        self,
        before: View,
        live: LiveCopy,
        exit: ProcessExit,
        stopped: Stop | None,
        last_line: str,
        task: Task,
        fault: Fault | None,
    ) -> End:
        view, strangers = live.view, live.strangers()
        if strangers and task.isolation is Isolation.SHARED:  # others write there too: who it was cannot be told
            said = f"meanwhile appeared beside the task's record, by whoever: {', '.join(strangers[:SHOWN_STRANGERS])}"
            self._publisher.note("warning", text=said)
            strangers = []
        was_blocked = {item.text for item in before.plan.items if item.mark is Mark.ASKING}
        blocked = [item for item in view.plan.items if item.mark is Mark.ASKING and item.text not in was_blocked]
        rewritten = len(view.plan.items) != len(before.plan.items)
        progressed = rewritten or bool(plan.changes(before.plan, view.plan))
        return End(
            view=view,
            exit=exit,
            stop=Stop.LOST if self._publisher.lost else stopped,
            progressed=progressed,
            last_line=last_line,
            strangers=tuple(strangers),
            newly_blocked=tuple(item.number for item in blocked),
            tries=self._record.tries,
            idle_before=self._record.idle,
            limit=task.attempts,
            items_before=self._submitted,
            recovery=self._recovery(fault, progressed=progressed),
        )


def _fault(prepared: Prepared, exit: ProcessExit) -> Fault | None:
    """Why the CLI failed, if it did. Only a session that was to be carried on can be gone."""
    told = prepared.listener.fault(exit.code)
    if told is not None and told.kind is Failure.SESSION and not prepared.resumed:
        return dataclasses.replace(told, kind=Failure.AGENT)
    return told
