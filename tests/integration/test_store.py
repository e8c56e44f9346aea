"""The record in Redis: a change happens whole or not at all, one claim holds a task, and nothing told is lost."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import keys
from dispatch_queue.change import Change, Changed, GuardFailed, Waits, step, write_questions
from dispatch_queue.errors import ClaimLost, Exit, Refused, StoreDown
from dispatch_queue.record import Isolation, Ref, Task, draft
from dispatch_queue.states import TRANSITIONS, Event, State
from dispatch_queue.store import Listener, Store
from dispatch_queue.tickets import key_of, message, queue_of, ref_in
from tests.support.server import Server, start_server
from tests.support.waiting import wait_for

S, E = State, Event
REF = Ref("shop-1a2b3c", "build-api")
AT = "2026-11-23T12:00:00.000Z"
SECRET = "pa55w0rd"  # noqa: S105


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill and stop."""
    server = start_server(tmp_path / "redis")
    yield server
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGCONT)
    server.stop()


def fields_of(ref: Ref, **more: Any) -> dict[str, Any]:
    task = Task(
        id=ref.task,
        project=ref.project,
        title="Build",
        model="opus",
        backend="shell",
        isolation=Isolation.SHARED,
        host="build-1",
        created=AT,
    )
    queue = queue_of(task)
    ticket = message(ref, queue=queue, model=task.model, priority=task.priority)
    known = {"title": task.title, "model": task.model, "home": task.host, "queue": key_of(queue, task.priority)}
    return known | {"ticket": ticket, "priority": task.priority, "isolation": task.isolation, "seq": 1} | more


def enroll(store: Store, ref: Ref = REF, state: State = S.QUEUED, **fields: Any) -> Ref:
    assert store.enroll(ref, state, fields_of(ref, **fields), at=AT, by="h:1")
    return ref


def do(store: Store, event: Event, ref: Ref = REF, **more: Any) -> Changed:
    return store.change(ref, step(event, at=AT, by="h:1", **more))


def claim(store: Store, ref: Ref = REF, worker: str = "build-1:7") -> Changed:
    return do(store, E.CLAIM, ref, claim=True, fields={"worker": worker}, facts={"worker": worker})


def ask(store: Store, number: int, token: int, *open_ones: int) -> Changed:
    return do(
        store,
        E.ASK,
        facts={"question": number, "text": "which?"},
        token=token,
        stay=frozenset({S.ASKING}),
        fields={"questions": write_questions((*open_ones, number))},
    )


def queue_length(store: Store, ref: Ref = REF) -> int:
    record = store.record(ref)
    assert record is not None
    return len(store.tickets(record.queue))


def events(store: Store, ref: Ref = REF, since: int = 0) -> list[tuple[int, str, State | None]]:
    return [(entry.seq, entry.event, entry.state) for entry in store.pull(ref, since).entries]


def test_an_enrolled_task_has_a_record_and_one_ticket(store: Store) -> None:
    enroll(store)

    record = store.record(REF)
    assert record is not None
    assert (record.state, record.seq, record.title, record.home) == (S.QUEUED, 1, "Build", "build-1")
    assert [ref_in(ticket) for ticket in store.tickets(record.queue)] == [REF]
    assert store.records() == {REF: record}


def test_a_task_is_enrolled_once(store: Store) -> None:
    enroll(store)
    claim(store)
    before = store.record(REF)

    assert not store.enroll(REF, S.QUEUED, fields_of(REF, title="Other"), at=AT, by="h:1")
    assert store.record(REF) == before
    assert queue_length(store) == 1


def test_of_many_that_enroll_a_task_at_once_one_does(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.enroll(REF, S.QUEUED, fields_of(REF), at=AT, by="h:1"), range(16)))

    assert sorted(made) == [False] * 15 + [True]
    assert queue_length(store) == 1


@pytest.mark.parametrize("state", [S.PARKED, S.WAITING])
def test_a_task_that_waits_is_enrolled_without_a_ticket(store: Store, state: State) -> None:
    waits = Waits(after=(Ref("shop-1a2b3c", "other"),)) if state is S.WAITING else Waits()

    store.enroll(REF, state, fields_of(REF), waits=waits, at=AT, by="h:1")

    assert queue_length(store) == 0


def test_a_claim_gives_a_token_and_a_number_and_is_in_the_journal(store: Store) -> None:
    enroll(store, attempt=2)

    taken = claim(store)

    record = store.record(REF)
    assert record is not None
    assert (taken.state, taken.attempt, taken.seq) == (S.RUNNING, 3, 2)
    assert (record.token, record.attempt, record.worker, record.state) == (taken.token, 3, "build-1:7", S.RUNNING)
    [entry] = store.pull(REF, 0).entries
    assert (entry.seq, entry.event, entry.state, entry.facts["attempt"]) == (2, "claim", S.RUNNING, 3)


def test_of_many_claims_at_once_one_wins(store: Store) -> None:
    refs = [enroll(store, Ref("p", f"t{number}")) for number in range(20)]
    barrier = threading.Barrier(4)

    def claim_all(worker: int) -> dict[Ref, int]:
        won = {}
        barrier.wait()
        for ref in refs:
            with contextlib.suppress(Refused):
                won[ref] = claim(store, ref, f"w:{worker}").token
        return won

    with ThreadPoolExecutor(4) as pool:
        won = [taken for some in pool.map(claim_all, range(4)) for taken in some.items()]

    assert len(won) == len(refs)
    assert {ref: record.token for ref, record in store.records().items()} == dict(won)


@pytest.mark.parametrize("event", [E.FINISH, E.FAIL, E.GIVE_BACK, E.PARK, E.LIMIT, E.LOSE, E.CANCEL])
def test_a_claim_ends_with_the_state_and_nothing_can_be_written_under_it(store: Store, event: Event) -> None:
    enroll(store)
    taken = claim(store)

    do(store, event)
    before = store.record(REF)

    with pytest.raises(ClaimLost) as caught:
        store.change(REF, Change(entries=[draft("tick", at=AT, by="h:1")], token=taken.token, files={"plan.md": b"x"}))
    assert (caught.value.task_id, caught.value.token) == ("build-api", taken.token)
    assert caught.value.held != taken.token
    assert store.record(REF) == before
    assert store.pull(REF, 0).files == {}


def test_a_claim_that_the_server_forgot_in_a_crash_is_stale_under_the_next_one(store: Store) -> None:
    enroll(store)
    before = {name: store._redis.dump(name) for name in store._redis.scan_iter()}
    first = claim(store)
    store._redis.flushall()
    for name, value in before.items():
        store._redis.restore(name, 0, value)

    second = claim(store)

    assert (first.attempt, second.attempt) == (1, 1)
    with pytest.raises(ClaimLost):
        do(store, E.FINISH, token=first.token)
    assert store.beat({REF: first.token}).lost == (REF,)
    assert do(store, E.FINISH, token=second.token).state is S.DONE


@pytest.mark.parametrize(("begun", "attempt"), [(0, 3), (2, 3), (4, 5)])
def test_a_claim_is_for_an_attempt_after_those_that_have_begun(store: Store, begun: int, attempt: int) -> None:
    enroll(store, attempt=2)

    assert do(store, E.CLAIM, claim=True, begun=begun).attempt == attempt


def test_the_token_of_an_earlier_claim_is_stale_under_a_later_one(store: Store) -> None:
    enroll(store)
    first = claim(store)
    do(store, E.GIVE_BACK, token=first.token)
    second = claim(store)

    assert second.token != first.token
    with pytest.raises(ClaimLost):
        do(store, E.FINISH, token=first.token)
    assert do(store, E.FINISH, token=second.token).state is S.DONE


def test_asking_and_answering_leaves_the_claim(store: Store) -> None:
    enroll(store)
    taken = claim(store)

    asked = ask(store, 1, taken.token)
    answered = do(store, E.ANSWER, facts={"question": 1}, fields={"questions": ""})

    assert (asked.state, answered.state) == (S.ASKING, S.RUNNING)
    assert asked.token == answered.token == taken.token


def test_what_the_state_does_not_allow_is_refused_and_changes_nothing(store: Store) -> None:
    enroll(store)
    before, pulled = store.record(REF), store.pull(REF, 0)
    allowed = {event for state, event in TRANSITIONS if state is S.QUEUED}

    for event in set(Event) - allowed:
        with pytest.raises(Refused, match="task `build-api` is queued") as caught:
            do(store, event, fields={"title": "x"}, files={"output.md": b"x"}, claim=event is E.PARK)
        assert caught.value.state == "queued"

    assert (store.record(REF), store.pull(REF, 0)) == (before, pulled)


def test_a_change_of_a_task_that_redis_does_not_know_is_refused_and_makes_nothing(store: Store) -> None:
    with pytest.raises(Refused, match="is unknown") as caught:
        do(store, E.CLAIM, claim=True)
    with pytest.raises(Refused, match="is unknown"):
        store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text="x")], files={"output.md": b"x"}))

    assert caught.value.state == ""
    assert store.record(REF) is None
    assert store.records() == {}
    assert store.pull(REF, 0).seq == -1


def test_an_event_is_taken_note_of_without_a_move_where_that_is_asked_for(store: Store) -> None:
    enroll(store)
    taken = claim(store)
    ask(store, 1, taken.token)

    again = ask(store, 2, taken.token, 1)

    assert again.state is S.ASKING
    assert events(store)[-1] == (4, "ask", None)


def test_a_guarded_change_is_made_only_if_the_field_is_as_it_was_seen(store: Store) -> None:
    enroll(store)
    taken = claim(store)
    ask(store, 1, taken.token)

    with pytest.raises(GuardFailed):
        do(store, E.PARK, token=taken.token, guard=("questions", ""))
    assert store.record(REF).state is S.ASKING  # type: ignore[union-attr]
    assert do(store, E.PARK, token=taken.token, guard=("questions", "1")).state is S.PARKED


def test_a_guard_on_a_field_that_is_not_there_wants_it_empty(store: Store) -> None:
    enroll(store)

    assert store.change(REF, Change(entries=[], guard=("worker", ""), fields={"worker": "w"})).state is S.QUEUED


def test_a_change_that_is_sent_again_because_its_answer_was_lost_happens_once(store: Store) -> None:
    enroll(store)
    taken = claim(store)
    tick = Change(entries=[draft("tick", at=AT, by="h:1")], token=taken.token, once="a", files={"plan.md": b"x"})

    first = store.change(REF, tick)
    store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text="x")]))
    again = store.change(REF, tick)

    assert (again.state, again.attempt, again.token) == (first.state, first.attempt, first.token)
    assert [event for _, event, _ in events(store)] == ["claim", "tick", "note"]


def test_the_end_of_a_claim_that_is_sent_again_is_no_lost_claim(store: Store) -> None:
    enroll(store)
    taken = claim(store)

    ended = [do(store, E.GIVE_BACK, token=taken.token, once="end") for _ in range(2)]

    assert [one.state for one in ended] == [S.QUEUED, S.QUEUED]
    assert queue_length(store) == 2
    with pytest.raises(ClaimLost):
        do(store, E.GIVE_BACK, token=taken.token, once="another")


@pytest.mark.parametrize(
    ("way", "sent"),
    [
        ([E.CLAIM, E.GIVE_BACK], 2),
        ([E.CLAIM, E.LOSE], 2),
        ([E.CLAIM, E.ASK, E.PARK], 1),
        ([E.CLAIM, E.ASK, E.PARK, E.ANSWER], 2),
        ([E.CLAIM, E.FAIL, E.RETRY], 2),
        ([E.CANCEL], 1),
        ([E.CLAIM, E.FINISH], 1),
    ],
)
def test_a_task_that_becomes_queued_gets_a_ticket_of_its_own(store: Store, way: list[Event], sent: int) -> None:
    enroll(store)
    for event in way:
        do(store, event, claim=event is E.CLAIM, facts={"question": 1})

    record = store.record(REF)
    assert record is not None
    tickets = store.tickets(record.queue)
    assert (len(tickets), len(set(tickets)), record.sent) == (sent, sent, sent)
    assert {ref_in(ticket) for ticket in tickets} == {REF}


def test_a_ticket_is_sent_again_once_for_all_who_miss_it(store: Store) -> None:
    enroll(store)

    assert store.resend(REF, 1)
    assert not store.resend(REF, 1)
    claim(store)
    assert not store.resend(REF, 2)
    assert queue_length(store) == 2


def test_pulling_gives_what_is_newer_and_each_file_as_it_is_now(store: Store) -> None:
    enroll(store)
    claim(store)
    store.change(REF, Change(entries=[draft("tick", at=AT, by="h:1")], files={"plan.md": b"one", "output.md": b"a"}))
    store.change(REF, Change(entries=[draft("tick", at=AT, by="h:1")], files={"plan.md": b"two\xff\x00\r\n"}))

    everything = store.pull(REF, 0)
    newer = store.pull(REF, 3)

    assert everything.seq == newer.seq == 4
    assert [entry.seq for entry in everything.entries] == [2, 3, 4]
    assert everything.files == {"plan.md": b"two\xff\x00\r\n", "output.md": b"a"}
    assert [entry.seq for entry in newer.entries] == [4]
    assert newer.files == {"plan.md": b"two\xff\x00\r\n"}
    assert store.pull(REF, 4).files == {}
    assert store.pull(REF, 4).entries == ()


def test_files_alone_are_a_step_that_others_pull(store: Store) -> None:
    enroll(store)

    changed = store.change(REF, Change(entries=[], files={"output.md": b""}))

    assert changed.seq == 2
    assert store.pull(REF, 1).files == {"output.md": b""}


def test_a_large_file_of_any_bytes_arrives_as_it_is(store: Store) -> None:
    data = os.urandom(8 * 1024 * 1024)
    enroll(store)

    store.change(REF, Change(entries=[], files={"output.md": data}))

    assert store.pull(REF, 0).files == {"output.md": data}


@pytest.mark.parametrize(
    "text",
    [
        *("", "é日本👍", "\u2028\x85\x7f", '"quotes" and \\ slashes /', "\x00\x01\x1f", "{}", "a\nb", "\ud800"),
        *("%s @identity@", "a" * 300_000),
    ],
    ids=["empty", "wide", "separators", "quotes", "control", "braces", "lines", "surrogate", "marks", "long"],
)
def test_a_text_in_an_entry_arrives_as_it_was_said(store: Store, text: str) -> None:
    enroll(store)

    store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text=text)]))
    do(store, E.HOLD, reason=text.replace("\ud800", ""))

    said, held = store.pull(REF, 0).entries
    assert (said.facts["text"], held.facts.get("reason", "")) == (text, text.replace("\ud800", ""))
    assert store.record(REF).reason == text.replace("\ud800", "")  # type: ignore[union-attr]


def test_several_entries_of_a_change_follow_each_other_and_the_first_has_the_state(store: Store) -> None:
    enroll(store)
    entries = [draft(name, at=AT, by="h:1") for name in ("hold", "warning", "note")]

    store.change(REF, Change(entries=entries, event=E.HOLD))

    assert events(store) == [(2, "hold", S.WAITING), (3, "warning", None), (4, "note", None)]


def test_a_heartbeat_tells_which_claims_are_lost_and_which_unknown(store: Store) -> None:
    held, lost, gone = enroll(store), enroll(store, Ref("p", "lost")), Ref("p", "gone")
    mine, other = claim(store), claim(store, lost)
    do(store, E.CANCEL, lost)

    beaten = store.beat({held: mine.token, lost: other.token, gone: 1})

    assert (beaten.lost, beaten.unknown) == ((lost,), (gone,))
    assert store.record(held).beat == 1  # type: ignore[union-attr]
    assert store.record(gone) is None
    assert store.beat({}).lost == ()


def test_a_claim_begins_with_no_heartbeat(store: Store) -> None:
    enroll(store)
    first = claim(store)
    store.beat({REF: first.token})
    do(store, E.GIVE_BACK)

    claim(store)

    assert store.record(REF).beat == 0  # type: ignore[union-attr]


def test_the_tasks_in_a_state_are_those_whose_record_says_so(store: Store) -> None:
    refs = [enroll(store, Ref("p", f"t{number}")) for number in range(3)]
    claim(store, refs[0])
    claim(store, refs[1])
    do(store, E.FINISH, refs[1])

    assert {state: set(store.in_state(state)) for state in (S.QUEUED, S.RUNNING, S.DONE)} == {
        S.QUEUED: {refs[2]},
        S.RUNNING: {refs[0]},
        S.DONE: {refs[1]},
    }
    assert set(store.in_state(*State)) == set(refs)


def test_more_records_than_fit_into_one_answer_are_all_read(store: Store) -> None:
    refs = {enroll(store, Ref("p", f"t{number}")) for number in range(501)}

    assert set(store.records()) == refs


def test_a_generation_lasts_until_the_data_are_gone(store: Store, redis_server: Server) -> None:
    first = store.generation()

    assert first
    assert store.generation() == first
    redis_server.flush()
    assert store.generation() not in ("", first)


def test_a_worker_is_known_until_it_leaves(store: Store) -> None:
    store.announce("build-1:7", {"host": "build-1", "queues": "a b"})
    store.announce("build-2:9", {"host": "build-2"})
    store.announce("build-1:7", {"host": "build-1", "queues": "a"})

    assert store.workers() == {"build-1:7": {"host": "build-1", "queues": "a"}, "build-2:9": {"host": "build-2"}}
    store.leave("build-1:7")
    store.leave("build-1:7")
    assert list(store.workers()) == ["build-2:9"]


def test_a_worker_that_says_nothing_more_is_forgotten(store: Store, redis_server: Server) -> None:
    store.announce("build-1:7", {"host": "build-1"})
    assert redis_server.command(f"PEXPIRE {keys.worker('build-1:7')} 1") == ":1"

    wait_for(lambda: store.workers() == {}, "the worker to be forgotten")
    assert redis_server.command(f"SCARD {keys.workers()}") == ":0"


@contextlib.contextmanager
def listening(store: Store, channel: str, timeout_seconds: float = 1.0) -> Iterator[Listener]:
    listener = store.listen(channel, timeout_seconds=timeout_seconds)
    try:
        yield listener
    finally:
        listener.close()


def test_the_host_of_the_home_copy_hears_of_every_change(store: Store) -> None:
    with listening(store, keys.home_channel("build-1")) as listener:
        enroll(store)
        claim(store)
        store.change(REF, Change(entries=[], files={"plan.md": b""}))

        assert [listener.next() for _ in range(3)] == [str(REF)] * 3


def test_the_worker_hears_what_others_change_but_not_itself(store: Store) -> None:
    enroll(store)
    taken = claim(store, worker="build-1:7")
    with listening(store, keys.live_channel("build-1:7"), 0.2) as listener:
        ask(store, 1, taken.token)
        assert listener.next() is None
        store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text="x")]))
        assert listener.next() == str(REF)
        do(store, E.CANCEL)
        assert listener.next() == str(REF)


def test_a_refused_change_is_told_to_nobody(store: Store) -> None:
    enroll(store)
    with listening(store, keys.home_channel("build-1"), 0.2) as listener:
        with pytest.raises(Refused):
            do(store, E.FINISH)
        with pytest.raises(ClaimLost):
            do(store, E.CLAIM, token=99)

        assert listener.next() is None


# -- a server that is not there ---------------------------------------------------------------------------------------


def every_call(store: Store) -> dict[str, Any]:
    change = Change(entries=[draft("note", at=AT, by="h:1", text="x")])
    return {
        "ping": store.ping,
        "change": lambda: store.change(REF, change),
        "enroll": lambda: store.enroll(REF, S.QUEUED, fields_of(REF), at=AT, by="h:1"),
        "release": lambda: store.release(REF, "hold", at=AT, by="h:1"),
        "resend": lambda: store.resend(REF, 1),
        "tickets": lambda: store.tickets("q"),
        "in_state": lambda: store.in_state(S.QUEUED),
        "due": store.due,
        "generation": store.generation,
        "beat": lambda: store.beat({REF: 1}),
        "pull": lambda: store.pull(REF, 0),
        "record": lambda: store.record(REF),
        "records": store.records,
        "announce": lambda: store.announce("w", {"host": "h"}),
        "leave": lambda: store.leave("w"),
        "workers": store.workers,
        "listen": lambda: store.listen("c", timeout_seconds=0.1),
    }


@pytest.mark.parametrize(
    ("folder", "way_on"), [("d/run", "dispatch up"), ("redis", "start or mend the Redis there, or name another one")]
)
def test_every_call_to_a_server_that_is_not_there_says_so_and_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, way_on: str
) -> None:
    monkeypatch.setenv("DISPATCH_HOME", str(tmp_path / "d"))
    store = Store(f"unix://{tmp_path}/{folder}/redis.sock?db=0")

    for name, call in every_call(store).items():
        with pytest.raises(StoreDown, match="does not answer") as caught:
            call()
        assert (caught.value.hint or "").startswith(way_on), name
        assert caught.value.exit_status == Exit.UNREACHABLE, name
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@127.0.0.1:1/0",
        f"redis://user:{SECRET}@127.0.0.1:1/0",
        f"redis://127.0.0.1:1/0?password={SECRET}",
        f"rediss://user:{SECRET}@127.0.0.1:1/0?ssl_cert_reqs=none",
        f"unix:///nowhere/redis.sock?db=0&password={SECRET}",
        f"unix://user@/nowhere/redis.sock?password={SECRET}",
    ],
)
def test_a_password_is_never_in_the_message(url: str) -> None:
    store = Store(url)

    with pytest.raises(StoreDown) as caught:
        store.ping()

    shown = f"{caught.value} {caught.value.message} {caught.value.hint}"
    assert SECRET not in shown
    assert "127.0.0.1:1" in shown or "/nowhere/redis.sock" in shown
    store.close()


def test_a_wrong_password_is_told_as_refused_and_not_shown(own_server: Server) -> None:
    assert own_server.command("CONFIG SET requirepass right") == "+OK"
    refusals = []

    for url in (own_server.url, f"{own_server.url}&password={SECRET}"):
        store = Store(url)
        with pytest.raises(StoreDown, match="refused") as caught:
            store.ping()
        refusals.append(str(caught.value))
        store.close()

    assert SECRET not in "".join(refusals)


def test_what_the_server_refuses_is_told_with_its_reason(store: Store, redis_server: Server) -> None:
    redis_server.command(f"SET {keys.record(REF)} not-a-hash")

    with pytest.raises(StoreDown, match=r"refused.*WRONGTYPE"):
        store.record(REF)


def test_a_read_only_server_changes_nothing_and_says_so(own_server: Server) -> None:
    store = Store(own_server.url)
    enroll(store)
    assert own_server.command("CONFIG SET min-replicas-to-write 1") == "+OK"

    with pytest.raises(StoreDown, match="NOREPLICAS"):
        claim(store)

    assert own_server.command("CONFIG SET min-replicas-to-write 0") == "+OK"
    assert store.record(REF).state is S.QUEUED  # type: ignore[union-attr]
    store.close()


@pytest.fixture
def hung() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_a_server_that_hangs_is_given_up(hung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch_queue.store.SOCKET_TIMEOUT_SECONDS", 0.3)
    store = Store(hung)
    calls = every_call(store)

    for name in ("ping", "change", "pull", "beat", "announce", "listen"):
        with pytest.raises(StoreDown, match="does not answer"):
            calls[name]()
    store.close()


def test_a_listener_notices_that_its_server_hangs(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch_queue.store.SOCKET_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("dispatch_queue.store.HEALTH_CHECK_SECONDS", 1)
    store = Store(own_server.url)
    with listening(store, "c", 0.1) as listener:
        assert listener.next() is None
        os.kill(own_server.pid, signal.SIGSTOP)

        def noticed() -> bool:
            with contextlib.suppress(StoreDown):
                assert listener.next() is None
                return False
            return True

        wait_for(noticed, "the listener to notice")
    store.close()


def test_a_listener_on_a_quiet_channel_stays_calm(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch_queue.store.SOCKET_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("dispatch_queue.store.HEALTH_CHECK_SECONDS", 1)
    store = Store(own_server.url)
    with listening(store, "c", 0.1) as listener:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert listener.next() is None
        own_server.command("PUBLISH c news")
        assert wait_for(listener.next, "the news") == "news"
    store.close()


def test_a_listener_says_that_its_server_has_gone(own_server: Server) -> None:
    store = Store(own_server.url)
    with listening(store, "c", 5) as listener:
        own_server.kill()

        with pytest.raises(StoreDown):
            listener.next()
    store.close()


def test_the_first_call_after_a_restart_is_answered(own_server: Server) -> None:
    store = Store(own_server.url)
    store.ping()
    own_server.kill()
    again = start_server(own_server.folder)

    try:
        store.ping()
        assert enroll(store) == REF
        assert claim(store).state is S.RUNNING
    finally:
        store.close()
        again.stop()
