"""ls, show and logs of agents that speak JSON: stand-ins that print what the real CLIs were recorded to."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate, await_state, configure, do, submit, transcript
from tests.support.waiting import wait_for

DATA = Path(__file__).parents[1] / "data" / "agents"
ANSWERS = 2  # lines of claude-done.jsonl before its tool has answered

WORKS = f"""\
head -n {ANSWERS} {DATA}/claude-done.jsonl
until [ -e "$GATE" ]; do sleep 0.02; done
tail -n +{ANSWERS + 1} {DATA}/claude-done.jsonl
sed -i 's/\\[ \\]/[x]/' "$DISPATCH_TASK_DIR/plan.md"
: > "$DISPATCH_TASK_DIR/ipc/.done"
"""
FAILS = f"cat {DATA}/claude-auth-key.jsonl; exit 1\n"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    with sandboxes.opened(tmp_path / "b") as box:
        yield box


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def install(box: Sandbox, script: str, gate: Gate) -> None:
    """Make `claude`, and the model of its name, run a script."""
    program = box.folder / "claude"
    program.write_text(f"#!/bin/sh\nGATE={gate.path}\n{script}")
    program.chmod(0o755)
    configure(box, {"claude": f"{program} -p", "other": "my-agent"})


def test_what_an_agent_does_is_seen_while_it_does_it_and_what_it_used_afterwards(box: Sandbox, gate: Gate) -> None:
    install(box, WORKS, gate)
    task = submit(box, items=("One",), model="claude")
    await_state(box, task, State.RUNNING)
    does = "Bash: echo hi from claude"

    logs = box.start("logs", task, "-f")
    logs.wait_for_line(f"tool    {does}")
    assert wait_for(lambda: does in box.run("ls").stdout, "the activity in `ls`")
    assert f"     {does} (" in box.run("show", task).stdout
    assert box.run("show", task, "--json").json["doing"]["text"] == does
    assert logs.running

    gate.open()
    await_state(box, task, State.DONE)

    assert logs.wait().stdout.splitlines()[1:] == [
        "tool    Bash: echo hi from claude",
        "result  hi from claude",
        "said    All done.",
        "end     done: 2 turns, 300 tokens in (60 cached), 50 out, $0.0010",
    ]
    assert box.run("logs", task, "--raw").stdout == transcript(box, task) == (DATA / "claude-done.jsonl").read_text()
    shown = box.run("show", task).stdout
    session = "session f3f415b2-86c6-431d-9708-4e7d67b4be29"
    assert f"claude-sonnet-5-5, {session}, 2 turns, 300 tokens in (60 cached), 50 out, $0.0010" in shown
    told = box.run("show", task, "--json").json
    assert told["doing"] is None
    assert told["attempts"][0]["usage"] == {
        "input_tokens": 300,
        "cached_tokens": 60,
        "output_tokens": 50,
        "cost_usd": 0.000986,
        "turns": 2,
    }


def test_why_an_agents_cli_failed_is_shown_with_the_commands_that_get_over_it(box: Sandbox, gate: Gate) -> None:
    install(box, FAILS, gate)
    task = submit(box, items=("One",), model="claude")
    await_state(box, task, State.FAILED)

    lines = box.run("show", task).stdout.splitlines()

    assert "     auth: the CLI is not logged in, or its account may not do that" in lines
    following = "\n".join(lines[lines.index("next") :])
    assert "unset ANTHROPIC_API_KEY; dispatch down && dispatch up" in following
    assert f"dispatch retry {task} --model " in following
    assert box.run("logs", task).stdout.splitlines()[1:] == [
        "error   Invalid API key · Fix external API key",
        "end     failed (401): 1 turn, 0 tokens in, 0 out, $0.0000",
    ]


def test_the_list_of_all_projects_has_commands_that_work_from_anywhere(box: Sandbox, gate: Gate) -> None:
    install(box, FAILS, gate)
    task = submit(box, items=("One",), model="claude")
    await_state(box, task, State.FAILED)
    elsewhere = box.folder / "elsewhere"
    elsewhere.mkdir()

    listed = box.run("ls", "--all", cwd=elsewhere).stdout.splitlines()

    assert listed[0].split()[:2] == ["TASK", "PROJECT"]
    assert listed[1].split()[:3] == [task, box.project.name, "failed"]
    command = listed[-1].strip()
    assert command == f"dispatch -C {shlex.quote(str(box.project))} show {task}"
    subprocess.run(["sh", "-c", command], cwd=elsewhere, env=box.env, check=True, stdout=subprocess.DEVNULL)


def test_a_record_that_cannot_be_read_is_shown_as_broken(box: Sandbox, gate: Gate) -> None:
    task = submit(box, items=("One: `true`",))
    await_state(box, task, State.DONE)
    (box.task(task) / "task.yaml").write_text("nonsense\n")

    for words in (("show", task), ("status", task), ("ls",)):
        printed = box.run(*words).stdout
        assert "broken" in printed
        assert "None" not in printed
        assert f"look into {box.task(task)}" in printed


def test_what_ran_otherwise_than_configured_is_told_whole(box: Sandbox, gate: Gate) -> None:
    program = box.folder / "codex"
    program.write_text("""#!/bin/sh
cat > /dev/null
sed -i 's/\\[ \\]/[x]/' "$DISPATCH_TASK_DIR/plan.md"
: > "$DISPATCH_TASK_DIR/ipc/.done"
""")
    program.chmod(0o755)
    configure(box, {"codex": f"{program} exec --full-auto"})
    task = do(box, items=("One",), model="codex")

    shown = box.run("show", task)
    [told] = box.run("show", task, "--json").json["warnings"]

    assert told["text"].startswith("codex no longer knows `--full-auto`")
    assert told["text"].endswith("into `backends.codex.command`")
    assert told["attempt"] == 1
    assert told["text"] in shown.stdout
    assert f"with warnings: dispatch show {task}" in box.run("ls").stdout


def test_a_task_that_never_ran_is_not_said_to_have_a_transcript(box: Sandbox, gate: Gate) -> None:
    task = submit(box, "--hold", items=("One: `true`",))
    waits = box.run("logs", task, check=False)
    box.run("cancel", task)

    for words in (("logs", task), ("logs", task, "-f")):
        done = box.run(*words, check=False)
        said = f"error: task `{task}` is cancelled, and never ran\n\nhint: dispatch show {task}\n"
        assert (done.code, done.stderr) == (2, said)
    assert f"hint: dispatch logs {task} -f  waits for it" in waits.stderr
    assert "dispatch logs" not in box.run("show", task).stdout
