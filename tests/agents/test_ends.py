"""Ends that a real CLI did not choose: cancelled, or its worker killed."""

import pytest

from dispatch_queue.states import State
from tests.agents.commands import END, FINISH, TICK, through
from tests.agents.conftest import CLAUDE, CODEX, CODEX_IN_CODE, Cli
from tests.agents.script import Model, Run
from tests.support.processes import processes_of
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, agents_of, await_state, marks_of, result_of, states_of, submit
from tests.support.waiting import wait_for

S = State
WITHIN_SECONDS = 60.0


@pytest.mark.parametrize("cli", [CLAUDE, CODEX, CODEX_IN_CODE], ids=["claude", "codex", "codex-in-code"])
def test_a_task_cancelled_in_the_middle_of_a_long_command_leaves_no_process(
    box: Sandbox, model: Model, cli: Cli, gate: Gate
) -> None:
    long = Run(f"touch begun; sh -c 'trap \"\" TERM HUP INT; {through(gate).command}' & {through(gate).command}")
    model.plays("wait", [long, TICK, FINISH, END])
    task = submit(box, "--name", "wait", items=("Wait",), model=cli.model)
    wait_for((box.project / "begun").exists, "the command to run", WITHIN_SECONDS)
    assert len(agents_of(box, task)) >= 3

    box.run("cancel", task)

    wait_for(lambda: not agents_of(box, task), "the agent's processes to be gone", WITHIN_SECONDS)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.CANCELLED]
    assert marks_of(box, task) == "_"


def test_what_a_killed_worker_left_is_taken_up_by_another(
    box: Sandbox, model: Model, cli: Cli, gate: Gate, redis_url: str
) -> None:
    box.env["DISPATCH_REDIS_URL"] = redis_url
    model.plays(
        "build",
        [Run("echo half > work"), TICK, Run(f"touch '{box.folder}/begun'"), through(gate), END],
        [Run("echo whole >> work"), TICK, FINISH, END],
    )
    one = box.start("worker")
    task = submit(box, "--worktree", "--name", "build", items=("Begin", "End"), model=cli.model)
    wait_for((box.folder / "begun").exists, "the first item to be done", WITHIN_SECONDS)
    left = agents_of(box, task)

    one.kill()
    two = box.start("worker")

    await_state(box, task, S.DONE, limit=WITHIN_SECONDS)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
    assert [process for process in left if process.is_running()] == []
    assert box.git("show", "dispatch/build:work") == "half\nwhole"
    assert model.sessions(task) == [result_of(box, task, 2)["session"]]
    two.stop()
    assert processes_of(box.folder) == []
