"""The server and worker that dispatch keeps itself: real servers, real processes, a stand-in for Celery."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
import pytest
import redis

import dispatch_queue
from dispatch_queue import embedded
from dispatch_queue.daemon import LOG_LIMIT_BYTES, Daemon, End, locked
from dispatch_queue.errors import DispatchError, StoreDown
from dispatch_queue.home import dispatch_home
from dispatch_queue.server import OLDEST_MAJOR, server_binary
from tests.support.processes import end_processes_of, processes_of
from tests.support.waiting import wait_for

SHORT: Final = timedelta(seconds=0.2)
NOBODY: Final = 65534

root_only: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


# Stand-ins for the worker.
SLEEPS: Final = python("import time; time.sleep(600)")
TELLS_WHAT_IT_GOT: Final = python(
    """
    import json, os, sys, time
    got = {"env": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0), "group": os.getpgrp()}
    with open(os.environ["DISPATCH_HOME"] + "/got.new", "w") as file:
        json.dump(got, file)
    os.rename(file.name, os.environ["DISPATCH_HOME"] + "/got")
    time.sleep(600)
    """
)
LEAVES_AN_AGENT_AND_BOTH_IGNORE_SIGTERM: Final = python(
    """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    name = "worker"
    if os.fork() == 0:
        os.setsid()
        name = "agent"
    open(f"{os.environ['DISPATCH_HOME']}/{name}.ready", "w").close()
    time.sleep(600)
    """
)

UP: Final = """
import json, sys
from pathlib import Path
from dispatch_queue import embedded
from dispatch_queue.errors import DispatchError

sys.stdin.read()
try:
    got = embedded.up(Path(sys.argv[1]), command=sys.argv[2:] or None, worker=len(sys.argv) > 2)
except DispatchError as error:
    print(json.dumps({"error": error.message, "hint": error.hint, "status": error.exit_status}))
else:
    print(json.dumps({"server": got.server, "worker": got.worker}))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    yield from _home(dispatch_home())


def _home(home: Path) -> Iterator[Path]:
    """`down` at the end, and nothing may be left then."""
    home.mkdir(parents=True, exist_ok=True)
    yield home
    try:
        embedded.down(home, drain=SHORT)
    finally:
        left = end_processes_of(home, grace_seconds=0)
    assert not left


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home in a folder that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
    folder.chmod(0o755)
    yield from _home(folder / "h")
    shutil.rmtree(folder)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with dispatch."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def pid_of(home: Path, name: str) -> int:
    pid = Daemon(home / "run", name).pid()
    assert pid is not None
    return pid


def client(home: Path) -> redis.Redis:
    return redis.Redis.from_url(embedded.server_url(home), decode_responses=True)


def kill(home: Path, name: str) -> None:
    """kill -9, and wait until the kernel is through with it."""
    os.kill(pid_of(home, name), signal.SIGKILL)
    wait_for(lambda: not Daemon(home / "run", name).alive(), f"the {name} to be gone")


def start_up(home: Path, command: list[str]) -> subprocess.Popen[str]:
    """A process of its own that calls `up` once its standard input ends."""
    argv = [sys.executable, "-c", UP, str(home), *command]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, object]:
    with process:
        answer: dict[str, object] = json.loads(process.communicate()[0])
    return answer


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# Up


def test_up_starts_the_server_and_the_worker_and_says_so(home: Path) -> None:
    assert not embedded.is_up(home)

    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=True, worker=True)

    assert embedded.is_up(home)
    assert client(home).ping()
    assert psutil.Process(pid_of(home, "worker")).cmdline() == SLEEPS


def test_up_leaves_alone_what_runs(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    before = (pid_of(home, "server"), pid_of(home, "worker"))

    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=False, worker=False)

    assert (pid_of(home, "server"), pid_of(home, "worker")) == before


def test_up_waits_for_nobody_when_all_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.up(home, command=SLEEPS)
    monkeypatch.setattr(embedded, "LOCK_WITHIN", SHORT)

    with locked(home / "run", SHORT):
        assert embedded.up(home, command=SLEEPS) == embedded.Up(server=False, worker=False)


def test_up_needs_no_heavy_module_when_all_runs(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    code = f"""
        import sys
        from pathlib import Path
        from dispatch_queue import embedded
        embedded.up(Path({str(home)!r}))
        print(*{{"psutil", "redis", "celery", "subprocess", "pydantic"}} & set(sys.modules))
        """
    # -S: site loads the finder of an editable install, and that all sorts of things
    environment = {**os.environ, "PYTHONPATH": str(Path(dispatch_queue.__file__).parent.parent)}
    said = subprocess.run([sys.executable, "-S", *python(code)[1:]], capture_output=True, env=environment, check=True)
    assert said.stdout == b"\n"


def test_without_a_worker_only_the_server_is_started(home: Path) -> None:
    assert embedded.up(home, worker=False) == embedded.Up(server=True, worker=False)
    assert not Daemon(home / "run", "worker").alive()

    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=False, worker=True)


def test_commands_at_once_start_one_server_and_one_worker(home: Path) -> None:
    commands = [start_up(home, SLEEPS) for _ in range(4)]
    for command in commands:
        assert command.stdin is not None
        command.stdin.close()
        command.stdin = None

    started = [told(command) for command in commands]

    assert sum(bool(answer["server"]) for answer in started) == 1
    assert sum(bool(answer["worker"]) for answer in started) == 1
    assert {process.pid for process in processes_of(home)} == {pid_of(home, "server"), pid_of(home, "worker")}


def test_the_daemons_have_neither_terminal_nor_session_nor_descriptors_of_the_command(home: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        embedded.up(home, command=SLEEPS)
    finally:
        os.close(writing)

    # If a daemon had the other end, this would wait for ever.
    with open(reading, "rb") as pipe:
        assert pipe.read() == b""
    for name in ("server", "worker"):
        pid = pid_of(home, name)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgrp()
        assert psutil.Process(pid).ppid() != os.getpid()
        assert psutil.Process(pid).terminal() is None


def test_the_worker_knows_its_home_and_not_the_task_that_started_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPATCH_HOME")
    monkeypatch.setenv("DISPATCH_SLOT", "3")
    embedded.up(home, command=TELLS_WHAT_IT_GOT)

    got = json.loads(wait_for((home / "got").read_text, "the worker to tell what it got"))

    assert got["env"]["DISPATCH_HOME"] == str(home)
    assert "DISPATCH_SLOT" not in got["env"]
    assert got["cwd"] == str(home / "run")


def test_inside_a_task_no_worker_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCH_TASK_ID", "build-api")
    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=True, worker=False)


def test_the_worker_is_celery_with_the_slots_asked_for() -> None:
    argv = embedded.worker_argv(7)
    assert argv[:3] == [sys.executable, "-P", "-m"]
    assert argv[-2:] == ["--concurrency", "7"]
    assert "--concurrency" not in embedded.worker_argv(None)


@pytest.mark.parametrize("command", [["/bin/sh", "-c", "exit 3"], ["/no/such/program"]], ids=["ends", "missing"])
def test_a_worker_that_ended_is_started_again_by_the_next_up(home: Path, command: list[str]) -> None:
    embedded.up(home, worker=False)
    embedded.up(home, command=command)
    wait_for(lambda: not Daemon(home / "run", "worker").alive(), "the worker to end")

    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=False, worker=True)
    assert Daemon(home / "run", "worker").alive()


def test_a_long_log_is_put_aside_at_a_start(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    embedded.down(home)
    with (home / "run" / "worker.log").open("wb") as log:
        log.truncate(LOG_LIMIT_BYTES + 1)

    embedded.up(home, command=SLEEPS)

    assert (home / "run" / "worker.log").stat().st_size == 0
    assert (home / "run" / "worker.log.1").stat().st_size == LOG_LIMIT_BYTES + 1


# What a crash leaves behind


def test_a_killed_server_is_replaced_and_has_its_data(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    client(home).lpush("dispatch.default.shell", "ticket")
    kill(home, "server")
    assert stat.S_ISSOCK((home / "run" / "redis.sock").stat().st_mode), "a stale socket was to be tested"
    assert not embedded.is_up(home)

    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=True, worker=False)

    assert client(home).lrange("dispatch.default.shell", 0, -1) == ["ticket"]


def test_a_server_killed_in_the_middle_of_writing_comes_up_again(home: Path) -> None:
    embedded.up(home, worker=False)
    client(home).set("whole", "1")
    kill(home, "server")
    (log,) = (home / "redis").rglob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")

    embedded.up(home, worker=False)

    assert client(home).keys() == ["whole"]


def test_a_stale_pid_that_a_stranger_has_by_now_is_no_obstacle(home: Path, stranger: subprocess.Popen[bytes]) -> None:
    embedded.up(home, command=SLEEPS)
    for name in ("server", "worker"):
        kill(home, name)
        (home / "run" / f"{name}.pid").write_text(f"{stranger.pid}\n")

    assert embedded.down(home) == embedded.Down(server=End.NOT_RUNNING, worker=End.NOT_RUNNING)
    assert stranger.poll() is None

    for name in ("server", "worker"):
        (home / "run" / f"{name}.pid").write_text(f"{stranger.pid}\n")
    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=True, worker=True)
    embedded.down(home)
    assert stranger.poll() is None


def test_a_process_that_is_not_the_daemon_is_never_signalled(home: Path, stranger: subprocess.Popen[bytes]) -> None:
    embedded.up(home, command=SLEEPS)
    pid = pid_of(home, "worker")
    (home / "run" / "worker.pid").write_text(f"{stranger.pid}\n")

    with pytest.raises(DispatchError, match="cannot be seen from"):
        embedded.down(home, drain=SHORT)

    assert stranger.poll() is None
    assert not is_gone(pid)
    (home / "run" / "worker.pid").write_text(f"{pid}\n")


@pytest.mark.parametrize("garbage", ["", "no number", "0", "-1", "99999999999999999999"])
def test_garbage_in_a_stale_pid_file_is_no_obstacle(home: Path, garbage: str) -> None:
    (home / "run").mkdir(mode=0o700)
    for name in ("server.pid", "worker.pid", "server.json", "worker.json", "redis.sock"):
        (home / "run" / name).write_text(garbage)

    assert embedded.status(home).worker.running is False
    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=True, worker=True)


# Down


def test_down_leaves_neither_processes_nor_files_that_speak_of_them(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    pids = [pid_of(home, "server"), pid_of(home, "worker")]

    assert embedded.down(home) == embedded.Down(server=End.STOPPED, worker=End.STOPPED)

    assert all(is_gone(pid) for pid in pids)
    assert processes_of(home) == []
    assert not any(
        str(home) in " ".join(process.cmdline()) for process in psutil.process_iter() if not is_gone(process.pid)
    )
    assert sorted(path.name for path in (home / "run").iterdir()) == ["server.log", "up.lock", "worker.log"]


def test_down_when_nothing_runs_says_so(home: Path) -> None:
    assert embedded.down(home) == embedded.Down(server=End.NOT_RUNNING, worker=End.NOT_RUNNING)


def test_what_is_queued_survives_down_and_up(home: Path) -> None:
    embedded.up(home, worker=False)
    client(home).lpush("dispatch.default.shell", *(f"ticket {number}" for number in range(1000)))
    client(home).hset("task", mapping={"state": "queued"})

    embedded.down(home)
    embedded.up(home, worker=False)

    assert client(home).llen("dispatch.default.shell") == 1000
    assert client(home).hgetall("task") == {"state": "queued"}


def test_a_worker_and_an_agent_that_ignore_sigterm_are_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SECOND_TERM_GRACE", SHORT)
    embedded.up(home, command=LEAVES_AN_AGENT_AND_BOTH_IGNORE_SIGTERM)
    wait_for(lambda: len(list(home.glob("*.ready"))) == 2, "the worker and its agent")
    assert len(processes_of(home)) == 3

    assert embedded.down(home, drain=SHORT) == embedded.Down(server=End.STOPPED, worker=End.KILLED)

    assert processes_of(home) == []


def test_a_stopped_server_and_worker_are_ended_too(home: Path) -> None:
    embedded.up(home, command=SLEEPS)
    for name in ("server", "worker"):
        os.kill(pid_of(home, name), signal.SIGSTOP)

    assert embedded.down(home) == embedded.Down(server=End.STOPPED, worker=End.STOPPED)

    assert processes_of(home) == []


def test_down_from_below_the_worker_is_refused(home: Path) -> None:
    code = f"""
        import subprocess, sys, time
        from pathlib import Path
        if len(sys.argv) == 1:
            subprocess.run([sys.executable, "-c", sys.orig_argv[2], "agent"])
            time.sleep(600)
        from dispatch_queue import embedded
        from dispatch_queue.errors import DispatchError
        try:
            embedded.down(Path({str(home)!r}))
        except DispatchError as error:
            Path({str(home)!r}, "said").write_text(error.message)
        """
    embedded.up(home, command=python(code))

    said = wait_for((home / "said").read_text, "the agent to be refused")

    assert said == "this command was started by the worker that it would end"
    assert embedded.is_up(home)


# Others


CONNECTS: Final = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
else:
    connection.sendall(b"PING\\r\\n")
    print(connection.recv(100))
"""


@root_only
@pytest.mark.parametrize("run_mode", [0o700, 0o755], ids=["as made", "folder opened by hand"])
def test_another_user_cannot_connect(open_home: Path, run_mode: int) -> None:
    embedded.up(open_home, worker=False)
    path = open_home / "run" / "redis.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    path.parent.chmod(run_mode)

    def connect(user: int) -> str:
        # no module of the installation: it may lie where that user cannot read
        argv = ["/usr/bin/env", "python3", "-I", "-c", CONNECTS, str(path)]
        return subprocess.run(argv, user=user, group=user, extra_groups=[], capture_output=True, text=True).stdout

    assert connect(NOBODY) == "PermissionError\n"
    assert connect(0) == "b'+PONG\\r\\n'\n"
    path.parent.chmod(0o700)


def test_no_port_is_opened(home: Path) -> None:
    embedded.up(home, worker=False)
    assert psutil.Process(pid_of(home, "server")).net_connections("inet") == []


# Where it cannot run


@pytest.fixture
def deep_home(home: Path) -> Iterator[Path]:
    yield from _home(home / ("deep" * 30))


def test_a_home_too_deep_for_a_socket_gets_one_in_a_private_folder(deep_home: Path) -> None:
    embedded.up(deep_home, worker=False)
    client(deep_home).set("key", "value")
    path = Path(str(client(deep_home).config_get("unixsocket")["unixsocket"]))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert embedded.up(deep_home, worker=False) == embedded.Up(server=False, worker=False)

    kill(deep_home, "server")
    assert embedded.up(deep_home, worker=False) == embedded.Up(server=True, worker=False)
    assert client(deep_home).get("key") == "value"

    embedded.down(deep_home)
    assert not path.parent.exists()
    assert processes_of(path.parent) == []


def test_a_socket_folder_that_others_can_enter_is_not_trusted(deep_home: Path) -> None:
    embedded.up(deep_home, worker=False)
    folder = Path((deep_home / "run" / "socket-folder").read_text())
    folder.chmod(0o777)

    assert not embedded.is_up(deep_home)

    folder.chmod(0o700)
    assert embedded.is_up(deep_home)


def test_a_home_with_spaces_quotes_and_percent_signs_works(home: Path) -> None:
    for strange in _home(home / """a b'c"d%20é?#$x"""):
        embedded.up(strange, command=SLEEPS)
        assert client(strange).ping()
        assert embedded.down(strange).server is End.STOPPED


@root_only
def test_a_home_that_cannot_be_written_is_told_with_the_way_out(open_home: Path) -> None:
    open_home.mkdir(exist_ok=True)
    process = os.fork()
    if process == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            embedded.up(open_home, worker=False)
        except DispatchError as error:
            os._exit(42 if "DISPATCH_HOME" in (error.hint or "") and "Permission denied" in error.message else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 42
    assert not (open_home / "run").exists()


def test_data_that_cannot_be_read_are_told_with_the_end_of_the_log(home: Path) -> None:
    (home / "redis" / "appendonlydir").mkdir(parents=True)
    (home / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("garbage\n")

    with pytest.raises(StoreDown, match="did not start") as caught:
        embedded.up(home, command=SLEEPS)

    assert "manifest" in caught.value.message
    assert str(home / "run" / "server.log") in (caught.value.hint or "")
    assert processes_of(home) == []


def test_a_server_that_hangs_is_told_in_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "HANGS_AFTER", SHORT)
    embedded.up(home, command=SLEEPS)
    pid = pid_of(home, "server")
    os.kill(pid, signal.SIGSTOP)

    assert not embedded.is_up(home)

    with pytest.raises(StoreDown, match=rf"process {pid} of .* did not answer within 0.2 s") as caught:
        embedded.up(home, command=SLEEPS)
    assert "dispatch down" in (caught.value.hint or "")
    assert embedded.status(home).server.running
    assert not embedded.status(home).server.answers
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: embedded.is_up(home), "the server to answer again")


def test_a_server_too_old_on_the_path_is_passed_over(tmp_path: Path) -> None:
    for name, version in (("valkey-server", "broken"), ("redis-server", f"v={OLDEST_MAJOR - 1}.0.16")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho 'Redis server {version} sha=00000000:0'\n")
        program.chmod(0o755)

    assert Path(server_binary({"PATH": str(tmp_path)})).parent != tmp_path

    (tmp_path / "redis-server").write_text(f"#!/bin/sh\necho 'Redis server v={OLDEST_MAJOR}.0.0 sha=00000000:0'\n")
    assert server_binary({"PATH": str(tmp_path)}) == str(tmp_path / "redis-server")


# Status


def test_status_says_what_runs(home: Path) -> None:
    embedded.up(home, command=SLEEPS)

    status = embedded.status(home)

    assert (status.server.running, status.server.answers, status.server.pid) == (True, True, pid_of(home, "server"))
    assert status.server.version.split()[0] in ("valkey", "redis")
    assert (status.worker.running, status.worker.pid) == (True, pid_of(home, "worker"))
    assert (status.worker.version, status.worker.python) == (dispatch_queue.__version__, sys.executable)
    assert not status.outdated


def test_status_of_a_home_that_was_never_used_makes_nothing(home: Path) -> None:
    status = embedded.status(home)
    assert (status.server.running, status.worker.running, status.outdated) == (False, False, False)
    assert list(home.iterdir()) == []


def test_status_tells_a_worker_of_another_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.up(home, command=SLEEPS)
    monkeypatch.setattr(dispatch_queue, "__version__", "999")
    assert embedded.status(home).outdated
    assert embedded.up(home, command=SLEEPS) == embedded.Up(server=False, worker=False)
