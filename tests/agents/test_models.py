"""Which model reaches the API: the one that was dispatched with, whatever the CLI's own settings say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.agents.commands import END, FINISH, TICK
from tests.agents.script import Model
from tests.support.sandbox import Sandbox
from tests.support.tasks import await_state, result_of, submit

WITHIN_SECONDS = 60.0
OTHER = "claude-3-other"


def of_the_user(box: Sandbox) -> None:
    put(Path(box.env["CLAUDE_CONFIG_DIR"]) / "settings.json")


def of_the_project(box: Sandbox) -> None:
    put(box.project / ".claude/settings.json")
    box.git("add", "--all")
    box.git("commit", "--quiet", "--message", "Settings")


def of_the_environment(box: Sandbox) -> None:
    box.env["ANTHROPIC_MODEL"] = OTHER


def put(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"model": OTHER, "env": {"ANTHROPIC_MODEL": OTHER}}))


def reached(box: Sandbox, model: Model, named: str) -> str:
    """The one model that a task dispatched with `named` brought to the API."""
    model.plays("work", [TICK, FINISH, END])
    task = submit(box, "--worktree", "--name", "work", "--item", "Work", model=named)
    await_state(box, task, State.DONE, limit=WITHIN_SECONDS)
    (found,) = {one.model for one in model.heard}
    assert result_of(box, task)["model"] == found
    return found


@pytest.mark.parametrize(
    ("named", "family", "settings"),
    [
        ("opus", "opus", of_the_user),
        ("sonnet", "sonnet", of_the_project),
        ("haiku", "haiku", of_the_environment),
        ("sonnet-4.6", "sonnet", of_the_user),
    ],
)
def test_claude_takes_the_newest_model_of_the_named_family_whatever_its_settings_say(
    box: Sandbox, model: Model, named: str, family: str, settings: Callable[[Sandbox], None]
) -> None:
    settings(box)

    assert re.fullmatch(rf"claude-{family}-[\d-]+", reached(box, model, named))


@pytest.mark.parametrize("settings", [of_the_user, of_the_project, of_the_environment])
def test_a_model_named_claude_leaves_the_choice_to_claudes_settings(
    box: Sandbox, model: Model, settings: Callable[[Sandbox], None]
) -> None:
    settings(box)

    assert reached(box, model, "claude") == OTHER


@pytest.mark.parametrize("named", ["gpt-5.3-codex", "gpt-6.1-sol"])
def test_codex_is_given_the_model_as_it_was_named_whatever_its_settings_say(
    box: Sandbox, model: Model, named: str
) -> None:
    config = Path(box.env["CODEX_HOME"]) / "config.toml"
    config.write_text(f'model = "gpt-5-other"\n{config.read_text()}')

    assert reached(box, model, named) == named
