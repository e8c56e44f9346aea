"""The end of an attempt: collect what the agent left, publish what came of it, release the claim."""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatch_queue import files, ipc, project, taskdir, when
from dispatch_queue.change import Change, Changed, Record, step, write_questions
from dispatch_queue.clock import stamp
from dispatch_queue.errors import BadInput, ClaimLost, DispatchError, Refused, StoreDown, UntrustedPath
from dispatch_queue.home import actor
from dispatch_queue.mirror import enroll, routing
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Task, current, draft
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.taskdir import TaskDir
from worker import sweep, workspace
from worker.backends.failures import Fault
from worker.livecopy import LiveCopy
from worker.prepare import Prepared
from worker.process import ProcessExit
from worker.publisher import Publisher
from worker.supervisor import Stop
from worker.transcript import LOG_LIMIT_BYTES
from worker.verdict import Verdict
from worker.workspace import Workspace

if TYPE_CHECKING:
    from worker.services import Services

log = logging.getLogger(__name__)

_ANSWERED = Verdict(Event.GIVE_BACK, "its question was answered")


@dataclass(frozen=True, slots=True)
class Ran:
    """An agent that ran, and has ended. `log` is a descriptor of its agent.log."""

    prepared: Prepared
    exit: ProcessExit
    stopped: Stop | None
    progressed: bool
    log: int
    fault: Fault | None  # why the CLI failed, if it did


def log_name(home: TaskDir, attempt: int) -> str:
    """The transcript of an attempt, as a name below the home copy's base."""
    return home.name(f"attempts/{attempt}/agent.log")


class Ending:
    """Ends one attempt."""

    def __init__(
        self, services: "Services", home: TaskDir, record: Record, claim: Changed, publisher: Publisher
    ) -> None:
        self._services, self._store, self._clock = services, services.store, services.clock
        self._home, self._record, self._ref, self._claim = home, record, record.ref, claim
        self._publisher = publisher
        self._started = stamp(self._clock.now())
        self._told = False

    def end(self, verdict: Verdict | None, ran: Ran | None = None, *, fault: Fault | None = None) -> None:
        """Collect, and publish the end, once. Waits for Redis if it is away, for the claim stays ours.

        `verdict` is None when the task is not ours any more; `ran` when no agent could be started, `fault` tells why
        where that is its CLI's.
        """
        if self._told:
            return
        if verdict is None and not self._was_cancelled():
            log.info("attempt %d of %s is over: the task is another's", self._claim.attempt, self._ref)
            return
        facts: dict[str, Any] = {"attempt": self._claim.attempt}
        if ran is not None:
            verdict = self._collect(ran, verdict, facts)
        self._write_result(verdict, ran, fault, facts)
        if verdict is not None and verdict.check:
            facts["check"] = verdict.check
        finished = verdict is not None and verdict.event is Event.FINISH
        self._told = self._tell(verdict, ran, facts)
        if self._told and finished and ran is not None:
            self._remove_worktrees(ran.prepared.workspace)

    def _tell(self, verdict: Verdict | None, ran: Ran | None, facts: Mapping[str, Any]) -> bool:
        """Publish the end, however long that takes; False when somebody else has the task, or the worker must end."""
        while True:
            try:
                self._release(verdict, ran, facts)
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
                # Redis lost its data.
                enroll(self._store, self._home, self._ref, self._home.standing())
                if ran is not None:
                    self._publisher.tell_all(ran.prepared.live, "rebuilt")

    def _remove_worktrees(self, place: Workspace) -> None:
        """Remove the worktree of a finished task and those of its earlier attempts, if all of it is in the project."""
        if place.isolation is Isolation.SHARED:
            return
        kept = {place.top: workspace.remove(place, self._home.base).reason}
        with contextlib.suppress(OSError):
            for path in workspace.earlier(place.top.parent, self._ref.task, self._claim.attempt):
                kept[path] = sweep.remove(path, self._home.base)
        for path, reason in kept.items():
            if reason:
                log.warning("kept %s: %s", path, reason, extra={"action": "worktree_kept"})

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

    def _collect(self, ran: Ran, verdict: Verdict | None, facts: dict[str, Any]) -> Verdict | None:
        """Set the record right, and keep what the agent left: as a snapshot if another attempt goes on with it."""
        live, place = ran.prepared.live, ran.prepared.workspace
        try:
            live.restore(f"attempts/{self._claim.attempt}/plan.rejected")
            project.put_back(self._home.base, self._ref.project)
            self._keep_log(ran.log)
        except (DispatchError, OSError) as error:
            log.warning("the record of %s stays broken: %s", self._ref, error, extra={"action": "restore_failed"})
        facts |= taskdir.facts_of(live.view.plan)
        if place.isolation is not Isolation.WORKTREE:
            return verdict
        facts["branch"] = place.branch or ""
        try:
            if verdict is not None and verdict.event in (Event.PARK, Event.GIVE_BACK, Event.LIMIT):
                saved = workspace.save(place)
                if saved is None or not saved.left_out:
                    return verdict
            result = workspace.collect(place, task_id=self._ref.task, attempt=self._claim.attempt)
        except (DispatchError, OSError) as error:
            facts["kept"] = str(place.path)
            why = f"{FailReason.AGENT}: the work in {place.path} could not be kept: {error}"
            return Verdict(Event.FAIL, why) if verdict is not None else None
        facts["commit"] = result.commit or ""
        if result.files_left:
            facts["left"] = list(result.files_left)
        return verdict

    def _keep_log(self, handle: int) -> None:
        """Write the transcript again if the agent took it away, and not the whole task with it."""
        if not self._home.exists():
            return
        name = log_name(self._home, self._claim.attempt)
        if not files.is_same(self._home.base, name, handle):
            files.clear(self._home.base, name)
            files.write(self._home.base, name, os.pread(handle, 2 * LOG_LIMIT_BYTES, 0))

    def _write_result(
        self, verdict: Verdict | None, ran: Ran | None, fault: Fault | None, facts: Mapping[str, Any]
    ) -> None:
        if not self._home.exists():
            log.warning("%s was removed while it ran", self._ref, extra={"action": "task_removed"})
            return
        result = {
            "attempt": self._claim.attempt,
            "started": self._started,
            "ended": stamp(self._clock.now()),
            "end": verdict.event if verdict else Event.CANCEL,
            "reason": verdict.reason if verdict else "cancelled",
            "exit_status": ran.exit.code if ran else None,
            "signal": ran.exit.signal if ran else None,
            "stopped": ran.stopped if ran else None,
            "progressed": ran is not None and ran.progressed,
            **self._heard(ran, fault),
            "host": self._services.settings.host,
            **facts,
        }
        data = json.dumps(result, indent=2, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        try:
            files.write(self._home.base, self._home.name(f"attempts/{self._claim.attempt}/result.json"), data)
        except (DispatchError, OSError) as error:
            log.warning("%s: no result.json: %s", self._ref, error, extra={"action": "result_failed"})

    def _heard(self, ran: Ran | None, fault: Fault | None) -> dict[str, Any]:
        """What the CLI itself told of its run. Unknown is null."""
        if ran is None:
            backend, failure = (self._task().backend, fault.plain()) if fault is not None else (None, None)
            return {"model": self._record.model, "backend": backend, "session": None, "failure": failure}
        told = ran.prepared.listener.report.plain()
        model = told["model"] or self._record.model
        failure = ran.fault.plain() if ran.fault is not None else None
        return {
            "backend": ran.prepared.task.backend,
            "resumed": ran.prepared.resumed,
            **told,
            "model": model,
            "failure": failure,
        }

    def _release(self, verdict: Verdict | None, ran: Ran | None, facts: Mapping[str, Any]) -> None:
        """Give the claim back with what came of it. Raises StoreDown, ClaimLost."""
        if verdict is None:
            self._say_stopped(facts)
            return
        self._publisher.flush()
        guard = None
        if verdict.event is Event.PARK and ran is not None:
            live = ran.prepared.live
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
        fields: dict[str, str | int] = {
            "worker": "",
            **{name: facts[name] for name in ("done", "total") if name in facts},
        }
        if verdict.event in (Event.FINISH, Event.FAIL):
            fields["questions"] = ""
        if verdict.counts:
            fields |= {"tries": self._record.tries + 1, "idle": int(verdict.idle)}
            facts = {**facts, "tries": self._record.tries + 1}
        if verdict.stalls or self._record.stalls:
            fields |= {"stalls": verdict.stalls}
            facts = {**facts, "stalls": verdict.stalls}
        hold = (verdict.hold[0], when.milliseconds(verdict.hold[1])) if verdict.hold else None
        if verdict.until:
            fields |= {"due": when.milliseconds(verdict.until), "until": when.shown(verdict.until)}
            fields |= {"limit": hold[0] if hold else ""}
            facts = {**facts, "until": verdict.until}
        if verdict.instead:
            task = self._task()
            backend, _, model = verdict.instead.partition("/")
            fields |= routing(dataclasses.replace(task, model=model, backend=backend))
            facts = {**facts, "model": model, "backend": backend, "preamble": task.preamble, "failed": task.model}
        return step(
            verdict.event,
            at=stamp(self._clock.now()),
            by=actor(),
            reason=verdict.reason,
            facts=facts,
            fields=fields,
            token=self._claim.token,
            guard=guard,
            hold=hold,
            once=f"{self._claim.token}-end",
        )

    def _task(self) -> Task:
        return current(self._home.task(), self._home.standing())

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
        asked = view.ipc.questions.keys() - live.answered_before
        if not blocked or (asked and asked <= view.ipc.answers.keys()):
            return None
        number = max(view.ipc.questions, default=0) + 1
        text = blocked[0].note or blocked[0].text
        live.copy.write(ipc.name_of(number, ipc.Kind.QUESTION), text.encode() + b"\n", replace=False)
        self._publisher.turn(live, set())
        return number
