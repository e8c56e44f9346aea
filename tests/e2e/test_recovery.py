"""What becomes of a task when a CLI or its provider fails: recorded output of real CLIs, played by a stand-in."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from dispatch_queue import keys
from dispatch_queue.clock import SYSTEM
from dispatch_queue.config.load import load
from dispatch_queue.embedded import server_url
from dispatch_queue.home import host_name
from dispatch_queue.record import Ref
from dispatch_queue.states import State
from tests.support import sandbox as sandboxes
from tests.support import standins
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Gate,
    Project,
    await_state,
    copy_of,
    do,
    journal,
    marks_of,
    result_of,
    state_of,
    states_of,
    submit,
)
from tests.support.waiting import wait_for

S = State
RECORDED = Path(__file__).parents[1] / "data/agents"
MODELS = {"opus": "claude", "sonnet": "claude", "gpt-5.3-codex": "codex"}


@dataclass
class House:
    """A sandbox whose claude and codex are stand-ins that fail as recorded."""

    box: Sandbox
    folder: Path

    def set_up(self, **sections: Any) -> None:
        """Write config.yaml and start the worker."""
        program = standins.command("plays", str(self.folder))
        config = {
            "default": "opus",
            "backends": {name: {"command": program} for name in ("claude", "codex")},
            "models": {name: {"backend": backend} for name, backend in MODELS.items()},
            **sections,
        }
        self.box.home.mkdir(mode=0o700, exist_ok=True)
        (self.box.home / "config.yaml").write_text(json.dumps(config, indent=2))
        self.box.run("up")

    def fail(self, model: str, recording: str, *, until: int | None = None, cost_usd: float | None = None) -> None:
        """Let `model` fail as in a recording, but with this end of its limit (seconds since 1970) and this cost."""
        lines = []
        for line in (RECORDED / f"{recording}.jsonl").read_text().splitlines():
            value = json.loads(line)
            if until is not None and value["type"] == "rate_limit_event":
                value["rate_limit_info"]["resetsAt"] = until
            if cost_usd is not None and value["type"] == "result":
                value["total_cost_usd"] = cost_usd
            lines.append(json.dumps(value))
        (self.folder / model).write_text("\n".join(lines))

    def mend(self, model: str) -> None:
        (self.folder / model).unlink()

    def started(self) -> list[str]:
        """The models of the agents that were started so far."""
        path = self.folder / "started"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = tmp_path / "recordings"
    folder.mkdir()
    with sandboxes.opened(tmp_path / "s") as box:
        yield House(box, folder)


def reason_of(box: Sandbox, task: str) -> str:
    return copy_of(box, task).standing().reason


def await_done(box: Sandbox, task: str) -> None:
    """Wait for the end of a task that had failed and was queued again."""
    wait_for(lambda: state_of(box, task) not in (S.FAILED, S.QUEUED), "the task to go on")
    await_state(box, task, S.DONE)


def in_seconds(seconds: float) -> int:
    return int(SYSTEM.now().timestamp() + seconds)


@pytest.mark.parametrize(
    ("model", "recording", "reason"),
    [
        ("opus", "claude-auth-login", "auth: Not logged in · Please run /login (claude on "),
        ("opus", "claude-model", "model: "),
        ("opus", "claude-credit", "credit: Credit balance is too low"),
        ("gpt-5.3-codex", "codex-auth", "auth: "),
    ],
)
def test_what_waiting_cannot_mend_fails_at_once_with_its_reason(
    house: House, model: str, recording: str, reason: str
) -> None:
    house.set_up()
    house.fail(model, recording)

    task = submit(house.box, "--item", "Work", model=model)

    await_state(house.box, task, S.FAILED)
    assert reason_of(house.box, task).startswith(reason)
    assert house.started() == [model]
    failure = result_of(house.box, task)["failure"]
    assert failure["kind"] == reason.partition(":")[0]
    assert failure["text"] in reason_of(house.box, task)


@pytest.mark.parametrize("isolation", ["--shared", "--worktree"])
def test_the_next_model_goes_on_with_the_same_plan_and_workspace(house: House, isolation: str) -> None:
    house.box.make_repository()
    house.set_up(fallback={"opus": ["sonnet", "gpt-5.3-codex"]})
    house.fail("opus", "claude-auth-login")
    house.fail("sonnet", "claude-model")

    task = do(house.box, isolation, "--item", "Work", model="opus")

    assert house.started() == ["opus", "sonnet", "gpt-5.3-codex"]
    assert states_of(house.box, task) == [S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.QUEUED, S.RUNNING, S.DONE]
    taken_over = [entry.facts["reason"] for entry in journal(house.box, task) if "failed" in entry.facts]
    assert taken_over[0].startswith("sonnet takes over from opus: auth: Not logged in")
    assert taken_over[1].startswith("gpt-5.3-codex takes over from sonnet: model: ")
    assert copy_of(house.box, task).standing().tries == 0
    assert house.box.run("ls", "--json").json[0]["model"] == "gpt-5.3-codex"


def test_a_retry_with_another_model_keeps_the_prompt_of_the_alias(house: House) -> None:
    house.set_up(aliases={"reviewer": {"model": "opus", "prompt": "Look for mistakes."}})
    house.fail("opus", "claude-auth-login")
    task = submit(house.box, "--item", "Work", model="reviewer")
    await_state(house.box, task, S.FAILED)

    house.box.run("retry", task, "--model", "sonnet")

    await_done(house.box, task)
    prompt = (house.box.task(task) / "attempts/2/prompt.md").read_text()
    assert prompt.startswith("Look for mistakes.")


def test_a_task_fails_when_no_model_is_left_to_take_over(house: House) -> None:
    house.set_up(fallback={"opus": ["sonnet"]})
    house.fail("opus", "claude-auth-login")
    house.fail("sonnet", "claude-auth-login")

    task = submit(house.box, "--item", "Work", model="opus")

    await_state(house.box, task, S.FAILED)
    assert house.started() == ["opus", "sonnet"]
    assert reason_of(house.box, task).startswith("auth: Not logged in")


def test_a_program_that_is_gone_is_a_missing_cli_which_the_next_model_takes_over_from(house: House) -> None:
    gone = {"mine": {"command": "./gone/claude -p"}}  # not with `env`, which would tell it by an exit status
    plays = {"codex": {"command": standins.command("plays", str(house.folder))}}
    models = {"opus": {"backend": "mine"}, "o3": {"backend": "codex"}}
    house.set_up(backends=gone | plays, models=models)

    alone = submit(house.box, "--item", "Work", model="opus")

    await_state(house.box, alone, S.FAILED)
    assert reason_of(house.box, alone).startswith("start: cannot start `./gone/claude`: No such file or directory")
    assert result_of(house.box, alone)["failure"]["kind"] == "missing"
    assert f"dispatch retry {alone} --model o3 --make-default" in house.box.run("show", alone).stdout

    house.set_up(backends=gone | plays, models=models, fallback={"opus": ["o3"]})
    do(house.box, "--item", "Work", model="opus")
    assert house.started() == ["o3"]


def test_a_limit_with_a_time_keeps_every_task_of_the_account_and_family_until_then(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-limit", until=in_seconds(3600))

    first = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, first, S.WAITING)
    assert reason_of(house.box, first).startswith("claude limit until ")
    house.mend("opus")
    second = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, second, S.WAITING)
    do(house.box, "--item", "Work", model="sonnet")

    assert house.started() == ["opus", "sonnet"]
    with redis.Redis.from_url(server_url(house.box.home)) as client:  # as if the time had come
        client.hset(keys.holds(), mapping=dict.fromkeys(client.hgetall(keys.holds()), 1))
        client.zadd(keys.due(), dict.fromkeys(client.zrange(keys.due(), 0, -1), 1))
    await_state(house.box, first, S.DONE)
    await_state(house.box, second, S.DONE)
    assert house.started() == ["opus", "sonnet", "opus", "opus"]
    assert copy_of(house.box, first).standing().tries == 0


def test_who_waits_is_told_once_of_a_limit_and_can_take_another_model(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-limit", until=in_seconds(3600))
    waiting = house.box.start("submit", "--wait", "-m", "opus", "-i", "Work")
    waiting.wait_for_line("work  waiting: claude limit until ")
    late = house.box.start("wait", "work")
    late.wait_for_line("work  waiting  0/1: claude limit until ")

    refused = house.box.run("retry", "work", "--model", "sonnet", check=False)
    switch = "dispatch cancel work && dispatch retry work --model sonnet"
    assert switch in refused.stderr
    assert f"  {switch}\n" in house.box.run("show", "work").stdout

    house.box.run("cancel", "work")
    assert waiting.wait().stderr.count("limit") == 1
    assert late.wait().stderr.count("limit") == 1
    house.box.run("retry", "work", "--model", "sonnet")
    wait_for(lambda: state_of(house.box, "work") is S.DONE, "the task to go on with the other model")
    assert house.started() == ["opus", "sonnet"]


def test_the_worker_of_another_account_takes_what_comes_while_the_first_account_is_at_its_limit(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-limit", until=in_seconds(3600))
    first = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, first, S.WAITING)
    house.mend("opus")
    house.box.run("down")
    house.box.env["ANTHROPIC_API_KEY"] = "sk-ant-of-another-account"
    house.box.run("up")

    do(house.box, "--item", "Other", model="opus")

    assert state_of(house.box, first) is S.WAITING
    house.box.run("release", first, "--now")
    await_state(house.box, first, S.DONE)


def test_with_a_fallback_nobody_waits_for_a_limit(house: House) -> None:
    house.set_up(fallback={"opus": ["gpt-5.3-codex"]})
    house.fail("opus", "claude-limit", until=in_seconds(3600))
    do(house.box, "--item", "Work", model="opus")

    do(house.box, "--item", "Work again", model="opus")

    assert house.started() == ["opus", "gpt-5.3-codex", "gpt-5.3-codex"]


def test_a_limit_is_waited_for_after_redis_lost_its_data_too(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-limit", until=in_seconds(3600))
    task = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, task, S.WAITING)
    before = reason_of(house.box, task)

    with redis.Redis.from_url(server_url(house.box.home)) as client:
        client.flushall()
        house.box.run("rebuild")
        due = client.zscore(keys.due(), str(Ref(copy_of(house.box, task).task().project, task)))

    assert due is not None
    assert due / 1000 == pytest.approx(in_seconds(3600), abs=120)
    assert (await_state(house.box, task, S.WAITING), reason_of(house.box, task)) == (S.WAITING, before)


def test_a_person_who_knows_better_ends_a_limit_for_everybody(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-limit", until=in_seconds(3600))
    first = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, first, S.WAITING)
    second = submit(house.box, "--item", "Other", model="opus")
    await_state(house.box, second, S.WAITING)
    house.mend("opus")

    house.box.run("release", first, "--now")

    await_state(house.box, first, S.DONE)
    await_state(house.box, second, S.DONE)
    do(house.box, "--item", "Work", model="opus")


@pytest.mark.parametrize("recording", ["claude-rate", "claude-overloaded", "claude-network"])
def test_a_passing_failure_is_tried_again_later_and_holds_nobody_else_back(house: House, recording: str) -> None:
    house.set_up()
    house.fail("opus", recording)
    task = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, task, S.WAITING)
    house.mend("opus")

    do(house.box, "--item", "Other", model="opus")
    house.box.run("release", task, "--now")

    await_state(house.box, task, S.DONE)
    told = next(entry.facts for entry in journal(house.box, task) if entry.event == "limit")
    assert told["reason"].startswith(f"claude: {recording.removeprefix('claude-')}, again at ")
    assert told["stalls"] == 1
    assert copy_of(house.box, task).standing().stalls == 0


def test_a_task_of_a_prompt_alone_is_not_given_to_the_shell(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-auth-login")
    task = submit(house.box, "Fix `foo`", model="opus")
    await_state(house.box, task, S.FAILED)

    refused = house.box.run("retry", task, "--model", "shell", check=False)

    assert refused.code == 2
    assert "`shell` runs commands, and cannot work on a prompt" in refused.stderr
    assert state_of(house.box, task) is S.FAILED


def test_a_retry_with_another_model_brings_what_takes_over_from_that_one(house: House) -> None:
    house.set_up(fallback={"sonnet": ["gpt-5.3-codex"]})
    for model in ("opus", "sonnet"):
        house.fail(model, "claude-auth-login")
    task = submit(house.box, "--item", "Work", model="opus")
    await_state(house.box, task, S.FAILED)

    house.box.run("retry", task, "--model", "sonnet")

    await_done(house.box, task)
    assert house.started() == ["opus", "sonnet", "gpt-5.3-codex"]


@pytest.mark.parametrize(
    "limits",
    [{"models": {"shell": 1}}, {"backends": {"shell": 1}}, {"hosts": "here"}],
    ids=["model", "backend", "host"],
)
def test_no_more_run_at_once_than_a_limit_allows(house: House, tmp_path: Path, limits: Mapping[str, Any]) -> None:
    house.set_up(limits={"hosts": {host_name(): 1}} if limits == {"hosts": "here"} else limits)
    gates = [Gate(tmp_path / f"gate{number}") for number in range(2)]
    first = submit(house.box, items=(gates[0].item,))
    await_state(house.box, first, S.RUNNING)

    second = submit(house.box, items=(gates[1].item,))

    wait_for(lambda: reason_of(house.box, second).startswith("limit: 1 of "), "the second to say why it waits")
    gates[0].open()
    await_state(house.box, second, S.RUNNING)
    await_state(house.box, first, S.DONE)
    ended = next(entry.at for entry in journal(house.box, first) if entry.event == "finish")
    assert next(entry.at for entry in journal(house.box, second) if entry.event == "claim") >= ended
    gates[1].open()
    await_state(house.box, second, S.DONE)
    assert marks_of(house.box, second) == "x"


# -- what a task may cost ---------------------------------------------------------------------------------------------


def words_of(house: House) -> list[list[str]]:
    """What each agent was started with."""
    return [line.split() for line in (house.folder / "started").read_text().splitlines()]


def option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


def test_caps_are_given_to_the_cli_less_what_is_used(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-credit", cost_usd=0.75)
    task = submit(house.box, "--item", "Work", "--max-cost", "2", "--max-turns", "30", model="opus")
    await_state(house.box, task, S.FAILED)
    house.mend("opus")

    house.box.run("retry", task)

    await_done(house.box, task)
    first, second = words_of(house)
    assert (option(first, "--max-budget-usd"), option(first, "--max-turns")) == ("2", "30")
    assert (option(second, "--max-budget-usd"), option(second, "--max-turns")) == ("1.25", "29")


def test_a_task_that_has_used_what_it_may_fails_before_it_uses_more(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-credit", cost_usd=1.5)
    task = submit(house.box, "--item", "Work", "--max-cost", "1.2", model="opus")
    await_state(house.box, task, S.FAILED)
    house.mend("opus")

    house.box.run("retry", task)
    wait_for(lambda: reason_of(house.box, task).startswith("budget: "), "the task to fail again")

    assert reason_of(house.box, task) == "budget: $1.50 of $1.20 used"
    assert house.started() == ["opus"]
    house.box.run("retry", task, "--max-cost", "0")
    await_done(house.box, task)
    assert option(words_of(house)[1], "--max-budget-usd") is None


@pytest.mark.parametrize("words", [("-m", "gpt-5.3-codex", "--max-cost", "1"), ("-m", "shell", "--max-turns", "3")])
def test_a_cap_that_cannot_be_kept_is_refused(house: House, words: tuple[str, ...]) -> None:
    house.set_up()

    refused = house.box.run("submit", *words, "--item", "Work", check=False)

    assert refused.code == 2
    assert f"error: {words[2]} cannot be kept: backend `" in refused.stderr
    assert "--model opus" in refused.stderr
    assert not (house.box.project / ".dispatch").exists()


@pytest.mark.parametrize("amount", ["nan", "inf", "1e999", "0", "-1"])
def test_an_amount_that_is_none_is_refused(house: House, amount: str) -> None:
    house.set_up()

    assert house.box.run("submit", "--max-cost", amount, "-m", "opus", "--item", "Work", check=False).code == 2


def test_no_model_takes_over_that_would_not_keep_the_caps(house: House) -> None:
    house.set_up(fallback={"opus": ["gpt-5.3-codex"]})
    house.fail("opus", "claude-auth-login")

    task = submit(house.box, "--item", "Work", "--max-cost", "1", model="opus")

    await_state(house.box, task, S.FAILED)
    assert house.started() == ["opus"]
    refused = house.box.run("retry", task, "--model", "gpt-5.3-codex", check=False)
    assert refused.code == 2
    assert "add --max-cost 0, for no cap" in refused.stderr
    assert "  dispatch retry work --model gpt-5.3-codex --max-cost 0 --" in house.box.run("show", task).stdout
    house.box.run("retry", task, "--model", "gpt-5.3-codex", "--max-cost", "0")
    await_done(house.box, task)


# -- with a person who looks on ---------------------------------------------------------------------------------------


def test_who_waits_on_a_terminal_is_asked_which_model_is_to_go_on_and_may_change_the_default(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-auth-login")

    terminal = house.box.on_terminal("--wait", "-m", "opus", "-i", "Work")
    terminal.read_until("opus failed. Which model instead? (gpt-5.3-codex, none) [none]: ")
    terminal.type("gpt-5.3-codex")
    terminal.read_until("Make gpt-5.3-codex your default from now on? [y/N]: ")
    terminal.type("y")

    assert terminal.wait() == 0
    assert house.started() == ["opus", "gpt-5.3-codex"]
    assert load(house.box.home, {}).config.default == "gpt-5.3-codex"


def test_a_model_that_is_gone_leaves_the_configuration_only_after_a_yes(house: House) -> None:
    house.set_up(default="sonnet")
    house.fail("opus", "claude-model")
    before = (house.box.home / "config.yaml").read_bytes()

    terminal = house.box.on_terminal("--follow", "-m", "opus", "-i", "Work")
    terminal.read_until("Which model instead? (sonnet, gpt-5.3-codex, none) [none]: ")
    terminal.type("sonnet")
    terminal.read_until("Remove opus from your config? [y/N]: ")
    assert (house.box.home / "config.yaml").read_bytes() == before
    terminal.type("y")

    assert terminal.wait() == 0
    assert "opus" not in load(house.box.home, {}).config.models


@pytest.mark.parametrize("answer", ["none", ""])
def test_who_wants_no_other_model_gets_the_failure(house: House, answer: str) -> None:
    house.set_up()
    house.fail("opus", "claude-auth-login")

    terminal = house.box.on_terminal("--wait", "-m", "opus", "-i", "Work")
    terminal.read_until("[none]: ")
    terminal.type(answer)

    assert terminal.wait() == 1
    assert house.started() == ["opus"]


def test_without_a_terminal_the_command_that_switches_is_named(house: House) -> None:
    house.set_up()
    house.fail("opus", "claude-auth-login")

    ended = house.box.run("submit", "--wait", "-m", "opus", "-i", "Work", check=False)

    assert ended.code == 1
    shown = house.box.run("show", "work").stdout
    assert "  dispatch retry work --model gpt-5.3-codex --make-default\n" in shown
    house.box.run("retry", "work", "--model", "gpt-5.3-codex", "--make-default")
    await_done(house.box, "work")
    assert load(house.box.home, {}).config.default == "gpt-5.3-codex"


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc/mounts").exists(), reason="only root can mount a small disk")
def test_a_disk_that_fills_up_ends_no_task(house: House, tmp_path: Path) -> None:
    house.set_up(worker={"min_free_mib": 0})
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        box = Project(house.box, disk)
        full, gate = tmp_path / "full", Gate(tmp_path / "gate")
        fill = f"head -c 9999999 /dev/zero > big; touch '{full}'; until [ -e '{gate.path}' ]; do sleep 0.02; done"
        held = submit(box, "--hold", "--name", "second", items=("Work: `true`",))
        first = submit(box, "--name", "first", items=(f"Fill: `{fill}; sleep 1; rm big`", "Then: `true`"))
        wait_for(full.exists, "the disk to be full")
        box.run("release", held)
        gate.open()
        for task in (first, held):
            wait_for(
                lambda task=task: _went_on(box, task),
                f"`{task}` to wait for room, or to be done",
            )
            box.run("release", task, "--now", check=False)
            await_state(box, task, S.DONE)
        box.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _went_on(box: Sandbox, task: str) -> bool:
    standing = copy_of(box, task).standing()
    return standing.state is S.DONE or (standing.state is S.WAITING and standing.reason.startswith("no space: "))
