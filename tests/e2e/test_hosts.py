"""Several machines with one Redis: here they are workers with a host name and a DISPATCH_HOME of their own."""

import contextlib

import pytest

from dispatch_queue.home import host_name
from dispatch_queue.states import State
from dispatch_queue.store import Store
from tests.support.sandbox import Sandbox
from tests.support.tasks import await_state, journal, state_of, submit
from tests.support.waiting import wait_for


@pytest.fixture
def shared(sandbox: Sandbox, redis_url: str) -> Sandbox:
    """A project whose Redis has a worker already: that of another machine."""
    sandbox.env["DISPATCH_REDIS_URL"] = redis_url
    sandbox.make_repository()
    other = sandbox.folder / "other"
    other.mkdir()
    sandbox.start("worker", env={"DISPATCH_HOST": "other", "DISPATCH_HOME": str(other)})
    with contextlib.closing(Store(redis_url)) as store:
        wait_for(store.workers, "the worker of the other machine")
    return sandbox


def test_a_worktree_task_is_left_to_the_machine_that_has_its_project(shared: Sandbox) -> None:
    tasks = [submit(shared, "--worktree", "--name", f"t{number}", items=("Work: `true`",)) for number in range(4)]
    why = f"no live worker on {host_name()} serves backend shell"
    wait_for(lambda: shared.run("ls").stdout.count(why) == 4, "`ls` to say why they stay queued")
    assert {state_of(shared, task) for task in tasks} == {State.QUEUED}

    shared.start("worker")

    for task in tasks:
        await_state(shared, task, State.DONE)
        assert [entry.event for entry in journal(shared, task) if entry.state] == ["submit", "claim", "finish"]
