"""dispatch's own server and worker: started when first needed, stopped whole, nothing lost between; other workers."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from dispatch_queue.states import State
from tests.support.processes import processes_of
from tests.support.sandbox import BIN, Background, Sandbox
from tests.support.server import Server
from tests.support.tasks import (
    Gate,
    agents_of,
    await_state,
    configure,
    copy_of,
    do,
    journal,
    marks_of,
    prompt_of,
    state_of,
    states_of,
    submit,
    transcript,
    workspace_of,
)
from tests.support.waiting import wait_for

S = State


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A project of which nothing runs yet."""
    configure(sandbox)
    return sandbox


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def daemons(box: Sandbox, word: str) -> list[psutil.Process]:
    """The processes of the sandbox that are no agent's and have `word` among those of their command line."""
    found = []
    for process in processes_of(box.folder):
        try:
            words, environ = " ".join(process.cmdline()).split(), process.environ()  # a server joins its own
        except psutil.Error:
            continue
        if "DISPATCH_TREE" not in environ and any(Path(each).name == word for each in words[:8]):
            found.append(process)
    return found


def servers(box: Sandbox) -> list[psutil.Process]:
    return [*daemons(box, "valkey-server"), *daemons(box, "redis-server")]


def workers(box: Sandbox) -> list[psutil.Process]:
    return [process for process in daemons(box, "celery") if "worker" in process.cmdline()]


def kill_9(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    wait_for(lambda: not any(process.is_running() for process in processes), "the killed to be gone")


# -- up, down ---------------------------------------------------------------------------------------------------------


def test_two_first_commands_at_once_start_one_server_and_one_worker(box: Sandbox) -> None:
    both = [
        box.start("submit", "-m", "shell", "--title", title, "--item", "Work: `true`", "--wait")
        for title in ("One", "Two")
    ]

    assert [submitted.wait().code for submitted in both] == [0, 0]
    assert len(servers(box)) == 1
    assert len(workers(box)) == 1
    assert {state_of(box, task) for task in ("one", "two")} == {S.DONE}


def test_commands_that_only_look_start_nothing(box: Sandbox) -> None:
    do(box, "--title", "One", items=("Work: `true`",))
    box.run("down")

    for words in (("ls",), ("status", "one"), ("show", "one"), ("questions",), ("logs", "one"), ("wait", "one")):
        assert box.run(*words).code == 0, words

    assert processes_of(box.folder) == []


def test_down_leaves_no_process_whatever_the_agents_do(box: Sandbox) -> None:
    configure(box, worker={"drain": 0.1})
    task = submit(box, "--item", "Crowd", model="leaves_a_crowd")
    await_state(box, task, S.RUNNING)
    crowd = wait_for(lambda: workspace_of(box, task) / "crowd", "the workspace")
    wait_for(lambda: len(list(crowd.iterdir())) == 5, "five processes")

    down = box.run("down")

    assert processes_of(box.folder) == []
    assert down.stdout == "worker: stopped\nserver: stopped\n"
    assert box.run("down").stdout == "worker: was not running\nserver: was not running\n"


def test_up_says_what_it_started(box: Sandbox) -> None:
    assert box.run("up").stdout == "server: started\nworker: started\n"
    assert box.run("up").stdout == "server: was running\nworker: was running\n"


def test_running_tasks_are_given_back_by_down_and_go_on_after_up(box: Sandbox, gate: Gate) -> None:
    box.make_repository()
    configure(box, worker={"slots": 2, "drain": 0.1})
    items = ("One: `echo x >> $DISPATCH_TASK_ID.txt`", gate.item, "Look: `cat $DISPATCH_TASK_ID.txt`")
    running = [submit(box, f"--{name}", "--title", name, items=items) for name in ("shared", "worktree")]
    for task in running:
        wait_for(lambda task=task: marks_of(box, task) == "x__", "the first tick")  # type: ignore[misc]
    queued = submit(box, "--title", "Queued", items=("Work: `true`",))

    box.run("down")
    between = [(state_of(box, task), copy_of(box, task).standing().reason) for task in (*running, queued)]
    gate.open()
    box.run("up")

    for task in (*running, queued):
        await_state(box, task, S.DONE)
    assert between == [(S.QUEUED, "its worker stopped"), (S.QUEUED, "its worker stopped"), (S.QUEUED, "")]
    assert states_of(box, queued) == [S.QUEUED, S.RUNNING, S.DONE]
    for task in running:
        assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
        assert "1 of 3 items are checked" in prompt_of(box, task, 2)
        assert transcript(box, task, 2).splitlines().count("x") == 1


def test_an_agent_that_ends_in_the_time_it_is_given_is_not_given_back(box: Sandbox, gate: Gate) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, S.RUNNING)
    down = box.start("down", "--drain", "60")
    wait_for(lambda: "arm shutdown" in worker_log(box), "the worker to begin to stop")

    gate.open()

    assert down.wait().code == 0
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.DONE]


def worker_log(box: Sandbox) -> str:
    return (box.home / "run/worker.log").read_text()


def test_parked_questions_survive_down_and_may_be_answered_then(box: Sandbox) -> None:
    words = ("--question-timeout", "1")
    tasks = [submit(box, *words, "--title", title, items=("ask: Which one?",)) for title in ("One", "Two")]
    for task in tasks:
        await_state(box, task, S.PARKED)
    box.run("down")

    listed = box.run("questions", "--json").json
    (box.task(tasks[0]) / "ipc/001.answer").write_text("by hand\n")
    box.run("answer", tasks[1], "by command")  # starts what is needed

    assert {question["task"] for question in listed} == set(tasks)
    for task in tasks:
        await_state(box, task, S.DONE)
    assert [copy_of(box, task).ipc().answers[1] for task in tasks] == ["by hand", "by command"]


# -- what is killed ---------------------------------------------------------------------------------------------------


def test_after_kill_9_of_the_server_the_next_command_starts_one_and_all_goes_on(box: Sandbox, gate: Gate) -> None:
    running = submit(box, "--title", "Running", items=("One: `true`", gate.item, "Three: `true`"))
    wait_for(lambda: marks_of(box, running) == "x__", "the first tick")
    (server,) = servers(box)

    kill_9([server])
    later = submit(box, "--title", "Later", items=("Work: `true`",))
    gate.open()

    await_state(box, running, S.DONE)
    await_state(box, later, S.DONE)
    assert [process.pid for process in servers(box)] != [server.pid]
    assert len(servers(box)) == 1
    assert states_of(box, running) == [S.QUEUED, S.RUNNING, S.DONE]


def test_after_kill_9_of_the_worker_its_task_goes_on_in_the_next(box: Sandbox, gate: Gate) -> None:
    task = submit(box, "--title", "Running", items=("One: `echo x >> one.txt`", gate.item))
    wait_for(lambda: marks_of(box, task) == "x_", "the first tick")

    kill_9(workers(box))
    wait_for(lambda: not agents_of(box, task), "its agent to be ended")
    box.run("up")
    gate.open()

    await_state(box, task, S.DONE)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
    assert (box.project / "one.txt").read_text() == "x\n"


def test_after_kill_9_of_everything_a_command_starts_anew(box: Sandbox) -> None:
    do(box, "--title", "Before", items=("Work: `true`",))

    kill_9([*workers(box), *servers(box)])

    assert box.run("ls").stderr == ""  # nothing is to go on
    do(box, "--title", "After", items=("Work: `true`",))
    assert (len(servers(box)), len(workers(box))) == (1, 1)
    assert [card["id"] for card in box.run("ls", "--json").json] == ["after", "before"]


def test_after_kill_9_of_everything_a_look_says_that_nothing_goes_on(box: Sandbox, gate: Gate) -> None:
    task = submit(box, "--title", "Running", items=("One: `true`", gate.item))
    wait_for(lambda: marks_of(box, task) == "x_", "the first tick")

    kill_9([*workers(box), *servers(box)])

    for words in (("ls",), ("show", task)):
        said = box.run(*words).stderr
        assert said == "warning: dispatch's own server does not run any more, so no task goes on\n\nhint: dispatch up\n"
    gate.open()
    box.run("up")
    await_state(box, task, S.DONE)
    assert box.run("ls").stderr == ""


# -- slots ------------------------------------------------------------------------------------------------------------


def test_as_many_tasks_run_at_once_as_there_are_slots_and_no_more(box: Sandbox, gate: Gate) -> None:
    configure(box, worker={"slots": 3})
    log = box.project / "log"
    items = (f"In: `echo + >> '{log}'`", gate.item, "Stay: `sleep 0.1`", f"Out: `echo - >> '{log}'`")
    tasks = [submit(box, "--title", f"Task {number}", items=items) for number in range(7)]
    wait_for(lambda: log.read_text().count("+") >= 3, "three to be at work")

    gate.open()

    for task in tasks:
        await_state(box, task, S.DONE)
    at_once = [0]
    for sign in log.read_text().split():
        at_once.append(at_once[-1] + (1 if sign == "+" else -1))
    assert max(at_once) == 3


def test_each_task_at_work_has_a_slot_of_its_own(box: Sandbox, tmp_path: Path) -> None:
    gates = [Gate(tmp_path / f"gate-{number}") for number in range(3)]
    tasks = [submit(box, items=("Say: `echo slot $DISPATCH_SLOT`", gate.item)) for gate in gates]
    for task in tasks:
        wait_for(lambda task=task: marks_of(box, task) == "x_", "all to be at work")  # type: ignore[misc]

    for gate in gates:
        gate.open()

    slots = set()
    for task in tasks:
        await_state(box, task, S.DONE)
        slots |= {line for line in transcript(box, task).splitlines() if line.startswith("slot ")}
    assert slots == {"slot 0", "slot 1", "slot 2"}


def test_a_task_of_high_priority_is_taken_first(box: Sandbox, gate: Gate) -> None:
    configure(box, worker={"slots": 1})
    busy = submit(box, "--title", "Busy", items=(gate.item,))
    await_state(box, busy, S.RUNNING)
    tasks = [
        submit(box, "--title", word, "--priority", word, items=(f"Say: `echo {word} >> order`",))
        for word in ("low", "normal", "high")
    ]

    gate.open()

    for task in tasks:
        await_state(box, task, S.DONE)
    assert (box.project / "order").read_text().split() == ["high", "normal", "low"]


# -- workers of a Redis of one's own ----------------------------------------------------------------------------------


COMMANDS = {
    "celery -A worker worker": [str(BIN / "celery"), "-A", "worker", "worker"],
    "dispatch worker": [str(BIN / "dispatch"), "worker"],
}


@pytest.fixture
def remote(box: Sandbox, redis_url: str) -> Sandbox:
    """A sandbox whose Redis is a configured one."""
    box.env["DISPATCH_REDIS_URL"] = redis_url
    return box


@pytest.mark.parametrize("command", COMMANDS)
def test_a_worker_that_cannot_keep_its_files_takes_no_ticket_and_says_why(remote: Sandbox, command: str) -> None:
    run = remote.home / "run"
    run.mkdir(parents=True)
    run.chmod(0o777)
    worker = Background(COMMANDS[command], env=remote.env, cwd=remote.project)
    try:
        ended = worker.wait()
    finally:
        worker.stop()

    assert ended.code != 0
    assert f"others may write into {run}" in ended.stderr
    assert f"hint: chmod 700 {run}" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_worker_is_started_as_celery_or_as_dispatch(remote: Sandbox, command: str) -> None:
    remote.make_repository()
    tasks = [
        submit(remote, isolation, items=("Work: `true`", "ask: Go on?")) for isolation in ("--shared", "--worktree")
    ]
    assert [state_of(remote, task) for task in tasks] == [S.QUEUED, S.QUEUED]

    worker = Background(COMMANDS[command], env=remote.env, cwd=remote.project)
    try:
        for task in tasks:
            await_state(remote, task, S.ASKING)
            remote.run("answer", task, "yes")
            await_state(remote, task, S.DONE)
    finally:
        worker.stop()

    assert worker.wait().code == 0
    assert servers(remote) == []
    assert processes_of(remote.folder) == []


@pytest.mark.parametrize("option", ["--slots", "--concurrency"])
def test_the_slots_of_a_worker_may_be_given_by_either_name(remote: Sandbox, gate: Gate, option: str) -> None:
    worker = remote.start("worker", option, "1")
    first, second = (submit(remote, "--title", title, items=(gate.item,)) for title in ("First", "Second"))
    await_state(remote, first, S.RUNNING)

    gate.open()

    await_state(remote, second, S.DONE)
    ends = [entry.at for entry in journal(remote, first) if entry.event == "finish"]
    starts = [entry.at for entry in journal(remote, second) if entry.event == "claim"]
    assert starts >= ends
    worker.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_while_a_worker_runs_no_other_redis_gets_the_tasks_of_its_home(
    box: Sandbox, redis_url: str, gate: Gate, command: str
) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, S.RUNNING)
    there = {"DISPATCH_REDIS_URL": redis_url}

    submitted = box.run("submit", "-m", "shell", "--name", "sent", "--item", "`true`", check=False, env=there)
    worker = Background(COMMANDS[command], env=box.env | there, cwd=box.project).wait()

    for refused in (submitted, worker):
        assert refused.code != 0
        assert "uses another Redis now" in refused.stderr
        assert f"unix://{box.home}/run/redis.sock" in refused.stderr
    assert f"what uses unix://{box.home}/run/redis.sock" in submitted.stderr
    assert "`dispatch up` sends" not in submitted.stderr
    await_state(box, "sent", S.DONE)
    assert box.run("ls", env=there).stdout.count("running") == 1
    gate.open()
    await_state(box, task, S.DONE)
    box.run("down")
    worker = Background(COMMANDS[command], env=box.env | there, cwd=box.project)
    other = box.run("submit", "-m", "shell", "--item", "`true`", "--json", env=there).json["id"]
    await_state(box, other, S.DONE)
    worker.stop()
    assert len(states_of(box, other)) == 3


def test_one_redis_under_two_names_is_one(box: Sandbox, redis_url: str) -> None:
    box.env["DISPATCH_REDIS_URL"] = redis_url
    worker = box.start("worker")
    do(box, items=("`true`",))
    box.env["DISPATCH_REDIS_URL"] = redis_url.replace("?db=0", "") if "?db=0" in redis_url else f"{redis_url}?db=0"

    do(box, items=("`true`",))

    worker.stop()


def test_a_configured_redis_is_not_started_nor_stopped(remote: Sandbox, redis_server: Server) -> None:
    up = remote.run("up")
    down = remote.run("down")

    assert "dispatch worker" in up.stderr
    assert down.stdout == "worker: was not running\nserver: was not running\n"
    assert redis_server.command("PING") == "+PONG"
    assert servers(remote) == []


def test_what_is_submitted_without_redis_is_kept_and_sent_by_the_next_command(remote: Sandbox) -> None:
    nowhere = {"DISPATCH_REDIS_URL": f"unix://{remote.folder}/nowhere.sock"}
    words = ("submit", "-m", "shell", "--title", "Kept", "--item", "Work: `true`")

    sent = remote.run(*words, env=nowhere, check=False)

    assert sent.code == 69
    assert "does not answer" in sent.stderr
    assert f"kept in {remote.task('kept')}" in sent.stderr
    assert marks_of(remote, "kept") == "_"
    worker = remote.start("worker")
    assert remote.run("ls", env=nowhere).code == 0
    assert remote.run("ls", "--json").json[0]["state"] in ("queued", "running", "done")
    await_state(remote, "kept", S.DONE)
    worker.stop()


def test_sigterm_gives_back_what_runs_and_another_worker_goes_on(remote: Sandbox, gate: Gate) -> None:
    configure(remote, worker={"drain": 0.1})
    one = remote.start("worker")
    task = submit(remote, items=("One: `true`", gate.item))
    wait_for(lambda: marks_of(remote, task) == "x_", "the first tick")
    two = remote.start("worker")
    wait_for(lambda: len(workers(remote)) == 2, "the second worker")

    os.kill(one.pid, signal.SIGTERM)
    assert one.wait().code == 0
    gate.open()

    await_state(remote, task, S.DONE)
    assert states_of(remote, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
    two.stop()
