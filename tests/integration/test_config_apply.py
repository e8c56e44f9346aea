"""Edits of the file itself: whole or not at all, with its mode, its link and everybody's changes."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dispatch_queue.config.edit import AddAlias, AddModel, Edit, Migrate, SetDefault, apply
from dispatch_queue.config.load import load
from dispatch_queue.errors import BadConfig, BadInput

FILE = "default: opus\nbackends: {claude: {command: claude -p}}\nmodels:\n  opus: {backend: claude}  # mine\n"
HAIKU = [AddModel("haiku", "claude")]
WITH_HAIKU = FILE + "  haiku: {backend: claude}\n"

Put = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "dispatch"
    home.mkdir(mode=0o700)
    return home


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


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.name != "run")


def refused(home: Path, edits: Sequence[Edit] = HAIKU, path: str = "") -> str:
    """The message of an edit that is refused, which leaves everything as it was."""
    before = {path: path.read_bytes() for path in home.iterdir() if path.is_file()}
    with pytest.raises((BadConfig, BadInput)) as caught:
        apply(home, edits, path=path)
    assert {path: path.read_bytes() for path in home.iterdir() if path.is_file()} == before
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_the_file_keeps_its_mode_and_nothing_is_left_beside_it(home: Path, mode: int) -> None:
    (home / "config.yaml").write_text(FILE)
    (home / "config.yaml").chmod(mode)

    apply(home, HAIKU)

    assert (home / "config.yaml").read_text() == WITH_HAIKU
    assert (home / "config.yaml").stat().st_mode & 0o777 == mode
    assert left_in(home) == ["config.yaml"]


def test_a_link_stays_and_its_target_is_changed(home: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "dispatch.yaml").write_text(FILE)
    (home / "config.yaml").symlink_to("../dotfiles/dispatch.yaml")

    apply(home, HAIKU)

    assert (home / "config.yaml").is_symlink()
    assert (dotfiles / "dispatch.yaml").read_text() == WITH_HAIKU
    assert [path.name for path in dotfiles.iterdir()] == ["dispatch.yaml"]


def test_the_order_mark_and_the_line_ends_stay(home: Path) -> None:
    (home / "config.yaml").write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())

    apply(home, HAIKU)

    assert (home / "config.yaml").read_bytes() == b"\xef\xbb\xbf" + WITH_HAIKU.replace("\n", "\r\n").encode()


def test_an_edit_that_changes_nothing_writes_nothing(home: Path) -> None:
    (home / "config.yaml").write_text(FILE)
    before = (home / "config.yaml").stat()

    assert apply(home, [SetDefault("opus")]) == ["`opus` is the default already."]

    assert (home / "config.yaml").stat() == before


def test_of_several_edits_all_are_made_or_none(home: Path) -> None:
    (home / "config.yaml").write_text(FILE)

    assert refused(home, [*HAIKU, SetDefault("haiku"), AddAlias("quick", "gone")]) == "unknown model `gone`"


def test_without_a_file_the_one_of_the_first_run_is_edited(home: Path, put: Put) -> None:
    said = apply(home, [SetDefault("sonnet")], path=put(claude=""))

    assert said[0] == "Found Claude Code (3 models)."
    assert said[-1] == "The default is now `sonnet` (before: `opus`)."
    assert load(home, {}).config.default == "sonnet"
    assert (home / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_without_a_file_and_a_cli_one_is_begun(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"

    apply(home, [AddModel("opus", "claude"), SetDefault("opus")], path="")

    assert load(home, {}).config.models["opus"].backend == "claude"
    assert home.stat().st_mode & 0o777 == 0o700


def test_without_a_file_an_edit_that_is_refused_leaves_none(home: Path, put: Put) -> None:
    assert refused(home, [SetDefault("gpt")], put(claude="")) == "unknown model `gpt`"
    assert left_in(home) == []


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("opus-4.6", "claude"),
        ("Haiku", "claude"),
        ("gpt-5.9", "codex"),
        ("gemini-3", "cursor"),
        ("GEMINI-3", "cursor"),
    ],
)
def test_a_model_goes_to_the_cli_of_this_machine_that_runs_it(home: Path, put: Put, model: str, backend: str) -> None:
    (home / "config.yaml").write_text(FILE)

    lists = "echo 'gemini-3 - Gemini 3 (current)'; echo 'gpt-5.9 - GPT 5.9'"
    apply(home, [AddModel(model)], path=put(claude="", codex="", agent=lists))

    config = load(home, {}).config
    known = {name.casefold(): entry.backend for name, entry in config.models.items()}
    assert known[model.casefold()] == backend
    assert backend in config.backends
    assert {"gemini-3", "haiku", model} & set(config.models)


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        (None, ""),
        ("echo 'auto - Auto'", ""),
        ("head -c 10000 /dev/urandom", " (`agent models` listed nothing: no line of it names a model)"),
        ("sleep 600", " (`agent models` listed nothing: no end after 5 s)"),
    ],
    ids=["no CLI", "not listed", "garbage", "hangs"],
)
def test_a_model_that_nobody_has_is_refused_in_some_seconds(home: Path, put: Put, agent: str | None, why: str) -> None:
    (home / "config.yaml").write_text(FILE)
    path = put() if agent is None else put(agent=f"PATH=/usr/bin:/bin\n{agent}")

    assert refused(home, [AddModel("gemini-3")], path) == f"Model `gemini-3` isn't available{why}."


def test_edits_of_several_processes_at_once_are_all_there(home: Path) -> None:
    (home / "config.yaml").write_text(FILE)
    names = [f"m{number}" for number in range(12)]
    code = (
        "import sys, pathlib\n"
        "from dispatch_queue.config.edit import AddModel, apply\n"
        "for name in sys.argv[2:]: apply(pathlib.Path(sys.argv[1]), [AddModel(name, 'claude')])\n"
    )
    command = [sys.executable, "-c", code, str(home)]
    env = {**os.environ, "PYTHONPATH": "."}
    running = [subprocess.Popen([*command, *names[first::4]], env=env) for first in range(4)]

    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert set(load(home, {}).config.models) == {"opus", *names}


def test_a_change_that_somebody_made_meanwhile_is_not_lost(home: Path, put: Put) -> None:
    (home / "config.yaml").write_text(FILE)
    script = f"echo 'worker: {{slots: 3}}' >> {home}/config.yaml; echo 'auto - Auto'"

    apply(home, [AddModel("auto")], path=put(agent=script))

    config = load(home, {}).config
    assert config.worker.slots == 3
    assert config.models["auto"].backend == "cursor"


def test_a_file_that_was_removed_meanwhile_is_begun_anew(home: Path, put: Put) -> None:
    (home / "config.yaml").write_text(FILE)

    apply(home, [AddModel("auto")], path=put(agent=f"rm -f {home}/config.yaml; echo 'auto - Auto'"))

    assert list(load(home, {}).config.models) == ["auto"]


def test_the_old_file_is_kept_when_it_is_migrated_and_an_older_one_too(home: Path) -> None:
    old = "default: harvey\nagents:\n  harvey: {command: claude -p --model opus}\n"
    for name in ("config.yaml.old", "config.yaml.old.2"):
        (home / "config.yaml").write_text(old)
        (home / "config.yaml").chmod(0o640)

        assert apply(home, [Migrate()], path="")[-1] == f"What the file was is kept as {home / name}."

        assert (home / name).read_text() == old
        assert (home / name).stat().st_mode & 0o777 == 0o640
        assert load(home, {}).config.aliases["harvey"].model == "opus"


def test_a_read_only_file_is_not_replaced(home: Path) -> None:
    (home / "config.yaml").write_text(FILE)
    (home / "config.yaml").chmod(0o444)

    assert refused(home).endswith("config.yaml: is read-only")


@pytest.mark.parametrize(
    "made",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"# caf\xe9\n"),
        lambda path: path.write_text("a: &a [x, x]\n" * 80_000),
        lambda path: path.write_text("models:\n\topus: {backend: claude}\n"),
        lambda path: path.write_text("default: a\ndefault: b\n"),
        lambda path: path.write_text("backends:\n  x: {command: agent '-p}\n"),
        lambda path: path.write_text("models: {'a;reboot': {backend: claude}}\n"),
        lambda path: path.write_text(FILE + "aliases: {OPUS: {model: opus}}\n"),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("gone"),
    ],
    ids=["folder", "latin-1", "1 MB", "tabs", "twice", "quote", "metacharacter", "alias", "fifo", "link to nothing"],
)
def test_what_is_no_config_is_refused_and_stays(home: Path, made: Callable[[Path], None]) -> None:
    made(home / "config.yaml")

    refused(home)

    assert left_in(home) == ["config.yaml"]


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "rename")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    (home / "config.yaml").write_text("agents:\n  harvey: {command: claude -p}\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(owner, call, full)

    assert refused(home, [Migrate()]).endswith("cannot be written: No space left on device")
    assert left_in(home) == ["config.yaml"]
