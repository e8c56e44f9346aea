"""What logs, show, ls and doctor make of what the real CLIs print."""

import pytest

from dispatch_queue.states import State
from tests.agents.commands import BLOCK, END, FINISH, TICK, ask, through
from tests.agents.conftest import CLAUDE, CODEX, Cli
from tests.agents.script import Model, Run
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, await_state, result_of, submit
from tests.support.waiting import wait_for

WITHIN_SECONDS = 60.0
SHOWN = {"claude": "Bash: ", "codex": "$ "}
OUTPUT = {"claude": 25, "codex": 40}  # tokens of an answer of the model's


def test_a_run_is_shown_in_words_while_it_goes_on_and_afterwards(
    box: Sandbox, model: Model, cli: Cli, gate: Gate
) -> None:
    wait = through(gate)
    model.plays("write", [Run("seq 9"), Run("exit 3"), wait, TICK, FINISH, END])

    task = submit(box, "--name", "write", items=("Count",), model=cli.model)
    does = f"{SHOWN[cli.name]}{wait.command[:40]}"
    wait_for(lambda: does in box.run("ls").stdout, "the activity in `ls`", WITHIN_SECONDS)
    assert does in box.run("show", task).stdout
    gate.open()
    await_state(box, task, State.DONE, limit=WITHIN_SECONDS)

    logs = box.run("logs", task).stdout
    lines = logs.splitlines()
    assert not any(line.startswith(("event ", "{")) for line in lines), logs
    at = lines.index(f"tool    {SHOWN[cli.name]}seq 9")
    assert lines[at + 1 : at + 4] == ["result  1", "        2", "        3"]
    assert any(line.startswith(("result  failed:", "result  exit status 3")) for line in lines), logs
    assert lines[-1].startswith("end     done: ")
    shown = box.run("show", task).stdout
    assert f"session {result_of(box, task)['session']}, " in shown
    assert " tokens in" in shown


def test_each_attempt_of_a_session_is_shown_with_what_it_has_used_itself(box: Sandbox, model: Model, cli: Cli) -> None:
    model.plays("paint", [ask("Which colour?"), BLOCK, END], [*4 * [Run("true")], TICK, FINISH, END])
    task = submit(box, "--name", "paint", "--question-timeout", "1", items=("Paint it",), model=cli.model)
    await_state(box, task, State.PARKED, limit=WITHIN_SECONDS)
    first = len(model.of(task))

    box.run("answer", task, "blue")
    await_state(box, task, State.DONE, limit=WITHIN_SECONDS)

    both = len(model.of(task))
    told = [attempt["usage"] for attempt in box.run("show", task, "--json").json["attempts"]]
    assert len(model.sessions(task)) == 1
    assert [usage["output_tokens"] for usage in told] == [OUTPUT[cli.name] * many for many in (first, both - first)]


@pytest.mark.parametrize("logged_in", [True, False])
def test_doctor_tells_the_version_of_a_cli_and_whether_it_is_logged_in(box: Sandbox, logged_in: bool) -> None:
    keys = {} if logged_in else {"ANTHROPIC_API_KEY": "", "CODEX_API_KEY": ""}

    found = {one["what"]: one for one in box.run("doctor", "--json", check=False, env=keys).json}

    for cli in (CLAUDE, CODEX):
        assert found[cli.name]["logged_in"] is logged_in
        assert found[cli.name]["version"][0].isdigit()
        assert f"{cli.name} command" not in found
