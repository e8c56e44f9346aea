"""What a person sees of tasks while they run, and what reaches a running agent."""

import json
import signal
import time
from pathlib import Path

import pytest

from dispatch_queue import plan
from dispatch_queue.states import State
from tests.support.sandbox import Background, Completed
from tests.support.tasks import (
    Gate,
    Project,
    await_state,
    copy_of,
    do,
    journal,
    marks_of,
    state_of,
    submit,
    transcript,
    workspace_of,
)
from tests.support.waiting import wait_for

S = State
NOTE = "use `npx skills`, not $(pip)"
FAILS = "Fail: `echo no such host >&2; exit 7`"

ISOLATIONS = pytest.mark.parametrize("isolation", ["--shared", "--worktree"])


@pytest.fixture
def project(box: Project) -> Project:
    box.make_repository()
    return box


def held(project: Project, gate: Gate, *words: str) -> str:
    """A task whose agent is at work, on an item that lasts until the gate is opened."""
    task = submit(project, *words, items=("One: `true`", gate.item, "Three: `true`"))
    wait_for(lambda: [entry for entry in journal(project, task) if entry.event == "tick"], "the first tick at home")
    assert marks_of(project, task) == "x__"
    return task


def watching(project: Project, task: str, *words: str) -> Background:
    """A `dispatch watch` that has begun to look: it said where the held task stands."""
    watch = project.start("watch", *words)
    watch.wait_for_line(f"{task}  running  1/3")
    return watch


def lines_of(done: Completed) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- watch, wait, --wait, --follow ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["watch", "wait"])
@pytest.mark.parametrize(
    ("item", "status"), [("ask: Which?", 3), ("Work: `true`", 0), (FAILS, 1)], ids=["a question", "done", "failed"]
)
def test_the_exit_status_says_how_the_wait_ended(box: Project, command: str, item: str, status: int) -> None:
    task = submit(box, items=(item,))

    assert box.run(command, task, check=False).code == status
    assert box.run(command, task, check=False).code == status  # also for one who comes late


def test_a_cancelled_task_is_not_done(box: Project, gate: Gate) -> None:
    task = held(box, gate)
    watch = watching(box, task, task)

    box.run("cancel", task)

    assert watch.wait().code == 1


def test_with_one_failed_and_one_done_the_exit_status_is_1(box: Project) -> None:
    tasks = [submit(box, items=(item,)) for item in ("Work: `true`", FAILS)]

    ended = box.run("wait", *tasks, check=False)

    assert ended.code == 1
    assert "exit status 7: no such host" in ended.stdout
    assert f"dispatch show {tasks[1]}" in ended.stdout


def test_a_wait_can_be_limited(box: Project, gate: Gate) -> None:
    task = held(box, gate)

    assert box.run("wait", task, "--timeout", "0.2", check=False).code == 124
    assert state_of(box, task) is S.RUNNING


def test_an_interrupted_watch_leaves_the_task_alone(box: Project, gate: Gate) -> None:
    task = held(box, gate)
    watch = watching(box, task, task)

    watch.interrupt()

    assert watch.wait().code == 130
    assert state_of(box, task) is S.RUNNING


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_with_nothing_unfinished_there_is_nothing_to_wait_for(box: Project, command: str) -> None:
    do(box, items=("Work: `true`",))

    done = box.run(command)

    assert done.stdout == ""
    assert "no unfinished task" in done.stderr


def test_watch_without_a_name_takes_every_unfinished_task(box: Project, gate: Gate) -> None:
    one, two = held(box, gate, "--title", "One"), submit(box, "--title", "Two", items=(gate.item,))
    watch = watching(box, one)

    gate.open()

    ended = watch.wait()
    assert ended.code == 0
    assert {f"{one}  done  3/3", f"{two}  done  1/1"} <= set(ended.stdout.splitlines())


def test_watch_tells_each_tick_when_it_happens_and_not_at_the_next_look(box: Project, tmp_path: Path) -> None:
    gates = [Gate(tmp_path / f"gate-{number}") for number in range(6)]
    task = submit(box, items=tuple(gate.item for gate in gates))
    watch = box.start("watch", task)
    watch.wait_for_line("/6")
    box.run("note", task, "now")
    watch.wait_for_line("note: now")
    told_after = []

    for number, gate in enumerate(gates[:-1], 1):
        opened = time.monotonic()
        gate.open()
        watch.wait_for_line(f"[x] {number}. ")
        told_after.append(time.monotonic() - opened)
        assert watch.running

    # Opened just after a tick was told, a gate is followed by the next look 5 s later: without a watch by each of them.
    assert min(told_after[1:]) < 4.5
    gates[-1].open()
    assert watch.wait().code == 0


@ISOLATIONS
def test_submit_follow_prints_what_happens_and_ends_as_watch_does(project: Project, isolation: str) -> None:
    items = ("--item", "One: `true`", "--item", "Two: `true`")

    done = project.run("submit", "-m", "shell", isolation, "--follow", "--title", "Both", *items)

    assert done.stdout.startswith("Dispatched `both` using shell")
    shown = [line for line in done.stdout.splitlines() if line.startswith("both")]
    assert [line.split("  ", 1)[1][:6] for line in shown if "[x]" in line] == ["[x] 1.", "[x] 2."]
    assert shown[-1] == "both  done  2/2"


def test_submit_follow_as_json_is_one_object_a_line(box: Project) -> None:
    done = box.run("submit", "-m", "shell", "--follow", "--json", "--title", "It", "--item", "One: `true`")

    dispatched, *events, end = lines_of(done)
    assert dispatched["id"] == "it"
    assert dispatched["dispatched"] is True
    assert [event["event"] for event in events] == ["claim", "attempt", "tick", "finish"]
    assert end["exit"] == 0


@pytest.mark.parametrize(
    ("item", "status"), [("ask: Which?", 3), ("Work: `true`", 0), (FAILS, 1)], ids=["a question", "done", "failed"]
)
def test_submit_wait_ends_as_wait_does_and_prints_no_ticks(box: Project, item: str, status: int) -> None:
    done = box.run("submit", "-m", "shell", "--wait", "--title", "It", "--item", item, check=False)

    assert done.code == status
    assert "[x]" not in done.stdout


def test_watch_as_json_is_one_event_a_line_and_then_the_end(box: Project, gate: Gate) -> None:
    task = held(box, gate)
    watch = watching(box, task, task, "--json")
    box.run("note", task, NOTE)
    watch.wait_for_line("note")

    gate.open()

    *events, end = lines_of(watch.wait())
    assert {event["task"] for event in events} == {task}
    assert [event["event"] for event in events] == ["note", "tick", "tick", "finish"]
    assert events[-1]["state"] == "done"
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)  # type: ignore[type-var]
    assert end["exit"] == 0
    assert [shown["id"] for shown in end["tasks"]] == [task]  # type: ignore[attr-defined]


def test_a_watch_is_ended_by_sigterm(box: Project, gate: Gate) -> None:
    task = held(box, gate)
    watch = watching(box, task, task)

    watch.stop()

    assert watch.wait().code == -signal.SIGTERM


# -- ls, status, show, questions, logs, diff --------------------------------------------------------------------------


def test_ls_shows_what_needs_a_person_first_with_the_command_that_helps(box: Project, gate: Gate) -> None:
    running = held(box, gate, "--title", "Runs")
    asking = submit(box, "--title", "Asks", items=("One: `true`", "ask: Which one?"))
    failed = submit(box, "--title", "Fails", items=(FAILS,))
    done = submit(box, "--title", "Done", items=("Work: `true`",))
    for task, state in ((asking, S.ASKING), (failed, S.FAILED), (done, S.DONE)):
        await_state(box, task, state)

    listed = box.run("ls").stdout.splitlines()
    as_json = box.run("ls", "--json").json

    assert listed[0].split() == ["TASK", "STATE", "ITEMS", "MODEL", "WHERE", "AGE"]
    rows = [line.split()[:4] for line in listed[1:] if not line.startswith(" ")]
    assert rows == [
        [asking, "asking", "1/2", "shell"],
        [failed, "failed", "0/1", "shell"],
        [running, "running", "1/3", "shell"],
        [done, "done", "1/1", "shell"],
    ]
    below = [line.strip() for line in listed[1:] if line.startswith(" ")]
    assert below[:2] == ["question 1: Which one?", f'dispatch answer {asking} 1 "…"']
    assert "exit status 7: no such host" in below[2]
    assert below[3] == f"dispatch show {failed}"
    assert [card["id"] for card in as_json] == [asking, failed, running, done]
    assert as_json[0]["questions"] == [{"number": 1, "text": "Which one?"}]


def test_the_json_of_a_task_has_all_its_facts_and_null_for_what_is_unknown(box: Project) -> None:
    task = submit(box, "--title", "Shape", items=("One: `true`", FAILS))
    await_state(box, task, S.FAILED)

    (listed,) = box.run("ls", "--json").json
    status = box.run("status", task, "--json").json
    shown = box.run("show", task, "--json").json

    assert listed == status
    assert {key: shown[key] for key in listed} == listed
    assert listed | {"project": "", "created": "", "changed": "", "reason": ""} == {
        "id": task,
        "project": "",
        "path": str(box.task(task)),
        "title": "Shape",
        "state": "failed",
        "reason": "",
        "model": "shell",
        "isolation": "shared",
        "attempt": 1,
        "items": {"done": 1, "total": 2},
        "plan": [
            {"number": 1, "mark": "x", "text": "One: `true`", "note": None},
            {"number": 2, "mark": "!", "text": FAILS, "note": "exit status 7: no such host"},
        ],
        "questions": [],
        "unreadable": [],
        "doing": None,
        "quiet": None,
        "branch": None,
        "worker": None,
        "created": "",
        "changed": "",
        "broken": None,
    }
    assert listed["reason"].startswith("item: 2 ")
    assert shown["answered"] == []
    assert [attempt["end"] for attempt in shown["attempts"]] == ["fail"]


def test_status_of_a_task_shows_each_item_and_of_a_project_counts(box: Project, gate: Gate) -> None:
    task = held(box, gate)
    asking = submit(box, "--title", "Asks", items=("ask: Which one?",))
    await_state(box, asking, S.ASKING)

    one = box.run("status", task).stdout.splitlines()
    all_of_it = box.run("status").stdout.splitlines()

    assert one[0] == f"{task}  running  1/3"
    assert one[1:] == ["  [x] 1. One: `true`", f"  [ ] 2. {gate.item}", "  [ ] 3. Three: `true`"]
    assert all_of_it[0] == "1 asking, 1 running"
    assert any("Which one?" in line for line in all_of_it)
    assert not any(line.startswith(task) for line in all_of_it)
    assert box.run("status", "--json").json == {"asking": 1, "running": 1}


def test_show_has_plan_answers_attempts_output_and_what_to_do_next(project: Project) -> None:
    report = 'Report: `echo fine > "$DISPATCH_TASK_DIR/output.md"`'
    task = submit(project, "--worktree", "--title", "All of it", items=("ask: Which one?", report))
    await_state(project, task, S.ASKING)
    asking = project.run("show", task).stdout
    project.run("answer", task, "the second")
    await_state(project, task, S.DONE)

    page = project.run("show", task).stdout
    as_json = project.run("show", task, "--json").json

    assert "1. Which one?  (open)" in asking
    assert f'dispatch answer {task} 1 "…"' in asking
    assert page.startswith(f"{task}  done  2/2\n  All of it\n  shell, worktree, submitted ")
    for part in ("[x] 2. Report", "→ the second", "1. finish", f"branch  dispatch/{task}", f"dispatch diff {task}"):
        assert part in page
    assert f"output  {project.task(task) / 'output.md'}" in page
    assert as_json["answered"] == [{"number": 1, "question": "Which one?", "answer": "the second"}]
    assert as_json["branch"] == f"dispatch/{task}"


def test_questions_are_listed_whole_each_with_its_command(box: Project) -> None:
    assert "no question waits" in box.run("questions").stderr
    assert box.run("questions", "--json").json == []
    long = "Which one, " + "of the many there are, " * 20 + "is it?"
    task = submit(box, items=(f"ask: {long}",))
    await_state(box, task, S.ASKING)

    listed = box.run("questions").stdout

    assert long in listed
    assert f"dispatch answer {task} 1" in listed
    assert box.run("questions", "--json").json == [{"task": task, "number": 1, "text": long}]


@ISOLATIONS
def test_logs_follow_prints_what_the_agent_says_until_it_ends(project: Project, gate: Gate, isolation: str) -> None:
    task = submit(project, isolation, items=("One: `echo first`", gate.item, "Three: `echo last`"))
    logs = project.start("logs", task, "-f")
    logs.wait_for_line("first")
    assert logs.running

    gate.open()

    assert logs.wait().stdout.splitlines().count("last") == 1
    assert project.run("logs", task).stdout == transcript(project, task)


def test_logs_show_what_a_terminal_would_obey_unless_asked_for_raw(box: Project) -> None:
    task = do(box, items=("Colour: `printf '\\033[31mred\\033[0m\\n'`",))

    assert "\\x1b[31mred" in box.run("logs", task).stdout
    assert "\x1b[31mred" in box.run("logs", task, "--raw").stdout


def test_logs_of_an_attempt_that_is_not_there_are_refused(box: Project, gate: Gate) -> None:
    task = held(box, gate)

    refused = box.run("logs", task, "-n", "2", check=False)

    assert refused.code == 2
    assert "it has: 1" in refused.stderr


def test_diff_shows_the_worktree_while_the_agent_works_and_the_branch_afterwards(project: Project, gate: Gate) -> None:
    change = "Change: `echo more >> README.md; echo new > new; git add new; git commit -qm new`"
    task = submit(project, "--worktree", items=(change, gate.item))
    wait_for(lambda: marks_of(project, task) == "x_", "the change")

    during = project.run("diff", task).stdout
    gate.open()
    await_state(project, task, S.DONE)
    after = project.run("diff", task).stdout
    stat = project.run("diff", task, "--stat").stdout

    for shown in (during, after):
        assert "+more" in shown
        assert "+new" in shown
        assert ".dispatch" not in shown
    assert "2 files changed, 2 insertions(+)" in stat
    assert project.git("status", "--porcelain") == ""


def test_a_shared_task_has_no_diff_of_its_own(project: Project) -> None:
    task = do(project, items=("Work: `true`",))

    refused = project.run("diff", task, check=False)

    assert refused.code == 2
    assert f"git -C {project.project} diff" in refused.stderr


def test_a_prefix_names_a_task_as_long_as_it_names_only_one(box: Project) -> None:
    for title in ("Build api", "Build app"):
        do(box, "--title", title, items=("Work: `true`",))

    assert box.run("status", "build-api").stdout.startswith("build-api  done")
    assert box.run("status", "build-ap", check=False).code == 2
    assert "build-api" in box.run("status", "build-ap", check=False).stderr
    assert box.run("status", "none-such", check=False).code == 2


# -- notes ------------------------------------------------------------------------------------------------------------


@ISOLATIONS
def test_a_note_is_in_the_live_plan_at_once_and_only_once(project: Project, gate: Gate, isolation: str) -> None:
    task = held(project, gate, isolation)
    live = workspace_of(project, task) / ".dispatch/tasks" / task / "plan.md"

    said = project.run("note", task, NOTE)

    assert said.stdout == f"Noted in the plan of `{task}`.\n"
    wait_for(lambda: plan.notes_in(live.read_bytes()) == [NOTE], "the note in the live plan")
    gate.open()
    await_state(project, task, S.DONE)
    assert f"note from the dispatcher: {NOTE}" in transcript(project, task).splitlines()
    assert plan.notes_in((project.task(task) / "plan.md").read_bytes()) == [NOTE]
    assert [entry.facts["text"] for entry in journal(project, task) if entry.event == "note"] == [NOTE]
    assert marks_of(project, task) == "xxx"


@ISOLATIONS
def test_several_notes_keep_their_order_also_equal_ones(project: Project, gate: Gate, isolation: str) -> None:
    task = held(project, gate, isolation)
    notes = ["one", "two\nwith a second line", "one"]

    for note in notes:
        project.run("note", task, "-", input=note)
    gate.open()

    await_state(project, task, S.DONE)
    assert plan.notes_in((project.task(task) / "plan.md").read_bytes()) == notes


@ISOLATIONS
def test_an_agent_that_overwrites_the_plan_loses_no_note(project: Project, isolation: str) -> None:
    task = submit(project, isolation, "--item", "Write over it", model="overwrites_notes")
    await_state(project, task, S.RUNNING)

    project.run("note", task, NOTE)

    await_state(project, task, S.DONE)
    assert plan.notes_in((project.task(task) / "plan.md").read_bytes()) == [NOTE]
    assert marks_of(project, task) == "x"


@ISOLATIONS
def test_a_note_to_a_parked_task_is_read_by_its_next_attempt(project: Project, isolation: str) -> None:
    items = ("ask: Which one?", "Work: `true`")
    task = submit(project, isolation, "--question-timeout", "1", items=items)
    await_state(project, task, S.PARKED)

    project.run("note", task, NOTE)
    assert plan.notes_in((project.task(task) / "plan.md").read_bytes()) == [NOTE]
    project.run("answer", task, "this one")

    await_state(project, task, S.DONE)
    assert f"note from the dispatcher: {NOTE}" in transcript(project, task, 2).splitlines()
    assert plan.notes_in((project.task(task) / "plan.md").read_bytes()) == [NOTE]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_note_is_refused(box: Project, gate: Gate, text: str) -> None:
    task = held(box, gate)
    before = (box.task(task) / "plan.md").read_bytes()

    assert box.run("note", task, text, check=False).code == 2
    assert (box.task(task) / "plan.md").read_bytes() == before


# -- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_may_come_from_standard_input(box: Project) -> None:
    task = submit(box, items=("ask: Which one?",))
    await_state(box, task, S.ASKING)

    box.run("answer", task, "-", input="the\nsecond\n")

    await_state(box, task, S.DONE)
    assert (box.task(task) / "ipc/001.answer").read_text() == "the\nsecond\n"


def test_an_answer_to_no_question_is_refused(box: Project, gate: Gate) -> None:
    task = held(box, gate)

    for words in (("yes",), ("1", "yes"), ("0", "yes"), ("1000", "yes")):
        refused = box.run("answer", task, *words, check=False)
        assert refused.code == 2, words
    assert list((box.task(task) / "ipc").iterdir()) == []


def test_a_second_answer_is_refused_and_the_first_stays(box: Project, gate: Gate) -> None:
    task = submit(box, items=("ask: Which one?", gate.item))
    await_state(box, task, S.ASKING)
    box.run("answer", task, "the first")
    wait_for(lambda: marks_of(box, task) == "x_", "the answer to be taken")

    again = box.run("answer", task, "1", "the second", check=False)

    assert again.code == 1
    assert "answered already" in again.stderr
    assert f"dispatch note {task}" in again.stderr
    assert copy_of(box, task).ipc().answers == {1: "the first"}
