"""The words an agent gets."""

from dataclasses import replace

import pytest

from dispatch_queue import plan
from dispatch_queue.record import Isolation, Task
from worker.prompt import build

TASK = Task(
    id="build-api",
    project="shop-1a2b3c",
    title="Build the API",
    model="opus",
    backend="claude",
    isolation=Isolation.SHARED,
    host="build-1",
    created="2026-11-23T12:00:00.000Z",
    question_timeout=180,
)
ASK = "/opt/dispatch/worker/bin/dispatch-ask"
FOLDER = ".dispatch/tasks/build-api"
OPEN = b"- [ ] one\n- [ ] two\n"


def made(task: Task = TASK, data: bytes = OPEN, **more: object) -> str:
    values: dict[str, object] = {"attempt": 1, "ask": ASK, "branch": None, "exchanges": [], "has_context": False} | more
    return build(task, plan.parse(data), **values)  # type: ignore[arg-type]


def test_the_prompt_names_every_place_of_the_protocol() -> None:
    said = made()

    places = ["plan.md", "context.md", "output.md", "ipc/<NNN>.question", "ipc/.done"]
    assert [place for place in places if f"{FOLDER}/{place}" not in said] == []
    assert [
        word
        for word in ("`[x]`", "`[?]`", "`[!]`", '`dispatch-ask "your question"`', f"`{ASK}`", "Note from dispatcher")
        if word not in said
    ] == []
    assert "{" not in said


def test_the_time_a_question_may_take_is_longer_than_the_wait_for_its_answer() -> None:
    assert "at least 210 seconds" in made()
    assert "at least 630 seconds" in made(replace(TASK, question_timeout=600))


def test_a_first_attempt_begins_and_says_nothing_of_others() -> None:
    said = made()

    assert said.endswith("\nBegin.\n")
    assert "attempt" not in said
    assert "Context:" not in said
    assert "worktree" not in said


def test_a_later_attempt_says_how_far_it_is_and_where_to_go_on() -> None:
    said = made(data=b"- [x] one\n- [ ] two\n- [ ] three\n", attempt=3)

    assert "This is attempt 3" in said
    assert "1 of 3 items are checked" in said
    assert said.endswith("Begin with the first unchecked item.\n")
    assert "context.md. Read them first" not in said


def test_notes_of_an_earlier_attempt_are_to_be_read_first() -> None:
    assert f"{FOLDER}/context.md. Read them first." in made(attempt=2, has_context=True)


def test_an_attempt_with_nothing_left_to_check_is_told_what_is_missing() -> None:
    assert f"{FOLDER}/ipc/.done is missing" in made(data=b"- [x] one\n", attempt=2)


def test_only_an_untouched_plan_of_one_item_is_to_be_made_anew() -> None:
    own = replace(TASK, self_planned=True)
    say = "Before anything else replace that item"

    assert say in made(own, b"- [ ] do it all\n")
    assert say not in made(own, OPEN)
    assert say not in made(own, b"- [x] do it all\n")
    assert say not in made(TASK, b"- [ ] do it all\n")


def test_what_was_asked_and_answered_is_told_again() -> None:
    said = made(attempt=2, exchanges=[("which table?\n", "orders\nand not users\n"), ("when?", "now")])

    assert "- Question: which table?\n  Answer: orders\n    and not users\n- Question: when?\n  Answer: now\n" in said


def test_the_context_has_all_that_was_given_with_the_task() -> None:
    task = replace(TASK, prompt="  build it\n", context="the schema is new\n", read=("docs/a.md", "b c.txt"))

    said = made(task, branch="dispatch/build-api")

    assert "Context:\nWhat the user asked for, in their words:\nbuild it\n" in said
    assert "\nthe schema is new\n" in said
    assert "Read these first:\n- docs/a.md\n- b c.txt\n" in said
    assert "worktree of your own, on branch dispatch/build-api." in said


def test_an_addition_of_an_alias_comes_first() -> None:
    assert made(replace(TASK, preamble="Review only.\n")).startswith("Review only.\n\nYou are a background worker.")


@pytest.mark.parametrize("text", ["{folder}", "{0}", "%s", "{", "}}", "$HOME `id`"])
def test_braces_and_dollars_of_a_person_stay_as_they_are(text: str) -> None:
    task = replace(TASK, prompt=text, context=text, preamble=text, read=(text,), self_planned=True)

    assert made(task, b"- [ ] one\n", attempt=2, exchanges=[(text, text)]).count(text) >= 6


def test_the_same_input_makes_the_same_prompt() -> None:
    assert made(attempt=2, has_context=True) == made(attempt=2, has_context=True)
