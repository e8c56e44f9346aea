"""A running worker follows the configuration: what is added is served, what is gone is not, and `-Q` is kept to."""

import pytest

from dispatch_queue import embedded
from dispatch_queue.store import Store
from tests.support.sandbox import Sandbox
from tests.support.tasks import configure, do
from tests.support.waiting import wait_for

ADDED = "dispatch.local.ticks_one"  # the queue of a stand-in


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A git repository, and a worker that was started before there was a configuration."""
    sandbox.make_repository()
    sandbox.run("up")
    return sandbox


def served(box: Sandbox) -> list[list[str]]:
    """The queues that each of the live workers says it consumes."""
    store = Store(embedded.server_url(box.home))
    try:
        return [facts["queues"].split() for facts in store.workers().values()]
    finally:
        store.close()


def test_a_backend_that_is_added_is_served_without_a_restart(box: Sandbox) -> None:
    configure(box)

    do(box, "--worktree", items=("Work",), model="says_its_input")


def test_a_backend_that_is_gone_is_no_longer_served(box: Sandbox) -> None:
    configure(box)
    wait_for(lambda: ADDED in served(box)[0], "the stand-ins to be served")

    (box.home / "config.yaml").unlink()

    wait_for(lambda: ADDED not in served(box)[0], "them to be given up")
    assert "dispatch.local.shell" in served(box)[0]


def test_a_worker_of_chosen_queues_keeps_to_these(box: Sandbox) -> None:
    box.start("worker", "-Q", "dispatch.local.shell")
    wait_for(lambda: ["dispatch.local.shell"] in served(box), "the second worker")

    configure(box)

    wait_for(lambda: any(ADDED in queues for queues in served(box)), "the first one to follow")
    assert ["dispatch.local.shell"] in served(box)
