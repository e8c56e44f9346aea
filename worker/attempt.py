"""One attempt: claim → prepare → spawn → supervise → collect → publish → release."""

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dispatch_queue import files, ipc, plan, registry, taskdir
from dispatch_queue.clock import stamp
from dispatch_queue.errors import BadInput, ClaimLost, DispatchError, Refused, StoreDown, UntrustedPath
from dispatch_queue.mirror import actor, enroll, sync
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Ref, Task, draft
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.store import Change, Changed, Record, step, write_questions
from dispatch_queue.taskdir import TaskDir
from worker import workspace
from worker.livecopy import LiveCopy, View
from worker.prepare import Prepared, make_workspace, prepare
from worker.process import AgentProcess, Command, ProcessExit, spawn
from worker.publisher import Publisher
from worker.quiet import Quiet
from worker.supervisor import PARK_GRACE, Limits, Mailbox, Stop, Watching, supervise
from worker.transcript import LOG_LIMIT_BYTES, Transcript
from worker.verdict import End, Verdict, conclude, how, judge

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
        self._started = stamp(self._clock.now())
        self._prepared: Prepared | None = None
        self._log = -1  # a descriptor of agent.log, while there is an agent

    @property
    def number(self) -> int:
        return self._claim.attempt

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                prepared = self._prepare()
                files.clear(self._home.base, self._log_name)
                stack.callback(os.close, handle := files.open_log(self._home.base, self._log_name))
                process = spawn(prepared.command)
            except (DispatchError, OSError) as error:
                said = error.message if isinstance(error, DispatchError) else str(error)
                hint = f" — {error.hint}" if isinstance(error, DispatchError) and error.hint else ""
                self._fail_start(f"{said}{hint}")
                return
            self._log = handle
            self._supervise(prepared, process)

    @property
    def _log_name(self) -> str:
        return self._home.name(f"attempts/{self.number}/agent.log")

    def _fail_start(self, why: str) -> None:
        self._end(Verdict(Event.FAIL, f"{FailReason.START}: {why}"))

    def _prepare(self) -> Prepared:
        try:
            sync(self._store, self._home, self._ref)
        except StoreDown:
            log.warning("%s starts without Redis", self._ref, extra={"action": "store_down"})
        task = self._home.task()
        place = make_workspace(self._services.settings, self._home, task, self.number)
        return prepare(self._services.settings, self._home, place, task, attempt=self.number, slot=self._slot)

    def _supervise(self, prepared: Prepared, process: AgentProcess) -> None:
        self._prepared = prepared
        live, task, publisher = prepared.live, prepared.task, self._publisher
        before = live.view
        log.info("attempt %d of %s runs as %d", self.number, self._ref, process.pid, extra={"action": "attempt_start"})
        place = prepared.workspace
        publisher.note(
            "attempt", attempt=self.number, pid=process.pid, branch=place.branch or "", workspace=str(place.path)
        )
        for notice in prepared.notices:
            publisher.note("warning", text=notice)
        publisher.begin(live)
        publisher.ticked = lambda: self._services.saver.soon(place)
        with (
            open(self._log, "ab", buffering=0, closefd=False) as stream,
            self._services.watching(self._mailbox, live.copy.path, live.copy.path / "ipc"),
        ):
            transcript = Transcript(stream, hear=prepared.listener.feed)
            with self._services.saver.keeping(place, lambda text: publisher.note("warning", text=text)):
                exit, stopped = self._watch_over(process, transcript, live, task)
        if not exit.started:
            self._fail_start(how(exit, transcript.last_line()))
            return
        publisher.turn(live, {"files", "news"})
        end = self._look_back(before, live, exit, stopped, transcript.last_line(), task.attempts)
        verdict = conclude(end)
        if verdict is not None and verdict.event is Event.FINISH and task.verify:
            verdict = self._check(prepared)
        self._end(verdict, live=live, exit=exit, stopped=stopped, progressed=end.progressed)

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
                    drain=settings.drain_seconds,
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
        self, before: View, live: LiveCopy, exit: ProcessExit, stopped: Stop | None, last_line: str, limit: int
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
            limit=limit,
        )

    def _end(
        self,
        verdict: Verdict | None,
        *,
        live: LiveCopy | None = None,
        exit: ProcessExit | None = None,
        stopped: Stop | None = None,
        progressed: bool = False,
    ) -> None:
        """Collect, and publish the end. Waits for Redis if it is away, for the claim stays ours."""
        if verdict is None and not self._was_cancelled():
            log.info("attempt %d of %s is over: the task is another's", self.number, self._ref)
            return
        facts: dict[str, Any] = {"attempt": self.number}
        if live is not None:
            verdict = self._collect(live, verdict, facts)
        self._write_result(verdict, exit, stopped, facts, progressed=progressed)
        if verdict is not None and verdict.check:
            facts["check"] = verdict.check
        if self._tell_end(verdict, live, facts) and verdict is not None and verdict.event is Event.FINISH:
            self._remove_workspace()

    def _tell_end(self, verdict: Verdict | None, live: LiveCopy | None, facts: Mapping[str, Any]) -> bool:
        """Publish the end, however long that takes; False when somebody else has the task, or the worker must end."""
        while True:
            try:
                self._release(verdict, live, facts)
                return True
            except StoreDown:
                if not self._services.wait_for_store():
                    return False
            except ClaimLost:
                if verdict is None or not self._was_cancelled():
                    return False
                verdict = None
            except Refused as error:
                if error.state:
                    log.error("%s: its end was refused: %s", self._ref, error, extra={"action": "end_refused"})
                    return False
                enroll(self._store, self._home, self._ref, self._home.standing())  # Redis lost its data

    def _remove_workspace(self) -> None:
        """Remove the worktree of a finished task, if all of it is in the home repository."""
        if self._prepared is None or self._prepared.workspace.isolation is Isolation.SHARED:
            return
        removal = workspace.remove(self._prepared.workspace, self._home.base)
        if not removal.removed:
            log.warning("kept %s: %s", self._prepared.workspace.path, removal.reason, extra={"action": "worktree_kept"})

    def _was_cancelled(self) -> bool:
        """Whether the task was taken from us by `cancel`, and by nobody else since."""
        while True:
            try:
                record = self._store.record(self._ref)
            except StoreDown:
                if self._services.wait_for_store():
                    continue
                return False
            return record is not None and record.state is State.CANCELLED and record.worker == self._services.name

    def _collect(self, live: LiveCopy, verdict: Verdict | None, facts: dict[str, Any]) -> Verdict | None:
        """Set the record right, and commit what the agent left."""
        try:
            live.restore(f"attempts/{self.number}/plan.rejected")
            self._keep_log()
        except (DispatchError, OSError) as error:
            log.warning("the record of %s stays broken: %s", self._ref, error, extra={"action": "restore_failed"})
        facts |= taskdir.facts_of(live.view.plan)
        if self._prepared is None:
            return verdict
        place = self._prepared.workspace
        if place.isolation is not Isolation.WORKTREE:
            return verdict
        try:
            result = workspace.collect(place, task_id=self._ref.task, attempt=self.number)
        except (DispatchError, OSError) as error:
            facts["kept"] = str(place.path)
            why = f"{FailReason.AGENT}: the work in {place.path} could not be committed: {error}"
            return Verdict(Event.FAIL, why) if verdict is not None else None
        facts |= {"branch": place.branch or "", "commit": result.commit or ""}
        if result.files_left:
            facts["left"] = list(result.files_left)
        return verdict

    def _keep_log(self) -> None:
        """Write the transcript again if the agent took it away."""
        if not files.is_same(self._home.base, self._log_name, self._log):
            files.clear(self._home.base, self._log_name)
            files.write(self._home.base, self._log_name, os.pread(self._log, 2 * LOG_LIMIT_BYTES, 0))

    def _write_result(
        self,
        verdict: Verdict | None,
        exit: ProcessExit | None,
        stopped: Stop | None,
        facts: Mapping[str, Any],
        *,
        progressed: bool,
    ) -> None:
        result = {
            "attempt": self.number,
            "started": self._started,
            "ended": stamp(self._clock.now()),
            "end": verdict.event if verdict else Event.CANCEL,
            "reason": verdict.reason if verdict else "cancelled",
            "exit_status": exit.code if exit else None,
            "signal": exit.signal if exit else None,
            "stopped": stopped,
            "progressed": progressed,
            **self._heard(),
            "host": self._services.settings.host,
            **facts,
        }
        data = json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n"
        try:
            files.write(self._home.base, self._home.name(f"attempts/{self.number}/result.json"), data)
        except (DispatchError, OSError) as error:
            log.warning("%s: no result.json: %s", self._ref, error, extra={"action": "result_failed"})

    def _heard(self) -> dict[str, Any]:
        """What the CLI itself told of its run. Unknown is null."""
        if self._prepared is None:
            return {"model": self._record.model, "backend": None, "session": None}
        told = self._prepared.listener.report.plain()
        return {
            "backend": self._prepared.task.backend,
            "resumed": self._prepared.resumed,
            **told,
            "model": told["model"] or self._record.model,
        }

    def _release(self, verdict: Verdict | None, live: LiveCopy | None, facts: Mapping[str, Any]) -> None:
        """Give the claim back with what came of it. Raises StoreDown, ClaimLost."""
        if verdict is None:
            self._say_stopped(facts)
            return
        self._publisher.flush()
        guard = None
        if verdict.event is Event.PARK and live is not None:
            try:
                number = self._question_of_block(live)
            except (BadInput, UntrustedPath, OSError) as error:
                verdict = Verdict(Event.FAIL, f"{FailReason.AGENT}: its question cannot be asked: {error}")
                self._store.change(self._ref, self._last(verdict, facts, None))
                return
            guard = ("questions", write_questions(live.view.ipc.open))
            verdict = Verdict(Event.PARK, f"question {number}")
            if number is None:
                verdict, guard = _ANSWERED, None
        try:
            self._store.change(self._ref, self._last(verdict, facts, guard))
        except Refused as error:
            if verdict.event is not Event.PARK:
                raise
            # The answer came at this moment: go on with it.
            log.info("%s is not parked: %s", self._ref, error, extra={"action": "park_raced"})
            self._store.change(self._ref, self._last(_ANSWERED, facts, None))
            return

    def _last(self, verdict: Verdict, facts: Mapping[str, Any], guard: tuple[str, str] | None) -> Change:
        fields: dict[str, str | int] = {"worker": ""}
        if verdict.event in (Event.FINISH, Event.FAIL):
            fields["questions"] = ""
        if verdict.counts:
            fields |= {"tries": self._record.tries + 1, "idle": int(verdict.idle)}
            facts = {**facts, "tries": self._record.tries + 1}
        return step(
            verdict.event,
            at=stamp(self._clock.now()),
            by=actor(),
            reason=verdict.reason,
            facts=facts,
            fields=fields,
            token=self._claim.token,
            guard=guard,
        )

    def _say_stopped(self, facts: Mapping[str, Any]) -> None:
        """Tell whoever cancelled the task that nothing of its agent is left."""
        entry = draft("stopped", at=stamp(self._clock.now()), by=actor(), **facts)
        change = Change(entries=[entry], guard=("worker", self._services.name), fields={"worker": ""})
        try:
            self._store.change(self._ref, change)
        except Refused:
            log.info("%s was claimed again", self._ref, extra={"action": "attempt_lost"})

    def _question_of_block(self, live: LiveCopy) -> int | None:
        """The open question an agent stopped for; one is made of a `[?]` item that came without. None: answered."""
        self._publisher.turn(live, {"news"})
        view = live.view
        blocked = [item for item in view.plan.items if item.mark is Mark.ASKING]
        if view.ipc.open:
            number = view.ipc.open[0]
            first = view.plan.first_open
            if not blocked and first is not None and first.mark is Mark.OPEN:
                live.mark(first.number, Mark.ASKING, view.ipc.questions[number].strip())
                self._publisher.turn(live, set())
            return number
        if not blocked or view.ipc.answers.keys() >= view.ipc.questions.keys() != set():
            return None
        number = max(view.ipc.questions, default=0) + 1
        text = blocked[0].note or blocked[0].text
        live.copy.write(ipc.name_of(number, ipc.Kind.QUESTION), text.encode() + b"\n", replace=False)
        self._publisher.turn(live, set())
        return number


_ANSWERED = Verdict(Event.GIVE_BACK, "its question was answered")
