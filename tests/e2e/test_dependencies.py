"""Tasks that wait, run by a real worker: after each other, at a time, when released; many at once; once more."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from dispatch_queue.server import socket_of
from dispatch_queue.states import State
from dispatch_queue.taskdir import PLAN
from tests.support.sandbox import Sandbox
from tests.support.server import Server
from tests.support.tasks import (
    Gate,
    Project,
    await_state,
    configure,
    copy_of,
    journal,
    marks_of,
    state_of,
    states_of,
    submit,
)
from tests.support.waiting import wait_for

S = State
SAY = 'Say it: `echo "$DISPATCH_TASK_ID" >> order.txt`'
SECOND_SAY = 'Say it again: `echo "again $DISPATCH_TASK_ID" >> order.txt`'


def said(box: Sandbox) -> list[str]:
    """The tasks that ran, in their order."""
    return (box.project / "order.txt").read_text().split()


def reason_of(box: Sandbox, task: str) -> str:
    return copy_of(box, task).standing().reason


def test_tasks_run_one_after_the_other_when_they_wait_for_each_other(box: Project, gate: Gate) -> None:
    submit(box, "--name", "first", items=(gate.item, SAY))
    submit(box, "--name", "second", "--after", "first", items=(SAY,))
    submit(box, "--name", "third", "--after", "fir", "--after", "second", items=(SAY,))
    listed = box.run("ls").stdout
    assert "after first, second" in listed
    assert [state_of(box, task) for task in ("second", "third")] == [S.WAITING, S.WAITING]

    gate.open()

    assert box.run("wait", "third").code == 0
    assert said(box) == ["first", "second", "third"]
    assert states_of(box, "third") == [S.WAITING, S.QUEUED, S.RUNNING, S.DONE]


def test_of_a_task_that_waits_for_one_whose_folder_was_removed_the_way_on_is_told(box: Project) -> None:
    submit(box, "--name", "first", "--hold", items=(SAY,))
    submit(box, "--name", "second", "--after", "first", items=(SAY,))

    shutil.rmtree(box.task("first"))

    below = [line.strip() for line in box.run("ls").stdout.splitlines()[-2:]]
    assert below == ["`first` is not there any more", "dispatch release second --now"]
    shown = box.run("show", "second").stdout
    assert "`first` is not there any more" in shown
    assert shown.count("dispatch release second --now") == 1
    box.run("release", "second", "--now")
    assert box.run("wait", "second").code == 0


def test_a_task_fails_with_the_one_it_waited_for_unless_it_does_not_care(box: Project, gate: Gate) -> None:
    submit(box, "--name", "first", items=(gate.item, "Fail: `false`"))
    submit(box, "--name", "second", "--after", "first", items=(SAY,))
    submit(box, "--name", "third", "--after", "second", items=(SAY,))
    submit(box, "--name", "report", "--after", "first,third", "--after-any", items=(SAY,))

    gate.open()

    assert box.run("wait", "second", "third", check=False).code == 1
    assert box.run("wait", "report").code == 0
    assert reason_of(box, "third") == "dependency: `second` is failed"
    assert said(box) == ["report"]
    late = box.run("submit", "-m", "shell", "--after", "first", "-i", SAY, check=False)
    assert late.code == 1
    assert "It failed at once: dependency: `first` is failed" in late.stdout


def test_a_dependent_that_is_retried_says_that_it_waits_no_more(box: Project) -> None:
    submit(box, "--name", "first", items=("Fail: `false`",))
    await_state(box, "first", S.FAILED)
    box.run("submit", "-m", "shell", "--name", "second", "--after", "first", "-i", SAY, check=False)

    again = box.run("retry", "second")

    assert "it no longer waits for `first` (failed)" in again.stderr
    await_state(box, "second", S.DONE)


def test_a_task_starts_after_its_delay_and_not_before(box: Project) -> None:
    box.run("submit", "-m", "shell", "--name", "later", "--delay", "1h", "-i", SAY)
    task = submit(box, "--delay", "1s", items=(SAY,))
    assert reason_of(box, "later").startswith("until 2")

    await_state(box, task, S.DONE)

    first, *_ = journal(box, task)
    claimed = next(entry for entry in journal(box, task) if entry.event == "claim")
    assert claimed.at >= str(first.facts["until"])
    assert state_of(box, "later") is S.WAITING


def test_a_held_task_runs_when_it_is_released(box: Project, gate: Gate) -> None:
    submit(box, "--name", "busy", items=(gate.item,))
    submit(box, "--name", "t", "--hold", "--after", "busy", items=(SAY,))
    refused = box.run("release", "busy", "t", check=False)
    assert refused.code == 1
    assert refused.stdout == "Released `t`; it waits on: after busy\n"
    box.run("hold", "t")
    assert "held: dispatch release t; after busy" in box.run("ls").stdout

    assert box.run("release", "t", "--now").stdout == "Released `t`: it is queued.\n"

    await_state(box, "t", S.DONE)
    assert state_of(box, "busy") is S.RUNNING
    again = box.run("hold", "t", check=False)
    assert (again.code, again.stdout) == (1, "")
    assert "task `t` is done; only a queued or waiting one can be held" in again.stderr


def test_a_waiting_task_can_be_cancelled(box: Project) -> None:
    task = submit(box, "--hold", items=(SAY,))

    assert box.run("cancel", task).stdout == f"Cancelled `{task}` (it was waiting).\n"

    assert state_of(box, task) is S.CANCELLED


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        (("--after", "nobody"), "no task"),
        (("--after", "x", "--name", "x"), "task `x` cannot wait for itself"),
        (("--at", "never"), "not a time: 'never'"),
        (("--at", "2020-01-01"), "has passed"),
        (("--delay", "soon"), "not a delay: 'soon'"),
        (("--delay", "1h", "--at", "16:00"), "both given"),
        (("-f", "none.yaml"), "No such file"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_and_nothing_written(
    box: Project, words: tuple[str, ...], said_of_it: str
) -> None:
    prompt = () if "-f" in words else ("-i", SAY)
    refused = box.run("submit", "-m", "shell", *words, *prompt, check=False)

    assert refused.code == 2
    assert said_of_it in refused.stderr
    assert "hint: " in refused.stderr
    assert not (box.project / ".dispatch").exists()


# -- many at once -----------------------------------------------------------------------------------------------------

TASKS = """\
- name: deploy
  after: [build, Check it]
  items:
    - 'Say it: `echo "$DISPATCH_TASK_ID" >> order.txt`'
- name: build
  model: shell
  plan: build.md
- title: Check it
  after: build
  context: carefully
  read: build.md
  timeout: 60
  attempts: 1
  priority: high
  items:
    - 'Say it: `echo "$DISPATCH_TASK_ID" >> order.txt`'
"""


def lay(box: Sandbox, text: str = TASKS) -> Path:
    (box.project / "build.md").write_text(f"# Build\n\n- [ ] {SAY}\n")
    (box.project / "tasks.yaml").write_text(text)
    return box.project / "tasks.yaml"


def test_a_file_of_tasks_runs_in_the_order_of_what_they_wait_for(box: Project) -> None:
    lay(box)

    ended = box.run("submit", "-f", "tasks.yaml", "-m", "shell", "--wait")

    assert ended.stdout.startswith("Dispatched 3 tasks of tasks.yaml:\n  build     shell  ")
    assert said(box) == ["build", "check-it", "deploy"]
    task = copy_of(box, "check-it").task()
    assert (task.context, task.read, task.timeout, task.attempts, task.priority) == (
        "carefully",
        ("build.md",),
        60,
        1,
        0,
    )


def test_a_file_of_tasks_comes_from_standard_input_and_is_told_as_data(box: Project) -> None:
    text = json.dumps([{"name": "a", "items": [SAY], "hold": "true"}, {"name": "b", "items": [SAY], "after": "a"}])

    listed = box.run("submit", "-m", "shell", "-f", "-", "--json", input=text).json
    again = box.run("submit", "-m", "shell", "-f", "-", "--json", input=text).json

    assert [(one["id"], one["state"], one["reason"]) for one in listed] == [
        ("a", "waiting", "held: dispatch release a"),
        ("b", "waiting", "after a"),
    ]
    assert [(one["id"], one["dispatched"]) for one in again] == [("a", False), ("b", False)]


def test_a_dry_run_of_a_file_says_what_would_be_done_and_does_nothing(box: Project) -> None:
    lay(box)

    shown = box.run("submit", "-f", "tasks.yaml", "-m", "shell", "--dry-run")
    data = box.run("submit", "-f", "tasks.yaml", "-m", "shell", "--dry-run", "--json").json

    assert "Would dispatch `deploy` using shell, shared. It waits: after build, check-it. Plan:" in shown.stdout
    assert [one["task"]["id"] for one in data["tasks"]] == ["build", "check-it", "deploy"]
    assert not (box.project / ".dispatch").exists()


def test_a_file_with_faults_is_refused_whole_with_the_line_of_each(box: Project) -> None:
    text = TASKS.replace("plan: build.md", "plan: gone.md").replace("read: build.md", "read: [gone.md]")
    lay(box, text.replace("model: shell", "model: nobody"))

    many = """\
- {title: Build, item: [x], model: nobody, at: "25:00"}
- title: Ship
  prioritty: high
  title: Again
  items: [x]
- {title: Test, items: [x], plan: gone.md}
"""
    faults = box.run("submit", "-f", "-", "-m", "shell", input=many, check=False)
    assert "has 6 problems; nothing was dispatched" in faults.stderr
    told = [line.split(": ")[0].strip() for line in faults.stderr.splitlines() if line.startswith("  ")]
    assert told == [f"standard input:{number}" for number in (1, 1, 1, 3, 4, 6)]
    refused = box.run("submit", "-f", "tasks.yaml", check=False)
    other = box.run("submit", "-f", "tasks.yaml", "-i", "x", "-m", "shell", check=False)
    lay(box, TASKS.replace("- name: build\n", "- name: build\n  after: deploy\n"))
    cyclic = box.run("submit", "-f", "tasks.yaml", "-m", "shell", check=False)

    assert (refused.code, other.code, cyclic.code) == (2, 2, 2)
    assert "tasks.yaml:6: Model `nobody` isn't available" in refused.stderr
    assert "tasks.yaml:11: --read gone.md: no such file" in refused.stderr
    assert "-f and --item were both given" in other.stderr
    assert "tasks.yaml:2: tasks wait for each other: `deploy` → `build` → `deploy`" in cyclic.stderr
    assert not (box.project / ".dispatch").exists()


# -- once more --------------------------------------------------------------------------------------------------------


def failed(box: Sandbox) -> str:
    """A task with an item that is done, one that failed, and one that nobody began."""
    task = submit(box, "--title", "Big", items=(SAY, "Break: `test -e mended`", SECOND_SAY))
    await_state(box, task, S.FAILED)
    assert marks_of(box, task) == "x!_"
    return task


def test_a_retry_from_the_start_does_all_of_it_again(box: Project) -> None:
    task = failed(box)
    (box.project / "mended").touch()

    box.run("retry", task, "--from-start")

    await_state(box, task, S.DONE)
    assert said(box) == ["big", "big", "again", "big"]
    box.run("retry", task, "--from-start")
    assert box.run("wait", task).code == 0
    assert len(said(box)) == 7


def test_the_notes_of_earlier_rounds_do_not_pile_up_and_a_persons_stay(box: Project) -> None:
    items = ("ask: which?", "Do it: `echo broken; exit 3`")
    task = submit(box, "--question-default", "this", "--question-timeout", "1", items=items)
    await_state(box, task, S.FAILED)
    copy = copy_of(box, task)
    copy.write(PLAN, copy.read(PLAN) + b"  look into the log\n")

    box.run("retry", task)
    wait_for(lambda: (at := copy.standing()).attempt == 2 and at.state is S.FAILED, "the second end")
    box.run("retry", task, "--from-start")
    wait_for(lambda: (at := copy.standing()).attempt == 3 and at.state is S.FAILED, "the third end")

    asked, broken = copy.plan().items
    assert asked.note == "answer: this"
    assert broken.note == "look into the log\nexit status 3: broken"


def test_a_retry_can_skip_what_cannot_be_done(box: Project) -> None:
    task = failed(box)

    refused = box.run("retry", task, "--skip", "9", check=False)
    box.run("retry", task, "--skip", "2")

    assert (refused.code, "no item 9: the plan has 3" in refused.stderr) == (2, True)
    await_state(box, task, S.DONE)
    assert marks_of(box, task) == "xxx"
    assert "skipped" in copy_of(box, task).plan().items[1].note
    assert said(box) == ["big", "again", "big"]
    done = box.run("retry", task, check=False)
    assert (done.code, f"hint: dispatch retry {task} --from-start" in done.stderr) == (1, True)


def test_the_rest_of_a_task_is_dispatched_as_a_new_one(box: Project) -> None:
    task = failed(box)
    (box.project / "mended").touch()

    printed = box.run("requeue", task)

    assert printed.stdout == "Dispatched `big-2` with 2 items of `big`.\n"
    await_state(box, "big-2", S.DONE)
    assert said(box) == ["big", "again", "big-2"]
    assert state_of(box, task) is S.FAILED
    assert "every item" in box.run("requeue", "big-2", check=False).stderr


def test_a_retry_with_an_unknown_model_is_refused(box: Project) -> None:
    task = failed(box)

    refused = box.run("retry", task, "--model", "shel", check=False)

    assert (refused.code, "did you mean `shell`" in refused.stderr) == (2, True)
    assert state_of(box, task) is S.FAILED


# -- Redis forgets ----------------------------------------------------------------------------------------------------


def flush(box: Sandbox) -> None:
    """Remove every key of the own server."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_of(box.home / "run")))
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(100) == b"+OK\r\n"


def test_waiting_tasks_come_back_by_themselves_when_redis_forgot_them(sandbox: Sandbox) -> None:
    configure(sandbox)
    sandbox.run("up")
    submit(sandbox, "--name", "a", "--hold", items=(SAY,))
    submit(sandbox, "--name", "b", "--after", "a", items=(SAY,))
    assert "nothing to tell" in sandbox.run("rebuild").stderr

    flush(sandbox)

    wait_for(lambda: "nothing to tell" in sandbox.run("rebuild").stderr, "the worker to tell Redis again")
    sandbox.run("release", "a")
    assert sandbox.run("wait", "b").code == 0
    assert said(sandbox) == ["a", "b"]


def test_tasks_are_told_again_by_command_where_no_worker_runs(
    sandbox: Sandbox, redis_url: str, redis_server: Server
) -> None:
    configure(sandbox)
    sandbox.env["DISPATCH_REDIS_URL"] = redis_url
    submit(sandbox, "--name", "a", items=(SAY,))
    submit(sandbox, "--name", "b", "--after", "a", items=(SAY,))
    submit(sandbox, "--name", "gone", items=(SAY,))
    sandbox.run("cancel", "gone")
    redis_server.flush()

    elsewhere = sandbox.run("rebuild", "--all", cwd=sandbox.folder)

    assert elsewhere.stdout == (
        f"Told again of `a` in {sandbox.project}, queued\nTold again of `b` in {sandbox.project}, waiting: after a\n"
    )
    redis_server.flush()
    told = sandbox.run("rebuild", "--json").json
    assert [(one["task"], one["state"]) for one in told] == [("a", "queued"), ("b", "waiting")]
    assert "nothing to tell" in sandbox.run("rebuild").stderr
