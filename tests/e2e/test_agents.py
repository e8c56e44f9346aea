"""Agents of every manner: how they get their prompt, what they print, and how they end."""

import pytest

from dispatch_queue.record import Isolation
from dispatch_queue.states import State
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Gate,
    Project,
    agents_of,
    await_state,
    configure,
    copy_of,
    do,
    marks_of,
    prompt_of,
    result_of,
    states_of,
    submit,
    transcript,
)
from tests.support.waiting import wait_for

S = State
MIB = 1024 * 1024

TWO_ITEMS = ("One", "Two")


def reason_of(box: Project, task: str) -> str:
    return copy_of(box, task).standing().reason


def output_of(box: Project, task: str) -> str:
    return (box.task(task) / "output.md").read_text()


# -- how a prompt gets there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["--shared", "--worktree"])
def test_a_configured_command_gets_its_prompt_on_standard_input(box: Project, isolation: str) -> None:
    box.make_repository()

    task = do(box, isolation, "Say\nhello", model="says_its_input")

    assert output_of(box, task) == f"stdin {prompt_of(box, task)}"
    assert "Say\nhello" in output_of(box, task)


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("takes_a_word", "word --fast\nword ", ""),
        ("takes_an_option", "word --prompt=", "word --model=takes_an_option\n"),
    ],
)
def test_a_command_with_a_place_for_the_prompt_gets_it_there_and_nothing_on_standard_input(
    box: Project, model: str, before: str, after: str
) -> None:
    task = do(box, "Say $(hello); `ls` 'it' \"all\"", model=model)

    assert output_of(box, task) == f"{before}{prompt_of(box, task)}\n{after}stdin "
    assert "Say $(hello); `ls` 'it' \"all\"" in output_of(box, task)


def test_standard_input_of_a_shell_agents_commands_is_at_its_end(box: Project) -> None:
    task = do(box, items=("Read: `cat; echo ended`",))

    assert "ended" in transcript(box, task).splitlines()


def test_what_the_user_wrote_is_never_run_by_a_shell(box: Project) -> None:
    words = "do $(touch ran) `touch ran`; touch ran"

    task = do(box, "--title", words, "--context", words, "--item", words, words, model="says_its_input")

    assert not (box.project / "ran").exists()
    assert words in output_of(box, task)


def test_an_agent_sees_its_task_but_not_the_workers_secrets(box: Project) -> None:
    task = do(box, items=("Look: `env`",))

    seen = dict(line.split("=", 1) for line in transcript(box, task).splitlines() if "=" in line)
    assert seen["DISPATCH_TASK_ID"] == task
    assert seen["DISPATCH_ATTEMPT"] == "1"
    assert seen["DISPATCH_TASK_DIR"] == str(box.task(task))
    assert int(seen["DISPATCH_PORT_BASE"]) == 20000 + 20 * int(seen["DISPATCH_SLOT"])
    assert "DISPATCH_HOME" not in seen
    assert "PYTEST_CURRENT_TEST" not in seen


# -- what it prints ---------------------------------------------------------------------------------------------------


def test_binary_output_is_kept_as_it_is_and_shown_harmless(box: Project) -> None:
    task = do(box, "--item", "Print", model="prints_binary")

    kept = (box.task(task) / "attempts/1/agent.log").read_bytes()
    assert kept == bytes(range(256)) + b"\xc3\x1b[31m\x00\n"
    shown = box.run("logs", task).stdout
    assert "\\x1b[31m" in shown
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert box.run("show", task).code == 0


def test_100_mib_of_output_are_capped_and_end_no_task(box: Project) -> None:
    task = do(box, "--item", "Print", model="floods")

    path = box.task(task) / "attempts/1/agent.log"
    assert path.stat().st_size == pytest.approx(64 * MIB, abs=1000)
    with path.open("rb") as stream:
        stream.seek(-200, 2)
        assert b"[37748736 bytes were not kept" in stream.read()
    path.unlink()


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_an_agent_that_exits_0_with_items_left_is_continued_until_all_are_done(box: Project) -> None:
    task = do(box, items=("One", "Two", "Three"), model="ticks_one")

    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
    assert [result_of(box, task, attempt)["done"] for attempt in (1, 2, 3)] == [1, 2, 3]


def test_an_agent_that_stops_halfway_again_and_again_fails_with_what_is_unchecked(box: Project) -> None:
    items = tuple(f"Step {number}" for number in range(1, 8))

    task = submit(box, "--attempts", "2", items=items, model="ticks_one")

    await_state(box, task, S.FAILED)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.FAILED]
    assert marks_of(box, task) == "xx_____"
    assert reason_of(box, task) == (
        "agent: 2 attempts ended unfinished; unchecked: 3 'Step 3', 4 'Step 4', 5 'Step 5' and 2 more"
    )
    assert "1 of 7 items are checked" in prompt_of(box, task, 2)


def test_an_agent_that_does_nothing_is_asked_once_more_and_not_for_ever(box: Project) -> None:
    task = submit(box, "--attempts", "9", items=TWO_ITEMS, model="ticks_none")

    await_state(box, task, S.FAILED)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.FAILED]
    assert "two attempts in a row checked nothing" in reason_of(box, task)
    assert "its last line: All done!" in reason_of(box, task)
    assert "unchecked: 1 'One', 2 'Two'" in reason_of(box, task)


def test_every_item_ticked_is_not_done_without_the_completion_marker(box: Project) -> None:
    task = submit(box, "--attempts", "2", items=TWO_ITEMS, model="ticks_all_but_forgets_to_finish")

    await_state(box, task, S.FAILED)
    assert marks_of(box, task) == "xx"
    assert "ipc/.done is missing" in reason_of(box, task)
    assert "ipc/.done is missing" in prompt_of(box, task, 2)


def test_an_agent_killed_by_a_signal_gets_the_tries_there_are_and_then_fails_its_task_with_it(box: Project) -> None:
    task = submit(box, "--item", "Work", "--attempts", "2", model="kills_itself")

    await_state(box, task, S.FAILED)
    assert states_of(box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.FAILED]
    assert "the agent was killed by signal 9; its last line: out of memory?" in reason_of(box, task)
    assert result_of(box, task)["signal"] == 9
    assert result_of(box, task)["exit_status"] is None


def test_an_exit_status_is_told_with_the_last_thing_the_agent_said(box: Project) -> None:
    task = submit(box, "--item", "Work", model="exits_3")

    await_state(box, task, S.FAILED)
    assert reason_of(box, task) == ("agent: the agent ended with exit status 3; its last line: unknown option --fast")
    assert result_of(box, task)["exit_status"] == 3


def test_a_command_that_is_not_there_is_refused_with_what_to_install(box: Project) -> None:
    refused = box.run("submit", "-m", "is_not_installed", "--item", "Work", check=False)

    assert refused.code == 4
    assert "hint: install `no-such-agent`" in refused.stderr
    assert not (box.project / ".dispatch").exists()


def test_a_command_that_went_away_since_fails_the_task_at_its_start(sandbox: Sandbox, gate: Gate) -> None:
    command = sandbox.folder / "agent"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    configure(sandbox, {"agent": str(command)}, worker={"slots": 1})
    submit(sandbox, items=(gate.item,))
    task = submit(sandbox, "--item", "Work", model="agent")

    command.unlink()
    gate.open()

    await_state(sandbox, task, S.FAILED)
    reason = copy_of(sandbox, task).standing().reason
    assert reason.startswith(f"start: cannot start `{command}`: No such file or directory")
    assert f"install `{command}`" in reason


def test_an_attempt_that_takes_too_long_is_ended_with_its_whole_tree(box: Project, gate: Gate) -> None:
    task = submit(box, "--timeout", "1", items=(gate.item,))

    await_state(box, task, S.FAILED)
    assert reason_of(box, task).startswith("timeout: the attempt's time is up; unchecked: 1 ")
    assert agents_of(box, task) == []


def test_an_item_marked_as_failed_fails_the_task_with_its_note_and_nothing_after_it_runs(box: Project) -> None:
    task = submit(box, items=("One: `true`", "Two: `echo no such host; exit 7`", "Three: `touch ran`"))

    await_state(box, task, S.FAILED)
    assert reason_of(box, task).startswith("item: 2 ")
    assert reason_of(box, task).endswith(": exit status 7: no such host")
    assert marks_of(box, task) == "x!_"
    assert not (box.project / "ran").exists()


def test_an_agent_may_block_the_old_way_more_than_once(box: Project) -> None:
    task = submit(box, "--item", "Work", model="blocks_twice")

    for number in (1, 2):
        await_state(box, task, S.PARKED)
        (question,) = box.run("questions", "--json").json
        assert question["number"] == number
        assert question["text"].endswith(f"Question no. {number}?")
        box.run("answer", task, f"answer {number}")
        wait_for(lambda number=number: copy_of(box, task).standing().attempt > number, "the next attempt")  # type: ignore[misc]

    await_state(box, task, S.DONE)
    assert "answer 1" in prompt_of(box, task, 3)
    assert "answer 2" in prompt_of(box, task, 3)


# -- what was asked ---------------------------------------------------------------------------------------------------


def test_a_bare_prompt_is_planned_by_the_agent_itself(box: Project) -> None:
    task = submit(box, "do a security review of this project", model="plans_itself")

    assert task == "security-review"
    await_state(box, task, S.DONE)
    assert [item.text for item in copy_of(box, task).plan().items] == ["Look", "Think", "Report"]
    assert marks_of(box, task) == "xxx"
    shown = box.run("status", task, "--json").json
    assert shown["items"] == {"done": 3, "total": 3}
    first_plan = output_of(box, task).split("\nplan\n")[1]
    assert first_plan.count("- [ ] ") == 1
    assert "do a security review of this project" in first_plan


def test_a_plan_that_was_given_is_not_to_be_replaced(box: Project) -> None:
    plan = "# Mine\r\n\r\nSome words.\r\n\r\n1. [ ] One\r\n2. [ ] Two"
    (box.project / "mine.md").write_bytes(plan.encode())

    task = do(box, "--plan", "mine.md", model="says_its_input")

    assert task == "mine"
    assert "replace that item" not in output_of(box, task)
    assert (box.task(task) / "plan.md").read_bytes() == plan.replace("[ ]", "[x]").encode()


def test_the_prompt_has_the_context_and_the_files_to_read(box: Project) -> None:
    (box.project / "notes.md").write_text("hello")

    words = ("--context", "Be brief.", "--read", "notes.md", "--item", "One")
    task = do(box, *words, "the words", model="says_its_input")

    prompt = output_of(box, task)
    for part in ("Be brief.", "- notes.md", "the words", f".dispatch/tasks/{task}/plan.md"):
        assert part in prompt


def test_the_same_name_and_content_twice_is_dispatched_once(box: Project) -> None:
    words = ("submit", "-m", "shell", "--name", "nightly", "--item", "Count: `echo once >> count.txt`")

    first = box.run(*words)
    await_state(box, "nightly", S.DONE)
    second = box.run(*words)

    assert first.stdout.startswith("Dispatched `nightly` using shell")
    assert second.stdout == "`nightly` was already dispatched with the same content; nothing was sent.\n"
    assert (box.project / "count.txt").read_text() == "once\n"
    assert states_of(box, "nightly") == [S.QUEUED, S.RUNNING, S.DONE]
    assert box.run(*words, "--json").json["dispatched"] is False


def test_the_same_name_with_other_content_is_refused(box: Project) -> None:
    do(box, "--name", "nightly", items=("Work: `true`",))
    before = (box.task("nightly") / "task.yaml").read_bytes()

    refused = box.run("submit", "-m", "shell", "--name", "nightly", "--item", "Other: `touch ran`", check=False)

    assert refused.code == 1
    assert "dispatched before with other content" in refused.stderr
    assert (box.task("nightly") / "task.yaml").read_bytes() == before
    assert not (box.project / "ran").exists()


def test_a_taken_id_gets_a_number(box: Project) -> None:
    assert [do(box, "--title", "Same", items=("Work: `true`",)) for _ in range(3)] == ["same", "same-2", "same-3"]


def test_the_model_that_a_prompt_names_does_the_work(box: Project) -> None:
    done = box.run("submit", "use says_its_input to look around, not the default")

    task = done.stdout.split("`")[1]
    assert "using says_its_input (named in the prompt)" in done.stdout
    await_state(box, task, S.DONE)
    assert copy_of(box, task).task().isolation is Isolation.SHARED


def test_an_agent_that_takes_items_out_of_the_plan_has_not_done_it(box: Project) -> None:
    task = submit(box, items=("One", "Two"), model="drops_an_item")

    await_state(box, task, S.FAILED)

    assert reason_of(box, task) == "agent: the agent took items out of the plan: it had 2 items, and now 1"
