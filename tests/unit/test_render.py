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
from dispatch_queue.overview import Card
from dispatch_queue.record import Entry, Isolation, Standing, Task
from dispatch_queue.states import Event, State
from dispatch_queue.taskdir import TaskDir

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp.exe\u2066\x00\x7f\u200b"
TASK = Task(
    id="migrate-orders",
    project="shop-1a2b3c",
    title="Migrate the orders",
    model="opus",
    backend="claude",
    isolation=Isolation.WORKTREE,
    host="build-1",
    created="2026-11-23T11:40:00.000Z",
)
PLAN = plan.parse(b"- [x] Dump the table\n  12 GB\n- [?] Choose the database\n  which one?\n- [ ] Load it\n  soon\n")
BASE = Path("/nowhere")


def card(task_id: str = "migrate-orders", **values: Any) -> Card:
    told: dict[str, Any] = {
        "state": State.RUNNING,
        "worker": "build-2:7",
        "changed": "2026-11-23T11:48:00.000Z",
        "attempt": 1,
    }
    standing = Standing(**(told | values.pop("standing", {})))
    known: dict[str, Any] = {"task": dataclasses.replace(TASK, id=task_id), "plan": PLAN} | values
    return Card(home=TaskDir(BASE, task_id), standing=standing, **known)


ASKING = card(
    standing={"state": State.ASKING, "reason": "question 2", "questions": (2, 3)},
    questions={3: "and when?", 2: "which database should\nthe migration target?"},
)
FAILED = card("build-api", standing={"state": State.FAILED, "reason": "item: 2 'tests': no such file", "worker": ""})


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
                 the record cannot be read: task.yaml: cannot be read"""
    )


def test_an_empty_list_has_its_heading() -> None:
    assert lines_of() == "TASK  STATE  ITEMS  MODEL  WHERE  AGE"


def test_a_line_of_the_list_is_coloured_by_its_state() -> None:
    assert [state for _, state in render.table([FAILED], NOW)] == [None, State.FAILED, None, None]


def test_the_page_of_a_task_that_asks() -> None:
    answers: list[dict[str, Any]] = [{"number": 1, "question": "go on?", "answer": "yes,\ngo on"}]
    attempts: list[dict[str, Any]] = [
        {
            "attempt": 1,
            "end": "give-back",
            "reason": "its worker stopped",
            "ended": "2026-11-23T11:55:00.000Z",
            "host": "build-1",
        },
        {"attempt": 2, "end": None},
    ]
    shown = dataclasses.replace(ASKING, standing=dataclasses.replace(ASKING.standing, branch="dispatch/migrate-orders"))

    assert (
        "\n".join(render.page(shown, attempts, answers, NOW))
        == """\
migrate-orders  asking  1/3: question 2
  Migrate the orders
  opus, worktree, submitted 20m ago

plan
  [x] 1. Dump the table
        12 GB
  [?] 2. Choose the database
        which one?
  [ ] 3. Load it

questions
  1. go on?
     → yes, go on
  2. which database should the migration target?  (open)
  3. and when?  (open)

attempts
  1. give-back: its worker stopped (5m ago on build-1)
  2. under way, or ended without a result

branch  dispatch/migrate-orders

next
  dispatch answer migrate-orders 2 "…"
  dispatch answer migrate-orders 3 "…"
  dispatch logs migrate-orders -f
  dispatch note migrate-orders "…"
  dispatch diff migrate-orders"""
    )


def test_the_page_of_a_record_that_cannot_be_read() -> None:
    broken = card(task=None, plan=None, broken="task.yaml: cannot be read", standing={"state": None})

    assert render.page(broken, [], [], NOW)[1:] == ["the record cannot be read: task.yaml: cannot be read"]


def test_the_page_of_a_task_that_ended_names_its_output(tmp_path: Path) -> None:
    home = TaskDir(tmp_path, "migrate-orders")
    home.path.mkdir(parents=True)
    (home.path / "output.md").touch()
    done = dataclasses.replace(card(standing={"state": State.DONE, "worker": ""}), home=home)

    lines = render.page(done, [], [], NOW)

    assert f"output  {home.path}/output.md" in lines
    assert lines[-2:] == ["next", "  dispatch logs migrate-orders"]


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
    )
    attempts: list[dict[str, Any]] = [
        {"attempt": ESCAPES, "end": ESCAPES, "reason": ESCAPES, "ended": ESCAPES, "host": ESCAPES},
        {"attempt": 2, "end": None, "reason": ESCAPES},
    ]
    answers = [{"number": 1, "question": ESCAPES, "answer": ESCAPES}]
    facts = dict.fromkeys(("attempt", "host", "question", "text", "mark", "item", "reason"), ESCAPES)
    events = [*("tick", "note", "warning", "attempt"), *Event]
    broken = card("odd", task=None, broken=ESCAPES)

    shown = [text for text, _ in render.table([everything, broken], NOW)]
    shown += render.page(everything, attempts, answers, NOW) + render.page(broken, [], [], NOW)
    shown += [
        render.event_line("t", Entry(1, "", event, "", state, facts)) or "" for event in events for state in State
    ]

    assert [text for text in shown if not text.isprintable()] == []
    assert any("owned" in text for text in shown)


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
