"""What a running attempt tells Redis: in order, under its token, and again if Redis lost it."""

import dataclasses
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from dispatch_queue import files, plan, taskdir
from dispatch_queue.change import Changed, Record, step
from dispatch_queue.errors import StoreDown
from dispatch_queue.home import dispatch_home
from dispatch_queue.mirror import enroll, publish_note, push, sync
from dispatch_queue.producer import Request, record_locally
from dispatch_queue.project import Project
from dispatch_queue.record import Entry, Isolation
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from tests.support.server import Server
from worker.livecopy import LiveCopy
from worker.prepare import lay_down
from worker.publisher import Publisher
from worker.services import Services
from worker.settings import read_settings
from worker.supervisor import Mailbox

AT = "2026-11-23T12:00:00.000Z"
FILES, NEWS = {"files"}, {"news"}


class Running:
    """An attempt in a worktree: its live copy is elsewhere than its home."""

    def __init__(self, services: Services, folder: Path) -> None:
        project, work = folder / "project", folder / "work"
        for made in (project, work):
            made.mkdir()
        request = Request(
            items=("one", "two"), title="A job", name="a-job", model="shell", backend="shell",
            isolation=Isolation.WORKTREE,
        )  # fmt: skip
        task = record_locally(request, Project(project, None), home=dispatch_home())
        self.services, self.store = services, services.store
        self.home, self.ref = task.home, task.task.ref
        push(self.store, self.home, self.ref)
        self.claim = self.change(Event.CLAIM, claim=True, fields={"worker": services.name})
        sync(self.store, self.home, self.ref)
        self.copy = TaskDir(work, self.ref.task)
        lay_down(self.home, self.copy)
        self.live = LiveCopy(self.copy)
        self.live.look()
        self.mailbox = Mailbox()
        self.publisher = Publisher(services, self.home, self.record, self.claim, self.mailbox)

    @property
    def record(self) -> Record:
        found = self.store.record(self.ref)
        assert found is not None
        return found

    def change(self, event: Event, **more: Any) -> Changed:
        return self.store.change(self.ref, step(event, at=AT, by="w:1", **more))

    def turn(self, words: set[str]) -> bool:
        """Returns whether the claim is lost."""
        return self.publisher.turn(self.live, set(words)).lost

    def write(self, name: str, text: str) -> None:
        (self.copy.path / name).write_text(text)

    def tick(self, *marks: str) -> None:
        self.write("plan.md", "".join(f"- [{mark}] {text}\n" for mark, text in zip(marks, ("one", "two"), strict=True)))

    def entries(self) -> list[Entry]:
        sync(self.store, self.home, self.ref)
        return self.home.entries()

    def events(self) -> list[str]:
        return [entry.event for entry in self.entries()]


@pytest.fixture
def running(redis_url: str, tmp_path: Path) -> Iterator[Running]:
    services = Services(dataclasses.replace(read_settings(), redis_url=redis_url), queues=[])
    made = Running(services, tmp_path)
    services.start()
    with services.holding(made.ref, made.claim.token):  # else it is taken back when a test takes some seconds
        yield made
    services.close()
    made.mailbox.close()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    client.close()


def memory(redis: Redis) -> dict[bytes, bytes]:
    """All that a server knows."""
    return {name: redis.dump(name) for name in redis.scan_iter()}


def take_back(redis: Redis, before: dict[bytes, bytes]) -> None:
    """Make a server know what it knew before, as after a crash that lost its last second."""
    with redis.pipeline(transaction=True) as at_once:
        at_once.flushall()
        for name, value in before.items():
            at_once.restore(name, 0, value)
        at_once.execute()


def test_a_tick_and_a_question_are_published_in_their_order(running: Running) -> None:
    running.tick("x", " ")
    running.write("ipc/001.question", "which?\n")

    assert not running.turn(FILES)

    assert running.events() == ["submit", "claim", "tick", "ask"]
    assert (running.record.state, running.record.questions, running.record.done) == (State.ASKING, (1,), 1)
    assert running.home.read("ipc/001.question") == b"which?\n"
    assert running.home.plan().done == 1


def test_nothing_new_is_not_published(running: Running) -> None:
    before = running.record.seq
    for _ in range(3):
        running.turn(FILES)

    assert running.record.seq == before


def test_a_claim_that_was_lost_publishes_nothing_more(running: Running) -> None:
    running.change(Event.CANCEL)
    running.tick("x", "x")

    assert running.turn(FILES)
    assert running.turn(NEWS)
    assert running.events() == ["submit", "claim", "cancel"]


def test_an_answer_and_a_note_from_redis_reach_the_live_copy(running: Running) -> None:
    running.write("ipc/001.question", "which?\n")
    running.turn(FILES)
    sync(running.store, running.home, running.ref)
    (running.home.path / "ipc/001.answer").write_text("this\n")
    push(running.store, running.home, running.ref)
    publish_note(running.store, running.ref, "use postgres")

    running.turn(NEWS)
    running.turn(NEWS)

    assert running.copy.read("ipc/001.answer") == b"this\n"
    assert plan.notes_in(running.copy.read("plan.md")) == ["use postgres"]
    assert running.events().count("answer") == 1


def test_a_note_that_came_home_before_the_attempt_began_is_written_once(running: Running) -> None:
    publish_note(running.store, running.ref, "use postgres")
    sync(running.store, running.home, running.ref)
    running.live.hear(running.home.entries(), {})

    running.turn(FILES | NEWS)

    assert plan.notes_in(running.copy.read("plan.md")) == ["use postgres"]


def test_an_answer_that_the_agent_takes_away_at_once_ends_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write("ipc/001.question", "which?\n")
    running.turn(FILES)
    running.write("ipc/001.answer", "my own\n")
    look = LiveCopy.look

    def look_and_lose(live: LiveCopy) -> object:
        seen = look(live)
        (running.copy.path / "ipc/001.answer").unlink()
        return seen

    monkeypatch.setattr(LiveCopy, "look", look_and_lose)

    assert not running.turn(FILES)


def test_what_happens_just_after_redis_lost_its_data_is_told_when_it_knows_the_task_again(
    running: Running, redis_server: Server
) -> None:
    running.tick("x", " ")
    running.turn(FILES)
    sync(running.store, running.home, running.ref)
    redis_server.flush()

    running.tick("x", "x")
    running.write("ipc/001.question", "which?\n")
    assert not running.turn(FILES)
    assert not running.turn(NEWS)

    assert (running.record.state, running.record.questions, running.record.done) == (State.ASKING, (1,), 2)
    events = running.events()
    assert events.count("tick") == 2
    assert events.count("ask") == 1
    assert running.home.plan().done == 2
    assert running.record.token == running.claim.token


def test_what_happens_while_redis_is_away_is_told_afterwards_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "change", lambda *_: (_ for _ in ()).throw(StoreDown("away")))
        running.tick("x", " ")
        running.turn(FILES)
        running.write("ipc/001.question", "which?\n")
        running.turn(FILES)
        running.tick("x", "x")
        running.turn(FILES)

    running.turn(NEWS)
    running.turn(NEWS)

    assert running.events() == ["submit", "claim", "tick", "ask", "tick"]
    assert running.home.plan().done == 2


def test_what_was_published_though_its_answer_was_lost_is_in_the_journal_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Store.change

    def answer_lost(*given: Any) -> Changed:
        change(*given)
        raise StoreDown("the connection broke")

    for mark in "x!":
        with monkeypatch.context() as patch:
            patch.setattr(Store, "change", answer_lost)
            running.tick(mark, mark)
            running.turn(FILES)
            running.turn(FILES)
        running.turn(NEWS)

    assert running.events() == ["submit", "claim", "tick", "tick", "tick", "tick"]


def test_what_redis_was_told_and_lost_before_it_came_home_is_told_again(running: Running, redis_server: Server) -> None:
    running.tick("x", " ")
    running.write("ipc/001.question", "which?\n")
    behind = running.home.standing()
    with files.locked(running.home.base, running.home.name(taskdir.JOURNAL)):  # the mirror comes too late
        running.turn(FILES)
        assert (running.record.done, running.record.questions) == (1, (1,))
        redis_server.flush()
        enroll(running.store, running.home, running.ref, behind)  # or the mirror did, which knows no more
    running.tick("x", "x")
    running.turn(FILES)

    running.turn(NEWS)

    assert (running.record.state, running.record.questions, running.record.done) == (State.ASKING, (1,), 2)
    events = running.events()
    assert (events.count("tick"), events.count("ask")) == (2, 1)


@pytest.mark.parametrize("after", [FILES, NEWS])
def test_what_a_crash_of_redis_took_back_is_told_again(running: Running, redis: Redis, after: set[str]) -> None:
    running.turn(NEWS)
    before = memory(redis)
    running.tick("x", " ")
    running.turn(FILES)
    sync(running.store, running.home, running.ref)

    take_back(redis, before)
    running.tick("x", "x")
    running.turn(after)

    assert sorted(entry.facts["item"] for entry in running.entries() if entry.event == "tick") == [1, 2]
    assert (running.record.done, running.home.plan().done) == (2, 2)


def test_a_note_of_after_a_crash_of_redis_is_heard(running: Running, redis: Redis) -> None:
    before = memory(redis)
    publish_note(running.store, running.ref, "use sqlite")
    running.turn(NEWS)
    take_back(redis, before)

    publish_note(running.store, running.ref, "use postgres")
    running.tick("x", " ")
    running.turn(NEWS)

    assert "use postgres" in plan.notes_in(running.copy.read("plan.md"))


def away(*_: Any) -> Any:
    raise StoreDown("away")


def test_an_answer_in_the_live_copy_while_redis_is_away_is_told_afterwards(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write("ipc/001.question", "which?\n")
    running.turn(FILES)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "change", away)
        assert running.publisher.answer_overdue(running.live, "the first")
        running.turn(FILES)

    running.turn(NEWS)

    assert (running.record.state, running.record.questions) == (State.RUNNING, ())
    assert running.events().count("answer") == 1


def test_an_answer_that_comes_just_before_the_default_one_stands(running: Running) -> None:
    running.write("ipc/001.question", "which?\n")
    running.turn(FILES)
    running.write("ipc/001.answer", "this\n")

    assert running.publisher.answer_overdue(running.live, "the first")

    assert running.copy.read("ipc/001.answer") == b"this\n"
    running.turn(FILES)
    assert (running.record.state, running.record.questions) == (State.RUNNING, ())


def test_a_home_copy_that_cannot_be_written_ends_no_attempt_when_redis_forgot_something(
    running: Running, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.turn(NEWS)
    before = memory(redis)
    running.tick("x", " ")
    running.turn(FILES)
    take_back(redis, before)

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("worker.publisher.sync", full)
        assert not running.turn(NEWS)

    assert not running.turn(NEWS)
    assert running.record.done == 1
