"""An attempt of a worker in this thread: broken off by an error of our own, or begun before its files are there."""

import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dispatch_queue import again
from dispatch_queue.change import Change, Changed, Record, step
from dispatch_queue.errors import StoreDown
from dispatch_queue.home import dispatch_home
from dispatch_queue.mirror import push, sync
from dispatch_queue.plan import Mark
from dispatch_queue.producer import Request, record_locally
from dispatch_queue.project import Project
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from tests.support.processes import processes_of
from worker import claim
from worker.attempt import Attempt
from worker.livecopy import LiveCopy, News, View
from worker.publisher import Publisher
from worker.services import Services
from worker.settings import read_settings

LONG = "long: `sleep 600`"  # longer than a test may take: nobody waits for its end


class Desk:
    """Tasks of a project, and a worker's services to run them with, in this thread."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.project = services, folder / "project"
        self.project.mkdir()

    def submit(self, *items: str, attempts: int = 3, max_turns: int = 0) -> Ref:
        request = Request(
            items=items,
            model="shell",
            backend="shell",
            isolation=Isolation.SHARED,
            attempts=attempts,
            name="a-job",
            max_turns=max_turns,
        )
        made = record_locally(request, Project(self.project, None), home=dispatch_home())
        push(self.services.store, made.home, made.task.ref)
        return made.task.ref

    def record(self, ref: Ref) -> Record:
        found = self.services.store.record(ref)
        assert found is not None
        return found

    def home(self, ref: Ref) -> TaskDir:
        home = TaskDir(self.project, ref.task)
        sync(self.services.store, home, ref)
        return home


@pytest.fixture
def desk(redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    services = Services(dataclasses.replace(read_settings(), redis_url=redis_url), queues=[])
    services.start()
    yield Desk(services, tmp_path)
    services.close()


def broken(*_: Any, **__: Any) -> NoReturn:
    raise KeyError("no such leaf")


def look_until_a_tick(look: Any) -> Any:
    def looking(live: LiveCopy) -> tuple[View, News]:
        view, news = look(live)
        if view.plan.done:
            broken()
        return view, news

    return looking


@pytest.mark.parametrize("where", ["before the agent", "when it has begun", "while it works", "when it has ended"])
def test_an_error_of_ours_ends_the_attempt_at_once_with_its_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    match where:
        case "before the agent":
            monkeypatch.setattr("worker.attempt.prepare", broken)
        case "when it has begun":
            monkeypatch.setattr(Publisher, "begin", broken)
        case "while it works":
            monkeypatch.setattr(LiveCopy, "look", look_until_a_tick(LiveCopy.look))
        case "when it has ended":
            monkeypatch.setattr(Attempt, "_look_back", broken)
    ref = desk.submit("first: `true`", *([] if where == "when it has ended" else [LONG]))

    with caplog.at_level(logging.ERROR):
        claim.answer(desk.services, ref)

    record = desk.record(ref)
    assert (record.state, record.tries, record.worker) == (State.QUEUED, 1, "")
    assert "KeyError: 'no such leaf'" in record.reason
    assert not processes_of(desk.project)
    assert "Traceback" in caplog.text
    assert not desk.services.claims()


def test_the_last_try_that_an_error_of_ours_breaks_off_is_the_tasks_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveCopy, "look", look_until_a_tick(LiveCopy.look))
    ref = desk.submit("first: `true`", LONG, attempts=1)

    claim.answer(desk.services, ref)

    assert desk.record(ref).state is State.FAILED
    assert desk.record(ref).reason.startswith("lost: an error of its worker")


def test_the_next_attempt_goes_on_where_one_was_broken_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = desk.submit("first: `echo 1 >> lines`", "second: `echo 2 >> lines`")
    with monkeypatch.context() as patch:
        patch.setattr(LiveCopy, "look", look_until_a_tick(LiveCopy.look))
        claim.answer(desk.services, ref)

    claim.answer(desk.services, ref)

    assert desk.record(ref).state is State.DONE
    assert {item.mark for item in desk.home(ref).plan().items} == {Mark.DONE}
    assert (desk.project / "lines").read_text().split()[0] == "1"


def test_an_error_after_the_end_was_told_changes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.ending.Ending._remove_worktrees", broken)
    ref = desk.submit("first: `true`")

    claim.answer(desk.services, ref)

    assert desk.record(ref).state is State.DONE
    assert '"end": "finish"' in (desk.home(ref).path / "attempts/1/result.json").read_text()


def test_an_attempt_that_begins_before_its_retry_is_in_the_files_has_the_caps_of_the_retry(desk: Desk) -> None:
    ref = desk.submit("first: `true`", max_turns=1)  # which the shell cannot keep
    claim.answer(desk.services, ref)
    assert desk.record(ref).reason.startswith("start: backend `shell` cannot be told to stop")

    again.retry(desk.services.store, desk.home(ref), ref, caps={"max_turns": 0})
    claim.answer(desk.services, ref)

    assert desk.record(ref).state is State.DONE


def test_an_attempt_that_begins_before_its_retry_is_in_the_files_counts_for_the_limits_of_its_new_model(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(claim, "limits_for", lambda limits, task, host: counted.append(task.model) or [])
    ref = desk.submit("first: `false`")
    claim.answer(desk.services, ref)

    again.retry(desk.services.store, desk.home(ref), ref, model=("quick", "shell", ""))
    claim.answer(desk.services, ref)

    assert counted == ["shell", "quick"]


def test_a_claim_whose_answer_was_lost_with_redis_is_taken_up_and_costs_no_try(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, lost = Store.change, []

    def answer_lost(store: Store, ref: Ref, wanted: Change) -> Changed:
        made = change(store, ref, wanted)
        if wanted.claim and not lost:
            lost.append(made)
            raise StoreDown("the connection broke")
        return made

    monkeypatch.setattr(Store, "change", answer_lost)
    ref = desk.submit("first: `true`")

    claim.answer(desk.services, ref)

    assert (desk.record(ref).state, desk.record(ref).attempt, desk.record(ref).token) == (
        State.DONE, 1, lost[0].token + 1
    )  # fmt: skip


def test_a_reason_with_a_name_that_is_no_text_is_told(desk: Desk) -> None:
    ref = desk.submit("first: `true`")
    reason = os.fsdecode(b"outside: \xff")

    desk.services.store.change(ref, step(Event.FAIL, at="2026-11-23T12:00:00.000Z", by="w:1", reason=reason))

    assert desk.record(ref).reason == "outside: \\udcff"
