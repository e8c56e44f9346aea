"""dispatch doctor, with stand-ins on PATH that answer as claude 2.1.330 and codex 0.169.0 were seen to."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispatch_queue import embedded
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_for

CLAUDE = """
"--version ") echo "2.1.330 (Claude Code)" ;;
"--help ") echo "  --dangerously-skip-permissions  Bypass"; echo "  -p, --print"; echo "  auth  Manage authentication" ;;
"auth status") if [ -n "$ANTHROPIC_API_KEY$IN" ]; then echo '{ "loggedIn": true }'; else echo '{ "loggedIn": false }'; exit 1; fi ;;
"""  # noqa: E501
CODEX = """
"--version ") echo "codex-cli 0.169.0" ;;
"exec --help") echo "  -C, --cd <DIR>  -s, --sandbox <MODE>"; echo "      --dangerously-bypass-approvals-and-sandbox" ;;
"login status") echo "Logged in using ChatGPT" ;;
"""
OLD_CODEX = CODEX.replace("0.169.0", "0.50.0").replace("<DIR>", "<DIR> --full-auto")
OLD_CLAUDE = CLAUDE.replace("2.1.330", "1.0.9").replace('echo "  auth  Manage authentication"', ":")
CURSOR = """
"--version ") echo "2026.11.20-abc1234" ;;
"--help ") echo "  -p --force --trust --workspace"; echo "  status|whoami  View"; echo "  models  List" ;;
"models ") echo "gpt-5.2 - GPT-5.2" ;;
"status ") echo "✓ Logged in as me@example.com" ;;
"""
# Hangs, and says so if all three do at once.
SLOW = """
*) echo $$ > "$0.pid"; cd "${0%/*}"
until [ -e claude.pid ] && [ -e codex.pid ] && [ -e agent.pid ] && kill -0 $(cat *.pid); do sleep 0.05; done
touch at-once; sleep 300 ;;
"""


class Machine:
    """A sandbox with CLIs of its own on PATH, each of which writes down how it was called."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.box, self.bin = box, folder
        self.bin.mkdir()
        self.env = {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin"}
        box.home.mkdir(mode=0o700, exist_ok=True)

    def install(self, name: str, answers: str) -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/sh\necho "$*" >> {self.bin}/{name}.called\ncase "$1 $2" in{answers}esac\n')
        program.chmod(0o755)

    def called(self, name: str) -> list[str]:
        return (self.bin / f"{name}.called").read_text().splitlines()

    def configure(self, **commands: str) -> None:
        backends = {name: {"command": command} for name, command in commands.items()}
        config = {"backends": backends, "models": {f"m-{name}": {"backend": name} for name in commands}}
        (self.box.home / "config.yaml").write_text(json.dumps(config))

    def doctor(self, **env: str) -> dict[str, dict[str, Any]]:
        found = self.box.run("doctor", "--json", check=False, env=self.env | env).json
        return {finding["what"]: finding for finding in found}


@pytest.fixture
def machine(box: Sandbox, tmp_path: Path) -> Machine:
    return Machine(box, tmp_path / "bin")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    with sandboxes.opened(tmp_path / "b") as box:
        yield box


SEED = {
    "claude": "env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions",
    "codex": 'codex exec --full-auto -C "$(pwd)"',
    "cursor": 'agent -p --force --workspace "$(pwd)"',
}


def test_doctor_tells_what_runs_and_what_does_not(machine: Machine) -> None:
    down = machine.doctor()
    machine.box.run("up")
    wait_for(lambda: "slots in use" in machine.box.run("doctor", check=False).stdout, "the worker to say what it is")
    up = machine.doctor()

    assert down["server"] == {
        "what": "server",
        "seen": "dispatch's own server does not run (the first task starts it)",
        "fix": "dispatch up",
        "ok": False,
    }
    assert up["server"] == {"what": "server", "seen": "dispatch's own server answers", "fix": None, "ok": True}
    assert up["worker"]["ok"]
    assert up["shell"]["ok"]


def test_a_worker_that_is_not_ready_yet_is_not_called_missing(machine: Machine) -> None:
    embedded.up(machine.box.home, command=["sleep", "600"])
    pid = int((machine.box.home / "run/worker.pid").read_text())

    assert machine.doctor()["workers"]["seen"].startswith(f"process {pid} ")


def test_a_worker_that_was_killed_is_not_well_while_redis_still_knows_it(machine: Machine) -> None:
    machine.box.run("up")
    wait_for(lambda: machine.doctor().get("worker"), "the worker to say what it is")
    pid = int((machine.box.home / "run/worker.pid").read_text())
    worker = psutil.Process(pid)

    worker.kill()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "it to be gone")

    found = machine.doctor()
    told = found.get("worker") or found["workers"]  # Redis may have forgotten it by now
    assert (told["ok"], told["fix"]) == (False, "dispatch up")
    assert "its process is gone" in told["seen"] or "no live worker" in told["seen"]


def test_a_redis_that_is_away_leads_to_what_mends_it(machine: Machine) -> None:
    found = machine.doctor(DISPATCH_REDIS_URL=f"unix://{machine.box.folder}/none.sock")["server"]

    assert not found["ok"]
    assert found["fix"].startswith("start or mend the Redis there, or name another one: `redis.url`")


def test_every_cli_is_found_and_tells_its_version_and_whether_it_is_logged_in(machine: Machine) -> None:
    machine.install("claude", CLAUDE)
    machine.install("codex", CODEX)
    machine.install("agent", CURSOR)
    machine.configure(**SEED)

    found = machine.doctor(CODEX_HOME="/nowhere")

    assert found["claude"] == {
        "what": "claude",
        "seen": found["claude"]["seen"],
        "fix": "claude auth login",
        "ok": False,
        "path": str(machine.bin / "claude"),
        "version": "2.1.330",
        "logged_in": False,
    }
    assert f"{machine.bin}/claude, 2.1.330, not logged in" in found["claude"]["seen"]
    assert found["codex"]["seen"] == f"{machine.bin}/codex, 0.169.0, logged in"
    assert found["cursor"]["seen"] == f"{machine.bin}/agent, 2026.11.20-abc1234, logged in"
    assert found["codex command"]["seen"] == "`codex exec --help` does not list `--full-auto`"


def test_a_cursor_whose_models_cannot_be_listed_is_not_well(machine: Machine) -> None:
    machine.install("agent", CURSOR.replace('echo "gpt-5.2 - GPT-5.2"', "exit 3"))
    machine.configure(cursor=SEED["cursor"])

    found = machine.doctor()

    assert found["cursor"]["ok"]
    assert (found["cursor models"]["ok"], found["cursor models"]["seen"]) == (
        False,
        "`agent models` listed nothing: exit status 3",
    )


def test_the_edit_that_doctor_names_settles_an_option_that_is_gone(machine: Machine) -> None:
    machine.install("codex", CODEX)
    machine.configure(codex=SEED["codex"])

    subprocess.run(["sh", "-c", machine.doctor()["codex command"]["fix"]], check=True)

    assert "codex command" not in machine.doctor()
    assert "--sandbox workspace-write" in (machine.box.home / "config.yaml").read_text()


def test_an_old_cli_that_knows_the_option_is_left_alone(machine: Machine) -> None:
    machine.install("codex", OLD_CODEX)
    machine.configure(codex=SEED["codex"])

    assert "codex command" not in machine.doctor()


def test_no_word_is_given_to_a_cli_that_would_take_it_for_a_prompt(machine: Machine) -> None:
    machine.install("claude", OLD_CLAUDE)
    machine.configure(claude=SEED["claude"])

    found = machine.doctor()["claude"]

    assert machine.called("claude") == ["--version", "--help"]
    assert (found["version"], found["logged_in"], found["ok"]) == ("1.0.9", None, True)


def test_a_missing_cli_is_bad_if_the_default_runs_with_it(machine: Machine) -> None:
    machine.configure(claude=SEED["claude"], mine="my-agent --go")

    done = machine.box.run("doctor", check=False, env=machine.env)

    assert done.code == 1
    assert "BAD claude" in done.stdout
    assert "fix: npm install -g @anthropic-ai/claude-code" in done.stdout
    assert "-   mine" in done.stdout
    assert "-   codex" in done.stdout


def test_a_cli_that_is_not_logged_in_is_no_failure_where_the_default_is_another(machine: Machine) -> None:
    machine.install("claude", CLAUDE)
    machine.install("codex", CODEX)
    machine.configure(codex=SEED["codex"], claude=SEED["claude"])

    done = machine.box.run("doctor", check=False, env=machine.env)

    assert done.code == 0, done.stdout
    assert "ok  codex" in done.stdout
    assert "-   claude" in done.stdout
    assert "fix: claude auth login" in done.stdout


def test_a_cli_that_only_this_shell_has_is_told_with_the_way_out(machine: Machine, tmp_path: Path) -> None:
    machine.configure(codex=SEED["codex"])
    machine.box.run("up", env=machine.env)
    (tmp_path / "elsewhere").mkdir()
    machine.install("codex", CODEX)
    (machine.bin / "codex").rename(tmp_path / "elsewhere/codex")

    found = machine.doctor(PATH=f"{tmp_path}/elsewhere:{machine.env['PATH']}")["codex"]

    assert found["seen"] == f"`codex` is not on the PATH of the worker; here it is {tmp_path}/elsewhere/codex"
    assert found["fix"].startswith("dispatch down && dispatch up")


def test_a_back_end_that_the_running_worker_does_not_serve_is_told(machine: Machine) -> None:
    machine.install("codex", CODEX)
    machine.configure(codex=SEED["codex"])
    config = machine.box.home / "config.yaml"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"worker": {"backends": ["shell"]}}))
    machine.box.run("up", env=machine.env)

    told = wait_for(lambda: machine.doctor().get("codex worker"), "doctor to miss codex in the worker")

    assert told["seen"] == "no live worker serves codex"
    assert told["fix"] == f"add `codex` to `worker.backends` in {config}"
    assert machine.doctor()["worker"]["seen"].endswith("slots in use, serves shell")


def test_without_a_config_it_is_said_what_writes_one(machine: Machine) -> None:
    assert "`dispatch config init` does it, or the first `dispatch submit`" in machine.doctor()["config"]["seen"]


def test_clis_that_hang_are_ended_all_at_once(machine: Machine) -> None:
    for name in ("claude", "codex", "agent"):
        machine.install(name, SLOW)
    machine.configure(**SEED)

    found = machine.doctor()

    assert (machine.bin / "at-once").exists()
    for name in SEED:
        assert "does not tell its version: no end after 5 s" in found[name]["seen"]
        assert not found[name]["ok"]
        assert machine.called({"cursor": "agent"}.get(name, name)) == ["--version"]


def test_a_key_that_the_running_worker_does_not_have_is_found_out(machine: Machine) -> None:
    machine.install("claude", CLAUDE)
    machine.configure(claude=SEED["claude"])
    machine.box.run("up", env=machine.env)

    found = machine.doctor(ANTHROPIC_API_KEY="sk-test-0123456789")["claude"]

    assert found["logged_in"] is False
    assert found["fix"].startswith("dispatch down && dispatch up")
    machine.box.run("down")
    assert machine.doctor(ANTHROPIC_API_KEY="sk-test-0123456789")["claude"]["logged_in"] is True


def test_the_floor_of_free_space_is_the_configured_one(machine: Machine) -> None:
    (machine.box.home / "config.yaml").write_text("worker: {min_free_mib: 999999999}\n")

    found = machine.doctor()["home"]

    assert "no attempt begins below 999999999" in found["seen"]
    assert "worker.min_free_mib" in found["fix"]


def test_a_broken_config_is_told_and_keeps_nothing_else_from_being_looked_at(machine: Machine) -> None:
    (machine.box.home / "config.yaml").write_text("default: [\n")

    found = machine.doctor()

    assert not found["config"]["ok"]
    assert found["home"]["ok"]
    assert found["git"]["ok"]
