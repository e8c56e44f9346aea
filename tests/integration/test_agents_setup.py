"""What `./dev agents` stands on: the CLIs in a cache folder, and no network."""

import os
import subprocess
import sys
from pathlib import Path

from tests.agents.install import SKIPPED

ROOT = Path(__file__).parents[2]
LOOK = """
import socket
from tests.agents.alone import is_alone
with socket.create_server(("127.0.0.1", 0)) as here, socket.create_connection(here.getsockname()):
    print("alone" if is_alone() else "not alone")
"""


def run(module: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    env = {**os.environ, **environ}
    return subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_without_npm_the_clis_are_not_to_be_had_and_the_reason_is_said(tmp_path: Path) -> None:
    done = run("tests.agents.install", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))

    assert done.returncode == SKIPPED
    assert done.stdout == ""
    assert done.stderr.startswith("agents: not run: node and npm are not on PATH")


def test_an_npm_that_fails_is_no_failure_of_ours_and_leaves_nothing(tmp_path: Path) -> None:
    for name, line in {"npm": "echo 'npm error code ENOTFOUND' >&2; exit 1", "node": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    done = run("tests.agents.install", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert done.returncode == SKIPPED
    assert "npm install` exited 1: code ENOTFOUND" in done.stderr
    assert [path.name for path in (tmp_path / "cache/dispatch-queue-agents").iterdir()] == ["lock"]


def test_a_command_alone_reaches_this_machine_and_nothing_else_or_is_not_run_with_the_reason() -> None:
    done = run("tests.agents.alone", sys.executable, "-c", LOOK)

    if done.returncode == SKIPPED:
        assert done.stderr.startswith("agents: not run: ")
    else:
        assert (done.stdout, done.returncode) == ("alone\n", 0)
