"""One attempt: claim → workspace → live copy → prompt → spawn → supervise → collect → publish → release."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatch_queue import files, ipc, plan, registry, taskdir
from dispatch_queue.clock import stamp
from dispatch_queue.config.load import load
from dispatch_queue.errors import ClaimLost, DispatchError, Refused, StoreDown
from dispatch_queue.mirror import actor, publish_answer, queue_key, sync, ticket
from dispatch_queue.plan import Mark
from dispatch_queue.record import Isolation, Ref, Task, draft, notes_of
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.store import Change, Changed, Record, step, write_questions
from dispatch_queue.taskdir import TaskDir
from worker import prompt, workspace
from worker.backends import Invocation, invoke
from worker.livecopy import LiveCopy, News
from worker.process import AgentProcess, Command, ProcessExit, spawn
from worker.settings import PORT_BASE, PORTS_PER_SLOT
from worker.supervisor import Mailbox, Stop, Transcript, Watching, supervise
from worker.verdict import End, Verdict, conclude, how
from worker.workspace import Workspace

if TYPE_CHECKING:
    from worker.services import Services

log = logging.getLogger(__name__)

Tell = Callable[[str, Mapping[str, Any]], None]  # a Celery event: type and fields

_QUESTION_CHARACTERS = 4000  # of a question in the journal; the file has all of it


def run(services: "Services", ref: Ref, tell: Tell) -> None:
    """Answer a ticket: claim the task and run its next attempt to its end. A ticket nobody needs is dropped.

    Raises nothing that the task's own record can tell.
    """
    record = services.store.record(ref)
    if record is None or record.state is not State.QUEUED:
        log.info(
            "ticket of %s dropped: %s", ref, record.state if record else "unknown", extra={"action": "ticket_drop"}
        )
        return
    claim = _claim(services, record)
    if claim is None:
        return
    with services.holding(ref, claim.token) as held:
        attempt = Attempt(services, record, claim, mailbox=held.mailbox, slot=held.slot, tell=tell)
        attempt.run()


def _claim(services: "Services", record: Record) -> Changed | None:
    name = services.name
    change = step(
        Event.CLAIM,
        at=stamp(services.clock.now()),
        by=actor(),
        facts={"worker": name, "host": services.settings.host},
        fields={"worker": name},
        claim=True,
    )
    try:
        return services.store.change(record.ref, change, home=record.home)
    except Refused:
        return None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything an agent needs to start."""

    workspace: Workspace
    live: LiveCopy
    command: Command


class Attempt:
    """The run of one agent on one task, under one claim."""

    def __init__(
        self, services: "Services", record: Record, claim: Changed, *, mailbox: Mailbox, slot: int, tell: Tell
    ) -> None:
        self._services, self._store, self._clock = services, services.store, services.clock
        self._record, self._ref, self._claim = record, record.ref, claim
        self._mailbox, self._slot, self._tell = mailbox, slot, tell
        self._seq = claim.seq
        self._outbox: list[Change] = []
        self._lost = False
        self._asked_since: dict[int, float] = {}
        self._started = stamp(self._clock.now())

    @property
    def number(self) -> int:
        return self._claim.attempt

    def run(self) -> None:
        base = registry.path_of(self._services.settings.home, self._ref.project)
        if base is None or not TaskDir(base, self._ref.task).exists():
            self._end(Verdict(Event.FAIL, f"{FailReason.START}: the task's directory is not on this machine any more"))
            return
        self._home = TaskDir(base, self._ref.task)
        try:
            prepared = self._prepare()
            process = spawn(prepared.command)
        except StoreDown:
            raise
        except DispatchError as error:
            hint = f" — {error.hint}" if error.hint else ""
            self._end(Verdict(Event.FAIL, f"{FailReason.START}: {error.message}{hint}"))
            return
        except OSError as error:
            self._end(Verdict(Event.FAIL, f"{FailReason.START}: {error}"))
            return
        self._supervise(prepared, process)

    def _prepare(self) -> Prepared:
        """Workspace, live copy and command. Raises DispatchError for whatever cannot be made."""
        sync(self._store, self._home, self._ref)
        task = self._home.task()
        entries = self._home.entries()
        place = self._workspace(task)
        copy = TaskDir(place.path, task.id)
        if place.isolation is Isolation.WORKTREE:
            lay_down(self._home, copy)
        notes = notes_of(entries)
        asked = copy.ipc()
        reopen(copy, asked)
        live = LiveCopy(copy)
        live.notes = notes
        live.keep_notes()
        live.look()
        now = self._clock.monotonic()
        self._asked_since = dict.fromkeys(asked.open, now)
        exchanges = {asked.questions[n]: answer for n, answer in asked.answers.items() if n in asked.questions}
        text = prompt.build(
            task,
            live.view.plan,
            attempt=self.number,
            branch=place.branch,
            exchanges=exchanges,
            has_context=(copy.path / taskdir.CONTEXT).exists(),
        )
        folder = self._home.name(f"attempts/{self.number}")
        files.write(self._home.base, f"{folder}/prompt.md", text.encode())
        self._task, self._place = task, place
        made = self._invocation(task, text, place)
        return Prepared(place, live, Command(argv=made.argv, cwd=place.path, env=made.env, stdin=made.stdin))

    def _workspace(self, task: Task) -> Workspace:
        if task.isolation is Isolation.SHARED:
            return workspace.shared(self._home.base)
        return workspace.worktree(
            self._home.base,
            root=self._services.settings.home / "worktrees",
            project_id=task.project,
            task_id=task.id,
            attempt=self.number,
            branch=self._home.standing().branch or None,
        )

    def _invocation(self, task: Task, text: str, place: Workspace) -> Invocation:
        config = load(self._services.settings.home).config
        values = {
            "DISPATCH_TASK_ID": task.id,
            "DISPATCH_ATTEMPT": str(self.number),
            "DISPATCH_TASK_DIR": str(place.path / taskdir.TASKS / task.id),
            "DISPATCH_SLOT": str(self._slot),
            "DISPATCH_PORT_BASE": str(PORT_BASE + self._slot * PORTS_PER_SLOT),
            "DISPATCH_QUESTION_TIMEOUT": str(task.question_timeout),
        }
        return invoke(config, task.backend, model=task.model, prompt=text, workspace=place.path, values=values)

    def _supervise(self, prepared: Prepared, process: AgentProcess) -> None:
        live, task = prepared.live, self._task
        before = live.view
        log.info("attempt %d of %s started", self.number, self._ref, extra={"action": "attempt_start"})
        self._send(
            [
                (
                    "attempt",
                    {
                        "attempt": self.number,
                        "pid": process.pid,
                        "branch": self._place.branch or "",
                        "workspace": str(self._place.path),
                    },
                )
            ]
        )
        self._say("task-progress", live)
        log_path = self._home.path / f"attempts/{self.number}/agent.log"
        folders = (live.copy.path, live.copy.path / "ipc")
        with open(log_path, "ab", buffering=0) as stream:
            transcript = Transcript(stream)
            with self._services.watching(self._mailbox, *folders):
                exit, stopped = supervise(
                    process,
                    self._mailbox,
                    transcript,
                    lambda words: self._turn(live, words),
                    clock=self._clock,
                    timeout_seconds=task.timeout,
                    question_timeout_seconds=task.question_timeout,
                    drain_seconds=self._services.settings.drain_seconds,
                )
            process.close()
            transcript.close()
        if not exit.started:
            self._end(
                Verdict(Event.FAIL, f"{FailReason.START}: {how(exit, transcript.last_line())}"), live=live, exit=exit
            )
            return
        self._turn(live, {"files", "news"})
        view = live.view
        blocked_before = {item.text for item in before.plan.items if item.mark is Mark.ASKING}
        verdict = conclude(
            End(
                view=view,
                exit=exit,
                stop=stopped,
                progressed=bool(plan.changes(before.plan, view.plan)) or len(view.plan.items) != len(before.plan.items),
                last_line=transcript.last_line(),
                strangers=tuple(live.strangers()),
                newly_blocked=tuple(
                    item.number
                    for item in view.plan.items
                    if item.mark is Mark.ASKING and item.text not in blocked_before
                ),
                tries=self._record.tries,
                idle_before=self._record.idle,
                limit=task.attempts,
            )
        )
        self._end(verdict, live=live, exit=exit, stopped=stopped)

    # -- while the agent works ------------------------------------------------------------------------------------

    def _turn(self, live: LiveCopy, words: set[str]) -> Watching:
        """Look at the files and at Redis, as far as told, and publish what is new."""
        try:
            if "news" in words:
                self._hear(live)
            view, news = live.look()
            live.keep_notes()
            if news:
                self._publish(live, news)
            self._flush()
        except StoreDown as error:
            log.warning("%s goes on without Redis: %s", self._ref, error, extra={"action": "store_down"})
            self._services.remind(self._mailbox)
            view = live.view
        except ClaimLost:
            self._lost = True
            view = live.view
        return Watching(
            lost=self._lost,
            broken=bool(view.hostile),
            asked_since=min(self._asked_since.values(), default=None),
        )

    def _hear(self, live: LiveCopy) -> None:
        record = self._store.record(self._ref)
        if record is None:
            return
        if record.token != self._claim.token:
            raise ClaimLost(self._ref.task, token=self._claim.token, held=record.token)
        pulled = self._store.pull(self._ref, self._seq)
        live.hear(pulled.entries, pulled.files)
        self._seq = max(self._seq, pulled.seq)

    def _publish(self, live: LiveCopy, news: News) -> None:
        found, complaints = live.read_changed(news)
        events = [*news.events, *(("warning", {"text": complaint}) for complaint in complaints)]
        if events or found:
            self._queue_change(Change(entries=self._drafts(events), fields=news.facts, files=found))
        now = self._clock.monotonic()
        for number in news.questions:
            self._asked_since[number] = now
            self._ask(live, number)
        open_ones = set(live.view.ipc.open)
        self._asked_since = {n: since for n, since in self._asked_since.items() if n in open_ones}
        self._flush()
        for number in news.answers:
            publish_answer(self._store, live.copy, self._ref, number, clock=self._clock)
        if news.events:
            self._say("task-progress", live)

    def _ask(self, live: LiveCopy, number: int) -> None:
        text = live.view.ipc.questions[number][:_QUESTION_CHARACTERS]
        self._queue_change(
            step(
                Event.ASK,
                at=stamp(self._clock.now()),
                by=actor(),
                reason=f"question {number}",
                facts={"question": number, "text": text},
                stay=frozenset({State.ASKING}),
                fields={"questions": write_questions(sorted({*live.view.ipc.open, number}))},
                token=self._claim.token,
            )
        )
        self._say("task-asking", live, question=number, text=text[:200])

    def _say(self, kind: str, live: LiveCopy, **facts: Any) -> None:
        facts_now = taskdir.facts_of(live.view.plan)
        self._tell(kind, {"task_id": self._ref.task, "items": f"{facts_now['done']}/{facts_now['total']}", **facts})

    def _drafts(self, events: list[tuple[str, Mapping[str, Any]]]) -> list[str]:
        at = stamp(self._clock.now())
        return [draft(event, at=at, by=actor(), **facts) for event, facts in events]

    def _send(self, events: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._queue_change(Change(entries=self._drafts(events)))

    def _queue_change(self, change: Change) -> None:
        from dataclasses import replace

        self._outbox.append(replace(change, token=self._claim.token))

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._store.change(self._ref, self._outbox[0], home=self._record.home, queue=queue_key(self._record))
            except Refused as error:
                log.warning("%s: %s", self._ref, error, extra={"action": "change_refused"})
            self._outbox.pop(0)

    # -- the end --------------------------------------------------------------------------------------------------

    def _end(
        self,
        verdict: Verdict | None,
        *,
        live: LiveCopy | None = None,
        exit: ProcessExit | None = None,
        stopped: Stop | None = None,
    ) -> None:
        """Collect, and publish the end. Waits for Redis if it is away, for the claim stays ours."""
        if verdict is None and not self._cancelled():
            log.info("attempt %d of %s is another's now", self.number, self._ref, extra={"action": "attempt_lost"})
            return
        facts: dict[str, Any] = {"attempt": self.number}
        if live is not None:
            if live.view.broken or live.view.hostile:
                live.restore_plan(f"attempts/{self.number}/plan.rejected")
            facts |= taskdir.facts_of(live.view.plan)
        if live is not None:
            verdict = self._collect(verdict, facts)
        self._write_result(verdict, exit, stopped, facts)
        while True:
            try:
                self._release(verdict, live, facts)
                return
            except StoreDown:
                if not self._services.wait_for_store():
                    return
            except ClaimLost:
                if not self._cancelled():
                    return
                verdict = None

    def _cancelled(self) -> bool:
        record = self._store.record(self._ref)
        return record is not None and record.state is State.CANCELLED and record.worker == self._services.name

    def _collect(self, verdict: Verdict | None, facts: dict[str, Any]) -> Verdict | None:
        if self._place.isolation is not Isolation.WORKTREE:
            return verdict
        try:
            result = workspace.collect(self._place, task_id=self._ref.task, attempt=self.number)
        except (DispatchError, OSError) as error:
            facts["kept"] = str(self._place.path)
            return (
                Verdict(Event.FAIL, f"{FailReason.AGENT}: the work could not be committed: {error}")
                if verdict
                else None
            )
        facts["branch"] = self._place.branch or ""
        facts["commit"] = result.commit or ""
        if verdict is not None and verdict.event is Event.FINISH:
            workspace.remove(self._place, self._home.base)
        return verdict

    def _write_result(
        self, verdict: Verdict | None, exit: ProcessExit | None, stopped: Stop | None, facts: Mapping[str, Any]
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
            "model": self._record.model,
            "host": self._services.settings.host,
            **facts,
        }
        home = getattr(self, "_home", None)
        if home is not None:
            data = json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n"
            try:
                files.write(home.base, home.name(f"attempts/{self.number}/result.json"), data)
            except (DispatchError, OSError) as error:
                log.warning("%s: no result.json: %s", self._ref, error, extra={"action": "result_failed"})

    def _release(self, verdict: Verdict | None, live: LiveCopy | None, facts: Mapping[str, Any]) -> None:
        self._flush()
        at = stamp(self._clock.now())
        if verdict is None:
            stopped = Change(
                entries=[draft("stopped", at=at, by=actor(), **facts)],
                guard=("worker", self._services.name),
                fields={"worker": ""},
            )
            try:
                self._store.change(self._ref, stopped, home=self._record.home)
            except Refused:
                log.info("%s was claimed again", self._ref, extra={"action": "attempt_lost"})
            self._tell("task-revoked", {"terminated": True, "signum": None, "expired": False})
            return
        guard = None
        extra: dict[str, str | int] = {"worker": ""}
        if verdict.event is Event.PARK and live is not None:
            number = self._question_of_block(live)
            if number is None:
                verdict = Verdict(Event.GIVE_BACK, "its question was answered")
            else:
                guard = ("questions", write_questions(live.view.ipc.open))
                verdict = Verdict(Event.PARK, f"question {number}")
        if verdict.event in (Event.FINISH, Event.FAIL):
            extra["questions"] = ""
        if verdict.counts:
            extra["tries"] = self._record.tries + 1
            extra["idle"] = int(facts.get("done", 0) <= self._record.done)
        change = step(
            verdict.event,
            at=at,
            by=actor(),
            reason=verdict.reason,
            facts=facts,
            fields=extra,
            token=self._claim.token,
            guard=guard,
            ticket=ticket(self._ref, self._record),
        )
        try:
            self._store.change(self._ref, change, home=self._record.home, queue=queue_key(self._record))
        except Refused as error:
            if verdict.event is not Event.PARK:
                raise
            # The answer came at this moment: go on with it.
            log.info("%s is not parked: %s", self._ref, error, extra={"action": "park_raced"})
            again = Verdict(Event.GIVE_BACK, "its question was answered")
            self._release(again, live, facts)
        if verdict.event is Event.PARK and live is not None:
            self._say("task-parked", live)

    def _question_of_block(self, live: LiveCopy) -> int | None:
        """The open question an agent stopped for; one is made of a `[?]` item that came without."""
        self._turn(live, {"news"})
        view = live.view
        blocked = [item for item in view.plan.items if item.mark is Mark.ASKING]
        if view.ipc.open:
            number = view.ipc.open[0]
            first = view.plan.first_open
            if not blocked and first is not None and first.mark is Mark.OPEN:
                live.mark(first.number, Mark.ASKING, view.ipc.questions[number].strip())
                self._turn(live, set())
            return number
        if not blocked or self._asked_since:
            return None
        number = max(view.ipc.questions, default=0) + 1
        text = blocked[0].note or blocked[0].text
        live.copy.write(ipc.name_of(number, ipc.Kind.QUESTION), text.encode() + b"\n", replace=False)
        self._turn(live, set())
        return number


def lay_down(home: TaskDir, live: TaskDir) -> None:
    """Copy a task's record into a fresh workspace."""
    files.make_folder(live.base, live.name("ipc"))
    names = [taskdir.TASK, taskdir.PLAN, taskdir.CONTEXT, taskdir.OUTPUT]
    names += [f"ipc/{name}" for name in files.names(home.base, home.name("ipc"))]
    for name in names:
        if taskdir.writer_of(name) is None:
            continue
        try:
            live.write(name, home.read(name))
        except FileNotFoundError:
            continue


def reopen(copy: TaskDir, asked: ipc.Ipc) -> None:
    """Make a plan ready for another attempt: a blocked item whose question is answered is open again.

    A completion marker beside unchecked items is left over, and is taken away.
    """
    data = copy.read(taskdir.PLAN)
    shown = plan.parse(data, name=copy.name(taskdir.PLAN))
    if not asked.open:
        for item in shown.items:
            if item.mark is Mark.ASKING:
                data = plan.set_mark(data, item.number, Mark.OPEN)
        copy.write(taskdir.PLAN, data)
    if asked.done and not shown.complete:
        files.remove(copy.base, copy.name(ipc.DONE))
