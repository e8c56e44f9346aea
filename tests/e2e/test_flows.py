"""The three ways a task goes: straight through, with a question that is answered, with one that is answered late."""

import pytest

from dispatch_queue.states import State
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Project,
    agents_of,
    await_state,
    configure,
    copy_of,
    journal,
    marks_of,
    prompt_of,
    result_of,
    state_of,
    states_of,
    submit,
    transcript,
)
from tests.support.waiting import wait_for

S = State

ISOLATIONS = pytest.mark.parametrize("isolation", ["--shared", "--worktree"])
SAY_WHO = 'Say who works: `echo "$PPID $DISPATCH_ATTEMPT" >> "$DISPATCH_TASK_DIR/output.md"`'  # the agent's own pid
QUESTION = "Which database should it be?"
ANSWER = "postgres; not $(mysql) `nor` 'sqlite'"


@pytest.fixture
def project(box: Project) -> Project:
    box.make_repository()
    return box


@ISOLATIONS
def test_a_task_is_done_when_its_plan_is_and_all_of_it_is_kept(project: Project, isolation: str) -> None:
    task = submit(
        project, isolation, "--title", "Build it", items=("One: `echo out; echo err >&2`", "Two: `true`", SAY_WHO)
    )

    ended = project.run("wait", task)

    assert task == "build-it"
    assert ended.code == 0
    assert marks_of(project, task) == "xxx"
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.DONE]
    assert [e.facts["item"] for e in journal(project, task) if e.event == "tick"] == [1, 2, 3]
    assert copy_of(project, task).ipc().done
    assert (project.task(task) / "output.md").read_text().split()[1] == "1"
    assert "plan.md" in prompt_of(project, task)
    assert {"out", "err"} <= set(transcript(project, task).splitlines())
    assert result_of(project, task)["end"] == "finish"
    assert result_of(project, task)["exit_status"] == 0
    assert agents_of(project, task) == []


@ISOLATIONS
def test_an_answered_question_lets_the_same_process_go_on(project: Project, isolation: str) -> None:
    task = submit(project, isolation, "--title", "Ask", items=(SAY_WHO, f"ask: {QUESTION}", SAY_WHO))

    asked = project.run("watch", task, check=False)
    answered = project.run("answer", task, ANSWER)
    ended = project.run("wait", task)

    assert asked.code == 3
    assert QUESTION in asked.stdout
    assert f"dispatch answer {task} 1" in asked.stdout
    assert answered.stdout == "Answered question 1 of `ask`.\n"
    assert ended.code == 0
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.RUNNING, S.DONE]
    before, after = (project.task(task) / "output.md").read_text().splitlines()
    assert before == after
    assert copy_of(project, task).ipc().acknowledged == {1}
    assert copy_of(project, task).plan().items[1].note == f"answer: {ANSWER}"


@ISOLATIONS
def test_an_answer_written_by_hand_is_as_good(project: Project, isolation: str) -> None:
    task = submit(project, isolation, items=(f"ask: {QUESTION}",))
    await_state(project, task, S.ASKING)

    (project.task(task) / "ipc/001.answer").write_text("by hand\n")

    await_state(project, task, S.DONE)
    assert copy_of(project, task).plan().items[0].note == "answer: by hand"
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.RUNNING, S.DONE]


@ISOLATIONS
def test_an_agent_that_asks_by_the_files_alone_is_answered(project: Project, isolation: str) -> None:
    task = submit(project, isolation, "Paint it", model="asks_by_hand")
    assert project.run("wait", task, check=False).code == 3

    project.run("answer", task, "red")

    await_state(project, task, S.DONE)
    assert (project.task(task) / "output.md").read_text() == "red\n"


def parked(project: Sandbox, isolation: str) -> str:
    """A task that asked in its second item, and was not answered in time."""
    items = (SAY_WHO, f"ask: {QUESTION}", SAY_WHO)
    task = submit(project, isolation, "--title", "Late", "--question-timeout", "1", items=items)
    await_state(project, task, S.PARKED)
    return task


@ISOLATIONS
def test_a_question_that_nobody_answers_parks_the_task_and_leaves_no_process(project: Project, isolation: str) -> None:
    task = parked(project, isolation)

    assert agents_of(project, task) == []
    assert marks_of(project, task) == "x?_"
    assert copy_of(project, task).plan().items[1].note == QUESTION
    assert QUESTION in (project.task(task) / "context.md").read_text()
    assert result_of(project, task)["end"] == "park"
    watched = project.run("watch", task, check=False)
    assert watched.code == 3
    assert QUESTION in watched.stdout
    assert project.run("ls", "--json").json[0]["questions"] == [{"number": 1, "text": QUESTION}]


@ISOLATIONS
@pytest.mark.parametrize("how", ["by command", "by hand"])
def test_a_parked_task_goes_on_when_its_answer_comes(project: Project, isolation: str, how: str) -> None:
    task = parked(project, isolation)

    if how == "by command":
        project.run("answer", task, "1", ANSWER)
    else:
        (project.task(task) / "ipc/001.answer").write_text(ANSWER)

    await_state(project, task, S.DONE)
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.PARKED, S.QUEUED, S.RUNNING, S.DONE]
    second = prompt_of(project, task, 2)
    assert QUESTION in second
    assert ANSWER in second
    assert "context.md" in second
    assert marks_of(project, task) == "xxx"
    assert [line.split()[1] for line in (project.task(task) / "output.md").read_text().splitlines()] == ["1", "2"]
    assert copy_of(project, task).plan().items[1].note.endswith(f"answer: {ANSWER}")


def test_a_parked_task_holds_no_slot(sandbox: Sandbox) -> None:
    configure(sandbox, worker={"slots": 1})
    waiting = parked(sandbox, "--shared")

    other = submit(sandbox, items=("Work: `true`",))

    assert sandbox.run("wait", other).code == 0
    assert state_of(sandbox, waiting) is S.PARKED


def test_an_answer_to_the_first_of_two_open_questions_leaves_the_other_open(project: Project) -> None:
    both = "`dispatch-ask first? & dispatch-ask second? & wait`"
    task = submit(project, "--title", "Two", items=(f"Ask twice: {both}",))
    wait_for(lambda: len(copy_of(project, task).standing().questions) == 2, "both questions at home")

    one = next(n for n, text in copy_of(project, task).ipc().questions.items() if text == "first?")
    unclear = project.run("answer", task, "which one?", check=False)
    project.run("answer", task, str(one), "1st")
    still = project.run("watch", task, check=False)
    project.run("answer", task, "2nd")

    assert unclear.code == 2
    assert "several open questions: 1, 2" in unclear.stderr
    assert still.code == 3
    assert "second?" in still.stdout
    assert "first?" not in still.stdout
    await_state(project, task, S.DONE)
    assert {"1st", "2nd"} <= set(transcript(project, task).splitlines())
    assert states_of(project, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.RUNNING, S.DONE]
