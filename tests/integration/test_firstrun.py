"""The first run: programs on a PATH of its own stand in for the agent CLIs."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from dispatch_queue.config.choose import UnknownModel
from dispatch_queue.config.firstrun import FirstRun, first_run
from dispatch_queue.config.listing import list_codex_models, list_models, read_catalog, read_listing
from dispatch_queue.config.load import load
from dispatch_queue.config.machine import Machine, NotAvailable
from dispatch_queue.errors import BadConfig
from tests.support.waiting import wait_for

LISTING = """\
\x1b[2K\x1b[GLoading models\u2026\r\x1b[2KAvailable models

auto - Auto
gpt-5.3-codex - GPT-5.3 Codex
opus-4.6-thinking - Claude 4.6 Opus (Thinking)
composer-1.5 - Composer 1.5 (current, default)
gemini-3.1-pro - Gemini 3.1 Pro (default)
  sonnet-4.6 - Claude 4.6 Sonnet
$(reboot) - Not An Id
gpt-5.3-codex - GPT-5.3 Codex

Tip: use --model <id> (or /model <id> in interactive mode) to switch.
"""

# As codex 0.169.0 prints it, with four of its models and four of the 38 facts of each, and a warning beside it.
CATALOG = """\
{"models": [
  {"slug": "gpt-6-astra", "display_name": "GPT-6-Astra", "visibility": "list", "priority": 2},
  {"slug": "gpt-6.1-sol", "display_name": "GPT-6.1-Sol", "visibility": "list", "priority": 1},
  {"slug": "gpt-5.5", "display_name": "GPT-5.5", "visibility": "list", "priority": 13},
  {"slug": "codex-auto-review", "display_name": "Codex Auto Review", "visibility": "hide", "priority": 43}
]}
"""

Put = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "dispatch"


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Puts programs on a PATH, which it returns: `put(claude="", agent="echo x")`."""
    folder = tmp_path / "path"
    folder.mkdir()

    def put(**programs: str) -> str:
        for name, script in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return str(folder)

    return put


def listing(tmp_path: Path) -> str:
    """A script that lists models as Cursor's CLI does."""
    (tmp_path / "listing").write_text(LISTING)
    return f'test "$*" = models || exit 9; exec cat {tmp_path}/listing'


def catalog(tmp_path: Path) -> str:
    """A script that lists models as codex does."""
    (tmp_path / "catalog").write_text(CATALOG)
    return f'test "$*" = "debug models --bundled" || exit 9; echo "WARNING: {{" >&2; exec cat {tmp_path}/catalog'


def default_in(home: Path) -> str | None:
    loaded = load(home, {})
    assert loaded.exists
    assert loaded.notices == []
    return loaded.config.default


def test_with_every_cli_all_models_go_to_their_own(home: Path, put: Put, tmp_path: Path) -> None:
    ran = first_run(home, path=put(claude="", codex=catalog(tmp_path), agent=listing(tmp_path)))

    config = load(home, {}).config
    assert {model: entry.backend for model, entry in config.models.items()} == {
        "opus": "claude",
        "sonnet": "claude",
        "haiku": "claude",
        "opus-4.6-thinking": "claude",
        "sonnet-4.6": "claude",
        "gpt-6.1-sol": "codex",
        "gpt-6-astra": "codex",
        "gpt-5.5": "codex",
        "gpt-5.3-codex": "codex",
        "gemini-3.1-pro": "cursor",
        "auto": "cursor",
        "composer-1.5": "cursor",
    }
    assert config.default == ran.default == "opus"
    assert list(config.backends) == ["claude", "codex", "cursor"]
    assert str(config.command_of("claude")).endswith("claude -p --dangerously-skip-permissions")
    assert '-C "$(pwd)"' in str(config.command_of("codex"))
    assert '--workspace "$(pwd)"' in str(config.command_of("cursor"))
    assert ran.said[0] == "Found Claude Code (5 models), Codex (4 models), Cursor CLI (3 models)."


def test_the_file_is_private_grouped_by_provider_and_readable(home: Path, put: Put, tmp_path: Path) -> None:
    ran = first_run(home, path=put(claude="", agent=listing(tmp_path)))

    assert ran.written == home / "config.yaml"
    assert ran.written.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    text = ran.written.read_text()
    assert [line.strip("# ") for line in text.splitlines() if line.startswith("  # ")] == [
        "Claude",
        "OpenAI",
        "Gemini",
        "Cursor",
    ]
    assert "  gpt-5.3-codex:     { backend: cursor }\n" in text
    assert "codex:\n" not in text


@pytest.mark.parametrize(
    ("programs", "default", "backends"),
    [
        ({"claude": ""}, "opus", ["claude"]),
        ({"codex": ""}, "gpt-5.3-codex", ["codex"]),
        ({"agent": "echo 'auto - Auto'; echo 'composer-1.5 - Composer (current)'"}, "auto", ["cursor"]),
        ({"agent": "echo 'auto - Auto'; echo 'opus-4.6 - Opus'"}, "opus-4.6", ["cursor"]),
    ],
)
def test_only_what_is_found_is_written(
    home: Path, put: Put, programs: dict[str, str], default: str, backends: list[str]
) -> None:
    first_run(home, path=put(**programs, cat=""))

    assert default_in(home) == default
    assert list(load(home, {}).config.backends) == backends


def test_the_default_is_asked_for_among_a_few(home: Path, put: Put, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def ask(choices: list[str]) -> str:
        asked.append(choices)
        return " Sonnet-4.6 "

    first_run(home, ask=ask, path=put(claude="", agent=listing(tmp_path)))

    assert asked == [["opus", "sonnet", "composer-1.5", "gpt-5.3-codex"]]
    assert default_in(home) == "sonnet-4.6"


def test_an_answer_that_is_no_model_writes_nothing(home: Path, put: Put) -> None:
    with pytest.raises(UnknownModel):
        first_run(home, ask=lambda choices: "x", path=put(claude=""))

    assert not home.exists()


def test_with_nothing_found_nothing_is_written_and_it_is_said_what_to_install(home: Path, put: Put) -> None:
    ran = first_run(home, path=put())

    assert (ran.models, ran.default, ran.written) == ({}, None, None)
    assert not home.exists()
    assert len(ran.said) == 1
    assert all(word in ran.said[0] for word in ("Claude Code", "Codex", "Cursor", "--model shell"))


def test_a_file_that_is_there_is_left_alone(home: Path, put: Put) -> None:
    home.mkdir()
    (home / "config.yaml").write_text("default: shell\n")

    ran = first_run(home, path=put(claude=""))

    assert ran.written is None
    assert default_in(home) == "shell"


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path, put: Put) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadConfig, match="cannot be written"):
        first_run(tmp_path / "file", path=put(claude=""))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'auto - Auto'; exit 1", "exit status 1"),
        ("echo 'Not logged in'", "no line of it names a model"),
        ("head -c 100000 /dev/urandom; printf '\\xff\\n'", "no line of it names a model"),
        ("exit 0", "no line of it names a model"),
    ],
)
def test_a_cursor_that_lists_nothing_is_left_out_with_the_reason(home: Path, put: Put, script: str, why: str) -> None:
    ran = first_run(home, path=put(agent=script, claude=""))

    assert default_in(home) == "opus"
    assert set(ran.models.values()) == {"claude"}
    assert ran.said[0] == f"`agent models` listed nothing ({why}), so Cursor is left out: try `agent login`."


def test_a_cursor_that_lists_nothing_alone_is_as_none(home: Path, put: Put) -> None:
    ran: FirstRun = first_run(home, path=put(agent="exit 1"))

    assert ran.written is None
    assert [line.split()[0] for line in ran.said] == ["`agent", "No"]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'auto - Auto'; sleep 600 & echo $! > PIDS; wait",  # hangs
        "echo 'auto - Auto'; sleep 600 & echo $! > PIDS",  # leaves, its child keeps the pipe
        "exec >/dev/null 2>&1; sleep 600 & echo $! > PIDS; wait",  # closes its output and hangs
        "sleep 600 & echo $! > PIDS; exec yes",  # prints without end
    ],
    ids=["hangs", "leaves a child", "closes its output", "prints without end"],
)
def test_a_listing_that_does_not_end_is_ended_with_what_it_started(put: Put, tmp_path: Path, script: str) -> None:
    folder = put(agent=script.replace("PIDS", str(tmp_path / "pids")))
    listed = list_models(f"{folder}/agent", limit=timedelta(seconds=3))

    assert listed == ([], None, "no end after 3 s")
    child = int((tmp_path / "pids").read_text())
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "the child to end")


def test_codex_is_asked_for_its_models_and_the_one_it_prefers_is_the_default(
    home: Path, put: Put, tmp_path: Path
) -> None:
    ran = first_run(home, path=put(codex=catalog(tmp_path)))

    assert list(load(home, {}).config.models) == ["gpt-6.1-sol", "gpt-6-astra", "gpt-5.5"]
    assert default_in(home) == "gpt-6.1-sol"
    assert ran.said[0] == "Found Codex (3 models)."


def test_a_codex_that_lists_nothing_has_its_usual_models_and_that_is_said(home: Path, put: Put) -> None:
    ran = first_run(home, path=put(codex="echo 'error: unrecognized subcommand' >&2; exit 2"))

    assert list(ran.models) == ["gpt-5.3-codex", "gpt-5.3-codex-spark", "gpt-5.2"]
    assert ran.said[0] == (
        "`codex debug models --bundled` listed nothing (exit status 2), so its usual models are taken."
    )


def test_a_list_of_the_size_that_codex_prints_is_read_whole(put: Put, tmp_path: Path) -> None:
    (tmp_path / "large").write_text(CATALOG.replace("GPT-5.5", "x" * 2 * 1024 * 1024))

    folder = put(codex=f"exec cat {tmp_path}/large")

    assert list_codex_models(f"{folder}/codex").models == ["gpt-6.1-sol", "gpt-6-astra", "gpt-5.5"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"models": 1}',
        '{"models": [1]}',
        '{"models": [{}]}',
        "[" * 100_000,
        CATALOG.replace('"gpt-5.5"', "5.5"),
        CATALOG.replace("13}", '"13"}'),
    ],
)
def test_what_is_no_list_of_codex_names_nothing(text: str) -> None:
    assert read_catalog(text) == []


def test_an_id_that_could_be_part_of_a_command_is_left_out() -> None:
    assert read_catalog(CATALOG.replace("gpt-5.5", "$(reboot)")) == ["gpt-6.1-sol", "gpt-6-astra"]


# -- A model that somebody names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("GPT-5.3-Codex", ("gpt-5.3-codex", "codex")),  # Cursor lists it
        ("gpt-6-astra", ("gpt-6-astra", "codex")),  # codex lists it
        ("sonnet-4.7", ("sonnet-4.7", "claude")),  # claude is given the name of the family
        ("Opus", ("opus", "claude")),
        ("gemini-3.1-pro", ("gemini-3.1-pro", "cursor")),
        ("gpt-7", None),
        ("o3", None),
        ("kimi-k2", None),
    ],
)
def test_with_cursor_there_a_name_alone_is_not_enough(
    put: Put, tmp_path: Path, model: str, expected: tuple[str, str] | None
) -> None:
    machine = Machine(put(claude="", codex=catalog(tmp_path), agent=listing(tmp_path)))

    if expected is None:
        with pytest.raises(NotAvailable):
            machine.offered(model)
    else:
        assert machine.offered(model) == expected


@pytest.mark.parametrize("programs", [{}, {"agent": "echo 'Not logged in'"}], ids=["no cursor", "a useless cursor"])
@pytest.mark.parametrize("model", ["gpt-5.3-codex", "o3", "gpt-6-astra"])
def test_without_cursors_list_the_name_is_enough_for_codex(
    put: Put, tmp_path: Path, programs: dict[str, str], model: str
) -> None:
    assert Machine(put(codex=catalog(tmp_path), **programs)).offered(model) == (model, "codex")


def test_a_program_that_cannot_be_started_lists_nothing(put: Put) -> None:
    folder = put()
    Path(folder, "agent").write_bytes(b"\x7fELF garbage")
    Path(folder, "agent").chmod(0o755)

    assert list_models(f"{folder}/agent").failure == "it cannot be started: Exec format error"


def test_markers_and_junk_are_no_part_of_a_listing() -> None:
    assert read_listing(LISTING) == (
        ["auto", "gpt-5.3-codex", "opus-4.6-thinking", "composer-1.5", "gemini-3.1-pro", "sonnet-4.6"],
        "composer-1.5",
    )
