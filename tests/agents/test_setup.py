"""The first minutes with the real CLIs."""

from dispatch_queue.states import State
from tests.agents.commands import END, FINISH, TICK
from tests.agents.conftest import Cli
from tests.agents.install import PROGRAMS, VERSIONS
from tests.agents.script import Model, Run
from tests.support.sandbox import Sandbox
from tests.support.tasks import await_state, journal, submit

WITHIN_SECONDS = 60.0

SEED = """\
default: {model}
backends:
  claude:
    command: >
      env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions
  codex:
    command: >
      codex exec --full-auto -C "$(pwd)"
models:
  {model}: {{ backend: {backend} }}
"""


def test_a_first_request_finds_both_clis_and_is_dispatched(box: Sandbox, model: Model) -> None:
    (box.home / "config.yaml").unlink()
    model.plays("greet", [Run("echo hello > greeting"), TICK, FINISH, END])

    said = box.run("--name", "greet", "write a greeting, use haiku", program="dispatch-submit")

    await_state(box, "greet", State.DONE, limit=WITHIN_SECONDS)
    assert "Found Claude Code (3 models), Codex (" in said.stderr
    assert "gpt-6.1-sol:" in (box.home / "config.yaml").read_text()  # which codex lists; the usual ones it does not
    assert "gpt-5.3-codex" not in (box.home / "config.yaml").read_text()
    assert "haiku" in model.of("greet")[0].model


def test_doctor_tells_the_versions(box: Sandbox) -> None:
    found = {one["what"]: one for one in box.run("doctor", "--json", check=False).json}

    for program, package in PROGRAMS.items():
        assert found[program]["ok"]
        assert VERSIONS[package] in found[program]["seen"]


def test_the_commands_of_the_original_set_up_run(box: Sandbox, model: Model, cli: Cli) -> None:
    (box.home / "config.yaml").write_text(SEED.format(model=cli.model, backend=cli.name))
    model.plays("work", [TICK, FINISH, END])

    task = submit(box, "--name", "work", "--item", "Work", model=cli.model)

    await_state(box, task, State.DONE, limit=WITHIN_SECONDS)
    told = [str(entry.facts["text"]) for entry in journal(box, task) if entry.event == "warning"]
    assert any("no longer knows `--full-auto`" in text for text in told) == (cli.name == "codex")
