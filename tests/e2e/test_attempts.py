"""What an attempt does besides running its agent: the check, the default answer, snapshots, quiet agents, the drain."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Gate,
    Project,
    await_state,
    configure,
    copy_of,
    do,
    journal,
    prompt_of,
    result_of,
    states_of,
    submit,
)
from tests.support.waiting import wait_for

S = State


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[Sandbox]:
    """A worker of the test's own."""
    with sandboxes.opened(tmp_path / "own") as house:
        configure(house, worker={"quiet_after": 1, "drain": 0.5})
        yield house


def test_a_check_that_passes_makes_the_task_done(box: Project) -> None:
    task = do(box, "--verify", "test -f made", items=("Make it: `touch made`",))

    assert result_of(box, task)["end"] == "finish"


def test_a_check_that_fails_makes_one_more_attempt_that_is_told_and_then_fails_the_task(box: Project) -> None:
    task = submit(box, "--verify", "echo 2 tests failed; exit 3", items=("Make it: `touch made`",))

    await_state(box, task, S.FAILED)

    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.FAILED]
    assert copy_of(box, task).standing().reason.startswith("verify: the check ended with exit status 3")
    assert "2 tests failed" in prompt_of(box, task, 2)
    assert (box.task(task) / "attempts/2/verify.log").read_text() == "2 tests failed\n"


def test_what_the_second_attempt_sets_right_makes_the_task_done(box: Project) -> None:
    task = do(box, "--verify", "test -f second || ! touch second", items=("Make it: `true`",))

    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]


def test_a_task_whose_check_hangs_is_cancelled_with_it(box: Project) -> None:
    task = submit(box, "--verify", "echo $$ > checking; sleep 600", items=("Make it: `true`",))
    wait_for((box.project / "checking").exists, "the check to run")

    box.run("cancel", task)

    assert copy_of(box, task).standing().state is S.CANCELLED


def test_a_question_that_nobody_answers_gets_its_default(box: Project) -> None:
    words = ("--question-timeout", "1", "--question-default", "use sqlite")
    task = submit(box, *words, items=("ask: which database?", 'Keep it: `cp "$DISPATCH_TASK_DIR/ipc/001.answer" kept`'))

    ended = box.run("wait", task)

    assert ended.code == 0
    assert (box.project / "kept").read_text() == "use sqlite\n"
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.RUNNING, S.DONE]


def test_after_a_tick_the_dirty_tree_is_saved_and_nothing_of_the_agents_is_touched(box: Project, gate: Gate) -> None:
    box.make_repository({".gitignore": "ignored\n", "tracked": "old\n"})
    task = submit(
        box,
        "--worktree",
        items=(
            "Change: `echo new > tracked; echo u > untracked; echo i > ignored; echo s > staged; git add staged`",
            gate.item,
            "Look: `git status --porcelain > after; git stash list >> after`",
        ),
    )
    ref = f"refs/dispatch/{task}/wip"

    wait_for(lambda: box.git("for-each-ref", "--format=%(refname)", ref), "the snapshot")

    assert box.git("show", f"{ref}:tracked") == "new"
    assert box.git("show", f"{ref}:untracked") == "u"
    assert "ignored" not in box.git("ls-tree", "--name-only", ref).splitlines()
    gate.open()
    await_state(box, task, S.DONE)
    after = box.git("show", f"dispatch/{task}:after").splitlines()
    assert sorted(after) == sorted([" M tracked", "A  staged", "?? untracked", "?? after"])


def test_a_quiet_agent_is_shown_as_such_with_the_evidence_and_goes_on(own_house: Sandbox, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = submit(own_house, items=(f"Wait without a sign of life: `cat '{pipe}'`",))

    # It may be called quiet before it has printed its first line, which ends that for a while.
    said = "quiet: no output and no change of the plan"
    wait_for(lambda: said in own_house.run("ls").stdout, "the agent to be called quiet")
    wait_for(lambda: said in own_house.run("show", task).stdout, "the page to say so")

    pipe.write_text("go on")
    await_state(own_house, task, S.DONE)
    assert copy_of(own_house, task).standing().quiet == ""


def test_down_lets_agents_end_in_the_time_it_is_given(own_house: Sandbox) -> None:
    task = submit(own_house, items=("Begin: `touch begun`", "Work: `sleep 2`"))
    wait_for((own_house.project / "begun").exists, "the agent to work")

    own_house.run("down", "--drain", "30")

    assert copy_of(own_house, task).standing().state is S.DONE


def test_down_gives_back_what_does_not_end_in_time(own_house: Sandbox, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    task = submit(own_house, items=(gate.item,))
    await_state(own_house, task, S.RUNNING)

    own_house.run("down", "--drain", "0")

    assert copy_of(own_house, task).standing().reason == "its worker stopped"
    assert copy_of(own_house, task).standing().state is S.QUEUED
    gate.open()
    own_house.run("up")
    await_state(own_house, task, S.DONE)
    assert [entry.facts["attempt"] for entry in journal(own_house, task) if entry.event == "claim"] == [1, 2]


def test_a_check_that_begins_while_the_worker_stops_has_no_more_time_than_the_agent_had(own_house: Sandbox) -> None:
    task = submit(own_house, "--verify", "sleep 60", items=("Begin: `touch begun`", "Work: `sleep 1`"))
    wait_for((own_house.project / "begun").exists, "the agent to work")

    ended = own_house.run("down", "--drain", "5")

    assert "worker: stopped" in ended.stdout
    assert copy_of(own_house, task).standing().reason == "its worker stopped"
    assert copy_of(own_house, task).standing().state is S.QUEUED


def test_a_setup_is_given_back_by_a_worker_that_stops_and_costs_no_try(own_house: Sandbox) -> None:
    own_house.make_repository()
    begun, setup = own_house.folder / "begun", own_house.project / ".dispatch" / "setup"
    setup.parent.mkdir()
    setup.write_text(f"#!/bin/sh\ntouch '{begun}'\nwhile :; do echo busy; sleep 0.05; done\n")
    setup.chmod(0o755)
    task = submit(own_house, "--worktree", items=("Work: `true`",))
    wait_for(begun.exists, "the setup to begin")

    ended = own_house.run("down", "--drain", "0")

    assert "worker: stopped" in ended.stdout
    setup.unlink()
    own_house.run("up")
    await_state(own_house, task, S.DONE)
    assert copy_of(own_house, task).standing().tries == 0
