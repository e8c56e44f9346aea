"""What a dispatched task goes through when nothing fails, with the real CLIs."""

from dispatch_queue.states import State
from tests.agents.commands import END, FINISH, TICK, through
from tests.agents.conftest import Cli
from tests.agents.script import Model, Run
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, await_state, marks_of, result_of, states_of, submit
from tests.support.waiting import wait_for

S = State
WITHIN_SECONDS = 60.0
THREE = ("Write a", "Write b", "Report")


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
