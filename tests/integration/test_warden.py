"""Real agents under real wardens, through `worker.process`."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from tests.support.children import PROGRAMS, agent_that, is_alive, living_below
from tests.support.waiting import wait_for
from worker.process import MARK_VARIABLE, AgentProcess, Command, ProcessExit, StartFailed, spawn, sweep

GRACE = timedelta(seconds=0.2)
ROOT = Path(__file__).parents[2]
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs a child subreaper")
SPAWNER = """
import os, sys, time
from pathlib import Path
from worker.process import Command, spawn
agents = [spawn(Command(tuple(argv), Path(sys.argv[1]), dict(os.environ))) for argv in eval(sys.argv[2])]
for agent in agents:
    while b"ready" not in (agent.read_output() or b""):
        time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Spawn an argv in `folder`; what is left of it at the end is killed."""
    with contextlib.ExitStack() as ends:

        def start_(*argv: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> AgentProcess:
            agent = spawn(Command(argv, folder, dict(os.environ) if env is None else env, stdin))
            ends.callback(agent.close)
            return agent

        yield start_
    assert living_below(folder) == []


def output_of(agent: AgentProcess) -> bytes:
    """All the agent prints, until every writer is gone."""
    parts: list[bytes] = []

    def at_end() -> bool:
        part = agent.read_output()
        parts.append(part or b"")
        return part is None

    poll = select.poll()
    poll.register(agent.output, select.POLLIN)
    while not at_end():
        assert poll.poll(60_000), "the output to end"
    return b"".join(parts)


def wait_ready(agent: AgentProcess) -> None:
    seen = bytearray()

    def ready() -> bool:
        seen.extend(agent.read_output() or b"")
        return b"ready" in seen

    wait_for(ready, "the agent to say ready")


def end_of(agent: AgentProcess, limit: float = 60) -> ProcessExit:
    end = wait_for(agent.read_status, "the tree to be empty", limit)
    assert end is not None
    return end


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/dev/fd").iterdir())


def warden_of(agent: AgentProcess) -> int:
    return psutil.Process(agent.pid).ppid()


def guard_of(agent: AgentProcess) -> int:
    return psutil.Process(warden_of(agent)).ppid()


def test_the_exit_code_and_both_streams_come_back(start: Callable[..., AgentProcess]) -> None:
    agent = start("sh", "-c", "echo out; echo err >&2; exit 7")

    assert output_of(agent) == b"out\nerr\n"
    assert end_of(agent) == ProcessExit(code=7)
    assert not end_of(agent).ok
    assert end_of(start("true")).ok


def test_a_signal_comes_back_as_a_signal(start: Callable[..., AgentProcess]) -> None:
    assert end_of(start("sh", "-c", "kill -USR1 $$")) == ProcessExit(signal=signal.SIGUSR1)


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
def test_standard_input_is_given_whole_and_ends(start: Callable[..., AgentProcess], size: int) -> None:
    agent = start("wc", "-c", stdin=b"x" * size)

    assert int(output_of(agent)) == size


def test_without_standard_input_it_is_at_its_end(start: Callable[..., AgentProcess]) -> None:
    assert output_of(start("cat")) == b""


def test_the_agent_gets_argv_folder_and_environment_as_given(start: Callable[..., AgentProcess], folder: Path) -> None:
    words = ("", "two words", "$(touch made)", "-n", "new\nline", "é\udcff", "x" * 120_000)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LARGE": "y" * 120_000, "PYTHONPATH": "/nowhere"}
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"

    agent = start(sys.executable, "-I", "-c", program, *words, env=env)

    argv, cwd, seen = json.loads(output_of(agent))
    assert tuple(argv) == words
    assert cwd == str(folder)
    assert seen == {**env, MARK_VARIABLE: agent.mark}


def test_the_agent_gets_default_signals_and_no_foreign_descriptor(start: Callable[..., AgentProcess]) -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    leaky = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        agent = start("sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd")
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(leaky)

    lines = output_of(agent).decode().split("\n")
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert {name: int(mask, 16) for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0}
    assert [line for line in lines if line.isdigit()] == ["0", "1", "2", "3"]  # 3 is the listing's own


@pytest.mark.parametrize(
    ("argv", "reason", "hint"),
    [
        (("no-such-cli", "x"), "No such file or directory", "install `no-such-cli`"),
        (("./not-executable",), "Permission denied", "chmod +x ./not-executable"),
        (("./no-shebang",), "Exec format error", "#!/bin/sh"),
        (("./lost-interpreter",), "its interpreter?", "first line of `./lost-interpreter`"),
        (("true", "x" * 200_000), "Argument list too long", "standard input"),
        (("true", "a\0b"), "null byte", "remove the NUL"),
    ],
)
def test_an_agent_that_cannot_start_is_told_with_the_fix(
    folder: Path, argv: tuple[str, ...], reason: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # where a relative program is looked for
    for name, text, mode in (
        ("not-executable", "", 0o644),
        ("no-shebang", "", 0o755),
        ("lost-interpreter", "#!/no/such/sh\n", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    before = descriptors()

    with pytest.raises(StartFailed) as failed:
        spawn(Command(argv, folder, dict(os.environ)))

    assert reason in failed.value.message
    assert argv[0] in failed.value.message
    assert hint in (failed.value.hint or "")
    assert descriptors() == before
    assert living_below(folder) == []


def test_a_folder_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=f"its folder {tmp_path}/gone: No such file"):
        spawn(Command(("true",), tmp_path / "gone", dict(os.environ)))


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"forks_and_leaves", "leaks_stdout", "kills_its_parent"}))
@pytest.mark.parametrize("how", ["terminate", "kill"])
@LINUX_ONLY
def test_an_ended_agent_leaves_no_process(
    start: Callable[..., AgentProcess], folder: Path, name: str, how: str
) -> None:
    agent = start(*agent_that(name))
    wait_ready(agent)

    if how == "kill":
        agent.kill()
    else:
        agent.terminate(GRACE)

    end_of(agent)
    assert living_below(folder) == []
    assert agent.read_output() in (b"", None)
    assert output_of(agent) == b""


def test_the_grace_is_granted_and_no_longer_than_needed(start: Callable[..., AgentProcess]) -> None:
    polite = start("sh", "-c", "trap 'sleep 0.3; echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    wait_ready(polite)

    polite.terminate(timedelta(hours=1))

    assert end_of(polite) == ProcessExit(code=3)


def test_a_stopped_agent_hears_the_request_to_end(start: Callable[..., AgentProcess]) -> None:
    agent = start("sh", "-c", "trap 'exit 3' TERM; echo ready; kill -STOP $$; sleep 60")
    wait_ready(agent)
    wait_for(lambda: psutil.Process(agent.pid).status() == psutil.STATUS_STOPPED, "the agent to stop itself")

    agent.terminate(timedelta(seconds=30))

    assert end_of(agent).code == 3


def test_a_kill_cuts_the_grace_short(start: Callable[..., AgentProcess]) -> None:
    agent = start(*agent_that("ignores_sigterm"))
    wait_ready(agent)
    agent.terminate(timedelta(hours=1))

    agent.kill()

    assert end_of(agent) == ProcessExit(signal=signal.SIGKILL)


@pytest.mark.parametrize("name", ["forks_and_leaves", "leaks_stdout"])
@LINUX_ONLY
def test_what_an_agent_leaves_running_ends_with_it(start: Callable[..., AgentProcess], name: str) -> None:
    agent = start(*agent_that(name))

    assert end_of(agent) == ProcessExit(code=0)
    assert output_of(agent) == b"ready\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signals_aimed_at_the_warden_do_not_end_it(start: Callable[..., AgentProcess], number: int) -> None:
    agent = start("sleep", "60")

    for keeper in (warden_of(agent), guard_of(agent)):
        os.kill(keeper, number)
    agent.kill()

    assert end_of(agent) == ProcessExit(signal=signal.SIGKILL)


WATCHERS = {"warden": [warden_of], "guard": [guard_of], "both": [guard_of, warden_of]}


@pytest.mark.parametrize(
    ("victims", "name"),
    [
        *(
            (one, name)
            for one in ("warden", "guard")
            for name in ("disappears", "double_forks", "fork_bomb", "starts_one_that_hops")
        ),
        *(("both", name) for name in ("double_forks", "hides", "starts_a_session", "fork_bomb")),
    ],
)
@LINUX_ONLY
def test_a_killed_warden_leaves_no_process(
    start: Callable[..., AgentProcess], folder: Path, victims: str, name: str
) -> None:
    agent = start(*agent_that(name))
    wait_ready(agent)

    for pid in [find(agent) for find in WATCHERS[victims]]:
        os.kill(pid, signal.SIGKILL)

    end = end_of(agent)
    assert end.error is not None
    assert "its warden died (signal 9)" in end.error
    assert not end.ok
    assert living_below(folder) == []


@LINUX_ONLY
def test_an_agent_that_kills_its_warden_leaves_no_process(start: Callable[..., AgentProcess], folder: Path) -> None:
    agent = start(*agent_that("kills_its_parent"))

    assert end_of(agent).error is not None
    assert living_below(folder) == []


@LINUX_ONLY
@pytest.mark.parametrize("above", [warden_of, guard_of])
def test_an_agent_whose_parent_is_stopped_ends_all_the_same(
    start: Callable[..., AgentProcess], above: Callable[[AgentProcess], int]
) -> None:
    agent = start("sh", "-c", "echo ready; exec sleep 60")
    wait_ready(agent)
    os.kill(above(agent), signal.SIGSTOP)
    os.kill(agent.pid, signal.SIGKILL)

    assert end_of(agent) == ProcessExit(signal=signal.SIGKILL)


def test_sweep_kills_what_has_the_mark_and_nothing_else(folder: Path) -> None:
    mark, other = "a" * 32, "a" * 31 + "b"
    marked = subprocess.Popen(["sleep", "60"], cwd=folder, env={**os.environ, MARK_VARIABLE: mark})
    spared = subprocess.Popen(["sleep", "60"], cwd=folder, env={**os.environ, MARK_VARIABLE: other})
    try:
        wait_for(lambda: psutil.Process(marked.pid).name() == "sleep", "the child to be executed")

        assert sweep(mark) == 1
        assert marked.wait(60) == -signal.SIGKILL
        assert is_alive(spared.pid)
    finally:
        spared.kill()
        spared.wait()


@LINUX_ONLY
def test_a_killed_worker_leaves_no_process(folder: Path) -> None:
    names = ["ignores_sigterm", "starts_a_session", "double_forks", "hops", "fork_bomb", "hides"]
    worker = subprocess.Popen(
        [sys.executable, "-c", SPAWNER, str(folder), repr([agent_that(name) for name in names])],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert worker.stdout is not None
    with worker.stdout:
        assert worker.stdout.readline() == b"ready\n"
    assert len(living_below(folder)) > len(names)

    worker.kill()
    worker.wait()

    wait_for(lambda: not living_below(folder), "the agents to be gone")


def test_many_agents_at_once_stay_apart(start: Callable[..., AgentProcess]) -> None:
    with ThreadPoolExecutor(50) as threads:
        agents = list(threads.map(lambda n: start("sh", "-c", f"cat; echo {n}; exit {n}", stdin=b"in"), range(50)))
        outputs = list(threads.map(output_of, agents))
        ends = list(threads.map(end_of, agents))

    assert outputs == [f"in{n}\n".encode() for n in range(50)]
    assert [end.code for end in ends] == list(range(50))
    assert len({agent.mark for agent in agents}) == 50


def test_an_ended_agent_gives_back_every_descriptor(start: Callable[..., AgentProcess], folder: Path) -> None:
    before = descriptors()

    for end in (True, False):
        agent = spawn(Command(("sleep", "0" if end else "60"), folder, dict(os.environ)))
        if end:
            end_of(agent)
        agent.close()

    assert descriptors() == before
    assert living_below(folder) == []


def test_the_worker_holds_no_end_of_the_output_open(start: Callable[..., AgentProcess]) -> None:
    agent = start("sh", "-c", "exec >&- 2>&-; sleep 60")

    assert output_of(agent) == b""
    assert agent.read_status() is None
    assert not fcntl.fcntl(agent.output, fcntl.F_GETFD) & ~fcntl.FD_CLOEXEC
    assert fcntl.fcntl(agent.output, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.parametrize("name", ["ignores_sigterm", "starts_a_session", "fork_bomb"])
def test_without_proc_and_subreaper_the_tree_is_found_by_ps(folder: Path, name: str) -> None:
    control_end, control = os.pipe()
    status, status_end = os.pipe()
    program = f"from worker import warden; warden.LINUX = False; warden.main({[str(control_end), str(status_end)]!r}"
    keeper = subprocess.Popen(
        [sys.executable, "-c", f"{program} + ['--', *{agent_that(name)!r}])"],
        stdout=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=(control_end, status_end),
        start_new_session=True,
    )
    for handle in (control_end, status_end):
        os.close(handle)
    assert keeper.stdout is not None
    with keeper.stdout, open(status) as lines:
        assert keeper.stdout.readline() == b"ready\n"

        os.close(control)  # as a worker that dies

        assert [line.split()[0] for line in lines] == ["started", "signalled", "empty"]
    assert keeper.wait(60) == 0
    assert living_below(folder) == []


def test_a_warden_is_small(start: Callable[..., AgentProcess]) -> None:
    agent = start("sleep", "60")

    sizes = [psutil.Process(pid).memory_info().rss for pid in (guard_of(agent), warden_of(agent))]
    assert max(sizes) < 12_000_000
