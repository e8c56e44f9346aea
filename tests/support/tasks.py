"""Tasks of a sandbox as the tests see them: submitted by the real command, read from their files."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from dispatch_queue import taskdir
from dispatch_queue.plan import Mark
from dispatch_queue.record import Entry
from dispatch_queue.states import FINAL, State
from dispatch_queue.taskdir import TaskDir
from tests.support import standins
from tests.support.processes import end_processes_of
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_for

STATE_WITHIN_SECONDS = 60.0


class Project(Sandbox):
    """A project of its own, in `folder`, with the DISPATCH_HOME, server and worker of another sandbox."""

    def __init__(self, house: Sandbox, folder: Path) -> None:
        super().__init__(folder)
        self.home, self.env = house.home, house.env

    def close(self) -> None:
        """End what goes on: commands in the background, and tasks. Fails if a process of the project is left."""
        for background in self._background:
            background.stop()
        unfinished = [task for task in taskdir.known_ids(self.project) if not copy_of(self, task).standing().final]
        cancelled = self.run("cancel", *unfinished, check=False) if unfinished else None
        left = end_processes_of(self.folder)
        assert not left, "processes left by the project:\n" + "\n".join(left) + f"\n`dispatch cancel`: {cancelled}"


def configure(
    box: Sandbox, commands: Mapping[str, str] | None = None, *, worker: Mapping[str, object] | None = None
) -> None:
    """Write a config.yaml: every stand-in as a back end and a model of its name, and `commands` besides."""
    backends = {name: standins.command(name) for name in standins.STANDINS} | dict(commands or {})
    config = {
        "default": "shell",
        "backends": {name: {"command": command} for name, command in backends.items()},
        "models": {name: {"backend": name} for name in backends},
        "worker": dict(worker or {}),
    }
    box.home.mkdir(mode=0o700, exist_ok=True)
    (box.home / "config.yaml").write_text(json.dumps(config, indent=2))  # JSON is YAML


def submit(box: Sandbox, *words: str | Path, items: tuple[str, ...] = (), model: str = "shell") -> str:
    """`dispatch submit`; the task's id."""
    given = [word for item in items for word in ("--item", item)]
    printed = box.run("submit", "--model", model, "--json", *words, *given)
    task_id: str = printed.json["id"]
    return task_id


def do(box: Sandbox, *words: str | Path, items: tuple[str, ...] = (), model: str = "shell") -> str:
    """`submit`, and wait until the task is done."""
    task = submit(box, *words, items=items, model=model)
    await_state(box, task, State.DONE)
    return task


def copy_of(box: Sandbox, task: str) -> TaskDir:
    """The home copy."""
    return TaskDir(box.project, task)


def state_of(box: Sandbox, task: str) -> State | None:
    return copy_of(box, task).standing().state


def await_state(box: Sandbox, task: str, *states: State, limit: timedelta | float = STATE_WITHIN_SECONDS) -> State:
    """Wait until the home copy says that the task is in one of `states`; fails at once if it ends in another."""

    def reached() -> State | None:
        now = state_of(box, task)
        return now if now in states or now in FINAL else None

    wanted = " or ".join(states)
    try:
        found = wait_for(reached, f"`{task}` to be {wanted}", limit)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{told(box, task)}") from None
    assert found in states, f"`{task}` is {found} and not {wanted}\n{told(box, task)}"
    return found


def told(box: Sandbox, task: str) -> str:
    """All that a failed test should show of a task."""
    parts = [f"{entry.line()}" for entry in journal(box, task)]
    for path in sorted(copy_of(box, task).path.glob("attempts/*/agent.log")):
        parts += [f"--- {path}", path.read_text(errors="replace")[-2000:]]
    return "\n".join(parts)


def journal(box: Sandbox, task: str) -> list[Entry]:
    return copy_of(box, task).entries()


def states_of(box: Sandbox, task: str) -> list[State]:
    """The states a task went through."""
    return [entry.state for entry in journal(box, task) if entry.state is not None]


def marks_of(box: Sandbox, task: str) -> str:
    """The marks of a plan in its order, such as `xx?`."""
    return "".join(item.mark if item.mark is not Mark.OPEN else "_" for item in copy_of(box, task).plan().items)


def result_of(box: Sandbox, task: str, attempt: int = 1) -> dict[str, Any]:
    """result.json of an attempt."""
    path = copy_of(box, task).path / f"attempts/{attempt}/result.json"
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def transcript(box: Sandbox, task: str, attempt: int = 1) -> str:
    return (copy_of(box, task).path / f"attempts/{attempt}/agent.log").read_text(errors="replace")


def prompt_of(box: Sandbox, task: str, attempt: int = 1) -> str:
    return (copy_of(box, task).path / f"attempts/{attempt}/prompt.md").read_text()


def workspace_of(box: Sandbox, task: str) -> Path:
    """Where the newest attempt works, as its journal says."""

    def found() -> list[str]:
        return [str(entry.facts["workspace"]) for entry in journal(box, task) if entry.event == "attempt"]

    return Path(wait_for(found, f"the workspace of `{task}` in its journal")[-1])


def agents_of(box: Sandbox, task: str) -> list[psutil.Process]:
    """Every process that has the environment of an agent of the task."""
    found = []
    project = copy_of(box, task).task().project
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            folder = process.environ().get("DISPATCH_TASK_DIR", "")
            ours = folder.startswith(f"{box.project}/") or f"/worktrees/{project}/" in folder
            if ours and folder.endswith(f"/{task}"):
                found.append(process)
    return found


@dataclass(frozen=True)
class Gate:
    """An item of a plan that takes until it is opened."""

    path: Path

    @property
    def item(self) -> str:
        return f"Wait for {self.path.name}: `until [ -e '{self.path}' ]; do sleep 0.02; done`"

    def open(self) -> None:
        self.path.touch()
