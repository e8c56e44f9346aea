"""Many clients at once, at random: whatever they try, the journals tell one story, and it is along the table."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatch_queue.change import Change, Changed, Waits, step, write_questions
from dispatch_queue.errors import ClaimLost, Refused
from dispatch_queue.record import Isolation, Ref, Task, draft, fold
from dispatch_queue.states import HELD, TRANSITIONS, Event, State
from dispatch_queue.store import Store
from dispatch_queue.tickets import key_of, message, queue_of, ref_in

S, E = State, Event
AT = "2026-11-23T12:00:00.000Z"
NOTHING = Waits()
CLIENTS = 8
TASKS = 6
STRESS_SECONDS = 3.0
REFS = [Ref("p", f"task-{number}") for number in range(TASKS)]


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


def enroll(store: Store, ref: Ref, state: State = S.QUEUED, waits: Waits = NOTHING) -> None:
    task = Task(
        id=ref.task,
        project=ref.project,
        title="",
        model="m",
        backend="shell",
        isolation=Isolation.SHARED,
        host="h",
        created=AT,
    )
    queue = queue_of(task)
    ticket = message(ref, queue=queue, model="m", priority=6)
    fields: dict[str, str | int] = {"queue": key_of(queue, 6), "ticket": ticket, "home": "h", "seq": 1}
    assert store.enroll(ref, state, fields, waits=waits, at=AT, by="h:1")


@dataclass
class Client:
    """Does at random what a worker, a person and a reaper do. Every change carries a number of its own."""

    store: Store
    name: str
    random: random.Random
    numbers: Iterator[int]
    done: dict[int, tuple[Ref, Changed]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    held: dict[Ref, int] = field(default_factory=dict)  # what it thinks it holds; it may be mistaken

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            ref = self.random.choice(REFS)
            token = self.held.get(ref)
            if token is not None and self.random.random() < 0.7:
                self.work(ref, token)
            else:
                self.meddle(ref)

    def work(self, ref: Ref, token: int) -> None:
        event = self.random.choice([None, None, E.ASK, E.PARK, E.FINISH, E.FAIL, E.GIVE_BACK, E.LIMIT])
        stay = frozenset({S.ASKING}) if event is E.ASK else frozenset()
        changed = self.attempt(ref, event, token=token, stay=stay, files={"plan.md": str(token).encode()})
        if changed is None or changed.state not in HELD:
            self.held.pop(ref, None)

    def meddle(self, ref: Ref) -> None:
        event = self.random.choice(
            [
                None,
                E.CLAIM,
                E.CLAIM,
                E.CLAIM,
                E.ANSWER,
                E.ANSWER,
                E.CANCEL,
                E.RETRY,
                E.RETRY,
                E.RELEASE,
                E.RELEASE,
                E.LOSE,
            ]
        )
        if event is E.CLAIM:
            changed = self.attempt(ref, event, claim=True, fields={"worker": self.name})
            if changed is not None:
                self.held[ref] = changed.token
        elif event is E.ANSWER:
            record = self.store.record(ref)
            assert record is not None
            seen = write_questions(record.questions)
            rest = write_questions(record.questions[1:])
            self.attempt(
                ref, event, guard=("questions", seen), fields={"questions": rest}, files={"ipc/001.answer": b"x"}
            )
        else:
            self.attempt(ref, event)

    def attempt(self, ref: Ref, event: Event | None, **more: Any) -> Changed | None:
        number = next(self.numbers)
        facts: dict[str, Any] = {"number": number, "question": 1, "under": more.get("token")}
        if event is None:
            change = Change(entries=[draft("tick", at=AT, by=self.name, **facts)], **more)
        else:
            questions = {E.ASK: {"questions": "1"}}.get(event, {})
            more["fields"] = {**questions, **more.get("fields", {})}
            change = step(event, at=AT, by=self.name, facts=facts, **more)
        try:
            changed = self.store.change(ref, change)
        except (Refused, ClaimLost):
            self.refused.add(number)
            return None
        self.done[number] = (ref, changed)
        return changed


def test_many_clients_at_once_leave_journals_that_tell_one_story(store: Store, redis_url: str) -> None:
    for ref in REFS:
        enroll(store, ref)
    numbers = itertools.count(1)
    stores = [Store(redis_url) for _ in range(3)]  # some clients share a store, as threads of a worker do
    clients = [Client(stores[n % 3], f"w:{n}", random.Random(n), numbers) for n in range(CLIENTS)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        until = time.monotonic() + STRESS_SECONDS
        for running in [pool.submit(client.run, until) for client in clients]:
            running.result()
    for one in stores:
        one.close()

    done = {number: told for client in clients for number, told in client.done.items()}
    refused = set().union(*(client.refused for client in clients))
    assert len(done) > 300, "too little was done to prove anything"
    seen: Counter[int] = Counter()
    ways: Counter[tuple[State | None, Event]] = Counter()
    for ref in REFS:
        record = store.record(ref)
        pulled = store.pull(ref, 0)
        assert record is not None

        assert [entry.seq for entry in pulled.entries] == list(range(2, record.seq + 1)), "a gap or a twin"
        state, holder, queued = S.QUEUED, None, 1
        for entry in pulled.entries:
            number, under = entry.facts["number"], entry.facts["under"]
            told_ref, changed = done[number]
            seen[number] += 1
            assert (told_ref, changed.seq) == (ref, entry.seq)
            assert under is None or under == holder, f"written under {under}, held by {holder}: {entry}"
            if entry.state is not None:
                assert TRANSITIONS.get((state, Event(entry.event))) is entry.state, f"from {state}: {entry}"
                ways[state, Event(entry.event)] += 1
                state = entry.state
                queued += state is S.QUEUED
            if entry.event == E.CLAIM:
                assert holder is None, f"two at once: {entry}"
                holder = changed.token
            if state not in HELD:
                holder = None
            assert changed.state is state
        assert record.state is state is fold(pulled.entries).state or record.seq == 1
        assert (record.token == holder) == (state in HELD)
        assert record.attempt == sum(entry.event == E.CLAIM for entry in pulled.entries)
        assert record.sent == queued == Counter(ref_in(ticket) for ticket in store.tickets(record.queue))[ref]
        assert [other for other in State if ref in store.in_state(other)] == [state]
    assert set(seen) == set(done), "what was answered with ok is not there, or the other way round"
    assert set(seen.values()) == {1}
    assert not refused & set(seen)
    assert len(ways) >= 12, f"the ways tried were few: {ways}"


def test_tasks_that_wait_for_each_other_are_let_go_once_however_many_end_at_once(store: Store, redis_url: str) -> None:
    first = [Ref("p", f"first-{number}") for number in range(4)]
    then = [Ref("p", f"then-{number}") for number in range(8)]
    for ref in first:
        enroll(store, ref)
    for ref in then:
        enroll(store, ref, S.WAITING, Waits(after=tuple(first)))
    barrier = threading.Barrier(len(first))

    def end(ref: Ref) -> None:
        taken = store.change(ref, step(E.CLAIM, at=AT, by="w:1", claim=True))
        barrier.wait()
        store.change(ref, step(E.FINISH, at=AT, by="w:1", token=taken.token))

    with ThreadPoolExecutor(len(first)) as pool:
        list(pool.map(end, first))

    for ref in then:
        record = store.record(ref)
        assert record is not None
        assert (record.state, record.sent) == (S.QUEUED, 1)
        entries = store.pull(ref, 0).entries
        assert [entry.seq for entry in entries] == list(range(2, record.seq + 1))
        assert [(entry.event, entry.state) for entry in entries if entry.state] == [("release", S.QUEUED)]
