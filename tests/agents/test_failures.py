"""What becomes of a task when the provider refuses what a real CLI asks it."""

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dispatch_queue.clock import SYSTEM
from dispatch_queue.states import State
from tests.agents.commands import END, FINISH, TICK
from tests.agents.conftest import Cli, configure
from tests.agents.refusals import ERRORS, FAR_SECONDS, REFUSALS, limit
from tests.agents.script import Model, Run, Script
from tests.support.sandbox import Sandbox
from tests.support.tasks import agents_of, await_state, copy_of, result_of, state_of, states_of, submit
from tests.support.waiting import wait_for

S = State
WITHIN_SECONDS = 90.0
WORK = (TICK, FINISH, END)
NOWHERE = "http://127.0.0.1:9"


def reason_of(box: Sandbox, task: str) -> str:
    return copy_of(box, task).standing().reason


@pytest.mark.parametrize("kind", [pytest.param("auth", marks=pytest.mark.slice), "model"])
def test_what_waiting_cannot_mend_fails_at_once(box: Sandbox, model: Model, cli: Cli, kind: str) -> None:
    model.plays("work", [REFUSALS[cli.name][kind]])

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)

    await_state(box, task, S.FAILED, limit=WITHIN_SECONDS)
    failure = result_of(box, task)["failure"]
    assert failure["kind"] == kind
    assert reason_of(box, task).startswith(f"{kind}: {failure['text']}")
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.FAILED]
    assert f"dispatch retry {task} --model" in box.run("show", task).stdout


def test_an_option_that_the_cli_does_not_take_fails_at_once(box: Sandbox, cli: Cli) -> None:
    command = {"claude": "claude -p --frobnicate", "codex": "codex exec --frobnicate"}[cli.name]
    configure(box, backends={cli.name: {"command": command}})

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)

    await_state(box, task, S.FAILED, limit=WITHIN_SECONDS)
    reason = reason_of(box, task)
    assert reason.startswith("start: error: un")
    assert f"'--frobnicate'; correct `backends.{cli.name}.command`" in reason.replace(" found;", ";")
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.FAILED]


@pytest.mark.parametrize("kind", ["rate", "overloaded"])
def test_what_passes_is_tried_again_later(box: Sandbox, model: Model, cli: Cli, kind: str) -> None:
    refusal = REFUSALS[cli.name][kind]
    model.plays("work", [refusal], WORK)

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)

    await_state(box, task, S.WAITING, limit=WITHIN_SECONDS)
    failure = result_of(box, task)["failure"]
    assert (failure["kind"], failure["until"]) == (kind, None)
    assert reason_of(box, task).startswith(f"{cli.name}: {kind}, again at ")
    box.run("release", task, "--now")
    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)


def test_what_passes_while_the_cli_tries_again_is_no_failure(box: Sandbox, model: Model, cli: Cli) -> None:
    box.env["CLAUDE_CODE_MAX_RETRIES"] = "3"
    model.plays("work", [dataclasses.replace(ERRORS[cli.name], times=2), *WORK])

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.DONE]
    assert result_of(box, task)["failure"] is None
    assert len(model.of(task)) == 2 + len(WORK)


def test_claude_without_a_network_is_tried_again_later(box: Sandbox) -> None:
    box.env["ANTHROPIC_BASE_URL"] = NOWHERE

    task = submit(box, "--name", "work", "--item", "Work", model="opus")

    await_state(box, task, S.WAITING, limit=WITHIN_SECONDS)
    assert reason_of(box, task).startswith("claude: network, again at ")


def test_codex_without_a_network_waits_for_it_and_is_ended_by_the_timeout(box: Sandbox) -> None:
    (Path(box.env["CODEX_HOME"]) / "config.toml").write_text(f'openai_base_url = "{NOWHERE}/v1"\n')

    task = submit(box, "--name", "work", "--item", "Work", "--timeout", "8", model="gpt-5.3-codex")

    await_state(box, task, S.FAILED, limit=WITHIN_SECONDS)
    assert reason_of(box, task).startswith("timeout: ")
    assert agents_of(box, task) == []


def test_a_limit_with_a_time_is_waited_for_by_all_tasks_of_the_account(box: Sandbox, model: Model, cli: Cli) -> None:
    box.env.pop("ANTHROPIC_API_KEY")  # only accounts of persons have such limits
    box.env["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-of-no-account"  # noqa: S105
    until = SYSTEM.now().replace(microsecond=0) + timedelta(seconds=FAR_SECONDS)
    model.plays("work", [limit(cli.name, int(until.timestamp()))], WORK)
    model.plays("other", WORK)

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)
    await_state(box, task, S.WAITING, limit=WITHIN_SECONDS)
    other = submit(box, "--name", "other", "--item", "Work", model=cli.model)
    await_state(box, other, S.WAITING, limit=WITHIN_SECONDS)

    failure = result_of(box, task)["failure"]
    assert failure["kind"] == "limit"
    assert abs(datetime.fromisoformat(failure["until"]) - until) <= timedelta(minutes=1)
    assert reason_of(box, task).startswith(f"{cli.name} limit until ")
    assert model.of("other") == []
    box.run("release", task, "--now")
    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)


def test_another_cli_goes_on_where_the_first_was_refused(box: Sandbox, model: Model) -> None:
    configure(box, fallback={"opus": ["gpt-5.3-codex"]})
    half: Script = [Run("echo half > work"), TICK, REFUSALS["claude"]["auth"]]
    model.plays("work", half, [Run("echo whole >> work"), *WORK])

    task = submit(box, "--worktree", "--name", "work", items=("Begin", "End"), model="opus")

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert [result_of(box, task, attempt)["backend"] for attempt in (1, 2)] == ["claude", "codex"]
    assert box.git("show", "dispatch/work:work") == "half\nwhole"
    assert "1 of 2 items are checked" in model.of(task)[-1].prompts[-1]


@pytest.mark.parametrize(
    ("cap", "lifted"), [(("--max-turns", "2"), ("--max-turns", "0")), (("--max-cost", "0.001"), ("--max-cost", "0"))]
)
def test_claude_stops_at_a_cap_and_goes_on_in_its_session_without_it(
    box: Sandbox, model: Model, cap: tuple[str, str], lifted: tuple[str, str]
) -> None:
    model.plays("work", [Run("echo one"), Run("echo two"), Run("echo three"), END], WORK)

    task = submit(box, *cap, "--name", "work", "--item", "Work", model="opus")
    await_state(box, task, S.FAILED, limit=WITHIN_SECONDS)
    assert result_of(box, task)["failure"]["kind"] == "budget"
    assert reason_of(box, task).startswith("budget: ")
    assert len(model.of(task)) == 2

    box.run("retry", task, *lifted)
    await_state(box, task, S.QUEUED, S.RUNNING, S.DONE)
    wait_for(lambda: state_of(box, task) is S.DONE, "the retry to be done", WITHIN_SECONDS)
    assert len(model.sessions(task)) == 1
