"""Flower, started plainly, beside a real worker: what it shows of tasks, and what its buttons do."""

import contextlib
import json
import os
import signal
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispatch_queue.states import State
from tests.support import sandbox as sandboxes
from tests.support.sandbox import BIN, Background, Sandbox
from tests.support.tasks import Gate, Project, await_state, configure, submit
from tests.support.waiting import wait_for

S = State

UP_WITHIN_SECONDS = 60.0
SHOWN_WITHIN_SECONDS = 60.0
STARTS = {"dispatch flower": ["dispatch", "flower"], "celery flower": ["celery", "-A", "worker", "flower"]}
API = {"FLOWER_UNAUTHENTICATED_API": "true"}


def project_id(box: Sandbox) -> str:
    (line,) = [line for line in (box.project / ".dispatch/project.yaml").read_text().splitlines() if "id:" in line]
    return line.split()[1]


@dataclass(frozen=True)
class Flower:
    """A running Flower."""

    process: Background
    port: int

    def ask(self, path: str, *, post: bool = False) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=SHOWN_WITHIN_SECONDS) as answer:  # noqa: S310
            text: str = answer.read().decode()
            return text

    def row(self, box: Sandbox, task: str) -> dict[str, Any]:
        """The one line about a task, by the ids in its arguments."""
        found: dict[str, dict[str, Any]] = json.loads(self.ask("/api/tasks"))
        (row,) = [row for row in found.values() if row["args"] == f"({task}, shell, {project_id(box)})"]
        return row

    def await_row(self, box: Sandbox, task: str, state: str, result: str | None = None) -> dict[str, Any]:
        """Wait until the task's line has this state, and this result if one is given."""

        def shown() -> dict[str, Any]:
            row = self.row(box, task)
            assert row["state"] == state, f"{row['state']}, {row['result']!r}"
            assert result in (None, row["result"]), f"{row['state']}, {row['result']!r}"
            return row

        return wait_for(shown, f"Flower to show `{task}` as {state}, {result!r}", SHOWN_WITHIN_SECONDS)

    def cancel(self, box: Sandbox, task: str) -> None:
        """What the buttons of a task's page do."""
        self.ask(f"/api/task/revoke/{self.row(box, task)['uuid']}?terminate=true", post=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def started(house: Sandbox, *words: str, cwd: Path, env: dict[str, str] = API) -> Iterator[Flower]:
    """A Flower that listens to events."""
    port = free_port()
    command = [str(BIN / words[0]), *words[1:], f"--port={port}"]
    process = Background(command, env={**house.env, **env}, cwd=cwd)
    flower = Flower(process, port)
    try:
        # Of a Flower that hears nothing the workers are unknown.
        wait_for(lambda: "heartbeat" in flower.ask("/workers?json=1"), "Flower to see a worker", UP_WITHIN_SECONDS)
        yield flower
    finally:
        process.stop()


@pytest.fixture(scope="module")
def house(own_folder: Path) -> Iterator[Sandbox]:
    """A server, and a worker with two slots."""
    with sandboxes.opened(Path(tempfile.mkdtemp(prefix="flowers", dir=own_folder))) as house:
        configure(house, worker={"slots": 2})
        house.run("up")
        yield house


@pytest.fixture(scope="module")
def flower(house: Sandbox) -> Iterator[Flower]:
    with started(house, *STARTS["dispatch flower"], cwd=Path("/")) as flower:
        yield flower


def fill(box: Project, gate: Gate) -> None:
    """Leave the worker no free slot until the gate opens."""
    for number in (1, 2):
        await_state(box, submit(box, "--title", f"Busy {number}", items=(gate.item,)), S.RUNNING)


def test_a_task_in_line_is_pending_and_named(box: Project, gate: Gate, flower: Flower) -> None:
    fill(box, gate)

    task = submit(box, "--title", "In line", items=("One: `true`",))

    row = flower.await_row(box, task, "PENDING", "0/1")
    assert row["name"] == "dispatch.run"

    def waiting() -> bool:
        # Flower asks workers for their queues at its start, or when told to; who is slow to answer is left out.
        flower.ask("/workers?refresh=1")
        lengths = json.loads(flower.ask("/api/queues/length"))["active_queues"]
        return any(queue["name"].startswith("dispatch.host.") and queue["messages"] == 1 for queue in lengths)

    wait_for(waiting, "Flower to count the ticket that waits", SHOWN_WITHIN_SECONDS)
    assert "dispatch.host." in flower.ask("/broker")
    gate.open()
    assert flower.await_row(box, task, "SUCCESS", "1/1")["worker"]


def test_a_running_task_is_in_progress_and_says_how_far(box: Project, gate: Gate, flower: Flower) -> None:
    task = submit(box, "--title", "Working", items=("One: `true`", gate.item, "Three: `true`"))

    row = flower.await_row(box, task, "PROGRESS", "1/3")
    gate.open()
    ended = flower.await_row(box, task, "SUCCESS", "3/3")

    assert row["received"]
    assert row["started"]
    assert ended["runtime"] > 0
    assert ended["exception"] is None


def test_a_question_is_shown_until_it_is_answered(box: Project, gate: Gate, flower: Flower) -> None:
    task = submit(box, "--title", "Asks", items=("ask: Which   <b>database</b>, ŷ?", gate.item))

    row = flower.await_row(box, task, "ASKING", "0/2, question 1: Which <b>database</b>, ŷ?")
    page = flower.ask(f"/task/{row['uuid']}")
    box.run("answer", task, "postgres")
    flower.await_row(box, task, "PROGRESS", "1/2")
    gate.open()
    flower.await_row(box, task, "SUCCESS", "2/2")

    assert "Which &lt;b&gt;database&lt;/b&gt;" in page
    assert 'id="task-terminate"' in page


def test_a_parked_task_says_so_and_keeps_its_line_when_it_goes_on(box: Project, flower: Flower) -> None:
    task = submit(box, "--title", "Parks", "--question-timeout", "1", items=("ask: Which one?",))

    parked = flower.await_row(box, task, "PARKED", "0/1, question 1: Which one?")
    box.run("answer", task, "this one")

    assert flower.await_row(box, task, "SUCCESS", "1/1")["uuid"] == parked["uuid"]


def test_a_failed_task_is_a_failure_with_its_reason_until_it_is_retried(box: Project, flower: Flower) -> None:
    task = submit(box, "--title", "Fails", items=("One: `true`", "Look: `test -e flag`"))

    failed = flower.await_row(box, task, "FAILURE")
    (box.project / "flag").touch()
    box.run("retry", task)
    done = flower.await_row(box, task, "SUCCESS", "2/2")

    assert "item: 2 'Look: `test -e flag`'" in failed["exception"]
    assert failed["result"].startswith("1/2, item: 2")
    assert done["exception"] is None


def test_a_reason_is_no_markup_where_flower_prints_it_as_it_is(box: Project, flower: Flower) -> None:
    task = submit(box, "--title", "Markup", items=("<script>alert(1)</script>: `false`",))

    assert "<" not in flower.await_row(box, task, "FAILURE")["exception"]


def test_a_cancelled_task_is_revoked(box: Project, gate: Gate, flower: Flower) -> None:
    fill(box, gate)
    waits = submit(box, "--title", "Waits", items=("One: `true`",))

    box.run("cancel", "busy-1", waits)

    flower.await_row(box, "busy-1", "REVOKED", "0/1, cancelled")
    flower.await_row(box, waits, "REVOKED", "0/1, cancelled")


def test_the_buttons_cancel_a_task_wherever_it_stands(box: Project, gate: Gate, flower: Flower) -> None:
    parks = submit(box, "--title", "Parks", "--question-timeout", "1", items=("ask: Which one?",))
    flower.await_row(box, parks, "PARKED")
    fill(box, gate)
    waits = submit(box, "--title", "Waits", items=("One: `true`",))
    flower.await_row(box, waits, "PENDING")

    for task in (parks, waits, "busy-1"):
        flower.cancel(box, task)

    for task in (parks, waits, "busy-1"):
        flower.await_row(box, task, "REVOKED")
        await_state(box, task, S.CANCELLED)
    flower.await_row(box, "busy-2", "PROGRESS")


def test_a_task_that_is_given_back_is_in_line_again(own_folder: Path) -> None:
    with sandboxes.opened(Path(tempfile.mkdtemp(prefix="stops", dir=own_folder))) as house:
        configure(house, worker={"drain": 0})
        gate = Gate(house.folder / "gate")
        task = submit(house, "--title", "Again", items=("One: `true`", gate.item))
        with started(house, *STARTS["dispatch flower"], cwd=house.project) as flower:
            running = flower.await_row(house, task, "PROGRESS", "1/2")
            worker = int((house.home / "run/worker.pid").read_text())
            os.kill(worker, signal.SIGTERM)
            flower.await_row(house, task, "QUEUED", "1/2, its worker stopped")
            wait_for(lambda: not psutil.pid_exists(worker), "the worker to end", UP_WITHIN_SECONDS)
            gate.open()
            house.run("up")
            assert flower.await_row(house, task, "SUCCESS", "2/2")["uuid"] == running["uuid"]


def test_a_flower_that_starts_later_sees_what_is_unfinished(
    house: Sandbox, box: Project, gate: Gate, tmp_path: Path
) -> None:
    asks = submit(box, "--title", "Asks", items=("ask: Which one?",))
    await_state(box, asks, S.ASKING)
    works = submit(box, "--title", "Works", items=("One: `true`", gate.item))
    await_state(box, works, S.RUNNING)
    waits = submit(box, "--title", "Waits", items=("One: `true`",))

    with started(house, *STARTS["celery flower"], cwd=tmp_path) as flower:
        flower.await_row(box, asks, "ASKING", "0/1, question 1: Which one?")
        flower.await_row(box, works, "PROGRESS", "1/2")
        flower.await_row(box, waits, "PENDING", "0/1")


@pytest.mark.parametrize("start", STARTS)
def test_flower_starts_in_any_folder_and_listens_on_this_machine_only(
    house: Sandbox, box: Project, start: str, tmp_path: Path
) -> None:
    folder = tmp_path / "some folder"
    folder.mkdir()

    with started(house, *STARTS[start], cwd=folder, env={}) as flower:
        process = psutil.Process(flower.process.pid)
        listening = [one.laddr for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
        pages = [flower.ask(page) for page in ("/", "/tasks", "/broker", "/metrics", "/healthcheck")]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            flower.ask("/api/tasks")  # a page of any site could call it, so it is closed until asked for

    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", flower.port)]
    assert 'data-column="args"' in pages[1]
    assert 'data-column="result"' in pages[1]


def test_what_is_asked_for_goes_before_our_defaults(house: Sandbox, tmp_path: Path) -> None:
    asked = ["--address=127.0.0.2", f"--port={free_port()}"]
    process = Background([str(BIN / "celery"), "-A", "worker", "flower", *asked], env=house.env, cwd=tmp_path)
    try:
        process.wait_for_line("Visit me at http://127.0.0.2:", UP_WITHIN_SECONDS)
    finally:
        process.stop()
