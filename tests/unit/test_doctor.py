"""What `dispatch doctor` says of a back end, given what its CLI said."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue.cli.backends import Place, Said, find, findings, unserved, version_in
from dispatch_queue.cli.doctor import unready
from dispatch_queue.config.clis import CLAUDE, CODEX, CURSOR, Cli
from dispatch_queue.config.listing import Listing
from dispatch_queue.config.probe import Answer
from dispatch_queue.config.schema import Backend, Config, WorkerSection
from dispatch_queue.embedded import Part

CONFIG = Path("/home/me/.dispatch/config.yaml")
VERSION, LOGGED_IN, LOGGED_OUT = Answer("tool 1.2.3-beta\n", 0), Answer("Logged in", 0), Answer("Not logged in", 1)
HANGS = Answer(failure="no end after 5 s")
HELP = Answer("  -p, --print\n  --force --trust -C, --cd <DIR>\n --dangerously-skip-permissions auth status", 0)

LOOK = "/b/x --version; install it again: npm install -g @anthropic-ai/claude-code"
RESTART = "dispatch down && dispatch up  # if it is still so in ten seconds: workers take up changes by themselves"


def said(
    *,
    version: Answer = VERSION,
    help: Answer | None = HELP,
    status: Answer | None = LOGGED_IN,
    env: Mapping[str, str] | None = None,
    here: Mapping[str, str] | None = None,
    credentials: bool = False,
    listing: Listing | None = None,
) -> Said:
    return Said(version, help, status, env or {}, here or {}, credentials, listing)


def place(cli: Cli = CLAUDE, command: str = "claude -p", **more: Any) -> Place:
    known = {"needed": True, "words": tuple(command.split()), "cli": cli, "path": "/b/x"}
    return Place(cli.backend, **(known | more))


def told(where: Place, what: Said | None, *, root: bool = False) -> list[tuple[str, str, str, bool]]:
    return [(one.what, one.seen, one.fix, one.fatal) for one in findings(where, what, CONFIG, root=root)]


@pytest.mark.parametrize(
    ("cli", "what", "seen", "fix"),
    [
        (CLAUDE, said(), "logged in", ""),
        (CLAUDE, said(status=Answer('{\n  "loggedIn": true,\n', 0)), "logged in", ""),
        (CLAUDE, said(status=Answer('{\n  "loggedIn": false,\n', 1)), "not logged in", "claude auth login"),
        (CLAUDE, said(env={"ANTHROPIC_API_KEY": "k"}), "with the key in ANTHROPIC_API_KEY", ""),
        (CLAUDE, said(status=None), "log-in unknown", ""),
        (CLAUDE, said(status=None, credentials=True), "with stored credentials", ""),
        (CLAUDE, said(status=HANGS), "log-in unknown: `claude auth status`: no end after 5 s", ""),
        (CODEX, said(status=Answer("WARNING: odd\nNot logged in\n", 1)), "not logged in", "codex login"),
        (CODEX, said(status=Answer("API key configured - ***\n", 0)), "logged in", ""),
        (
            CODEX,
            said(status=LOGGED_OUT, env={"CODEX_API_KEY": "k"}),
            "with the key in CODEX_API_KEY",
            "",
        ),
        (
            CODEX,
            said(status=LOGGED_OUT, here={"OPENAI_API_KEY": "k"}),
            "not logged in",
            "printenv OPENAI_API_KEY | codex login --with-api-key",
        ),
        (
            CODEX,
            said(status=LOGGED_OUT, here={"CODEX_API_KEY": "k"}),
            "not logged in",
            "dispatch down && dispatch up  # the worker was started without CODEX_API_KEY",
        ),
        (CODEX, said(status=Answer("error: unrecognized subcommand", 2)), "log-in unknown", ""),
        (CURSOR, said(status=Answer("✓ Logged in as me\n", 0)), "logged in", ""),
        (CURSOR, said(status=Answer("Not logged in\n", 0)), "not logged in", "agent login"),
        (CURSOR, said(status=Answer("garbage \x1b[31m\n", 0)), "log-in unknown", ""),
    ],
)
def test_a_cli_is_logged_in_or_not_or_that_is_unknown(cli: Cli, what: Said, seen: str, fix: str) -> None:
    assert told(place(cli), what) == [(cli.backend, f"/b/x, 1.2.3-beta, {seen}", fix, True)]


@pytest.mark.parametrize(
    ("where", "what", "expected"),
    [
        (place(path=None), None, ("`claude` is not on PATH", "npm install -g @anthropic-ai/claude-code", True)),
        (
            place(path=None, command="env -u X /opt/claude", needed=False),
            None,
            ("`/opt/claude` is not on PATH", "npm install -g @anthropic-ai/claude-code", False),
        ),
        (
            Place("mine", needed=True, words=("my-agent",)),
            None,
            ("`my-agent` is not on PATH", f"install it, or edit `backends.mine.command` in {CONFIG}", True),
        ),
        (Place("mine", needed=True, words=("my-agent",), path="/b/my-agent"), None, ("/b/my-agent", "", True)),
        (
            Place("mine", needed=True, problem="unclosed quote in the command `'`"),
            None,
            ("unclosed quote in the command `'`", f"edit `backends.mine.command` in {CONFIG}", True),
        ),
        (
            place(),
            said(version=Answer("node: bad option", 9)),
            (
                "/b/x does not tell its version: exit status 9",
                LOOK,
                True,
            ),
        ),
        (place(), said(version=Answer("?", 0)), ("/b/x, version not understood: `?`, logged in", LOOK, False)),
        (place(), said(version=Answer(" \n", 0)), ("/b/x, version not told, logged in", LOOK, False)),
        (
            place(),
            said(version=Answer("?", 0), status=LOGGED_OUT),
            ("/b/x, version not understood: `?`, not logged in", "claude auth login", True),
        ),
        (place(of_worker=True, here="/b/x"), said(), ("/b/x, 1.2.3-beta, logged in", "", True)),
        (
            place(of_worker=True, here="/c/x"),
            said(),
            ("/b/x for the worker (here /c/x), 1.2.3-beta, logged in", "", True),
        ),
        (
            place(path=None, of_worker=True),
            None,
            ("`claude` is not on the PATH of the worker", "npm install -g @anthropic-ai/claude-code", True),
        ),
        (
            place(path=None, of_worker=True, here="/c/x"),
            None,
            (
                "`claude` is not on the PATH of the worker; here it is /c/x",
                "dispatch down && dispatch up  # with the PATH of here",
                True,
            ),
        ),
    ],
)
def test_a_cli_that_is_not_there_or_does_not_work(
    where: Place, what: Said | None, expected: tuple[str, str, bool]
) -> None:
    assert told(where, what) == [(where.name, *expected)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.1.330 (Claude Code)\n", "2.1.330"),
        ("codex-cli 0.169.0", "0.169.0"),
        ("WARNING: proceeding, though /tmp/a-1.2 is odd (os error 2.3)\ncodex-cli 0.169.0\n", "0.169.0"),
        ("2026.11.20-abc1234", "2026.11.20-abc1234"),
        ("tool version v1.2.3-beta+5\n", "1.2.3-beta+5"),
        ("Error: Cannot find module '/opt/x-1.2.3/cli.js'\n  at node:internal 18.0\n", None),
        ("listening on 127.0.0.1", None),
        ("1.2\x1b[31m", None),
        ("\n".join(["noise"] * 5 + ["1.2.3"]), None),
        ("9" * 1000 + "." + "9" * 1000, None),
        ("", None),
    ],
)
def test_a_version_is_a_line_that_is_nothing_else(text: str, version: str | None) -> None:
    assert version_in(text) == version


def test_what_is_no_version_is_shown_in_short_and_obeyed_by_no_terminal() -> None:
    [(_, seen, _, _)] = told(place(), said(version=Answer("\x1b[2Jbeep\x07 \r\n" + "x" * 5000, 0)))

    assert seen.startswith("/b/x, version not understood: `")
    assert seen.isprintable()
    assert len(seen) < 150


@pytest.mark.parametrize(
    ("worker", "queues", "fix"),
    [
        (WorkerSection(), {"dispatch.local.claude", "dispatch.host.me"}, None),
        (WorkerSection(), {"dispatch.local.codex", "dispatch.host.me"}, RESTART),
        (WorkerSection(pool="gpu"), {"dispatch.local.claude"}, RESTART),
        (WorkerSection(backends=("codex",)), set(), f"add `claude` to `worker.backends` in {CONFIG}"),
    ],
)
def test_a_back_end_that_no_worker_serves_is_told(worker: WorkerSection, queues: set[str], fix: str | None) -> None:
    found = list(unserved(Config(worker=worker), name="claude", queues=queues, file=CONFIG))

    assert [(one.seen, one.fix, one.fatal) for one in found] == (
        [("no live worker serves claude", fix, False)] if fix else []
    )


@pytest.mark.parametrize(
    ("listing", "status", "expected"),
    [
        (Listing(["gpt-5.2"], None, None), LOGGED_IN, []),
        (None, LOGGED_IN, []),
        (
            Listing([], None, "no end after 5 s"),
            LOGGED_IN,
            [
                (
                    "cursor models",
                    "`agent models` listed nothing: no end after 5 s",
                    "/b/x models; log in again: agent login",
                    False,
                )
            ],
        ),
        (Listing([], None, "exit status 1"), LOGGED_OUT, []),
    ],
)
def test_a_cursor_that_lists_no_models_is_told(listing: Listing | None, status: Answer, expected: list[str]) -> None:
    assert told(place(CURSOR, "agent -p"), said(status=status, listing=listing))[1:] == expected


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("started", "seen", "fix"),
    [
        ("2026-11-23T11:59:58.000Z", "process 7 has begun, and is not ready yet", ""),
        (
            "2026-11-23T11:50:00.000Z",
            "process 7 runs, and Redis does not know of it; its log: /r/worker.log",
            "dispatch down && dispatch up",
        ),
        (
            "",
            "process 7 runs, and Redis does not know of it; its log: /r/worker.log",
            "dispatch down && dispatch up",
        ),
    ],
)
def test_a_worker_that_redis_does_not_know_has_begun_or_hangs(started: str, seen: str, fix: str) -> None:
    worker = Part(True, False, 7, "1", "/python", "me", started, Path("/r/worker.log"))

    found = unready(worker, NOW)

    assert (found.seen, found.fix) == (seen, fix)


@pytest.mark.parametrize(("root", "note"), [(True, True), (False, False)])
def test_the_rule_for_root_is_told_where_it_matters(root: bool, note: bool) -> None:
    for command, matters in (("claude -p --dangerously-skip-permissions", True), ("claude -p", False)):
        [(_, seen, fix, _)] = told(place(command=command), said(), root=root)
        assert ("IS_SANDBOX=1" in seen) == (note and matters)
        assert not fix


@pytest.mark.parametrize(
    ("cli", "command", "options"),
    [
        (CLAUDE, "claude -p --print", []),
        (CLAUDE, "claude -p --wild=1 --wild=2 -x -- --after", ["--wild", "-x"]),
        (CLAUDE, "env -u CLAUDECODE claude -p", []),
        (CODEX, "codex exec --full-auto -C /", ["--full-auto"]),
        (CODEX, "codex --root-option exec -C / -", []),
        (CODEX, "codex other --wild", []),
        (CURSOR, "agent -p --force --trus", ["--trus"]),
    ],
)
def test_options_that_the_cli_does_not_list_are_told(cli: Cli, command: str, options: list[str]) -> None:
    found = told(place(cli, command), said())[1:]

    assert [seen for _, seen, _, _ in found] == [
        f"`{' '.join([cli.program, *cli.help])}` does not list `{option}`" for option in options
    ]
    assert not any(fatal for *_, fatal in found)


def test_options_are_not_told_of_a_cli_that_lists_none() -> None:
    for help in (None, HANGS, Answer("no", 1)):
        assert len(told(place(command="claude --wild"), said(help=help))) == 1


@pytest.mark.parametrize(
    ("command", "instead"),
    [("codex exec --full-auto", "--sandbox workspace-write"), ("codex exec --full-auto -s read-only", "")],
)
def test_the_edit_for_full_auto_keeps_its_meaning(command: str, instead: str) -> None:
    fix = told(place(CODEX, command), said())[1][2]

    assert fix.startswith(f"sed -i.bak 's/--full-auto/{instead}/' {CONFIG}")


def test_a_program_is_looked_for_on_the_path_of_the_agents(tmp_path: Path) -> None:
    (tmp_path / "claude").touch(mode=0o755)
    config = Config(backends={"c": Backend("env -u X claude -p"), "quote": Backend("'"), "none": Backend(None)})
    base = {"PATH": str(tmp_path)}

    assert find(config, "c", needed=True, here=base).path == str(tmp_path / "claude")
    assert find(config, "c", needed=True, here=base).cli is CLAUDE
    assert find(config, "claude", needed=False, here=base).path == str(tmp_path / "claude")
    assert find(config, "codex", needed=False, here=base).path is None
    assert "unclosed quote" in find(config, "quote", needed=True, here=base).problem
    assert find(config, "none", needed=True, here=base).problem == "it has no command"
