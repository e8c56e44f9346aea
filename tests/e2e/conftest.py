"""End to end: the installed commands, a real worker and server, real git. Most tests share one worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sandbox as sandboxes
from tests.support import standins
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, Project, configure

COMMANDS = {
    "takes_a_word": standins.command("says_its_input", "--fast", "{prompt}"),
    "takes_an_option": standins.command("says_its_input", "--prompt={prompt}", "--model={model}"),
    "is_not_installed": "no-such-agent --go",
}


@pytest.fixture(scope="session")
def house(own_folder: Path) -> Iterator[Sandbox]:
    """The server and the worker that this test process's tests share."""
    with sandboxes.opened(own_folder / "house") as house:
        configure(house, COMMANDS)
        house.run("up")
        yield house


@pytest.fixture
def box(house: Sandbox, tmp_path: Path) -> Iterator[Project]:
    """An empty project, not under git, of which the shared worker runs the tasks."""
    project = Project(house, tmp_path)
    try:
        yield project
    finally:
        project.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")
