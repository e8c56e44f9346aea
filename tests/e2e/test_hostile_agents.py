"""Agents that break the record of their task: the task says so, and nobody else notices."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue import embedded
from dispatch_queue.change import Record
from dispatch_queue.project import read_id
from dispatch_queue.record import Ref
from dispatch_queue.states import State
from dispatch_queue.store import Store
from tests.support import hostile
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Completed, Sandbox
from tests.support.tasks import (
    Gate,
    Project,
    agents_of,
    await_state,
    configure,
    copy_of,
    do,
    journal,
    marks_of,
    result_of,
    states_of,
    submit,
    transcript,
)
from tests.support.waiting import wait_for

S = State
MIB = 1024 * 1024
ENDS_WITHIN_SECONDS = 90.0
CANARY = "canary-7f3a9c51-for-no-eyes"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # by a terminal
ISOLATIONS = pytest.mark.parametrize("isolation", ["--shared", "--worktree"])


class Prey(Project):
    """A project of which hostile agents run tasks, and what they must not reach: `secret`, `outside`."""

    def __init__(self, house: Sandbox, folder: Path) -> None:
        super().__init__(house, folder)
        self.secret, self.outside = house.folder / "secret", house.folder / "outside"
        self.store = Store(embedded.server_url(house.home))
        self.worker = embedded.status(house.home).worker.pid

    def close(self) -> None:
        self.store.close()
        super().close()

    def record(self, task: str) -> Record:
        """The task as Redis knows it."""
        project = read_id(self.project)
        assert project is not None
        found = self.store.record(Ref(project, task))
        assert found is not None
        return found

    def ended(self, task: str, state: State) -> Record:
        """Wait until Redis says that the task is in a final state, and the home copy agrees."""

        def over() -> Record | None:
            record = self.record(task)
            return record if record.state in (S.DONE, S.FAILED) and copy_of(self, task).standing().final else None

        try:
            record = wait_for(over, f"`{task}` to end", ENDS_WITHIN_SECONDS)
        except AssertionError as error:
            worker = (self.home / "run/worker.log").read_text(errors="replace")[-3000:]
            raise AssertionError(f"{error}\n{worker}") from None
        assert record is not None
        assert record.state is state, record.reason
        wait_for(lambda: copy_of(self, task).standing().state is state, "the home copy to agree")
        return record

    def unharmed(self, task: str) -> None:
        """Nothing outside the record was read or written, every command works, and the worker goes on.

        That it runs the next task is shown by the next test: all have one worker.
        """
        assert agents_of(self, task) == []
        assert self.secret.read_text() == f"# {CANARY}\n\n- [ ] {CANARY}\n"
        assert [path.name for path in self.outside.iterdir()] == ["own.txt"]
        assert (self.outside / "own.txt").read_text() == CANARY
        assert embedded.status(self.home).worker.pid == self.worker
        said = [self.shown("ls"), self.shown("show", task), self.shown("watch", task)]
        said += [self.shown("logs", task, ok=(0, 1, 2))]
        assert all(CANARY not in each.stdout + each.stderr for each in said)
        assert found_in(self.project, self.home) == []

    def shown(self, *words: str, ok: tuple[int, ...] = (0, 1)) -> Completed:
        """What a command prints; nothing of it may be obeyed by a terminal."""
        done = self.run(*words, check=False)
        printed = done.stdout + done.stderr
        assert done.code in ok, printed
        assert "Traceback" not in printed
        assert OBEYED.search(printed) is None, repr(printed)
        return done


def found_in(*folders: Path) -> list[Path]:
    """The files below the folders that hold the canary; links are not followed."""
    found = []
    for folder in folders:
        for here, _folders, names in os.walk(folder):
            for name in names:
                path = Path(here, name)
                if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes():
                    found.append(path)
    return found


@pytest.fixture(scope="module")
def house(own_folder: Path) -> Iterator[Sandbox]:
    """A server and a worker of these tests' own: what agents do to them hits nobody else."""
    with sandboxes.opened(Path(tempfile.mkdtemp(prefix="hostile", dir=own_folder))) as house:
        secret, outside = house.folder / "secret", house.folder / "outside"
        configure(house, {name: hostile.command(name, secret, outside) for name in hostile.NAMES})
        secret.write_text(f"# {CANARY}\n\n- [ ] {CANARY}\n")
        outside.mkdir()
        (outside / "own.txt").write_text(CANARY)
        house.run("up")
        yield house


@pytest.fixture
def box(house: Sandbox, tmp_path: Path) -> Iterator[Prey]:
    prey = Prey(house, tmp_path)
    prey.make_repository()
    try:
        yield prey
    finally:
        prey.close()


def dispatched(box: Prey, model: str, *words: str) -> str:
    return submit(box, *words, "--title", "Prey", items=("One", "Two"), model=model)


BROKEN = {
    "links_the_plan": "plan.md: is a link",
    "makes_the_plan_a_folder": "plan.md: is not a regular file",
    "makes_the_plan_a_pipe": "plan.md: is not a regular file",
    "makes_the_plan_huge": "plan.md: is larger than",
    "makes_the_plan_garbage": "no readable plan: plan.md",
    "removes_the_plan": "no readable plan: plan.md is gone",
    "links_the_ipc_folder": "ipc: is not a folder",
    "makes_the_ipc_folder_a_file": "ipc: is not a folder",
    "links_a_question": "ipc/001.question: is a link",
    "links_an_answer": "ipc/001.answer: is a link",
    "links_the_end": "ipc/.done: is a link",
    "asks_by_a_pipe": "ipc/001.question: is not a regular file",
    "asks_by_a_folder": "ipc/001.question: is not a regular file",
    "asks_too_much": "ipc/001.question: is larger than",
    "asks_without_end": "questions without an answer, the limit is",
    "fills_the_ipc_folder": "ipc: has more than",
    "writes_beside_its_record": "outside its task's record: .dispatch/tasks/x",
    "links_its_folder": "prey: is not a folder",
    "makes_its_folder_a_file": "prey: is not a folder",
    "removes_its_folder": "no readable plan: plan.md is gone",
    "changes_the_plan_without_end": "plan.md was changed too often",
}
IN_A_WORKTREE = (
    "links_the_plan",
    "removes_the_plan",
    "links_the_ipc_folder",
    "links_a_question",
    "links_its_folder",
    "writes_beside_its_record",
)


@pytest.mark.parametrize(
    ("model", "isolation"),
    [
        *((model, "--shared") for model in BROKEN if model != "writes_beside_its_record"),
        *((model, "--worktree") for model in IN_A_WORKTREE),
    ],
)
def test_a_broken_record_fails_the_task_with_what_was_broken_and_harms_nobody_else(
    box: Prey, model: str, isolation: str
) -> None:
    named = BROKEN[model]
    task = dispatched(box, model, isolation)

    record = box.ended(task, S.FAILED)

    assert record.reason.startswith("agent: the agent ")
    assert named in record.reason
    assert named in box.run("show", task).stdout
    assert result_of(box, task)["reason"] == record.reason
    assert len(marks_of(box, task)) in (2, 500)  # the last plan that was one
    box.unharmed(task)


@pytest.mark.parametrize(
    "model",
    ["makes_the_plan_a_folder", "links_the_ipc_folder", "asks_too_much", "links_its_folder", "removes_its_folder"],
)
def test_a_task_whose_record_was_broken_can_be_retried(box: Prey, model: str) -> None:
    task = dispatched(box, model, "--shared")
    box.ended(task, S.FAILED)

    box.run("retry", task)

    wait_for(lambda: copy_of(box, task).standing().attempt == 2, "the second attempt")
    assert not box.ended(task, S.FAILED).reason.startswith("start:")


@pytest.mark.parametrize(
    "model",
    [
        "rewrites_the_plan_all_the_time",
        "answers_itself",
        "answers_before_it_asks",
        "forges_the_next_entries",
        "writes_garbage_into_the_journal",
        "fills_the_journal",
        "removes_the_journal",
        "links_the_journal",
        "makes_the_journal_a_folder",
        "rewrites_its_task",
        "makes_its_task_garbage",
        "links_its_task",
        "links_the_output",
        "makes_the_output_huge",
        "links_its_transcript",
        "links_the_attempts",
        "lays_a_trap_for_the_next_attempt",
        "prints_binary",
        "prints_100_mib",
    ],
)
def test_what_can_be_set_right_is_and_the_task_goes_on(box: Prey, model: str) -> None:
    task = dispatched(box, model, "--shared")
    asked = (box.task(task) / "task.yaml").read_bytes()

    box.ended(task, S.DONE)

    assert marks_of(box, task) == "xx"
    assert (box.task(task) / "task.yaml").read_bytes() == asked
    entries = journal(box, task)
    assert states_of(box, task)[0] is S.QUEUED or "journal" in model  # what it took away was in no other place
    assert states_of(box, task)[-1] is S.DONE
    assert [entry.seq for entry in entries] == sorted({entry.seq for entry in entries})
    assert all(entry.facts.get("reason") != "forged" for entry in entries)
    assert len(entries) < 2000
    box.unharmed(task)


def test_a_file_beside_the_records_of_a_checkout_fails_nobody_and_is_told(box: Prey, gate: Gate) -> None:
    other = submit(box, items=(gate.item,))
    await_state(box, other, S.RUNNING)
    task = dispatched(box, "writes_beside_its_record", "--shared")

    box.ended(task, S.DONE)
    gate.open()
    box.ended(other, S.DONE)

    for each in (task, other):
        warnings = [entry.facts["text"] for entry in journal(box, each) if entry.event == "warning"]
        assert [text for text in warnings if text.endswith(".dispatch/tasks/x")], warnings
        box.unharmed(each)


def test_a_forged_end_is_believed_by_nobody_for_long_and_redis_never_hears_of_it(box: Prey) -> None:
    task = dispatched(box, "forges_the_end_of_its_task", "--shared")

    record = box.ended(task, S.FAILED)

    assert record.seq < 100
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.FAILED]
    assert "forged" in (box.task(task) / "journal.rejected.jsonl").read_text()
    box.unharmed(task)


def test_a_transcript_that_was_taken_away_is_put_back(box: Prey) -> None:
    task = dispatched(box, "links_its_transcript", "--shared")

    box.ended(task, S.DONE)

    assert transcript(box, task) == "first words\nlast words\n"


def test_after_a_cleaned_checkout_the_task_is_still_there_to_be_retried(box: Prey) -> None:
    task = dispatched(box, "cleans_the_checkout", "--shared")
    project = read_id(box.project)

    wait_for(lambda: copy_of(box, task).standing().state is S.FAILED, "the task to be at home again")

    assert read_id(box.project) == project
    assert "plan.md is gone" in box.run("show", task).stdout
    assert marks_of(box, task) == "__"
    box.run("retry", task)
    wait_for(lambda: copy_of(box, task).standing().attempt == 2, "the second attempt")
    box.ended(task, S.FAILED)
    box.unharmed(task)


def test_a_trap_for_the_next_attempt_catches_nothing(box: Prey) -> None:
    task = dispatched(box, "lays_a_trap_for_the_next_attempt", "--shared")

    box.ended(task, S.DONE)

    assert transcript(box, task, 2) == "attempt 2\n"
    assert result_of(box, task, 2)["end"] == "finish"
    box.unharmed(task)


def test_a_folder_of_the_next_attempt_that_leads_elsewhere_is_not_written_to(box: Prey) -> None:
    task = dispatched(box, "lays_the_next_attempt_elsewhere", "--shared")

    record = box.ended(task, S.FAILED)

    assert "attempts/2: is not a folder" in record.reason
    box.unharmed(task)


@ISOLATIONS
def test_a_question_in_no_language_is_asked_and_answered(box: Prey, isolation: str) -> None:
    task = dispatched(box, "asks_in_no_language", isolation)
    await_state(box, task, S.ASKING)

    asked = box.shown("questions").stdout
    box.run("answer", task, "the left one")

    assert "which \ufffd\ufffd\ufffd one?" in asked
    box.ended(task, S.DONE)
    box.unharmed(task)


@ISOLATIONS
def test_control_sequences_are_shown_and_not_obeyed(box: Prey, isolation: str) -> None:
    task = dispatched(box, "tells_the_terminal_what_to_do", isolation)
    await_state(box, task, S.ASKING)

    said = [
        box.shown(*words, ok=(0, 1, 3))
        for words in [
            ("ls",), ("status", task), ("show", task), ("questions",), ("watch", task), ("logs", task),
            ("ls", "--json"), ("show", task, "--json"), ("watch", task, "--json"),
        ]
    ]  # fmt: skip
    box.run("answer", task, "no")

    assert [done for done in said if "owned" not in done.stdout] == []
    box.ended(task, S.DONE)
    box.unharmed(task)


@ISOLATIONS
def test_an_agent_that_kills_its_parent_dies_with_it_and_the_worker_stays(box: Prey, isolation: str) -> None:
    task = dispatched(box, "kills_its_parent", isolation)

    box.ended(task, S.FAILED)

    assert "warden" in copy_of(box, task).standing().reason
    assert result_of(box, task)["failure"] is None
    assert "an error of its own" not in box.run("show", task).stdout
    box.unharmed(task)
    do(box, items=("Next: `true`",))


def test_a_name_beside_the_record_that_is_no_text_is_told_as_any_other(box: Prey) -> None:
    task = submit(box, "--worktree", items=("Write: `printf x > .dispatch/tasks/$(printf '\\377')`",))

    await_state(box, task, S.FAILED)

    reason = copy_of(box, task).standing().reason
    assert reason == "agent: the agent wrote outside its task's record: .dispatch/tasks/\\xff"
    assert result_of(box, task)["reason"] == reason


def test_a_transcript_of_100_mib_is_cut_and_can_be_read(box: Prey) -> None:
    task = dispatched(box, "prints_100_mib", "--shared")
    box.ended(task, S.DONE)

    raw = box.run("logs", task, "--raw")

    assert 60 * MIB < len(raw.stdout) < 70 * MIB
    assert "bytes were not kept" in raw.stdout[-200:]
