"""How each kind of agent CLI is started: its words, its standard input, what it sees of the environment."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatch_queue.config.commands import program_at
from dispatch_queue.config.schema import Backend, Config, Model
from dispatch_queue.errors import BadConfig
from worker.backends.base import BIN, MAX_ARGUMENT_BYTES, Order, Recipe
from worker.backends.claude import stable
from worker.backends.table import KINDS, Invocation, available, invoke, runnable

HERE = Path("/work space/it's")
SEED = {
    "claude": "env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions",
    "cursor": 'agent -p --force --workspace "$(pwd)"',
    "codex": 'codex exec --full-auto -C "$(pwd)"',
}
VALUES = {"DISPATCH_TASK_ID": "fix-login", "DISPATCH_QUESTION_TIMEOUT": "180"}


def started(
    backend: str,
    command: str | None = None,
    *,
    model: str = "some-model",
    prompt: str = "Do it.",
    session: str | None = None,
    base: Mapping[str, str] | None = None,
    env: tuple[str, ...] = (),
) -> Invocation:
    config = Config(backends={} if command is None else {backend: Backend(command, env)})
    return invoke(
        config,
        backend,
        model=model,
        prompt=prompt,
        workspace=HERE,
        values=VALUES,
        session=session,
        base={"HOME": "/home/me"} if base is None else base,
    )


def test_claude_reads_its_prompt_on_stdin_and_reports_json() -> None:
    made = started("claude", model="sonnet-4.6")

    assert made.argv == (
        *("claude", "-p", "--dangerously-skip-permissions"),
        *("--output-format", "stream-json", "--verbose", "--model", "sonnet"),
    )
    assert made.stdin == b"Do it."


def test_claude_carries_a_session_on() -> None:
    assert started("claude", model="opus", session="abc").argv[-4:] == ("--model", "opus", "--resume", "abc")


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("opus", "opus"),
        ("opus-4.6-thinking", "opus"),
        ("sonnet-4.5", "sonnet"),
        ("claude-haiku-4-5", "haiku"),
        ("Haiku", "haiku"),
        ("newmodel-1", "newmodel-1"),
    ],
)
def test_claude_is_given_the_stable_name_of_a_model(model: str, given: str) -> None:
    assert stable(model) == given


@pytest.mark.parametrize(("root", "value"), [(True, "1"), (False, None)])
def test_claude_as_root_is_told_that_it_may_skip_permissions(root: bool, value: str | None) -> None:
    assert built("claude", KINDS["claude"].command, root=root).env.get("IS_SANDBOX") == value
    assert "IS_SANDBOX" not in built("claude", ("claude", "-p"), root=root).env


def built(kind: str, words: tuple[str, ...], *, root: bool = False) -> Recipe:
    return KINDS[kind].build(Order(kind, words, None, "Do it.", None, HERE, root))


def test_claude_may_wait_as_long_in_its_shell_as_a_question_takes() -> None:
    env = started("claude").env

    assert int(env["BASH_DEFAULT_TIMEOUT_MS"]) > 180_000
    assert int(env["BASH_MAX_TIMEOUT_MS"]) >= 600_000


def test_codex_reads_its_prompt_on_stdin_and_reports_json() -> None:
    made = started("codex", model="gpt-5.3-codex")

    assert made.argv == (
        *("codex", "exec", "--dangerously-bypass-approvals-and-sandbox", "--json", "--skip-git-repo-check"),
        *("-C", str(HERE), "-m", "gpt-5.3-codex", "-"),
    )
    assert made.stdin == b"Do it."
    assert made.notices == ()


def test_codex_carries_a_session_on() -> None:
    assert started("codex", model="o3", session="abc").argv[-5:] == ("-m", "o3", "resume", "abc", "-")


def test_cursor_carries_no_session_on() -> None:
    assert "abc" not in started("cursor", session="abc").argv


def test_cursor_takes_its_prompt_as_an_argument() -> None:
    made = started("cursor", model="composer-1.5")

    assert made.argv == (
        *("agent", "-p", "--force", "--trust", "--model", "composer-1.5", "--output-format", "stream-json"),
        "Do it.",
    )
    assert made.stdin is None


def test_cursor_takes_a_prompt_too_long_for_an_argument_on_stdin() -> None:
    made = started("cursor", prompt="x" * (MAX_ARGUMENT_BYTES + 1))

    assert made.argv[-1] == "stream-json"
    assert made.stdin is not None


def test_a_prompt_that_begins_with_a_dash_is_no_option() -> None:
    assert started("cursor", prompt="- be careful").argv[-1] == "\n- be careful"


def test_the_shell_agent_is_started_with_this_interpreter() -> None:
    made = started("shell", model="shell")

    assert made.argv[0] == sys.executable
    assert made.stdin is None


def test_the_commands_of_the_original_set_up_run_with_what_is_missing_added() -> None:
    assert started("claude", SEED["claude"], model="opus").argv == (
        *("env", "-u", "CLAUDE_CODE_ENTRYPOINT", "-u", "CLAUDECODE", "claude", "-p", "--dangerously-skip-permissions"),
        *("--output-format", "stream-json", "--verbose", "--model", "opus"),
    )
    assert started("cursor", SEED["cursor"]).argv == (
        *("agent", "-p", "--force", "--workspace", str(HERE), "--trust"),
        *("--model", "some-model", "--output-format", "stream-json", "Do it."),
    )
    codex = started("codex", SEED["codex"])
    assert codex.argv == (
        *("codex", "exec", "--sandbox", "workspace-write", "-C", str(HERE), "--json", "--skip-git-repo-check"),
        *("-m", "some-model", "-"),
    )
    assert ["--full-auto" in notice for notice in codex.notices] == [True]


def test_a_sandbox_that_was_chosen_beside_full_auto_stays() -> None:
    assert "workspace-write" not in started("codex", "codex exec --full-auto -s read-only").argv


@pytest.mark.parametrize(
    ("backend", "command", "given"),
    [
        ("claude", "claude --print --model=haiku --output-format text", ()),
        ("cursor", "agent -p --trust --model x --output-format=text", ("Do it.",)),
        ("codex", "codex exec --json --skip-git-repo-check --cd /elsewhere -m x", ("-",)),
    ],
)
def test_options_that_are_configured_are_not_added_again(backend: str, command: str, given: tuple[str, ...]) -> None:
    assert started(backend, command).argv == (*command.split(), *given)


def test_options_of_env_are_not_taken_for_the_programs() -> None:
    assert started("codex", "env -C /tmp codex exec").argv.count("-C") == 2


def test_a_model_of_its_backends_name_leaves_the_choice_to_the_command() -> None:
    for backend, command in SEED.items():
        assert not {"--model", "-m"} & set(started(backend, command, model=backend).argv)


def test_a_backend_is_driven_as_its_program_says_whatever_its_name() -> None:
    assert started("harvey", "/opt/bin/claude -p").argv[:4] == (
        "/opt/bin/claude",
        "-p",
        "--output-format",
        "stream-json",
    )
    assert started("fast", "FOO=1 agent -p").stdin == b"Do it."  # not `env`: FOO=1 is the program
    assert started("fast", "env FOO=1 agent -p").argv[-1] == "Do it."
    assert started("claude", "my-wrapper -p", model="opus").argv[-2:] == ("--model", "opus")


def test_a_program_called_agent_is_cursors_only_where_it_is_told_to_print_or_the_back_end_is_cursor() -> None:
    mine = started("mine", "/home/me/agent --fast")
    assert (mine.argv, mine.stdin) == (("/home/me/agent", "--fast"), b"Do it.")

    for cursors in (
        started("mine", "agent --print"),
        started("cursor", "/home/me/agent"),
        started("c", "cursor-agent"),
    ):
        assert cursors.argv[-1] == "Do it."


@pytest.mark.parametrize(
    ("command", "argv", "stdin"),
    [
        ("my-agent --fast", ("my-agent", "--fast"), b"Do it."),
        ("my-agent -m {model} {prompt}", ("my-agent", "-m", "some-model", "Do it."), None),
        ("my-agent --say={prompt}", ("my-agent", "--say=Do it."), None),
        ("sh -c 'my-agent \"$1\"' sh {prompt}", ("sh", "-c", 'my-agent "$1"', "sh", "Do it."), None),
        ("sh -c 'my-agent {prompt}'", ("sh", "-c", "my-agent {prompt}"), b"Do it."),
        ("my-agent --in $(pwd)/x", ("my-agent", "--in", f"{HERE}/x"), b"Do it."),
        ("my-agent --at=\"$(pwd)\" $PWD", ("my-agent", f"--at={HERE}", str(HERE)), b"Do it."),
        ("sh -c 'cd $(pwd); go'", ("sh", "-c", "cd $(pwd); go"), b"Do it."),
        ("~/bin/agent-x $HOME/y --z=~", ("/home/me/bin/agent-x", "/home/me/y", "--z=/home/me"), b"Do it."),
    ],
)  # fmt: skip
def test_any_command_takes_the_prompt_without_a_shell(command: str, argv: tuple[str, ...], stdin: bytes | None) -> None:
    made = started("mine", command)

    assert (made.argv, made.stdin) == (argv, stdin)


def test_what_stands_in_a_prompt_is_never_replaced() -> None:
    prompt = "{model} $(pwd) {prompt} '; rm -rf ~"

    assert started("mine", "my-agent {prompt}", prompt=prompt).argv == ("my-agent", prompt)


def test_a_backend_without_a_command_is_refused() -> None:
    with pytest.raises(BadConfig, match="backend `mine` has no command on this machine"):
        started("mine")


@pytest.mark.parametrize("command", ["", '"'])
def test_a_command_that_cannot_be_split_is_refused(command: str) -> None:
    with pytest.raises(BadConfig, match=r"config check|empty|unclosed"):
        started("mine", command)


BASE = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm",
    "https_proxy": "http://proxy.invalid",
    "SECRET_TOKEN": "x",
    "REDIS_PASSWORD": "x",
    "GIT_DIR": "/elsewhere",
    "GIT_AUTHOR_NAME": "Me",
    "ANTHROPIC_API_KEY": "a",
    "CLAUDE_CONFIG_DIR": "/c",
    "CLAUDECODE": "1",
    "CLAUDE_CODE_ENTRYPOINT": "cli",
    "OPENAI_API_KEY": "o",
    "CODEX_HOME": "/x",
    "CURSOR_API_KEY": "u",
    "DISPATCH_REDIS_URL": "redis://:secret@example.invalid",
    "BASH_ENV": "/evil",
    "LD_PRELOAD": "/evil.so",
    "PYTHONPATH": "/evil",
}
ALWAYS = {
    "PATH": f"{BIN}:/usr/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
    "https_proxy": "http://proxy.invalid",
    "GIT_AUTHOR_NAME": "Me",
    **VALUES,
}


@pytest.mark.parametrize(
    ("backend", "own"),
    [
        ("claude", {"ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR"}),
        ("codex", {"OPENAI_API_KEY", "CODEX_HOME"}),
        ("cursor", {"CURSOR_API_KEY"}),
        ("shell", set()),
    ],
)
def test_an_agent_sees_what_is_listed_and_what_its_cli_needs(backend: str, own: set[str]) -> None:
    env = started(backend, base=BASE).env

    added = {"BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_TIMEOUT_MS", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "IS_SANDBOX"}
    assert {name: value for name, value in env.items() if name not in added} == (
        ALWAYS | {name: BASE[name] for name in own}
    )


def test_a_configured_backend_sees_what_it_names() -> None:
    env = started("mine", "my-agent", base=BASE, env=("SECRET_*", "OPENAI_API_KEY")).env

    assert env == ALWAYS | {"SECRET_TOKEN": "x", "OPENAI_API_KEY": "o"}


def test_dispatch_ask_is_on_the_path_of_an_agent() -> None:
    assert (BIN / "dispatch-ask").is_file()
    assert started("shell", base={}).env["PATH"].split(":")[0] == str(BIN)


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("claude -p", 0),
        ("env claude", 1),
        ("/usr/bin/env -u A --unset B -i C=1 -- claude", 8),
        ("env -u", 3),
    ],
)
def test_the_program_of_a_command_stands_after_env(words: str, at: int) -> None:
    assert program_at(words.split()) == at


def test_a_backend_is_available_where_its_program_is_found(tmp_path: Path) -> None:
    for name in ("claude", "my agent"):
        (tmp_path / name).touch(mode=0o755)
    (tmp_path / "codex").touch(mode=0o644)
    path = str(tmp_path)

    assert available("claude", SEED["claude"], path=path) == f"{path}/claude"
    assert available("claude", None, path=path) == f"{path}/claude"
    assert available("mine", "'my agent' -x", path=path) == f"{path}/my agent"
    assert available("mine", f"'{path}/my agent'", path="") == f"{path}/my agent"
    assert available("codex", None, path=path) is None
    assert available("mine", None, path=path) is None
    assert available("mine", '"', path=path) is None
    assert available("mine", "env -u X", path=path) is None
    assert available("shell", None, path="") == sys.executable


def test_a_worker_serves_what_is_found_of_what_is_named(tmp_path: Path) -> None:
    (tmp_path / "claude").touch(mode=0o755)
    config = Config(backends={"cursor": Backend("agent")}, models={"opus": Model("claude"), "o3": Model("codex")})

    assert runnable(config, path=str(tmp_path)) == ["claude", "shell"]
