"""A running worker follows the configuration: what is added is served, what is gone is not, and `-Q` is kept to."""

import os
import signal

import pytest

from dispatch_queue import embedded
from dispatch_queue.states import State
from dispatch_queue.store import Store
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, await_state, configure, do, submit
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


def test_changed_settings_of_the_worker_reach_it_while_it_runs(box: Sandbox) -> None:
    configure(box, worker={"min_free_mib": 999_999_999})
    wait_for(lambda: ADDED in served(box)[0], "the configuration to be followed")
    task = submit(box, items=("Work: `true`",))
    wait_for(lambda: "no space: " in box.run("ls").stdout, "the task to wait for room")

    configure(box, worker={"min_free_mib": 0})

    await_state(box, task, State.DONE)


def test_a_worker_of_chosen_queues_keeps_to_these(box: Sandbox) -> None:
    box.start("worker", "-Q", "dispatch.local.shell")
    wait_for(lambda: ["dispatch.local.shell"] in served(box), "the second worker")

    configure(box)

    wait_for(lambda: any(ADDED in queues for queues in served(box)), "the first one to follow")
    assert ["dispatch.local.shell"] in served(box)


def test_a_queued_task_whose_backend_no_worker_serves_says_so_with_the_way_out(box: Sandbox) -> None:
    programs = box.folder / "programs"
    programs.mkdir()
    (programs / "mine-cli").write_text("#!/bin/sh\n")
    (programs / "mine-cli").chmod(0o755)
    configure(box, {"mine": "mine-cli"})
    wait_for(lambda: ADDED in served(box)[0], "the configuration to be followed")
    path = f"{programs}{os.pathsep}{box.env['PATH']}"
    why = "no live worker serves backend mine"

    sent = box.run("submit", "-m", "mine", "--worktree", "--name", "t", "-i", "Work", env={"PATH": path})

    assert f"note: it stays queued: {why}\n\nhint: dispatch doctor" in sent.stderr
    wait_for(lambda: why in box.run("ls").stdout, "`ls` to say it")
    assert box.run("ls").stdout.splitlines()[-2:] == [f"{' ' * 17}{why}", f"{' ' * 17}dispatch doctor"]
    assert [one["reason"] for one in box.run("ls", "--json").json] == [why]
    assert f"t  queued  0/1: {why}" in box.run("show", "t").stdout
    (programs / "mine-cli").rename(box.home / "mine-cli")
    configure(box, {"mine": str(box.home / "mine-cli")})
    await_state(box, "t", State.FAILED)  # it does nothing
    assert why not in box.run("ls").stdout


def test_a_task_for_a_worker_that_is_stopping_says_so_at_its_submit_and_in_ls(box: Sandbox, gate: Gate) -> None:
    configure(box, worker={"drain": 60})
    box.run("down")
    box.run("up")
    running = submit(box, items=(gate.item,))
    await_state(box, running, State.RUNNING)
    pid = embedded.status(box.home).worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    store = Store(embedded.server_url(box.home))
    wait_for(lambda: any("stopping" in facts for facts in store.workers().values()), "the worker to be stopping")
    store.close()

    sent = box.run("submit", "-m", "shell", "-i", "Work: `true`", "--name", "t")

    why = "is stopping, and takes nothing new"
    assert why in sent.stderr
    assert "hint: dispatch up # when it has ended" in sent.stderr
    wait_for(lambda: why in box.run("ls").stdout, "`ls` to say it")
    gate.open()
    await_state(box, running, State.DONE)
    wait_for(lambda: not embedded.worker_lives(box.home), "the worker to end")
    told = box.run("ls").stdout
    assert "no live worker on" in told
    assert "dispatch up" in told
    box.run("up")
    await_state(box, "t", State.DONE)


def test_a_task_submitted_while_down_is_under_way_says_so(box: Sandbox, gate: Gate) -> None:
    running = submit(box, items=(gate.item,))
    await_state(box, running, State.RUNNING)
    down = box.start("down", "--drain", "60")
    wait_for(lambda: embedded.going_down(box.home), "the end to begin")

    sent = box.run("submit", "-m", "shell", "-i", "Work: `true`", "--name", "t")

    assert "note: it stays queued: `dispatch down` is under way\n\nhint: dispatch up" in sent.stderr
    up = box.run("up", check=False)
    assert (up.code, up.stdout) == (1, "")
    assert "error: `dispatch down` is under way" in up.stderr
    gate.open()
    assert down.wait().code == 0
    assert "no live worker on" in box.run("show", "t").stdout
    box.run("up")
    await_state(box, "t", State.DONE)
