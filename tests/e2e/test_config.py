"""`dispatch config` as a user types it: what it prints, its exit statuses, what it does with what it cannot use."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
import yaml

from dispatch_queue.errors import Exit
from tests.e2e.test_bad_input import fill, mounted, refused
from tests.support.sandbox import BIN, Sandbox

# As the original skill writes it.
SEED_FILE = """\
default: opus

backends:
  claude:
    command: >
      env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE
      claude -p --dangerously-skip-permissions
  cursor:
    command: >
      agent -p --force --workspace "$(pwd)"
  codex:
    command: >
      codex exec --full-auto -C "$(pwd)"

models:
  # Claude
  opus:   { backend: claude }
  sonnet: { backend: claude }
  # OpenAI
  gpt-5:  { backend: codex }

aliases:
  reviewer:
    model: opus
    prompt: >
      Look for auth flaws.
"""
CLAUDE = "env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions"


@pytest.fixture
def config(sandbox: Sandbox) -> Path:
    """The sandbox's config file, as the original skill writes it; on PATH there is no agent CLI yet."""
    sandbox.home.mkdir(mode=0o700)
    place = sandbox.home / "config.yaml"
    place.write_text(SEED_FILE)
    clis = sandbox.folder / "clis"
    clis.mkdir()
    sandbox.env["PATH"] = os.pathsep.join([str(clis), str(BIN), "/usr/bin", "/bin"])
    return place


def install(sandbox: Sandbox, program: str, script: str = "") -> None:
    place = sandbox.folder / "clis" / program
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


def test_show_says_what_is_in_force_and_where_it_comes_from(sandbox: Sandbox, config: Path) -> None:
    shown = sandbox.run("config", "show", env={"DISPATCH_REDIS_URL": "redis://me:hunter2@example.invalid/1"})

    assert (
        shown.stdout
        == f"""\
KEY                      FROM                VALUE
default                  line 1              opus
backends.claude.command  line 5              {CLAUDE}
backends.cursor.command  line 9              agent -p --force --workspace "$(pwd)"
backends.codex.command   line 12             codex exec --full-auto -C "$(pwd)"
models.opus.backend      line 17             claude
models.sonnet.backend    line 18             claude
models.gpt-5.backend     line 20             codex
aliases.reviewer.model   line 24             opus
aliases.reviewer.prompt  line 25             Look for auth flaws.
redis.url                DISPATCH_REDIS_URL  redis://me:***@example.invalid/1
worker.slots             built in            8
worker.question_timeout  built in            180.0
worker.drain             built in            5.0
worker.quiet_after       built in            600.0
worker.backends          built in            every one that can run here
worker.pool              built in            local
worker.keep_days         built in            records stay
worker.min_free_mib      built in            512
"""
    )
    assert shown.stderr == f"{config}\n"


def test_show_in_json_is_nested_as_the_file_and_has_the_sources(sandbox: Sandbox, config: Path) -> None:
    shown = sandbox.run("config", "show", "--json").json

    assert (shown["file"], shown["exists"], shown["notices"]) == (str(config), True, [])
    assert shown["config"]["models"] == {
        "opus": {"backend": "claude"},
        "sonnet": {"backend": "claude"},
        "gpt-5": {"backend": "codex"},
    }
    assert (shown["config"]["redis"]["url"], shown["sources"]["redis.url"]) == (None, "built in")
    assert shown["sources"]["models.gpt-5.backend"] == "file:20"


def test_no_secret_is_shown(sandbox: Sandbox, config: Path) -> None:
    config.write_text(
        "backends:\n"
        "  a: {command: env MY_API_KEY=hunter2 my-agent --token 'hunter2 hunter2' --max-tokens 5 --keep this}\n"
        "models: {m: {backend: a}}\n"
        "aliases: {strict: {model: m, prompt: Look for a secret or a token in the code.}}\n"
        "redis: {url: 'rediss://:hunter2@example.invalid/0?password=hunter2'}\n"
        "notify: {slack: 'https://hooks.example.invalid/services/hunter2', secret: hunter2}\n"
    )

    shown = sandbox.run("config", "show")
    as_json = sandbox.run("config", "show", "--json")

    assert "hunter2" not in shown.stdout + shown.stderr + as_json.stdout + as_json.stderr
    assert "env MY_API_KEY=*** my-agent --token *** --max-tokens 5 --keep this" in shown.stdout
    assert "Look for a secret or a token in the code." in shown.stdout


def test_path_prints_the_path_alone(sandbox: Sandbox) -> None:
    assert sandbox.run("config", "path").stdout == f"{sandbox.home}/config.yaml\n"
    assert sandbox.run("config", "path", "--json").json == {"file": f"{sandbox.home}/config.yaml", "exists": False}


def test_check_prints_ok(sandbox: Sandbox, config: Path) -> None:
    assert sandbox.run("config", "check").stdout == "ok\n"
    assert sandbox.run("config", "check", "--json").json == {
        "file": str(config),
        "ok": True,
        "problems": [],
        "notices": [],
    }


def test_check_prints_every_problem_with_line_and_fix_and_what_is_to_be_noticed(sandbox: Sandbox, config: Path) -> None:
    config.write_text("default: opsu\nmodel: {}\nmodels:\n  opus: {backend: claud}\nworker: {slots: 0}\n")

    checked = sandbox.run("config", "check", check=False)

    assert checked.code == Exit.CONFIG
    assert (
        checked.stdout
        == f"""\
{config}:1: default: unknown model `opsu` — did you mean `opus`? If not: dispatch config default NAME
{config}:4: models.opus.backend: unknown backend `claud` — did you mean `claude`? If not: add it under `backends:`
{config}:5: worker.slots: must be 1 or more, not `0` — leave it out for one per core
note: {config}:2: unknown key `model` is ignored; did you mean `models`?
"""
    )
    assert [each["line"] for each in sandbox.run("config", "check", "--json", check=False).json["problems"]] == [
        1,
        4,
        5,
    ]


@pytest.mark.parametrize("made", ["folder", "latin-1"])
def test_check_says_what_cannot_be_read_at_all(sandbox: Sandbox, config: Path, made: str) -> None:
    config.unlink()
    config.mkdir() if made == "folder" else config.write_bytes(b"# \xe9\n")

    checked = sandbox.run("config", "check", check=False)

    assert checked.code == Exit.CONFIG
    assert checked.stdout.startswith(f"{config}")
    assert not sandbox.run("config", "check", "--json", check=False).json["ok"]


def test_check_tells_of_a_variable_that_cannot_be_used(sandbox: Sandbox, config: Path) -> None:
    checked = sandbox.run("config", "check", env={"DISPATCH_REDIS_URL": "hunter2"}, check=False)

    assert checked.code == Exit.CONFIG
    assert checked.stdout.startswith("DISPATCH_REDIS_URL: not the address of a Redis — ")


def test_the_original_skills_file_is_edited_and_still_one_that_it_can_read(sandbox: Sandbox, config: Path) -> None:
    said = [
        sandbox.run("config", *words).stdout
        for words in (
            ("add-model", "composer-1.5", "--backend", "cursor"),
            ("add-model", "haiku", "--backend", "claude"),
            ("alias", "speedy", "composer-1.5", "--prompt", "Be quick: no essays."),
            ("alias", "reviewer", "sonnet"),
            ("default", "speedy"),
            ("remove-model", "gpt-5", "opus"),
        )
    ]

    assert said == [
        "Added model `composer-1.5`, which runs with cursor.\n",
        "Added model `haiku`, which runs with claude.\n",
        "Added alias `speedy`, which stands for `composer-1.5` with a prompt of its own.\n",
        "Changed alias `reviewer`, which stands for `sonnet`.\n",
        "The default is now `speedy` (before: `opus`).\n",
        "Removed model `gpt-5`.\nRemoved model `opus`.\n",
    ]
    assert config.read_text() == SEED_FILE.replace("default: opus", "default: speedy").replace(
        "  opus:   { backend: claude }\n", ""
    ).replace(
        "  sonnet: { backend: claude }\n", "  sonnet: { backend: claude }\n  haiku:  { backend: claude }\n"
    ).replace("  gpt-5:  { backend: codex }\n", "  # Cursor\n  composer-1.5: { backend: cursor }\n").replace(
        "    model: opus\n", "    model: sonnet\n"
    ) + ("  speedy:\n    model: composer-1.5\n    prompt: >\n      Be quick: no essays.\n")
    assert set(yaml.safe_load(config.read_text())) == {"default", "backends", "models", "aliases"}


def test_a_change_in_json_says_what_was_done(sandbox: Sandbox, config: Path) -> None:
    assert sandbox.run("config", "default", "sonnet", "--json").json == {
        "file": str(config),
        "said": ["The default is now `sonnet` (before: `opus`)."],
    }


def test_what_cannot_be_done_says_why_and_what_to_do(sandbox: Sandbox, config: Path) -> None:
    for words, texts in {
        ("remove-model", "opus"): ("error: `opus` is the default", "hint: first take another: dispatch config default"),
        ("default", "gpt-6"): (
            "unknown model `gpt-6`",
            "did you mean `gpt-5`? If not: dispatch config add-model gpt-6",
        ),
        ("alias", "x"): ("the MODEL is missing", "dispatch config alias x MODEL"),
        ("alias", "x", "opus", "--prompt", " "): ("--prompt is empty", "--remove"),
        ("alias", "x", "opus", "--remove"): ("--remove takes nothing but the NAME", "alias x --remove"),
        ("add-model", "a;reboot"): ("not a model id: `a;reboot`", "use letters"),
        ("add-model", "grok-4"): (
            "Model `grok-4` isn't available.",
            "run `agent models` to see what's available, or check your Cursor/Claude/OpenAI subscription",
        ),
    }.items():
        refused(sandbox.run("config", *words, check=False), Exit.USAGE, *texts)
    assert config.read_text() == SEED_FILE


def test_a_model_is_looked_up_in_cursors_list(sandbox: Sandbox, config: Path) -> None:
    install(sandbox, "agent", "echo 'Available models'; echo 'gemini-3 - Gemini 3 (current)'")

    assert sandbox.run("config", "add-model", "gemini-3").stdout == "Added model `gemini-3`, which runs with cursor.\n"
    refused(sandbox.run("config", "add-model", "gemini-4", check=False), Exit.USAGE, "did you mean `gemini-3`?")


def test_init_writes_a_file_only_where_there_is_none(sandbox: Sandbox, config: Path) -> None:
    refused(sandbox.run("config", "init", check=False), Exit.CONFIG, "is there already", "dispatch config add-model")
    config.unlink()
    nothing = sandbox.run("config", "init", check=False)
    assert (nothing.code, nothing.stdout.split(".")[0]) == (Exit.CONFIG, "No agent CLI was found")
    assert not config.exists()

    install(sandbox, "claude")
    assert sandbox.run("config", "init").stdout == (
        f"Found Claude Code (3 models).\n"
        f"Wrote {config} with `opus` as the default; another: dispatch config default NAME\n"
    )
    assert sandbox.run("config", "check").stdout == "ok\n"


def test_init_asks_for_the_default_on_a_terminal(sandbox: Sandbox, config: Path) -> None:
    config.unlink()
    install(sandbox, "claude")
    ours, theirs = pty.openpty()
    command = [str(BIN / "dispatch"), "config", "init"]
    with subprocess.Popen(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=sandbox.env, text=True
    ) as ran:
        os.close(theirs)
        os.write(ours, b"haiku\n")
        assert ran.stdout is not None
        printed = ran.stdout.read()
    os.close(ours)

    assert ran.returncode == 0
    assert "with `haiku` as the default" in printed


def test_the_old_format_is_offered_to_be_migrated_and_is(sandbox: Sandbox, config: Path) -> None:
    config.write_text("default: harvey\nagents:\n  harvey: {command: claude -p --model opus}\n")
    offered = sandbox.run("config", "show")
    assert (
        f"note: {config}:2: `agents:` is the old format; it works as before; to upgrade: dispatch config migrate"
        in (offered.stderr)
    )
    assert "models.harvey.backend    line 3    harvey" in offered.stdout

    assert sandbox.run("config", "migrate").stdout == (
        "`harvey` is now an alias for `opus`, which runs with claude.\n"
        "A task that was dispatched before as `harvey`: dispatch retry ID --model harvey\n"
        f"What the file was is kept as {config}.old.\n"
    )
    assert sandbox.run("config", "migrate").stdout == "There is nothing to migrate: the file has no `agents:`.\n"
    config.unlink()
    refused(sandbox.run("config", "migrate", check=False), Exit.CONFIG, "there is no file to migrate")


def test_a_file_that_is_a_link_to_nothing_is_told_as_such(sandbox: Sandbox, config: Path) -> None:
    config.unlink()
    config.symlink_to("nowhere.yaml")
    install(sandbox, "claude")

    done = sandbox.run("submit", "-i", "Work", check=False)

    refused(
        done, Exit.CONFIG, "is a link to `nowhere.yaml`, which does not exist", "make that file, or remove the link"
    )
    assert "meanwhile" not in done.stderr


def test_a_misspelt_section_is_named_before_what_comes_of_it(sandbox: Sandbox, config: Path) -> None:
    config.write_text("default: opus\nmodles:\n  opus: {backend: claude}\n")

    done = sandbox.run("submit", "-i", "Work", check=False)

    refused(done, Exit.CONFIG, "did you mean `models`?")


def test_a_full_disk_leaves_the_file_as_it_was(sandbox: Sandbox, tmp_path: Path) -> None:
    with mounted(tmp_path / "full") as folder:
        home = folder / "home"
        home.mkdir(mode=0o700)
        (home / "config.yaml").write_text(SEED_FILE)
        fill(folder)
        before = sorted(path.name for path in home.iterdir())

        done = sandbox.run("config", "default", "sonnet", env={"DISPATCH_HOME": str(home)}, check=False)

        refused(done, Exit.CONFIG, "cannot be written: No space left on device", "free some space")
        assert (home / "config.yaml").read_text() == SEED_FILE
        assert {path.name for path in home.iterdir()} - {*before, "run"} == set()


def test_a_folder_that_cannot_be_written_leaves_the_file_as_it_was(sandbox: Sandbox, tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed") as folder:
        (folder / "config.yaml").write_text(SEED_FILE)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)

        done = sandbox.run("config", "default", "sonnet", env={"DISPATCH_HOME": str(folder)}, check=False)

        refused(done, Exit.CONFIG, "config.yaml: ", "point DISPATCH_HOME at a folder that you can write")
        assert (folder / "config.yaml").read_text() == SEED_FILE
