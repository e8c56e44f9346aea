"""Task ids: what a title or a prompt becomes, what is refused, what a prefix finds."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import ids
from dispatch_queue.errors import BadInput, Exit

TEXTS = st.text(max_size=200)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Add auth", "add-auth"),
        ("Fix: login (again!)", "fix-login-again"),
        ("Überprüfe die Straße", "uberprufe-die-strasse"),
        ("Łódź, smørrebrød & œuvre", "lodz-smorrebrod-oeuvre"),
        ("Don\u2019t break the build", "dont-break-the-build"),
        ("  v2.0 --- release  ", "v2-0-release"),
        ("修复登录错误", "task"),
        ("", "task"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_title_becomes_its_words_in_ascii(title: str, expected: str) -> None:
    assert ids.from_title(title) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("do a security review of this project", "security-review"),
        ("fix the login bug in src/auth.py please", "fix-login-bug"),
        ("implement the feature described in requirements.txt", "implement-feature"),
        ("Add a /health endpoint that returns JSON with uptime and version.", "add-health-endpoint"),
        ("dispatch opus to fix the bug", "fix-bug"),
        ("dispatch a worker to research caching", "research-caching"),
        ("use opus to refactor the database layer to use async sessions", "refactor-database-layer"),
        ("do a security review of this project in a worktree", "security-review"),
        ("review src/auth.py", "review-auth"),
        ("Can you please update README.md?", "update-readme"),
        ("migrate to postgres 16", "migrate-postgres-16"),
        ("Fix the tests. Then write a long report about everything you found", "fix-tests"),
        ("one two three four five six seven", "one-two-three-four-five"),
        ("please", "please"),
        ("do it", "do-it"),
        ("修复登录错误", "task"),
        (" \n", "task"),
    ],
)
def test_a_prompt_becomes_the_words_that_say_what(prompt: str, expected: str) -> None:
    assert ids.from_prompt(prompt) == expected


@given(TEXTS)
def test_whatever_is_written_makes_a_valid_id(text: str) -> None:
    assert ids.check(ids.from_title(text)) == ids.from_title(text)
    assert len(ids.from_title(text)) <= ids.TITLE_LIMIT
    assert ids.check(ids.from_prompt(text)) == ids.from_prompt(text)
    assert len(ids.from_prompt(text).split("-")) <= ids.PROMPT_WORDS


@pytest.mark.parametrize("task_id", ["a", "1", "security-review", "a-1-b", "x" * 64])
def test_a_valid_id_is_returned_as_it_is(task_id: str) -> None:
    assert ids.check(task_id) == task_id
    assert ids.is_id(task_id)


@pytest.mark.parametrize(
    ("task_id", "said"),
    [
        ("", "it is empty"),
        ("..", "`..`"),
        ("../../etc/passwd", "`..`"),
        ("a/b", "a slash"),
        ("my task", "white space"),
        ("task\n", "white space"),
        ("My-Task", "upper-case"),
        ("-x", "starts with a dash"),
        ("x-", "ends with a dash"),
        ("a--b", "two dashes"),
        ("a.b", "'.'"),
        ("naïve", "'ï'"),
        ("a\0b", r"'\x00'"),
        ("٣", "'٣'"),
        ("x" * 65, "65 characters, the limit is 64"),
    ],
)
def test_a_bad_id_is_refused_with_what_is_wrong_and_one_that_is_valid(task_id: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        ids.check(task_id)

    assert said in caught.value.message
    assert caught.value.exit_status == Exit.USAGE
    assert not ids.is_id(task_id)
    suggested = re.search(r"`(.*)`$", caught.value.hint or "")
    assert suggested
    assert ids.is_id(suggested[1])


def test_a_very_long_id_is_not_shown_whole() -> None:
    with pytest.raises(BadInput) as caught:
        ids.check("x" * 300)

    assert "300 characters" in caught.value.message
    assert "x" * 41 not in caught.value.message


@given(st.text(max_size=80))
def test_only_the_grammar_decides_what_is_an_id(text: str) -> None:
    valid = len(text) <= ids.LIMIT and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text) is not None

    assert ids.is_id(text) is valid
    if not valid:
        with pytest.raises(BadInput):
            ids.check(text)


def test_a_free_id_stays_and_a_taken_one_is_numbered() -> None:
    assert ids.free("fix-bug", set()) == "fix-bug"
    assert ids.free("fix-bug", {"fix-bug"}) == "fix-bug-2"
    assert ids.free("fix-bug", {"fix-bug", "fix-bug-2", "fix-bug-3"}) == "fix-bug-4"


def test_a_numbered_id_stays_within_the_limit() -> None:
    long = "a" * 61 + "-bc"

    numbered = ids.free(long, {long})

    assert numbered == "a" * 61 + "-2"
    assert ids.is_id(numbered)


KNOWN = ["add-auth", "security-review", "security-review-2", "update-readme"]


@pytest.mark.parametrize(
    ("given_id", "found"),
    [("add-auth", "add-auth"), ("add", "add-auth"), ("u", "update-readme"), ("security-review", "security-review")],
)
def test_an_exact_id_or_a_unique_prefix_finds_its_task(given_id: str, found: str) -> None:
    assert ids.resolve(given_id, iter(KNOWN)) == found


def test_an_ambiguous_prefix_lists_its_candidates() -> None:
    with pytest.raises(BadInput) as caught:
        ids.resolve("sec", KNOWN)

    assert caught.value.message == "ambiguous task id 'sec': `security-review`, `security-review-2`"
    assert caught.value.exit_status == Exit.USAGE


def test_a_prefix_of_very_many_tasks_lists_only_some() -> None:
    with pytest.raises(BadInput, match=r"`task-107` and 92 more$"):
        ids.resolve("task", [f"task-{number}" for number in range(100, 200)])


@pytest.mark.parametrize(
    ("given_id", "near"),
    [("securty-review", "`security-review`"), ("readme", "`update-readme`"), ("ADD-AUTH", "`add-auth`")],
)
def test_an_unknown_id_names_the_nearest_ones(given_id: str, near: str) -> None:
    with pytest.raises(BadInput, match="no task") as caught:
        ids.resolve(given_id, KNOWN)

    assert near in (caught.value.hint or "")


@pytest.mark.parametrize(("given_id", "known"), [("", KNOWN), ("zzz", KNOWN), ("x", []), ("x" * 5000, KNOWN)])
def test_an_unknown_id_with_no_near_one_names_a_command(given_id: str, known: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        ids.resolve(given_id, known)

    assert "`dispatch ls" in (caught.value.hint or "")
    assert len(caught.value.message) < 120


def test_ids_plan_and_ipc_import_only_what_is_built_in() -> None:
    """A small child process imports them; difflib alone is as slow as all of them."""
    script = "import sys, dispatch_queue.ids, dispatch_queue.plan, dispatch_queue.ipc; print(*sorted(sys.modules))"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    heavy = {"difflib", "yaml", "pydantic", "redis", "celery", "click", "rich", "psutil", "asyncio", "subprocess"}
    assert not heavy & set(ran.stdout.split())
