"""A stranger that has by now the process id of something of ours that died is never ended, nor taken for it."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from dispatch_queue.daemon import Daemon
from dispatch_queue.states import State
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, await_state, configure, submit
from tests.support.waiting import wait_for


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with dispatch. It must live to the end of the test."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        lives = process.poll() is None
        process.kill()
    assert lives


def kill_and_give_ids_to(stranger: subprocess.Popen[bytes], box: Sandbox) -> None:
    """kill -9 of the worker and of the server, if they run; the stranger has their ids from then on."""
    for name in ("worker", "server"):
        daemon = Daemon(box.home / "run", name)
        if daemon.alive():
            os.kill(daemon.pid() or 0, signal.SIGKILL)
            wait_for(lambda daemon=daemon: not daemon.alive(), f"the {name} to be gone")
        daemon.pid_file.write_text(f"{stranger.pid}\n")


def test_no_command_takes_a_stranger_for_the_dead_server_or_worker(
    sandbox: Sandbox, stranger: subprocess.Popen[bytes], gate: Gate
) -> None:
    configure(sandbox)
    task = submit(sandbox, items=(gate.item,))
    await_state(sandbox, task, State.RUNNING)
    kill_and_give_ids_to(stranger, sandbox)

    assert "dispatch's own server does not run" in sandbox.run("doctor").stdout
    assert sandbox.run("ls").stdout
    assert sandbox.run("down").stdout == "worker: was not running\nserver: was not running\n"
    kill_and_give_ids_to(stranger, sandbox)
    assert sandbox.run("up").stdout == "server: started\nworker: started\n"

    gate.open()
    await_state(sandbox, task, State.DONE)
    assert "own server answers" in sandbox.run("doctor").stdout
    assert sandbox.run("down").stdout == "worker: stopped\nserver: stopped\n"


def test_a_stranger_with_the_id_of_a_worker_that_lives_is_not_ended_in_its_place(
    sandbox: Sandbox, stranger: subprocess.Popen[bytes]
) -> None:
    configure(sandbox)
    sandbox.run("up")
    worker = Daemon(sandbox.home / "run", "worker")
    pid = worker.pid()
    worker.pid_file.write_text(f"{stranger.pid}\n")

    said = sandbox.run("down", check=False)

    assert said.code != 0
    assert f"runs as process {stranger.pid}" in said.stderr
    assert worker.alive()
    worker.pid_file.write_text(f"{pid}\n")
