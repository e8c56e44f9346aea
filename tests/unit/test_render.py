"""How tasks look: the lines of `ls`, `show` and `watch` as literal text, and nothing in them that a terminal obeys."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import plan
from dispatch_queue.cli import render
from dispatch_queue.overview import Card, Doing
from dispatch_queue.record import Entry
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir
from tests.support.cards import ASKING, BASE, ESCAPES, FAILED, NOW, TASK, card


def lines_of(*cards: Card) -> str:
    return "\n".join(text for text, _ in render.table(cards, NOW))


def test_the_list_of_tasks() -> None:
    queued = card(
        "write-docs", standing={"state": State.QUEUED, "reason": "no live worker serves backend codex", "worker": ""}
    )
    done = card("a", standing={"state": State.DONE, "changed": "2026-11-20T12:00:00.000Z"}, plan=None)
    broken = card(
        "odd",
        task=None,
        plan=None,
        standing={"state": None, "worker": "", "changed": ""},
        broken="task.yaml: cannot be read",
    )

    assert (
        lines_of(ASKING, FAILED, queued, done, broken)
        == """\
TASK            STATE   ITEMS  MODEL  WHERE    AGE
migrate-orders  asking  1/3    opus   build-2  12m
                 question 2: which database should the migration target?
                 dispatch answer migrate-orders 2 "…"
                 question 3: and when?
                 dispatch answer migrate-orders 3 "…"
build-api       failed  1/3    opus   -        12m
                 item: 2 'tests': no such file
                 dispatch show build-api
write-docs      queued  1/3    opus   -        12m
                 no live worker serves backend codex
a               done    0/0    opus   build-2  3d
odd             broken  0/0    ?      -        ?
                 the record cannot be read: task.yaml: cannot be read
                 look into /nowhere/.dispatch/tasks/odd"""
    )


def test_an_answer_that_is_not_read_is_told_once_with_the_way_out() -> None:
    at = f"{BASE}/.dispatch/tasks/migrate-orders/ipc/003.answer"

    assert render.attention(dataclasses.replace(ASKING, unreadable={"ipc/003.answer": "has no text"})) == [
        "question 2: which database should the migration target?",
        'dispatch answer migrate-orders 2 "…"',
        "question 3: and when?",
        "its answer is not read: it has no text",
        f'mv {at} {at}.rejected && dispatch answer migrate-orders 3 "…"',
    ]


def test_the_list_tells_what_a_running_agent_does_and_since_when() -> None:
    running = card(doing=Doing("Bash: pytest -q", "2026-11-23T11:59:20.000Z"))

    assert lines_of(running).splitlines()[2] == f"{' ' * render.INDENT}Bash: pytest -q (40s)"


def test_the_list_says_where_the_warnings_of_a_task_are() -> None:
    done = card("a", standing={"state": State.DONE, "warned": True})

    assert lines_of(done).splitlines()[2:] == [f"{' ' * render.INDENT}with warnings: dispatch show a"]


def test_the_list_of_all_projects_names_them_and_its_commands_lead_there() -> None:
    there = {"elsewhere": True, "home": TaskDir(Path("/src/my shop"), "migrate-orders")}

    assert (
        lines_of(dataclasses.replace(ASKING, **there), dataclasses.replace(FAILED, home=TaskDir(BASE, "build-api")))
        == """\
TASK            PROJECT  STATE   ITEMS  MODEL  WHERE    AGE
migrate-orders  my shop  asking  1/3    opus   build-2  12m
                 question 2: which database should the migration target?
                 dispatch -C '/src/my shop' answer migrate-orders 2 "…"
                 question 3: and when?
                 dispatch -C '/src/my shop' answer migrate-orders 3 "…"
build-api       nowhere  failed  1/3    opus   -        12m
                 item: 2 'tests': no such file
                 dispatch show build-api"""
    )


def test_projects_of_the_same_name_are_told_by_their_paths() -> None:
    homes = [Path(base) for base in ("/a/shop", "/b/shop", "/c")]

    named = render.projects([dataclasses.replace(FAILED, home=TaskDir(base, "one")) for base in homes])

    assert [named[base] for base in homes] == ["/a/shop", "/b/shop", "c"]


def test_a_record_that_cannot_be_read_is_broken_in_every_line() -> None:
    broken = card(task=None, plan=None, broken="task.yaml: cannot be read", standing={"state": None, "reason": ""})

    assert render.summary(broken) == "migrate-orders  broken  0/0"


def test_an_empty_list_has_its_heading() -> None:
    assert lines_of() == "TASK  STATE  ITEMS  MODEL  WHERE  AGE"


def test_a_line_of_the_list_is_coloured_by_its_state() -> None:
    assert [state for _, state in render.table([FAILED], NOW)] == [None, State.FAILED, None, None]


@pytest.mark.parametrize(
    ("event", "state", "facts", "line"),
    [
        (Event.SUBMIT, State.QUEUED, {}, "t  queued"),
        (Event.CLAIM, State.RUNNING, {"attempt": 2, "host": "build-1"}, "t  attempt 2 begins on build-1"),
        ("tick", None, {"item": 3, "mark": "x", "text": "Load\nit"}, "t  [x] 3. Load it"),
        (Event.ASK, State.ASKING, {"question": 1, "text": "which?", "reason": "question 1"}, None),
        (Event.ANSWER, State.RUNNING, {"question": 1, "text": "this"}, "t  question 1 is answered"),
        ("note", None, {"text": "use\npostgres"}, "t  note: use postgres"),
        ("warning", None, {"text": "context.md: is a link"}, "t  warning: context.md: is a link"),
        ("warning", None, {"text": "w" * 300}, f"t  warning: {'w' * 300}"),
        ("attempt", None, {"attempt": 1, "pid": 7}, None),
        (Event.PARK, State.PARKED, {"reason": "question 1"}, "t  parked: question 1"),
        (Event.GIVE_BACK, State.QUEUED, {"reason": "its worker stopped"}, "t  queued: its worker stopped"),
        (Event.FINISH, State.DONE, {}, "t  done"),
        (Event.FAIL, State.FAILED, {"reason": "timeout: its time is up"}, "t  failed: timeout: its time is up"),
        (Event.CANCEL, State.CANCELLED, {"reason": "cancelled"}, "t  cancelled: cancelled"),
        ("later", None, {}, None),
    ],
)
def test_what_watch_tells_of_an_entry(event: str, state: State | None, facts: dict[str, Any], line: str | None) -> None:
    assert render.event_line("t", Entry(1, "", event, "h:1", state, facts)) == line


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400, "1d"),
        (8640000, "100d"),
        (-5, "0s"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_fits(seconds: int, shown: str) -> None:
    since = datetime.fromtimestamp(NOW.timestamp() - seconds, UTC)

    assert render.age(since.isoformat(), NOW) == shown


@pytest.mark.parametrize("since", ["", "yesterday", "2026-11-23T11:48:00", "9" * 100])
def test_an_age_of_nothing_known_is_a_question_mark(since: str) -> None:
    assert render.age(since, NOW) == "?"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x07\x08\x7f\x9b", "\\x07\\x08\\x7f\\x9b"),
        ("a\rb", "a\\rb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ud800", "\\ud800"),
        ("naïve 日本 👍 'q' \"d\" \\", "naïve 日本 👍 'q' \"d\" \\"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert render.plain(text) == shown


@given(st.text())
def test_plain_text_has_nothing_but_printable_characters_tabs_and_line_ends(text: str) -> None:
    shown = render.plain(text)

    assert all(char.isprintable() or char in "\n\t" for char in shown)
    assert shown.encode().decode() == shown
    assert render.plain(shown) == shown


@given(st.text(), st.integers(1, 50))
def test_a_line_is_one_line_of_at_most_so_many_characters(text: str, limit: int) -> None:
    shown = render.line(text, limit)

    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1


def test_no_escape_of_an_agent_reaches_the_terminal() -> None:
    hostile = f"- [!] {ESCAPES}\n  {ESCAPES}\n".replace("\x00", "").replace("\r", "").encode()
    everything = card(
        task=dataclasses.replace(TASK, title=ESCAPES, model=ESCAPES, created=ESCAPES),
        plan=plan.parse(hostile),
        questions={1: ESCAPES},
        standing={"state": State.FAILED, "reason": ESCAPES, "worker": ESCAPES, "branch": ESCAPES, "changed": ESCAPES},
        doing=Doing(ESCAPES, ESCAPES),
        elsewhere=True,
        home=TaskDir(Path(f"/{ESCAPES}"), "migrate-orders"),
    )
    facts = dict.fromkeys(("attempt", "host", "question", "text", "mark", "item", "reason"), ESCAPES)
    events = [*("tick", "note", "warning", "attempt"), *Event]
    broken = card("odd", task=None, broken=ESCAPES)

    shown = [text for text, _ in render.table([everything, broken], NOW)]
    shown += [
        render.event_line("t", Entry(1, "", event, "", state, facts)) or "" for event in events for state in State
    ]

    assert [text for text in shown if not text.isprintable()] == []
    assert any("owned" in text for text in shown)


def test_of_many_files_that_cannot_be_read_a_few_are_named_and_the_rest_counted() -> None:
    unreadable = {f"ipc/{number:03d}.question": "is a link, not a file" for number in range(10, 15)}

    lines = render.attention(dataclasses.replace(ASKING, unreadable=unreadable))

    folder = "/nowhere/.dispatch/tasks/migrate-orders"
    assert lines[-7:-4] == [
        "ipc/010.question cannot be read: it is a link, not a file",
        f"mv {folder}/ipc/010.question {folder}/ipc/010.question.rejected",
        "ipc/011.question cannot be read: it is a link, not a file",
    ]
    assert lines[-1] == "and 2 more"


def test_a_task_as_data_has_null_for_what_is_unknown() -> None:
    told = render.as_json(
        card(task=None, plan=None, standing={"state": None, "worker": "", "changed": "", "attempt": 0}, broken="odd")
    )

    assert json.loads(json.dumps(told)) == {
        "id": "migrate-orders",
        "project": None,
        "path": "/nowhere/.dispatch/tasks/migrate-orders",
        "title": None,
        "state": None,
        "reason": None,
        "model": None,
        "isolation": None,
        "attempt": 0,
        "items": {"done": 0, "total": 0},
        "plan": [],
        "questions": [],
        "unreadable": [],
        "doing": None,
        "quiet": None,
        "branch": None,
        "worker": None,
        "created": None,
        "changed": None,
        "broken": "odd",
    }


def test_a_task_as_data_says_what_the_page_says() -> None:
    told = json.loads(json.dumps(render.as_json(ASKING)))

    assert (told["state"], told["items"], told["model"]) == ("asking", {"done": 1, "total": 3}, "opus")
    assert told["plan"][0] == {"number": 1, "mark": "x", "text": "Dump the table", "note": "12 GB"}
    assert [one["number"] for one in told["questions"]] == [2, 3]
