"""What a running attempt tells Redis, in order and under its token, and what it hears from there.

While Redis is away changes wait here; the files hold all of it meanwhile.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dispatch_queue import ipc, taskdir
from dispatch_queue.change import Change, Changed, Record, step, write_questions
from dispatch_queue.clock import stamp
from dispatch_queue.errors import ClaimLost, DispatchError, Refused, StoreDown, UntrustedPath
from dispatch_queue.home import actor
from dispatch_queue.mirror import enroll, publish_answer, sync
from dispatch_queue.plan import Mark, Plan
from dispatch_queue.record import draft
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir
from worker.livecopy import LiveCopy, News
from worker.supervisor import Mailbox, Watching

if TYPE_CHECKING:
    from worker.services import Services

log = logging.getLogger(__name__)

_QUESTION_CHARACTERS = 4000  # of a question in the journal; its file has all of it


def unreported(plan: Plan, told: Mapping[str, str]) -> list[dict[str, Any]]:
    """The items whose mark is not the one that was `told` last for their text, as facts of a tick."""
    return [
        {"item": item.number, "mark": item.mark.value, "text": item.text}
        for item in plan.items
        if item.mark is not Mark.OPEN and told.get(item.text) != item.mark.value
    ]


class Publisher:
    """Between one live copy and the record of its task."""

    def __init__(self, services: "Services", home: TaskDir, record: Record, claim: Changed, mailbox: Mailbox) -> None:
        self._home = home
        self._services, self._store, self._clock = services, services.store, services.clock
        self._record, self._ref, self._claim = record, record.ref, claim
        self._mailbox = mailbox
        self._seq = claim.seq  # of what was heard last
        self._known = claim.seq  # Redis was there when it was told or asked last
        self._made = record.made
        self._forgotten = False  # it is not any more
        self._waiting: list[Change] = []
        self._sent = 0
        self._asked_since: dict[int, float] = {}
        self._answered: set[int] = set()  # in the live copy, and not yet told
        self.ticked: Callable[[], None] | None = None
        self.lost = False

    def answer_overdue(self, live: LiveCopy, text: str) -> bool:
        """Answer what nobody answered in time with `text`. Returns whether there was anything to answer.

        What cannot be answered now, as somebody did just before or the disk is full, has its time once more.
        """
        open_ones = live.view.ipc.open
        for number in open_ones:
            try:
                ipc.write_answer(live.copy.base, live.copy.folder, number, text)
            except (DispatchError, OSError) as error:
                log.warning("%s: no default answer: %s", self._ref, error, extra={"action": "default_refused"})
                self._asked_since[number] = self._clock.monotonic()
            else:
                self.note("warning", text=f"question {number} got its default answer: nobody answered in time")
        return bool(open_ones)

    def begin(self, live: LiveCopy, *, again: bool, has_default: bool) -> None:
        """Take up what an earlier attempt left: what it did and could not tell, and the questions it left open.

        Whether this agent waits for them is not known, so it is not parked for them; a default answer is due as ever.
        """
        if again:
            self.tell_all(live, "resumed")
        for number in live.view.ipc.open:
            self._ask(live, number)
        if not has_default:
            self._asked_since.clear()

    def turn(self, live: LiveCopy, words: set[str]) -> Watching:
        """Look at the files, and at Redis where `news` was told; publish what is new."""
        stirred = False
        try:
            if "news" in words:
                self._hear(live)
            view, news = live.look()
            stirred = bool(news)
            live.keep_notes()
            if news:
                self._publish(live, news)
            self.flush()
            if self._forgotten:
                self._hear(live)
                self.flush()
            self._tell_answers(live)
        except (StoreDown, Refused, UntrustedPath, OSError) as error:  # the latter: of the home copy, as on a full disk
            log.warning("%s goes on without Redis: %s", self._ref, error, extra={"action": "store_down"})
            self._services.remind(self._mailbox)
            view = live.view
        except ClaimLost:
            self.lost = True
            view = live.view
        since = min(self._asked_since.values(), default=None)
        return Watching(lost=self.lost, broken=bool(view.hostile), asked_since=since, stirred=stirred)

    def note(self, event: str, **facts: Any) -> None:
        """Add an entry to the journal at the next flush."""
        self._wait_for(Change(entries=self._drafts([(event, facts)])))

    def flush(self) -> None:
        """Send what waits, oldest first. What was not sent waits on.

        Raises StoreDown, ClaimLost, and Refused when Redis does not know the task: it lost its data.
        """
        while self._waiting:
            try:
                changed = self._store.change(self._ref, self._waiting[0])
                self._forgotten |= changed.seq < self._known + len(self._waiting[0].entries)
                self._known = changed.seq
            except Refused as error:
                if not error.state:
                    raise
                log.warning("%s: %s", self._ref, error, extra={"action": "change_refused"})
            self._waiting.pop(0)

    def _hear(self, live: LiveCopy) -> None:
        record = self._store.record(self._ref)
        if record is None:
            record = self._tell_again()
        if record.token != self._claim.token:
            raise ClaimLost(self._ref.task, token=self._claim.token, held=record.token)
        if self._forgotten or record.made != self._made or record.seq < self._known:
            self._remind(live, record)
        pulled = self._store.pull(self._ref, self._seq)
        live.hear(pulled.entries, pulled.files)
        self._seq = pulled.seq
        if not self._waiting:  # else what was sent last may be there or not
            self._known = pulled.seq

    def _tell_again(self) -> Record:
        """Redis lost its data: tell it of the task."""
        enroll(self._store, self._home, self._ref, self._home.standing())
        record = self._store.record(self._ref)
        if record is None:
            raise StoreDown("Redis lost the task again")
        return record

    def _remind(self, live: LiveCopy, record: Record) -> None:
        """Tell Redis what it forgot of this attempt, and hear all anew: seqs that it gave begin to be given again.

        It lost its last second, or all, and was told what the home copy had of it, which may have been behind.
        """
        log.warning("Redis forgot something of %s; telling it again", self._ref, extra={"action": "forgotten"})
        sync(self._store, self._home, self._ref)  # what it forgot is no part of the journal any more
        live.recall(self._home.entries())
        asked = {*record.questions, *(entry.get("question") for entry in self._untold())}
        self.tell_all(live, "rebuilt")
        for number in live.view.ipc.open:
            if number not in asked:
                self._ask(live, number)
        self._made, self._known, self._seq, self._forgotten = record.made, record.seq, 0, False

    def tell_all(self, live: LiveCopy, event: str) -> None:
        """Publish every file, and the ticks in the plan that the journal does not have."""
        facts = taskdir.facts_of(live.view.plan)
        told = {str(one.facts.get("text")): str(one.facts.get("mark")) for one in self._home.entries()}
        told |= {str(entry.get("text")): str(entry.get("mark")) for entry in self._untold()}
        ticks = [("tick", {**missing, **facts}) for missing in unreported(live.view.plan, told)]
        entries = self._drafts([(event, facts), *ticks])
        self._waiting.insert(0, self._ours(Change(entries=entries, fields=facts, files=live.read_all())))

    def _untold(self) -> list[dict[str, Any]]:
        """The entries that wait."""
        return [json.loads(entry) for change in self._waiting for entry in change.entries]

    def _publish(self, live: LiveCopy, news: News) -> None:
        found, complaints = live.read_changed(news)
        events = [*news.events, *(("warning", {"text": complaint}) for complaint in complaints)]
        if news.events and self.ticked is not None:
            self.ticked()
        if events or found:
            self._wait_for(Change(entries=self._drafts(events), fields=news.facts, files=found))
        for number in news.questions:
            self._ask(live, number)
        still_open = set(live.view.ipc.open)
        self._asked_since = {number: since for number, since in self._asked_since.items() if number in still_open}
        # An agent may have written an answer before its question.
        self._answered |= {*news.answers, *(live.view.ipc.answers.keys() & news.questions)}

    def _tell_answers(self, live: LiveCopy) -> None:
        for number in sorted(self._answered):
            publish_answer(self._store, live.copy, self._ref, number, clock=self._clock)
            self._answered.discard(number)

    def _ask(self, live: LiveCopy, number: int) -> None:
        self._asked_since[number] = self._clock.monotonic()
        text = live.view.ipc.questions[number]
        self._wait_for(
            step(
                Event.ASK,
                at=stamp(self._clock.now()),
                by=actor(),
                reason=f"question {number}",
                facts={"question": number, "text": text[:_QUESTION_CHARACTERS]},
                stay=frozenset({State.ASKING}),
                fields={"questions": write_questions(sorted({*live.view.ipc.open, number}))},
            )
        )

    def _drafts(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        at = stamp(self._clock.now())
        return [draft(event, at=at, by=actor(), **facts) for event, facts in events]

    def _wait_for(self, change: Change) -> None:
        self._waiting.append(self._ours(change))

    def _ours(self, change: Change) -> Change:
        self._sent += 1
        return dataclasses.replace(change, token=self._claim.token, once=f"{self._claim.token}-{self._sent}")
