"""What a dispatched task goes through when nothing fails, with the real CLIs."""

import shutil
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.agents.commands import BLOCK, END, FINISH, TICK, ask, through
from tests.agents.conftest import CLAUDE, CODEX, CODEX_IN_CODE, Cli
from tests.agents.script import Conversation, Model, Ran, Run
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Gate,
    agents_of,
    await_state,
    copy_of,
    marks_of,
    prompt_of,
    result_of,
    states_of,
    submit,
)
from tests.support.waiting import wait_for

S = State
WITHIN_SECONDS = 60.0
THREE = ("Write a", "Write b", "Report")


@pytest.mark.slice
def test_a_plan_is_ticked_live_and_the_work_is_on_its_branch(box: Sandbox, model: Model, cli: Cli, gate: Gate) -> None:
    report = Run('echo "a and b are there" > "$DISPATCH_TASK_DIR/output.md"')
    model.plays("write", [Run("echo a > a"), TICK, through(gate), Run("echo b > b"), TICK, report, TICK, FINISH, END])

    task = submit(box, "--worktree", "--name", "write", items=THREE, model=cli.model)

    wait_for(lambda: marks_of(box, task) == "x__", "the first tick at home", WITHIN_SECONDS)
    gate.open()
    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.DONE]
    assert marks_of(box, task) == "xxx"
    assert (box.task(task) / "output.md").read_text() == "a and b are there\n"
    assert box.git("ls-tree", "--name-only", "dispatch/write").split() == ["README.md", "a", "b"]
    assert box.git("status", "--porcelain") == ""
    assert model.sessions(task) == [result_of(box, task)["session"]]


def note_the_answer(sent: Conversation) -> Run:
    return Run(f"echo 'It is to be {sent.output.strip()}.' > colour")


@pytest.mark.parametrize("cli", [CLAUDE, CODEX, CODEX_IN_CODE], ids=["claude", "codex", "codex-in-code"])
def test_a_question_is_answered_while_the_agent_lives(box: Sandbox, model: Model, cli: Cli) -> None:
    model.plays("paint", [ask("Which colour?"), note_the_answer, TICK, FINISH, END])

    task = submit(box, "--name", "paint", items=("Paint it",), model=cli.model)
    await_state(box, task, S.ASKING, limit=WITHIN_SECONDS)
    (question,) = box.run("questions", "--json").json
    box.run("answer", task, "blue")

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert question["text"].strip() == "Which colour?"
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.ASKING, S.RUNNING, S.DONE]
    assert (box.project / "colour").read_text() == "It is to be blue.\n"


@pytest.mark.slice
def test_a_question_nobody_answered_parks_the_task_and_its_answer_resumes_the_same_session(
    box: Sandbox, model: Model, cli: Cli
) -> None:
    hand_over = Run('echo "I know all but the colour." > "$DISPATCH_TASK_DIR/context.md"')
    model.plays(
        "paint",
        [Run("echo primer > layers"), TICK, ask("Which colour?"), hand_over, BLOCK, END],
        [Run("echo blue >> layers"), TICK, FINISH, END],
    )

    words = ("--name", "paint", "--question-timeout", "1")
    task = submit(box, *words, items=("Prime it", "Paint it"), model=cli.model)
    await_state(box, task, S.PARKED, limit=WITHIN_SECONDS)
    assert marks_of(box, task) == "x?"
    assert agents_of(box, task) == []
    box.run("answer", task, "blue")

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert (box.project / "layers").read_text() == "primer\nblue\n"
    assert [result_of(box, task, attempt)["session"] for attempt in (1, 2)] == model.sessions(task) * 2
    heard = model.of(task)[-1]
    assert heard.prompts == [prompt_of(box, task, attempt) for attempt in (1, 2)]
    assert "Which colour?" in [one.command for one in heard.messages if isinstance(one, Ran)][2]


def test_a_session_that_is_gone_when_its_answer_comes_is_replaced_by_a_fresh_one(
    box: Sandbox, model: Model, cli: Cli
) -> None:
    model.plays("paint", [ask("Which colour?"), BLOCK, END], [Run("echo blue > layers"), TICK, FINISH, END])
    task = submit(box, "--name", "paint", "--question-timeout", "1", items=("Paint it",), model=cli.model)
    await_state(box, task, S.PARKED, limit=WITHIN_SECONDS)

    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        for sessions in ("projects", "sessions"):
            shutil.rmtree(Path(box.env[name]) / sessions, ignore_errors=True)
    box.run("answer", task, "blue")

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    gone = result_of(box, task, 2)
    assert gone["failure"]["kind"] == "session"
    assert gone["session"] != result_of(box, task, 3)["session"]
    assert model.of(task)[-1].prompts == [prompt_of(box, task, 3)]
    assert copy_of(box, task).standing().tries == 0


def test_four_at_once_each_get_their_own_work_done(box: Sandbox, model: Model, cli: Cli, gate: Gate) -> None:
    names = ("north", "east", "south", "west")
    for name in names:
        model.plays(name, [Run(f"echo {name} > {name}"), TICK, through(gate), FINISH, END])

    for name in names:
        submit(box, "--worktree", "--name", name, items=("Go",), model=cli.model)
    for name in names:
        wait_for(lambda name=name: marks_of(box, name) == "x", f"{name} to be at work", WITHIN_SECONDS)  # type: ignore[misc]
    gate.open()

    for name in names:
        await_state(box, name, S.DONE, limit=WITHIN_SECONDS)
        assert box.git("show", f"dispatch/{name}:{name}") == name
        assert len(model.sessions(name)) == 1
    assert len({model.sessions(name)[0] for name in names}) == len(names)
