"""Takes back claims whose heartbeat stopped, sends lost tickets again, and lets go tasks whose time has come.

Every worker has one; they do not know of each other. Distances are measured on this process's own monotonic clock,
and start anew after every fault of Redis: while it was away, or refused what is written, nobody could beat.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue import served
from dispatch_queue.change import Change, Record, step
from dispatch_queue.clock import Clock, stamp
from dispatch_queue.errors import ClaimLost, DispatchError, Refused, StoreDown
from dispatch_queue.home import actor
from dispatch_queue.record import Ref
from dispatch_queue.served import Served
from dispatch_queue.states import Event, FailReason, State
from dispatch_queue.store import Store
from dispatch_queue.tickets import ref_in
from worker.heartbeat import HEARTBEAT_EVERY
from worker.process import sweep_attempts

log = logging.getLogger(__name__)

DEAD_AFTER = 4 * HEARTBEAT_EVERY  # three may be lost to a slow Redis
LOOKS_A_TICKET_CHECK = 4


@dataclass(frozen=True, slots=True)
class Sight:
    """A claim as it was first seen with this heartbeat; `since` in seconds on the reaper's clock."""

    token: int
    beat: int
    since: float


def observe(before: Mapping[Ref, Sight], held: Iterable[Record], now: float) -> dict[Ref, Sight]:
    """What is known of each held claim after one more look."""
    seen = {}
    for record in held:
        known = before.get(record.ref)
        same = known is not None and (known.token, known.beat) == (record.token, record.beat)
        seen[record.ref] = known if same and known is not None else Sight(record.token, record.beat, now)
    return seen


def dead(seen: Mapping[Ref, Sight], now: float) -> list[Ref]:
    """The claims whose heartbeat stands still for too long."""
    return [ref for ref, sight in seen.items() if now - sight.since >= DEAD_AFTER.total_seconds()]


def without_ticket(
    queued: Iterable[Record], tickets: frozenset[Ref], before: Mapping[Ref, int]
) -> tuple[dict[Ref, int], list[Record]]:
    """Queued tasks that no ticket asks for: those of this look, and of them those that were so a look before.

    A ticket that was just taken from its queue is not there either, so one look proves nothing.
    """
    missing = {record.ref: record.sent for record in queued if record.ref not in tickets}
    return missing, [record for record in queued if before.get(record.ref) == record.sent and record.ref in missing]


def lose(record: Record, *, at: str) -> Change:
    """The change that takes a dead worker's claim back; the last try's end is the task's."""
    died = f"its worker {record.worker or '?'} died"
    fields: dict[str, str | int] = {"worker": "", "tries": record.tries + 1}
    last = record.tries + 1 >= record.attempts
    which = f"the last of {record.attempts} tries" if record.attempts > 1 else "its only try"
    if last:
        fields["questions"] = ""
    return step(
        Event.FAIL if last else Event.LOSE,
        at=at,
        by=actor(),
        reason=f"{FailReason.LOST}: {died}, at {which}" if last else died,
        facts={"attempt": record.attempt, "lost": record.worker, "tries": record.tries + 1},
        fields=fields,
        token=record.token,
        guard=("beat", str(record.beat)),
    )


class Reaper:
    """One thread. `claims` gives ref → token of this worker's own, which it never takes back: it lives."""

    def __init__(
        self, store: Store, home: Path, *, host: str, claims: Callable[[], Mapping[Ref, int]], clock: Clock
    ) -> None:
        self._store, self._home, self._host, self._claims, self._clock = store, home, host, claims, clock
        self._seen: dict[Ref, Sight] = {}
        self._missing: dict[Ref, int] = {}
        self._looked = clock.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        looks = 0
        while not self._stop.wait(HEARTBEAT_EVERY.total_seconds()):
            try:
                self._reap()
                self._let_go()
                if looks % LOOKS_A_TICKET_CHECK == 0:
                    self._check_tickets()
                looks += 1
            except StoreDown as error:
                log.warning("the reaper pauses: %s", error, extra={"action": "reaper_pause"})
                self._seen, self._missing = {}, {}
            except Exception:  # without a reaper, nobody would notice the next dead worker
                log.exception("the reaper goes on after an error of ours", extra={"action": "reaper_error"})

    def _reap(self) -> None:
        own = self._claims()
        found = self._store.records(self._store.in_state(State.RUNNING, State.ASKING))
        held = {ref: record for ref, record in found.items() if own.get(ref) != record.token}
        if held:
            self._store.check_writes()
        now = self._clock.monotonic()
        if now - self._looked > DEAD_AFTER.total_seconds():
            self._seen = {}  # this process stood still itself, and with it its own heartbeats
        self._looked = now
        self._seen = observe(self._seen, held.values(), now)
        for ref in dead(self._seen, now):
            record = held[ref]
            log.warning("taking back %s: no heartbeat of %s", ref, record.worker, extra={"action": "reap"})
            try:
                self._store.change(ref, lose(record, at=stamp(self._clock.now())))
            except (ClaimLost, Refused) as error:
                del self._seen[ref]  # look at it anew, for the whole window
                log.info("%s is not taken back: %s", ref, error, extra={"action": "reap_raced"})
                continue
            if record.worker.rpartition(":")[0] == self._host and (killed := sweep_attempts(ref, until=record.attempt)):
                log.warning("killed %d processes left of %s", killed, ref, extra={"action": "reap_sweep"})

    def _let_go(self) -> None:
        for ref in self._store.due():
            self._store.release(ref, "due", at=stamp(self._clock.now()), by=actor())

    def _tell_who_serves(self) -> None:
        try:
            served.keep(self._home, Served.by(self._store.workers().values()))
        except (OSError, DispatchError) as error:
            log.debug("what is served cannot be written down: %s", error)

    def _check_tickets(self) -> None:
        queued = list(self._store.records(self._store.in_state(State.QUEUED)).values())
        if queued:
            self._tell_who_serves()
        asked = [
            ref_in(ticket) for queue in {record.queue for record in queued} for ticket in self._store.tickets(queue)
        ]
        self._missing, lost = without_ticket(queued, frozenset(ref for ref in asked if ref), self._missing)
        for record in lost:
            if self._store.resend(record.ref, record.sent):
                log.warning("sent the ticket of %s again", record.ref, extra={"action": "ticket_resent"})
