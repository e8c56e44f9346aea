"""Cancelling: in every state, with all processes, and what a finished task still takes."""

from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support.children import PROGRAMS, is_alive
from tests.support.sandbox import Sandbox
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
    state_of,
    states_of,
    submit,
    told,
    workspace_of,
)
from tests.support.waiting import wait_for

S = State

ISOLATIONS = pytest.mark.parametrize("isolation", ["--shared", "--worktree"])


@pytest.fixture
def project(box: Project) -> Project:
    box.make_repository()
    return box


def files_of(box: Sandbox, task: str) -> dict[str, bytes]:
    """Every file of a task's record, by name."""
    folder = box.task(task)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_queued_task_that_is_cancelled_never_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    configure(sandbox, worker={"slots": 1})
    gate, ran = Gate(tmp_path / "gate"), sandbox.project / "ran"
    busy = submit(sandbox, items=(gate.item,))
    await_state(sandbox, busy, S.RUNNING)
    task = submit(sandbox, "--title", "Next", items=(f"Run: `touch '{ran}'`",))

    cancelled = sandbox.run("cancel", task)
    gate.open()
    after = do(sandbox, "--title", "After", items=("Work: `true`",))

    assert cancelled.stdout == "Cancelled `next` (it was queued).\n"
    assert states_of(sandbox, task) == [S.QUEUED, S.CANCELLED]
    assert states_of(sandbox, after) == [S.QUEUED, S.RUNNING, S.DONE]
    assert not (sandbox.task(task) / "attempts").exists()
    assert not ran.exists()


@ISOLATIONS
def test_a_running_task_ends_at_its_item_and_its_attempt_says_so(project: Project, isolation: str, gate: Gate) -> None:
    task = submit(project, isolation, items=("One: `true`", gate.item))
    wait_for(lambda: marks_of(project, task) == "x_", "the first tick")

    cancelled = project.run("cancel", task)

    assert agents_of(project, task) == []
    assert cancelled.stdout == f"Cancelled `{task}` (it was running).\n"
    assert state_of(project, task) is S.CANCELLED
    assert marks_of(project, task) == "x_"
    wait_for(lambda: result_of(project, task)["end"] == "cancel", "result.json")


@ISOLATIONS
def test_cancel_leaves_no_process_not_even_of_sessions_that_ignore_sigterm(project: Project, isolation: str) -> None:
    task = submit(project, isolation, "--item", "Crowd", model="leaves_a_crowd")
    await_state(project, task, S.RUNNING)
    crowd = wait_for(lambda: workspace_of(project, task) / "crowd", "the workspace")
    pids = wait_for(lambda: len(found := [int(path.name) for path in crowd.iterdir()]) == 5 and found, "five processes")
    assert pids
    assert all(is_alive(pid) for pid in pids)

    project.run("cancel", task)

    assert [pid for pid in pids if is_alive(pid)] == []
    assert agents_of(project, task) == []
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.CANCELLED]


@pytest.mark.parametrize("name", ["ignores_sigterm", "double_forks", "hops", "hides", "stops_its_parent"])
def test_cancel_reaches_what_an_item_of_a_plan_started(box: Project, name: str) -> None:
    script = box.project / "child.py"
    script.write_text(PROGRAMS[name])
    task = submit(box, items=("Start: `python3 child.py; sleep 60`",))
    wait_for(lambda: "ready" in told(box, task), "the child to be at work")

    box.run("cancel", task)

    assert agents_of(box, task) == []
    assert state_of(box, task) is S.CANCELLED
    # `box` fails the test at its end if a process of it is left in its folder


@ISOLATIONS
def test_a_cancelled_question_waits_for_nobody(project: Project, isolation: str) -> None:
    task = submit(project, isolation, items=("ask: Which one?",))
    await_state(project, task, S.ASKING)

    cancelled = project.run("cancel", task)

    assert "it was asking" in cancelled.stdout
    assert agents_of(project, task) == []
    assert project.run("questions", "--json").json == []
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.CANCELLED]


def test_a_parked_task_that_is_cancelled_stays_so_when_its_answer_comes_by_hand(box: Project) -> None:
    task = submit(box, "--question-timeout", "1", items=("ask: Which one?",))
    await_state(box, task, S.PARKED)

    cancelled = box.run("cancel", task)
    (box.task(task) / "ipc/001.answer").write_text("too late")
    do(box, "--title", "After", items=("Work: `true`",))

    assert "it was parked" in cancelled.stdout
    assert states_of(box, task)[-1] is S.CANCELLED
    assert box.run("questions", "--json").json == []


def test_a_second_cancel_is_refused_and_changes_nothing(box: Project, gate: Gate) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, S.RUNNING)
    box.run("cancel", task)
    wait_for(lambda: journal(box, task)[-1].event == "stopped", "the worker's last word")
    before = files_of(box, task)

    again = box.run("cancel", task, check=False)

    assert again.code == 1
    assert f"task `{task}` is cancelled; nothing to cancel" in again.stderr
    assert files_of(box, task) == before


def test_of_several_tasks_each_is_cancelled_and_the_worst_counts(box: Project, gate: Gate) -> None:
    ended = do(box, "--title", "Ended", items=("Work: `true`",))
    tasks = [submit(box, "--title", title, items=(gate.item,)) for title in ("One", "Two")]
    for task in tasks:
        await_state(box, task, S.RUNNING)

    done = box.run("cancel", tasks[0], ended, tasks[1], check=False)

    assert done.code == 1
    assert [state_of(box, task) for task in tasks] == [S.CANCELLED, S.CANCELLED]
    assert state_of(box, ended) is S.DONE
    assert f"task `{ended}` is done" in done.stderr


def test_an_unknown_task_among_several_cancels_none(box: Project, gate: Gate) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, S.RUNNING)

    done = box.run("cancel", task, "no-such-task", check=False)

    assert done.code == 2
    assert state_of(box, task) is S.RUNNING


@pytest.mark.parametrize("how", ["done", "failed", "cancelled"])
def test_a_finished_task_takes_neither_notes_nor_answers(box: Project, gate: Gate, how: str) -> None:
    items = {"done": "Work: `true`", "failed": "Fail: `false`", "cancelled": gate.item}
    task = submit(box, items=(items[how],))
    if how == "cancelled":
        await_state(box, task, S.RUNNING)
        box.run("cancel", task)
        wait_for(lambda: journal(box, task)[-1].event == "stopped", "the worker's last word")
    await_state(box, task, S(how))
    before = files_of(box, task)

    for words in (("note", task, "more"), ("answer", task, "yes"), ("answer", task, "1", "yes")):
        refused = box.run(*words, check=False)
        assert refused.code == 1, words
        assert f"task `{task}` is {how}" in refused.stderr
        assert f"dispatch retry {task}" in refused.stderr

    assert files_of(box, task) == before


@ISOLATIONS
def test_a_cancelled_task_can_be_retried_from_where_it_stood(project: Project, isolation: str, gate: Gate) -> None:
    task = submit(project, isolation, items=("One: `echo once >> one.txt`", gate.item))
    wait_for(lambda: marks_of(project, task) == "x_", "the first tick")
    project.run("cancel", task)

    project.run("retry", task)
    gate.open()

    await_state(project, task, S.DONE)
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.CANCELLED, S.QUEUED, S.RUNNING, S.DONE]
    place = project.project if isolation == "--shared" else None
    text = (place / "one.txt").read_text() if place else project.git("show", f"dispatch/{task}:one.txt") + "\n"
    assert text == "once\n"


def test_a_failed_item_is_open_again_after_a_retry(box: Project) -> None:
    task = submit(box, items=("One: `echo once >> one.txt`", "Needs a file: `cat needed`", "Three: `true`"))
    await_state(box, task, S.FAILED)
    assert marks_of(box, task) == "x!_"
    (box.project / "needed").touch()

    box.run("retry", task)

    await_state(box, task, S.DONE)
    assert marks_of(box, task) == "xxx"
    assert (box.project / "one.txt").read_text() == "once\n"
    assert copy_of(box, task).standing().attempt == 2


def test_a_task_that_runs_is_not_retried(box: Project, gate: Gate) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, S.RUNNING)

    refused = box.run("retry", task, check=False)

    assert refused.code == 1
    assert "only a finished one can be retried" in refused.stderr
