"""What a request becomes: title, id, plan. Nothing is written for it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import plan, producer
from dispatch_queue.errors import BadInput, BadPlan, Refused
from dispatch_queue.plan import Mark
from dispatch_queue.producer import TEXT_LIMIT_BYTES, TITLE_LIMIT, Drafted, Request, check_note
from dispatch_queue.record import Entry, Isolation, Ref, load_task
from dispatch_queue.record import dump_task as dump
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir, create

PLAN = b"# Shop\r\n\r\n* [x] old\r\n* [ ] new\r\n"


class Noon:
    """A clock whose hands stand still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


def drafted(taken: tuple[str, ...] = (), **asked: Any) -> Drafted:
    return producer.draft(Request(**asked), project_id="shop-1a2b3c", taken=taken, clock=Noon())


def test_a_task_says_all_that_was_asked() -> None:
    made = drafted(
        prompt="fix it",
        model="opus",
        backend="claude",
        preamble="carefully",
        isolation=Isolation.WORKTREE,
        context="a context",
        read=("a.md", "b.md"),
        pool="big",
        priority=3,
        attempts=2,
        timeout=60,
        question_timeout=30,
    ).task

    assert (made.ref, made.created) == (Ref("shop-1a2b3c", made.id), "2026-11-23T12:00:00.000Z")
    assert (made.prompt, made.preamble, made.context, made.read) == (
        "fix it",
        "carefully",
        "a context",
        ("a.md", "b.md"),
    )
    assert (made.model, made.backend, made.pool, made.isolation) == ("opus", "claude", "big", Isolation.WORKTREE)
    assert (made.priority, made.attempts, made.timeout, made.question_timeout) == (3, 2, 60, 30)
    assert load_task(dump(made)) == made


def test_items_are_taken_word_for_word() -> None:
    made = drafted(items=("Write  the API", "- [x] odd"), title="An API")

    assert made.plan == b"# An API\n\n- [ ] Write  the API\n- [ ] - [x] odd\n"
    assert not made.task.self_planned


def test_a_plan_is_taken_byte_for_byte() -> None:
    assert drafted(plan=PLAN).plan == PLAN


def test_a_bare_prompt_is_one_item_which_the_agent_replaces() -> None:
    made = drafted(prompt="Do a security review\nof this {project}\n")

    assert [item.text for item in plan.parse(made.plan).items] == [
        "Replace this item by concrete steps sized to the work, then do them: Do a security review of this {project}"
    ]
    assert made.task.self_planned
    assert made.task.prompt == "Do a security review\nof this {project}\n"


def test_a_prompt_beside_items_is_kept_for_the_agent() -> None:
    made = drafted(prompt="all of it matters", items=("one",))

    assert (made.task.prompt, made.task.self_planned, len(plan.parse(made.plan).items)) == (
        "all of it matters",
        False,
        1,
    )


def test_the_longest_prompt_can_be_dispatched() -> None:
    made = drafted(prompt="word " * (TEXT_LIMIT_BYTES // 5))

    assert len(plan.parse(made.plan).items) == 1
    assert len(made.task.prompt) > TEXT_LIMIT_BYTES - 5


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ({"title": "  My\n title ", "prompt": "x"}, "My title"),
        ({"plan": PLAN}, "Shop"),
        ({"plan": PLAN, "title": "Mine"}, "Mine"),
        ({"plan": b"- [ ] first\n- [ ] second\n"}, "first"),
        ({"plan": b"- [ ] first\n", "prompt": "the whole"}, "the whole"),
        ({"items": ("first", "second")}, "first"),
        ({"items": ("first",), "prompt": "a\n\tprompt"}, "a prompt"),
        ({"prompt": "a" * TITLE_LIMIT}, "a" * TITLE_LIMIT),
        ({"prompt": "a" * (TITLE_LIMIT + 1)}, "a" * (TITLE_LIMIT - 1) + "…"),
        ({"prompt": "word " * 20}, "word " * 13 + "word…"),
    ],
)
def test_a_title_is_the_given_one_the_plans_or_what_was_said_first(asked: dict[str, Any], title: str) -> None:
    made = drafted(**asked)

    assert made.task.title == title
    assert len(made.task.title) <= TITLE_LIMIT


@pytest.mark.parametrize(
    ("asked", "taken", "task_id"),
    [
        ({"prompt": "do a security review of this project"}, (), "security-review"),
        ({"prompt": "do a security review of this project"}, ("security-review",), "security-review-2"),
        ({"prompt": "x", "title": "Build the API"}, (), "build-the-api"),
        ({"prompt": "x", "name": "my-task", "title": "Build the API"}, ("my-task",), "my-task"),
        ({"plan": PLAN}, (), "shop"),
        ({"prompt": "日本語"}, (), "task"),
    ],
)
def test_an_id_comes_from_the_name_the_title_or_the_prompt(
    asked: dict[str, Any], taken: tuple[str, ...], task_id: str
) -> None:
    assert drafted(taken, **asked).task.id == task_id


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "nothing to dispatch"),
    "a blank prompt": ({"prompt": " \n"}, "nothing to dispatch"),
    "a plan and items": ({"plan": PLAN, "items": ("a",)}, "--plan and --item were both given"),
    "an empty plan": ({"plan": b""}, "plan.md"),
    "a plan without items": ({"plan": b"# Title\n\ntext\n"}, "plan.md"),
    "a binary plan": ({"plan": b"\x00\xff" * 50}, "plan.md"),
    "a plan of 10 MB": ({"plan": b"- [ ] a\n" + b"a" * 10_000_000}, "plan.md"),
    "an empty item": ({"items": ("a", " ")}, "the text of an item is empty"),
    "an item of two lines": ({"items": ("a\nb",)}, "several lines"),
    "too long a prompt": ({"prompt": "a" * (TEXT_LIMIT_BYTES + 1)}, "the prompt has more than 256 KiB"),
    "too long a context": ({"prompt": "a", "context": "é" * TEXT_LIMIT_BYTES}, "the context has more than 256 KiB"),
    "too long a title": ({"prompt": "a", "title": "a" * (TEXT_LIMIT_BYTES + 1)}, "the title has more than 256 KiB"),
    "NUL in a prompt": ({"prompt": "a\0b"}, "the prompt contains a NUL character"),
    "NUL in a context": ({"prompt": "a", "context": "\0"}, "the context contains a NUL character"),
    "a prompt that is no text": ({"prompt": "a \udcff", "items": ("a",)}, "the prompt is not valid text"),
    "a context that is no text": ({"prompt": "a", "context": "\udcff"}, "the context is not valid text"),
    "a title that is no text": ({"plan": PLAN, "title": "\udcff"}, "the title is not valid text"),
    "a name of a file that is no text": ({"prompt": "a", "read": ("ok", "\udcff.md")}, "not valid text"),
    "an id with a slash": ({"prompt": "a", "name": "a/b"}, "bad task id"),
    "an id that leads upwards": ({"prompt": "a", "name": ".."}, "bad task id"),
    "an id with a space": ({"prompt": "a", "name": "a b"}, "bad task id"),
    "an id in upper case": ({"prompt": "a", "name": "Api"}, "bad task id"),
    "an id of 300 characters": ({"prompt": "a", "name": "a" * 300}, "bad task id"),
}


@pytest.mark.parametrize(("asked", "said"), BAD.values(), ids=BAD)
def test_bad_input_says_what_is_wrong(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        drafted(**asked)


def test_a_bad_plan_names_the_line() -> None:
    with pytest.raises(BadPlan, match=r"plan.md:2: ") as caught:
        drafted(plan=b"- [ ] a\n- [X ] b\n")
    assert caught.value.line == 2


def test_the_same_request_has_the_same_fingerprint() -> None:
    asked = Request(prompt="a", items=("b",), plan=b"- [ ] c\n", read=("d",))

    assert asked.fingerprint() == replace(asked).fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "b"},
        {"items": ("a", "b")},
        {"plan": b"- [ ] b\n"},
        {"plan": b"- [ ] a\n "},
        {"title": "t"},
        {"model": "m"},
        {"isolation": Isolation.WORKTREE},
        {"context": "c"},
        {"read": ("f",)},
        {"attempts": 9},
    ],
)
def test_any_other_request_has_another_fingerprint(other: dict[str, Any]) -> None:
    asked = Request(prompt="a", items=("a",), plan=b"- [ ] a\n")

    assert replace(asked, **other).fingerprint() != asked.fingerprint()


def test_texts_of_two_fields_cannot_be_mixed_up() -> None:
    assert Request(prompt="ab", context="c").fingerprint() != Request(prompt="a", context="bc").fingerprint()
    assert Request(items=("a b",)).fingerprint() != Request(items=("a", "b")).fingerprint()


def home(tmp_path: Path, *more: Entry) -> TaskDir:
    made = drafted(prompt="fix it", name="fix-it")
    first = Entry(1, made.task.created, Event.SUBMIT, "h:1", State.QUEUED, {"done": 0, "total": 1})
    copy = create(tmp_path, made.task, made.plan, first)
    with open(copy.path / "journal.jsonl", "a") as journal:
        journal.writelines(entry.line() + "\n" for entry in more)
    return copy


def test_a_note_is_stripped_and_may_have_lines(tmp_path: Path) -> None:
    assert check_note(home(tmp_path), "  use\npostgres \n") == "use\npostgres"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" \n", "the note is empty"),
        ("a\0b", "NUL"),
        ("a \udcff", "not valid text"),
        ("a" * (plan.NOTE_LIMIT_BYTES + 1), "the limit is"),
    ],
    ids=["empty", "nul", "no-text", "long"],
)
def test_a_note_that_no_plan_could_hold_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_note(home(tmp_path), text)


def test_an_accepted_note_can_be_merged_into_a_plan(tmp_path: Path) -> None:
    text = check_note(home(tmp_path), "é" * (plan.NOTE_LIMIT_BYTES // 2))

    assert plan.note_missing(plan.merge_notes(PLAN, [text]), [text]) == []


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_a_finished_task_takes_no_note_and_no_answer(tmp_path: Path, state: State) -> None:
    over = home(tmp_path, Entry(2, "", "end", "h:1", state))

    with pytest.raises(Refused, match=f"is {state}") as caught:
        check_note(over, "x")
    assert caught.value.hint == "dispatch retry fix-it"
    with pytest.raises(Refused, match=f"is {state}"):
        producer.answer(over, 1, "x")


def asked(tmp_path: Path, *numbers: int) -> TaskDir:
    copy = home(tmp_path)
    for number in numbers:
        copy.write(f"ipc/{number:03d}.question", b"which?\n")
    return copy


def test_an_answer_without_a_number_is_for_the_only_open_question(tmp_path: Path) -> None:
    copy = asked(tmp_path, 1, 2)
    copy.write("ipc/001.answer", b"this\n")

    assert producer.answer(copy, None, "that") == 2
    assert copy.read("ipc/002.answer") == b"that\n"


@pytest.mark.parametrize(
    ("open_ones", "said"),
    [((), "has no open question"), ((1, 3), "several open questions: 1, 3")],
)
def test_an_answer_to_nothing_in_particular_is_refused(tmp_path: Path, open_ones: tuple[int, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        producer.answer(asked(tmp_path, *open_ones), None, "x")


def test_an_answer_to_a_question_that_nobody_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="asked no question 7"):
        producer.answer(asked(tmp_path, 1), 7, "x")


def test_a_second_answer_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    copy = asked(tmp_path, 1)
    producer.answer(copy, 1, "first")

    with pytest.raises(Refused, match="answered already"):
        producer.answer(copy, 1, "second")
    assert copy.read("ipc/001.answer") == b"first\n"


def test_a_plan_that_was_read_back_is_open_where_it_was(tmp_path: Path) -> None:
    assert [item.mark for item in plan.parse(drafted(plan=PLAN).plan).items] == [Mark.DONE, Mark.OPEN]
