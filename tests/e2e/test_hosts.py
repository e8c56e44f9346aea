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
    """A project whose Redis is a configured one."""
    sandbox.env["DISPATCH_REDIS_URL"] = redis_url
    sandbox.make_repository()
    return sandbox


def strange_worker(shared: Sandbox, **env: str) -> None:
    """A worker that has a DISPATCH_HOME, and so projects, of its own."""
    home = shared.folder / "other"
    home.mkdir()
    shared.start("worker", env={"DISPATCH_HOME": str(home), **env})
    with contextlib.closing(Store(shared.env["DISPATCH_REDIS_URL"])) as store:
        wait_for(store.workers, "the strange worker")


def test_a_worktree_task_is_left_to_the_machine_that_has_its_project(shared: Sandbox) -> None:
    strange_worker(shared, DISPATCH_HOST="other")
    tasks = [submit(shared, "--worktree", "--name", f"t{number}", items=("Work: `true`",)) for number in range(4)]
    why = f"no live worker on {host_name()} serves backend shell"
    wait_for(lambda: shared.run("ls").stdout.count(why) == 4, "`ls` to say why they stay queued")
    assert {state_of(shared, task) for task in tasks} == {State.QUEUED}

    shared.start("worker")

    for task in tasks:
        await_state(shared, task, State.DONE)
        assert [entry.event for entry in journal(shared, task) if entry.state] == ["submit", "claim", "finish"]


def test_a_task_is_left_to_a_worker_with_the_home_of_its_submit(shared: Sandbox) -> None:
    strange_worker(shared)
    task = submit(shared, items=("Work: `true`",))
    why = "for a worker with the DISPATCH_HOME of its submit"
    wait_for(lambda: why in shared.run("ls").stdout, "`ls` to say why it stays queued")
    assert state_of(shared, task) is State.QUEUED

    shared.start("worker")

    await_state(shared, task, State.DONE, limit=110)  # its tickets come every few seconds, to the one or the other
    assert [entry.event for entry in journal(shared, task) if entry.state] == ["submit", "delay", "claim", "finish"]
