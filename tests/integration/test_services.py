"""What runs beside the attempts: mailboxes that wake, and proof of life."""

import contextlib
import dataclasses
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore

from dispatch_queue import keys
from dispatch_queue.change import Change, step
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import StoreDown
from dispatch_queue.record import Isolation, Ref, draft
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.watching import Watch
from tests.support.server import Server, start_server
from tests.support.waiting import wait_for
from worker import claim as claim_of_worker
from worker import tickets
from worker.heartbeat import Heartbeat
from worker.reaper import DEAD_AFTER, Reaper
from worker.saver import Saver
from worker.services import Services
from worker.settings import Settings, read_settings
from worker.supervisor import Mailbox
from worker.workspace import Workspace

AT = "2026-11-23T12:00:00.000Z"
REF = Ref("shop-1a2b3c", "build-api")
OTHER = Ref("shop-1a2b3c", "other")


def is_ready(mailbox: Mailbox, seconds: float = 0.0) -> bool:
    return bool(select.select([mailbox], [], [], seconds)[0])


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()


def test_a_mailbox_wakes_whoever_waits_for_it(mailbox: Mailbox) -> None:
    assert not is_ready(mailbox)
    teller = threading.Thread(target=mailbox.tell, args=("news",))
    teller.start()

    assert is_ready(mailbox, 60)
    teller.join()
    assert mailbox.take() == {"news"}


def test_a_word_told_often_is_taken_once_and_the_mailbox_is_quiet_then(mailbox: Mailbox) -> None:
    for _ in range(100_000):
        mailbox.tell("files")
    mailbox.tell("news")

    assert mailbox.take() == {"files", "news"}
    assert not is_ready(mailbox)
    assert mailbox.take() == set()
    mailbox.tell("drain")
    assert is_ready(mailbox)


def test_no_word_is_lost_between_many_tellers_and_one_taker(mailbox: Mailbox) -> None:
    words = [str(number) for number in range(2000)]

    def tell(part: list[str]) -> None:
        for word in part:
            mailbox.tell(word)

    tellers = [threading.Thread(target=tell, args=(part,)) for part in (words[::2], words[1::2])]
    taken: list[str] = []
    for teller in tellers:
        teller.start()

    while len(taken) < len(words):
        assert is_ready(mailbox, 60), "a word was told and nobody was woken"
        taken += mailbox.take()

    for teller in tellers:
        teller.join()
    assert sorted(taken) == sorted(words)
    assert not is_ready(mailbox)


def test_a_closed_mailbox_is_told_in_vain_and_gives_its_descriptors_back() -> None:
    mailbox = Mailbox()
    handle = mailbox.fileno()
    mailbox.close()

    mailbox.tell("news")

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_child_does_not_inherit_a_mailbox(mailbox: Mailbox) -> None:
    assert not os.get_inheritable(mailbox.fileno())


# -- heartbeat and services -------------------------------------------------------------------------------------------


def enroll(store: Store, ref: Ref = REF, host: str = "h") -> None:
    assert store.enroll(ref, State.QUEUED, {"queue": "q", "home": host, "seq": 1, "ticket": "{}"}, at=AT, by="h:1")


def claim(store: Store, ref: Ref = REF, worker: str = "w:1") -> int:
    return store.change(ref, step(Event.CLAIM, at=AT, by="h:1", claim=True, fields={"worker": worker})).token


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


class Beating:
    """A heartbeat and what it was told to say."""

    def __init__(self, store: Store) -> None:
        self.claims: dict[Ref, int] = {}
        self.lost: list[Ref] = []
        self.beats = 0
        self.running = Heartbeat(
            store,
            "w:1",
            claims=lambda: self.claims,
            facts=lambda: {"host": "h", "running": str(len(self.claims))},
            lost=self.lost.append,
            beaten=self._beaten,
        )

    def _beaten(self) -> None:
        self.beats += 1


@pytest.fixture
def beating(store: Store) -> Iterator[Beating]:
    made = Beating(store)
    made.running.start()
    yield made
    made.running.close()


def beat_of(store: Store, ref: Ref = REF) -> int:
    record = store.record(ref)
    assert record is not None
    return record.beat


def test_a_worker_is_announced_at_once_and_its_claims_beat_by_themselves(store: Store, beating: Beating) -> None:
    wait_for(lambda: store.workers().get("w:1") == {"host": "h", "running": "0"}, "the announcement")
    enroll(store)
    beating.claims[REF] = claim(store)

    wait_for(lambda: beat_of(store) >= 2, "two heartbeats")
    assert beating.lost == []


def test_a_claim_that_another_holds_or_nobody_knows_is_told(store: Store, beating: Beating) -> None:
    enroll(store)
    beating.claims |= {REF: claim(store) + 1, OTHER: 1}

    wait_for(lambda: {*beating.lost} == {REF, OTHER}, "both to be told")
    assert beat_of(store) == 0


def test_the_heart_beats_on_after_an_error_of_ours(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    enroll(store)
    errors = iter([KeyError("no such leaf")])
    beating = Beating(store)
    beating.claims[REF] = claim(store)

    def facts() -> dict[str, str]:
        for error in errors:
            raise error
        return {"host": "h"}

    beating.running._facts = facts
    beating.running.start()

    wait_for(lambda: beat_of(store) >= 2, "two heartbeats")
    beating.running.close()
    assert "no such leaf" in caplog.text


def test_a_dead_claim_that_redis_was_told_of_again_is_taken_back(store: Store, tmp_path: Path) -> None:
    fields = {"queue": "q", "home": "h", "seq": 4, "ticket": "{}", "worker": "w:1", "attempt": 1, "attempts": 3}
    store.enroll(REF, State.RUNNING, fields, at=AT, by="h:1")
    reaper = Reaper(store, tmp_path, host="h", claims=dict, clock=SYSTEM)

    reaper.start()
    wait_for(lambda: (found := store.record(REF)) and found.state is State.QUEUED, "the claim to be taken back")
    reaper.close()


def test_records_that_cannot_be_read_are_left_alone_and_do_not_end_the_reaper(
    store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    enroll(store)
    claim(store)
    newer, odd = Ref("shop-1a2b3c", "newer"), Ref("shop-1a2b3c", "odd")
    store._redis.hset(keys.record(newer), mapping={"state": "meditating", "seq": 1})
    store._redis.hset(keys.record(odd), mapping={"state": "running", "attempt": "many"})
    for name in (str(newer), str(odd), "no task", b"\xff/\xff"):
        store._redis.sadd(keys.in_state(State.RUNNING), name)
        store._redis.sadd(keys.tasks(), name)
    reaper = Reaper(store, tmp_path, host="h", claims=dict, clock=SYSTEM)

    reaper.start()
    wait_for(lambda: (found := store.record(REF)) and not found.worker, "the claim to be taken back")
    reaper.close()

    assert store._redis.hgetall(keys.record(newer)) == {b"state": b"meditating", b"seq": b"1"}
    assert store.records().keys() == {REF}
    assert store.outlines([REF, newer, odd]).keys() == {REF, odd}
    assert caplog.text.count(f"the record of {newer} is left alone") == 1


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = start_server(tmp_path / "redis")
    yield server
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGCONT)
    server.stop()


class Later:
    """A clock that tells a later time at every look, by what a reaper takes for no stop of its own."""

    now = SYSTEM.now

    def __init__(self) -> None:
        self._time = 0.0

    def monotonic(self) -> float:
        self._time += 0.9 * DEAD_AFTER.total_seconds()
        return self._time


def test_a_worker_does_not_take_back_what_runs_in_it(store: Store, tmp_path: Path) -> None:
    enroll(store)
    token = claim(store)
    claims = {REF: token}
    reaper = Reaper(store, tmp_path, host="h", claims=lambda: claims, clock=Later())

    for _ in range(5):
        reaper._reap()
    assert store.records()[REF].worker == "w:1"

    claims.clear()
    for _ in range(3):
        reaper._reap()
    assert store.records()[REF].worker == ""


def test_no_time_counts_in_which_redis_refuses_what_is_written(own_server: Server, tmp_path: Path) -> None:
    store = Store(own_server.url)
    enroll(store)
    claim(store)
    reaper = Reaper(store, tmp_path, host="h", claims=dict, clock=Later())
    reaper._reap()
    assert own_server.command("CONFIG SET maxmemory 1") == "+OK"

    with pytest.raises(StoreDown, match="refused"):
        reaper._reap()

    store.close()


def test_the_heart_beats_again_when_redis_is_back(own_server: Server) -> None:
    store = Store(own_server.url)
    beating = Beating(store)
    beating.running.start()
    try:
        wait_for(lambda: beating.beats, "a heartbeat")
        own_server.kill()
        again = start_server(own_server.folder)
        before = beating.beats
        wait_for(lambda: beating.beats > before + 1, "heartbeats after the restart")
        wait_for(lambda: "w:1" in store.workers(), "the worker to be announced again")
        again.stop()
    finally:
        beating.running.close()
        store.close()


def settings(url: str) -> Settings:
    return dataclasses.replace(read_settings(), host="build-1", redis_url=url)


@pytest.fixture
def services(redis_url: str) -> Iterator[Services]:
    made = Services(settings(redis_url), queues=["dispatch.host.build-1"])
    made.start()
    yield made
    made.close()


def test_a_claim_that_is_held_beats_and_one_that_ended_does_not(services: Services, store: Store) -> None:
    enroll(store)
    token = claim(store, worker=services.name)
    with services.holding(REF, token):
        assert services.claims() == {REF: token}
        wait_for(lambda: beat_of(store) >= 1, "a heartbeat")

    assert services.claims() == {}


def test_every_claim_has_a_slot_of_its_own_and_a_free_one_is_used_again(services: Services) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(services.holding(REF, 1))
        with services.holding(OTHER, 1) as second:
            assert {first.slot, second.slot} == {0, 1}
        third = stack.enter_context(services.holding(Ref("p", "third"), 1))
        fourth = stack.enter_context(services.holding(Ref("p", "fourth"), 1))
        assert [third.slot, fourth.slot] == [1, 2]


def test_the_next_attempt_of_a_task_may_begin_while_the_last_one_tidies_up(services: Services) -> None:
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        last = first.enter_context(services.holding(REF, 1))
        following = second.enter_context(services.holding(REF, 3))
        assert last.slot != following.slot

        first.close()

        assert services.claims() == {REF: 3}
        following.mailbox.tell("files")
        assert following.mailbox.take() == {"files"}
    assert services.claims() == {}


def test_news_of_a_task_wake_the_attempt_that_runs_it_and_no_other(services: Services, store: Store) -> None:
    for ref in (REF, OTHER):
        enroll(store, ref)
    tokens = [claim(store, ref, services.name) for ref in (REF, OTHER)]
    with services.holding(REF, tokens[0]) as mine, services.holding(OTHER, tokens[1]) as other:
        for _ in range(2):  # the first may be what a listener tells to all when it begins
            wait_for(lambda: told_by(store, mine.mailbox), "a listener that hears")
        other.mailbox.take()

        store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text="x")]))

        assert is_ready(mine.mailbox, 60)
        assert mine.mailbox.take() == {"news"}
        assert not is_ready(other.mailbox, 0.2)


def told_by(store: Store, mailbox: Mailbox) -> bool:
    """Whether a change of REF is heard by now."""
    store.change(REF, Change(entries=[draft("note", at=AT, by="h:1", text="x")]))
    return is_ready(mailbox, 0.2) and mailbox.take() == {"news"}


def test_a_claim_that_was_lost_is_news_to_its_attempt(services: Services, store: Store) -> None:
    enroll(store)
    token = claim(store, worker=services.name)
    with services.holding(REF, token) as held:
        store.change(REF, step(Event.CANCEL, at=AT, by="h:1"))

        assert is_ready(held.mailbox, 60)
        assert held.mailbox.take() == {"news"}


def test_odd_messages_do_not_end_the_listening(services: Services, store: Store, redis_server: Server) -> None:
    enroll(store)
    token = claim(store, worker=services.name)
    with services.holding(REF, token) as held:
        redis_server.command(f"PUBLISH {keys.live_channel(services.name)} nonsense")
        redis_server.command(f"PUBLISH {keys.live_channel(services.name)} no/such")

        wait_for(lambda: told_by(store, held.mailbox), "news after the nonsense")


def test_changed_files_wake_the_attempt_that_watches_them(services: Services, tmp_path: Path) -> None:
    (a := tmp_path / "a").mkdir()
    (b := tmp_path / "b").mkdir()
    with (
        services.holding(REF, 1) as mine,
        services.holding(OTHER, 1) as other,
        services.watching(mine.mailbox, a),
        services.watching(other.mailbox, b),
    ):
        wait_for(lambda: "files" in mine.mailbox.take(), "the first look")
        wait_for(lambda: "files" in other.mailbox.take(), "the first look")
        wait_for(lambda: not is_ready(mine.mailbox, 0.3) or mine.mailbox.take() is None, "quiet")
        other.mailbox.take()

        (a / "plan.md").write_text("x")

        wait_for(lambda: "files" in mine.mailbox.take(), "its own files")
        assert "files" not in other.mailbox.take()


def test_an_attempt_that_ends_does_not_take_the_watch_from_the_next_in_the_same_folder(
    services: Services, tmp_path: Path
) -> None:
    (a := tmp_path / "a").mkdir()
    with services.holding(REF, 1) as last, services.holding(REF, 3) as following, contextlib.ExitStack() as first:
        first.enter_context(services.watching(last.mailbox, a))
        with services.watching(following.mailbox, a):
            first.close()
            wait_for(lambda: not is_ready(following.mailbox, 0.3) or following.mailbox.take() is None, "quiet")

            (a / "plan.md").write_text("x")

            wait_for(lambda: "files" in following.mailbox.take(), "the file to be told")


def test_a_watch_goes_on_after_an_error_in_what_it_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[set[Path]] = []

    def broken_at_first(folders: set[Path]) -> None:
        told.append(folders)
        if len(told) == 1:
            raise KeyError("no such leaf")

    watch = Watch(broken_at_first, name="test-watch")
    try:
        watch.add(tmp_path)
        wait_for(lambda: told, "the first news")
        wait_for(lambda: (tmp_path / os.urandom(4).hex()).touch() or len(told) > 1, "the next news")
    finally:
        watch.close()
    assert "KeyError: 'no such leaf'" in caplog.text


def test_the_saver_goes_on_after_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saves: list[Workspace] = []

    def broken(place: Workspace) -> None:
        saves.append(place)
        raise KeyError("no such leaf")

    monkeypatch.setattr("worker.workspace.save", broken)
    place = Workspace(tmp_path, Isolation.WORKTREE, tmp_path, branch="dispatch/a-job")
    saver = Saver(SYSTEM)
    saver.start()
    try:
        with saver.keeping(place, pytest.fail):
            saver.soon(place)
            wait_for(lambda: saves, "the first save")
            saver.soon(place)
            wait_for(lambda: len(saves) > 1, "the next save")
    finally:
        saver.close()
    assert "KeyError: 'no such leaf'" in caplog.text


def test_a_mailbox_is_reminded_when_redis_answers(services: Services) -> None:
    with services.holding(REF, 1) as held:
        wait_for(lambda: not is_ready(held.mailbox) or held.mailbox.take() is None, "quiet")
        services.remind(held.mailbox)

        wait_for(lambda: "news" in held.mailbox.take(), "the reminder")


def test_a_stopping_worker_tells_every_attempt_once_gently_and_then_not(services: Services) -> None:
    with services.holding(REF, 1) as early:
        early.mailbox.take()
        services.stop()
        with services.holding(OTHER, 1) as late:
            assert "drain" in early.mailbox.take()
            assert "drain" in late.mailbox.take()
            services.stop(now=True)
            assert "drain-now" in early.mailbox.take()
            assert "drain-now" in late.mailbox.take()


def test_a_ticket_that_comes_while_stopping_is_sent_again_if_the_task_still_wants_one(
    services: Services, store: Store
) -> None:
    enroll(store)

    services.put_back(REF)
    services.put_back(OTHER)

    assert len(store.tickets("q")) == 2
    claim(store)
    services.put_back(REF)
    assert len(store.tickets("q")) == 2


def test_a_ticket_that_waits_for_redis_begins_nothing_once_the_worker_stops(
    services: Services, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(store)
    answers = []

    def away(*_: Any) -> None:
        answers.append(1)
        services.stop()
        raise StoreDown("for a moment")

    monkeypatch.setattr(claim_of_worker, "answer", away)
    monkeypatch.setattr(tickets, "running_services", lambda: services)

    with pytest.raises(Ignore):
        tickets.run(REF.project, REF.task)

    assert len(answers) == 1
    assert len(store.tickets("q")) == 2


def test_a_closed_worker_is_forgotten_and_has_no_threads(redis_url: str, store: Store) -> None:
    made = Services(settings(redis_url), queues=["a", "b"])
    made.start()
    wait_for(lambda: store.workers().get(made.name, {}).get("queues") == "a b", "the announcement")

    made.close()

    assert store.workers() == {}
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"heartbeat", "live-news", "live-watch", "home-mirror", "home-watch", "reaper"}


def test_a_worker_closes_though_redis_hangs(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch_queue.store.SOCKET_TIMEOUT_SECONDS", 0.5)
    made = Services(settings(own_server.url), queues=[])
    made.start()
    wait_for(lambda: made.store.workers(), "the announcement")
    os.kill(own_server.pid, signal.SIGSTOP)

    made.close()  # not: wait for what will never come, until the time of a test is up
