"""The reference agent as a worker runs it: a process with a task folder and a workspace."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch_queue import files, plan
from tests.support.waiting import wait_for
from worker.backends.shell_agent import command, command_of, question_of

BIN = Path(__file__).parents[2] / "worker" / "bin"


class Agent:
    """A running shell agent; `lines` is what it printed so far."""

    def __init__(self, task: Path, workspace: Path, env: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command(),
            cwd=workspace,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._task = task
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(line.decode(errors="replace").rstrip("\n") for line in stream)

    def end(self) -> int:
        code = self.process.wait(30)
        self._reader.join(30)
        return code


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task" / "ipc").mkdir(parents=True)
    return tmp_path / "task"


@pytest.fixture
def start(task: Path, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start the agent on a plan of the given items, or on the plan as it is."""
    agents: list[Agent] = []
    workspace = tmp_path / "workspace"
    workspace.mkdir()

    def start_(*items: str, **env: str) -> Agent:
        if items:
            files.write(task, "plan.md", plan.render("A task", items))
        path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        agents.append(Agent(task, workspace, {**os.environ, "DISPATCH_TASK_DIR": str(task), **path, **env}))
        return agents[-1]

    yield start_
    for agent in agents:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.end()


def marks(task: Path) -> str:
    return "".join(item.mark for item in plan.parse((task / "plan.md").read_bytes()).items)


def notes(task: Path) -> list[str]:
    return [item.note for item in plan.parse((task / "plan.md").read_bytes()).items]


def test_a_plan_of_commands_is_done_in_the_workspace(start: Callable[..., Agent], task: Path, tmp_path: Path) -> None:
    agent = start(
        "Count with `echo one > count; cat count`",
        "Then ``echo `cat count`-two | tee two``",
        'Write the summary to output.md: `cat two > "$DISPATCH_TASK_DIR/output.md"`',
    )

    assert agent.end() == 0
    assert agent.lines == [
        "item 1/3: Count with `echo one > count; cat count`",
        "one",
        "item 2/3: Then ``echo `cat count`-two | tee two``",
        "one-two",
        'item 3/3: Write the summary to output.md: `cat two > "$DISPATCH_TASK_DIR/output.md"`',
    ]
    assert marks(task) == "xxx"
    assert (task / "output.md").read_text() == "one-two\n"
    assert (task / "ipc" / ".done").read_bytes() == b""
    assert (tmp_path / "workspace" / "count").exists()


def test_a_command_that_fails_stops_the_plan_with_its_status_and_last_line(
    start: Callable[..., Agent], task: Path
) -> None:
    agent = start("`true`", "`echo first; echo 'no such table' >&2; echo; exit 4`", "`true`")

    assert agent.end() == 1
    assert marks(task) == "x! "
    assert notes(task)[1] == "exit status 4: no such table"
    assert not (task / "ipc" / ".done").exists()


@pytest.mark.parametrize(
    ("item", "note"),
    [
        ("`kill -9 $$`", "ended by signal 9"),
        ("`exit 3`", "exit status 3"),
        ("`no-such-program-here`", "exit status 127: "),
        ("Review the code", "no `command` in this item; the shell backend runs only commands"),
        ("ask:", "there is no question after `ask:`"),
    ],
)
def test_what_cannot_be_done_is_marked_with_the_reason(
    start: Callable[..., Agent], task: Path, item: str, note: str
) -> None:
    assert start(item).end() == 1

    assert marks(task) == "!"
    assert notes(task)[0].startswith(note)


def test_a_failed_item_is_tried_again_in_the_next_attempt(
    start: Callable[..., Agent], task: Path, tmp_path: Path
) -> None:
    assert start("`echo x >> ran`", "`test -e fixed`").end() == 1
    (tmp_path / "workspace" / "fixed").touch()

    assert start().end() == 0

    assert marks(task) == "xx"
    assert (tmp_path / "workspace" / "ran").read_text() == "x\n"


def test_a_question_is_asked_and_its_answer_noted(start: Callable[..., Agent], task: Path) -> None:
    agent = start("Ask: which database?", "`echo on`")
    wait_for(lambda: (task / "ipc" / "001.question").read_text() == "which database?\n", "the question")
    assert marks(task) == "  "

    files.write(task, "ipc/001.answer", b"postgres\n- [ ] not an item\n")

    assert agent.end() == 0
    assert marks(task) == "xx"
    assert notes(task)[0].startswith("answer: postgres\n")
    assert "on" in agent.lines
    assert (task / "ipc" / "001.done").exists()


def test_an_unanswered_question_parks_the_task_and_the_answer_resumes_it(
    start: Callable[..., Agent], task: Path
) -> None:
    assert start("`true`", "ask: which one?", "`echo on`", DISPATCH_QUESTION_TIMEOUT="0").end() == 0
    assert marks(task) == "x? "
    assert notes(task)[1] == "which one?"
    context = (task / "context.md").read_text()
    assert "item 2 of 3" in context
    assert "which one?" in context
    assert not (task / "ipc" / ".done").exists()

    files.write(task, "ipc/001.answer", b"the second\n")

    assert start(DISPATCH_QUESTION_TIMEOUT="0").end() == 0
    assert marks(task) == "xxx"
    assert "answer: the second" in notes(task)[1]
    assert (task / "ipc" / ".done").exists()


def test_questions_are_asked_where_dispatch_ask_is_not_on_the_path(
    start: Callable[..., Agent], task: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "ln", "mkdir", "mv", "rm", "sleep"):
        (tools / name).symlink_to(str(shutil.which(name)))

    agent = start("ask: anyone?", PATH=str(tools))
    wait_for(lambda: (task / "ipc" / "001.question").exists(), "the question")
    files.write(task, "ipc/001.answer", b"yes\n")

    assert agent.end() == 0


def test_output_is_shown_while_the_command_runs(start: Callable[..., Agent], tmp_path: Path) -> None:
    agent = start("`echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended`")

    wait_for(lambda: "begun" in agent.lines, "the first line")
    assert "ended" not in agent.lines
    (tmp_path / "workspace" / "go").touch()

    assert agent.end() == 0
    assert agent.lines[-1] == "ended"


def test_what_a_command_leaves_running_holds_nothing_up_and_may_go_on(
    start: Callable[..., Agent], task: Path, tmp_path: Path
) -> None:
    agent = start(
        "`(while [ ! -e stop ]; do sleep 0.02; done; echo from-behind; touch stopped) & echo started`",
        "`touch stop; while [ ! -e stopped ]; do sleep 0.02; done`",
    )

    assert agent.end() == 0
    assert marks(task) == "xx"
    assert "from-behind" in agent.lines


def test_standard_input_of_a_command_is_empty(start: Callable[..., Agent], task: Path) -> None:
    assert start('`test -z "$(cat)"`').end() == 0


def test_a_megabyte_and_bytes_that_are_no_text_pass_through(start: Callable[..., Agent], task: Path) -> None:
    agent = start(r"`head -c 1000000 /dev/zero | tr '\0' x; printf '\377\000\n'; exit 1`")

    assert agent.end() == 1
    assert sum(map(len, agent.lines)) > 1_000_000
    assert notes(task)[0].startswith("exit status 1: x")


def test_notes_and_items_added_meanwhile_are_seen(start: Callable[..., Agent], task: Path, tmp_path: Path) -> None:
    agent = start("`echo begun; while [ ! -e go ]; do sleep 0.02; done`", "`echo last`")
    wait_for(lambda: "begun" in agent.lines, "the first item to begin")
    data = plan.insert_items((task / "plan.md").read_bytes(), 0, ["`echo put-before`"])
    files.write(task, "plan.md", plan.add_note(data, "mind the gap"))

    (tmp_path / "workspace" / "go").touch()

    assert agent.end() == 0
    assert marks(task) == "xxx"
    assert agent.lines.count("begun") == 1
    assert agent.lines.index("note from the dispatcher: mind the gap") < agent.lines.index("put-before")
    assert agent.lines.count("note from the dispatcher: mind the gap") == 1
    assert "last" in agent.lines


def test_a_plan_that_cannot_be_read_is_told(start: Callable[..., Agent], task: Path) -> None:
    (task / "plan.md").symlink_to("/etc/passwd")

    agent = start()

    assert agent.end() == 1
    assert agent.lines == ["error: plan.md: is a link, not a file"]


def test_without_a_task_it_says_who_starts_it(start: Callable[..., Agent]) -> None:
    agent = start(DISPATCH_TASK_DIR="")

    assert agent.end() == 2
    assert "dispatch worker" in agent.lines[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Run `ls -l` first, then `rm`", "ls -l"),
        ("Quote ``echo `date` `` here", "echo `date` "),
        ("Quote `` `date` `` here", "`date`"),
        ("Spaces `  ` stay", "  "),
        ("No command", None),
        ("An open ` one", None),
        ("Uneven ``one`", None),
    ],
)
def test_the_command_is_the_first_code_span(text: str, found: str | None) -> None:
    assert command_of(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("ask: Which?", "Which?"), ("ASK:which `x`?", "which `x`?"), ("Task: x", None), ("Please ask: x", None)],
)
def test_only_an_item_that_begins_with_ask_asks(text: str, found: str | None) -> None:
    assert question_of(text) == found
