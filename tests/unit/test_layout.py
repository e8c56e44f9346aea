"""Rules about the source that no linter knows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("dispatch_queue", "worker") for path in (ROOT / package).rglob("*.py"))
SCRIPTS = sorted((ROOT / "dispatch_queue" / "scripts").glob("*.lua"))
LONGEST_MODULE_LINES = 400
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def documented(header: list[str], table: str) -> tuple[set[int], int | None]:
    """The numbers a script's header gives for KEYS or ARGV, and the first of an open end (`ARGV[2…]`), if any."""
    found = [re.match(rf"-- {table}\[(\d+)(…?)\]  \S", line) for line in header]
    rows = [(int(match[1]), bool(match[2])) for match in found if match]
    return {number for number, _ in rows}, next((number for number, is_open in rows if is_open), None)


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_lua_script_says_what_it_does_takes_and_returns(script: Path) -> None:
    lines = script.read_text().splitlines()
    header = [line for line in lines if line.startswith("--")]
    code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))

    assert re.match(rf"-- {re.escape(script.stem)}: \S.*\.$", lines[0]), "line 1 must be `-- <name>: <what it does>.`"
    assert any(re.match(r"-- returns  \S", line) for line in header), "no line `-- returns  …`"
    for table in ("KEYS", "ARGV"):
        told, open_from = documented(header, table)
        used = {int(number) for number in re.findall(rf"{table}\[(\d+)\]", code)}
        assert told == set(range(1, len(told) + 1)), f"{table} must be listed from 1 without a gap"
        assert {number for number in used if open_from is None or number < open_from} <= told, f"{table} not listed"
        if f"#{table}" not in code and not re.search(rf"{table}\[[^\d]", code):
            assert told <= used, f"{table} listed but not used"


def test_there_are_scripts_to_check() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_a_module_is_short_enough_to_be_read_at_once(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE_LINES


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_only_the_store_imports_redis(module: Path) -> None:
    imports = re.findall(r"^\s*(?:import|from) +redis\b", module.read_text(), re.MULTILINE)
    assert not imports or module == ROOT / "dispatch_queue" / "store.py"


def test_no_file_has_a_name_that_says_nothing() -> None:
    files = [*MODULES, *(ROOT / "tests").rglob("*.py")]
    assert [named(path) for path in files if EMPTY_NAMES & {path.stem, path.parent.name}] == []


@pytest.mark.parametrize("command", ["./dev demo", "./dev test"])
def test_the_readme_names_the_two_commands_that_do_all_the_set_up(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert re.search(r"^## Unreleased$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
