"""Cursor's CLI, which cannot be had from a registry: the stand-in of tests/support/cursor.py checks how it is run."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support import cursor
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Sandbox
from tests.support.tasks import Project, await_state, copy_of, do, result_of, submit, transcript
from worker.backends.base import MAX_ARGUMENT_BYTES

# By the model that runs with it: `agent` as it is started without a configured command, by the first run's, by the
# original set-up's, and where nobody is logged in.
COMMANDS = {
    "composer-1.5": None,
    "gemini-3.1-pro": 'agent -p --force --trust --workspace "$(pwd)"',
    "grok-4": 'agent -p --force --workspace "$(pwd)"',
    "auto": "env -u CURSOR_API_KEY agent -p --force",
    "no-such-model": "agent -p --force",
}


@pytest.fixture(scope="module")
def cursor_house(own_folder: Path) -> Iterator[Sandbox]:
    """A worker that finds the stand-in."""
    with sandboxes.opened(own_folder / "cursor") as house:
        programs = house.folder / "bin"
        programs.mkdir()
        cursor.install(programs)
        house.env |= {"PATH": f"{programs}{os.pathsep}{house.env['PATH']}", "CURSOR_API_KEY": "a-key-of-no-account"}
        backends = {model: f"for-{model}" if command else "cursor" for model, command in COMMANDS.items()}
        config = {
            "default": "composer-1.5",
            "models": {model: {"backend": backend} for model, backend in backends.items()},
            "backends": {backends[model]: {"command": command} for model, command in COMMANDS.items() if command},
        }
        house.home.mkdir(mode=0o700)
        (house.home / "config.yaml").write_text(json.dumps(config))
        house.run("up")
        yield house


@pytest.fixture
def box(cursor_house: Sandbox, tmp_path: Path) -> Iterator[Project]:
    project = Project(cursor_house, tmp_path)
    project.make_repository()
    try:
        yield project
    finally:
        project.close()


def reason_of(box: Project, task: str) -> str:
    return copy_of(box, task).standing().reason


@pytest.mark.parametrize("model", ["composer-1.5", "gemini-3.1-pro", "grok-4"])
def test_cursor_is_started_as_its_manual_documents_it(box: Project, model: str) -> None:
    task = do(box, "--worktree", items=("One", "Two"), model=model)

    result = result_of(box, task)
    assert (result["session"], result["failure"]) == (cursor.SESSION, None)
    assert result["usage"]["cost_usd"] is None
    assert "I'll work through the plan." in box.run("logs", task).stdout


def test_a_prompt_too_long_for_an_argument_reaches_cursor_on_standard_input(box: Project) -> None:
    (box.project / "long.md").write_text(f"- [ ] Read this: {'x' * MAX_ARGUMENT_BYTES}\n")

    task = do(box, "--plan", "long.md", "--context", "y" * MAX_ARGUMENT_BYTES, model="composer-1.5")

    assert "y" * MAX_ARGUMENT_BYTES in transcript(box, task)


@pytest.mark.parametrize(("model", "kind"), [("auto", "auth"), ("no-such-model", "model")])
def test_what_cursor_says_on_stderr_is_the_reason(box: Project, model: str, kind: str) -> None:
    task = submit(box, "--item", "Work", model=model)

    await_state(box, task, State.FAILED)
    assert result_of(box, task)["failure"]["kind"] == kind
    assert reason_of(box, task).startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "--force", "--model", "composer-1.5", "--output-format", "stream-json", "Go"), "Trust Required"),
        (("-p", "--fast", "Go"), "unknown option '--fast'"),
        (("-p", "--force", "Go", "on"), "too many arguments"),
        (("--trust", "Go"), "not in print mode"),
    ],
)
def test_the_stand_in_refuses_what_the_manual_does_not_document(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    program = cursor.install(tmp_path)

    refused = subprocess.run([program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert refused.returncode == 1
    assert said in refused.stderr


def test_the_stand_in_notices_standard_input_that_is_left_open(tmp_path: Path) -> None:
    program = cursor.install(tmp_path)

    with subprocess.Popen([program, "-p", "Go"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "left open" in waiting.stderr.read()
