"""The tests' own tools: what the other tests rely on without looking."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.processes import processes_of
from tests.support.sandbox import Background, Sandbox
from tests.support.server import Server, server_binary, start_server
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
TWO_LINES_THEN_NOTHING = """
import sys, time
print("one", flush=True)
print("two", file=sys.stderr, flush=True)
time.sleep(100)
"""


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_waiting_gives_the_first_true_value() -> None:
    values = iter([None, 0, "here"])

    assert wait_for(lambda: next(values), "a value") == "here"


def test_waiting_in_vain_says_for_what_and_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.05 s for the sun; last seen: \[\]"):
        wait_for(list, "the sun", 0.05)


def test_the_server_answers_and_is_empty(redis_url: str, redis_server: Server) -> None:
    assert redis_url == redis_server.url
    assert redis_server.command("DBSIZE") == ":0"
    assert redis_server.command("SET left behind") == "+OK"


def test_the_next_test_finds_it_empty_again(redis_url: str, redis_server: Server) -> None:
    assert redis_server.command("DBSIZE") == ":0"


def test_a_killed_server_is_started_again_in_its_folder(tmp_path: Path) -> None:
    first = start_server(tmp_path / "s")
    first.kill()
    assert not is_alive(first.pid)

    second = start_server(tmp_path / "s")

    assert second.url == first.url
    second.stop()
    assert not is_alive(second.pid)


def test_the_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tests.support.server import start_server;"
        "print(start_server(pathlib.Path(sys.argv[1])).pid, flush=True); input()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "s"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)

        starter.kill()

    wait_for(lambda: not is_alive(pid), "the server to die")
    wait_for(lambda: not processes_of(tmp_path / "s"), "its watcher to end")


def test_nothing_of_the_user_is_in_the_environment(own_home: Path) -> None:
    assert Path.home() == own_home
    assert os.environ["DISPATCH_HOME"].startswith(f"{own_home}/")
    assert os.environ["TMPDIR"].startswith(("/tmp/d-", "/private/tmp/d-"))
    assert [name for name in os.environ if name.startswith("DISPATCH_")] == ["DISPATCH_HOME"]


def test_a_sandbox_has_a_repository_when_asked(sandbox: Sandbox) -> None:
    commit = sandbox.make_repository({"a/b.txt": "text\n"})

    assert sandbox.git("log", "--format=%H %an %s") == f"{commit} Test Start"
    assert sandbox.git("status", "--porcelain") == ""


def test_the_paths_of_a_sandbox_leave_room_for_a_socket(sandbox: Sandbox) -> None:
    assert len(str(sandbox.home / "run" / "redis.sock")) < 104  # sun_path of macOS; 108 on Linux


def test_a_process_left_by_a_sandbox_fails_its_test_and_is_killed(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "box")
    left = subprocess.Popen(["sleep", "100"], env=sandbox.env, cwd="/", start_new_session=True)

    with pytest.raises(AssertionError, match=f"{left.pid}: sleep 100"):
        sandbox.close()

    assert left.wait() == -signal.SIGKILL


def test_a_background_command_is_read_while_it_runs(tmp_path: Path) -> None:
    command = Background([sys.executable, "-c", TWO_LINES_THEN_NOTHING], env={}, cwd=tmp_path)

    assert command.wait_for_line("tw") == "two"
    assert command.running

    command.stop()

    assert command.wait().code == -signal.SIGTERM
    assert command.out == ["one"]


def test_the_server_of_the_tests_is_found() -> None:
    assert os.access(server_binary(), os.X_OK)
