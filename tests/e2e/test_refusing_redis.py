"""A Redis that answers, and refuses: it becomes another's copy for a while, or its memory is full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support.sandbox import Background, Sandbox
from tests.support.server import Server, start_server
from tests.support.tasks import Gate, await_state, configure, journal, submit

S = State


@pytest.fixture
def server(sandbox: Sandbox) -> Iterator[Server]:
    configure(sandbox)
    made = start_server(sandbox.folder / "redis")
    sandbox.env["DISPATCH_REDIS_URL"] = made.url
    yield made
    made.stop()


@pytest.fixture
def worker(sandbox: Sandbox, server: Server) -> Iterator[Background]:
    made = sandbox.start("worker")
    yield made
    made.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


REFUSING = {  # the commands, and what the worker says meanwhile
    "another's copy": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "Connection to broker lost"),
    "full": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "no heartbeat: "),
}


@pytest.mark.parametrize("how", REFUSING)
def test_a_worker_takes_tickets_again_and_its_agent_goes_on(
    sandbox: Sandbox, server: Server, worker: Background, gate: Gate, how: str
) -> None:
    refuse, accept, told = REFUSING[how]
    task = submit(sandbox, "--title", "Runs", items=(gate.item,))
    await_state(sandbox, task, S.RUNNING)

    assert server.command(refuse) == "+OK"
    worker.wait_for_line(told)
    assert server.command(accept) == "+OK"

    other = submit(sandbox, "--title", "Comes later", items=("Work: `true`",))
    await_state(sandbox, other, S.DONE)
    gate.open()
    await_state(sandbox, task, S.DONE)
    assert [entry.event for entry in journal(sandbox, task)].count("claim") == 1
    assert worker.running
