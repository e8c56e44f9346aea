"""The record: what is written is read back, what is newer is left alone, and the journal says where a task stands."""

import dataclasses
import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue.errors import BadInput
from dispatch_queue.record import (
    LAST_SEQ,
    Entry,
    Isolation,
    NewerFormat,
    Ref,
    Standing,
    Task,
    draft,
    dump_task,
    fold,
    load_task,
    notes_of,
    parse_entry,
    step,
)
from dispatch_queue.states import FINAL, HELD, TRANSITIONS, Event, State

TASK = Task(
    id="build-api",
    project="shop-1a2b3c",
    title="Build the API",
    model="opus",
    backend="claude",
    isolation=Isolation.WORKTREE,
    host="build-1",
    created="2026-11-23T12:00:00.000Z",
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
AWKWARD = st.sampled_from(
    ["\u2028", "\u2029", "\x85", "\x0b\x0c\x1c", "\r\n", "a: b", "# no", "'\"\\", "", " ", "\ufeff", "\x7f"]
)
ANY_TEXT = st.one_of(TEXTS, AWKWARD, st.tuples(TEXTS, AWKWARD, TEXTS).map("".join))

TASKS = st.builds(
    Task,
    id=st.just("a-task"),
    project=st.just("a-project"),
    title=ANY_TEXT,
    model=ANY_TEXT,
    backend=ANY_TEXT,
    isolation=st.sampled_from(Isolation),
    host=ANY_TEXT,
    created=ANY_TEXT,
    prompt=ANY_TEXT,
    preamble=ANY_TEXT,
    self_planned=st.booleans(),
    context=ANY_TEXT,
    read=st.lists(ANY_TEXT, max_size=3).map(tuple),
    priority=st.integers(0, 9),
    timeout=st.integers(1, 10**9),
    name=ANY_TEXT,
)


@given(TASKS)
def test_a_task_is_read_back_as_it_was_written(task: Task) -> None:
    assert load_task(dump_task(task)) == task


@given(TASKS)
def test_a_task_file_is_yaml_that_says_the_same(task: Task) -> None:
    said = yaml.safe_load(dump_task(task))

    assert said == json.loads(json.dumps(dataclasses.asdict(task)))


def test_a_task_file_has_one_line_a_key() -> None:
    lines = dump_task(dataclasses.replace(TASK, prompt="one\ntwo\u2028three")).decode().split("\n")

    assert lines.pop() == ""
    assert [line.partition(": ")[0] for line in lines] == [field.name for field in dataclasses.fields(Task)]


def test_keys_comments_and_blank_lines_of_somebody_else_are_passed_over() -> None:
    data = b"# by hand\n\nlater: [1, 2]\n" + dump_task(TASK)

    assert load_task(data) == TASK


def test_keys_that_an_older_version_did_not_write_have_their_defaults() -> None:
    written = [
        line for line in dump_task(TASK).splitlines(keepends=True) if not line.startswith((b"pool", b"priority"))
    ]

    assert load_task(b"".join(written)) == TASK


def test_a_newer_format_is_refused_with_the_way_out() -> None:
    data = dump_task(TASK).replace(b"format: 1", b"format: 2")

    with pytest.raises(NewerFormat, match="format 2, this one reads 1") as caught:
        load_task(data)
    assert caught.value.hint == "pip install --upgrade dispatch-queue"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "task.yaml: cannot be read"),
        (b"id\n", "task.yaml:1: not `key: value`"),
        (b'id: "a"\ntitle\n', "task.yaml:2: not `key: value`"),
        (b"id: a\n", "task.yaml: cannot be read"),
        (b"\xff\xfe", "task.yaml: cannot be read"),
        (b"format: [1]\n", "task.yaml: cannot be read"),
        (b"format: Infinity\n", "task.yaml: cannot be read"),
        (b"id: " + b"[" * 100_000 + b"\n", "task.yaml: cannot be read"),
        (dump_task(TASK).replace(b'"worktree"', b'"moon"'), "task.yaml: cannot be read"),
        (dump_task(TASK).replace(b"read: []", b"read: 5"), "task.yaml: cannot be read"),
    ],
    ids=[
        "empty",
        "no-colon",
        "no-colon-later",
        "no-json",
        "binary",
        "odd-format",
        "endless-format",
        "deep",
        "isolation",
        "read",
    ],
)
def test_what_is_no_task_file_is_bad_input_that_names_it(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_task(data)


def test_the_file_named_in_an_error_is_the_one_that_was_read() -> None:
    with pytest.raises(BadInput, match=r"^tasks/a/task.yaml:1: "):
        load_task(b"id\n", name="tasks/a/task.yaml")


def test_a_ref_is_read_back() -> None:
    assert Ref.parse(str(Ref("shop-1a2b3c", "build-api"))) == Ref("shop-1a2b3c", "build-api")
    assert TASK.ref == Ref("shop-1a2b3c", "build-api")


@pytest.mark.parametrize("text", ["", "/", "a", "a/", "/a", "a/b/c", "a//b"])
def test_what_is_no_ref_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a task reference"):
        Ref.parse(text)


FACTS = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1).filter(
        lambda key: (
            key not in {"seq", "state", "event", "at", "by", "done", "total", "question", "attempt", "token", "tries"}
        )
    ),
    st.one_of(ANY_TEXT, st.integers(-(10**9), 10**9), st.booleans(), st.none()),
    max_size=4,
)
ENTRIES = st.builds(
    Entry,
    seq=st.integers(0, LAST_SEQ),
    at=ANY_TEXT,
    event=ANY_TEXT,
    by=ANY_TEXT,
    state=st.one_of(st.none(), st.sampled_from(State)),
    facts=FACTS,
)


@given(ENTRIES)
def test_an_entry_is_one_line_and_read_back(entry: Entry) -> None:
    line = entry.line()

    assert "\n" not in line
    assert parse_entry(line) == entry


@given(ENTRIES)
def test_a_draft_with_seq_and_state_put_in_front_is_the_entry(entry: Entry) -> None:
    made = draft(entry.event, at=entry.at, by=entry.by, **entry.facts)
    head = f'{{"seq":{entry.seq},' + (f'"state":"{entry.state}",' if entry.state else "")

    assert parse_entry(head + made[1:]) == entry


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '"text"',
        "{}",
        '{"seq":1,"event":"tick","at":"x"}',
        '{"seq":"one","event":"tick","at":"x","by":"y"}',
        '{"seq":null,"event":"tick","at":"x","by":"y"}',
        '{"seq":Infinity,"event":"tick","at":"x","by":"y"}',
        '{"seq":-1,"event":"tick","at":"x","by":"y"}',
        f'{{"seq":{LAST_SEQ + 1},"event":"tick","at":"x","by":"y"}}',
        '{"seq":1,"event":"tick","at":"x","by":"y","state":"flying"}',
        '{"seq":1,"event":"tick","at":"x","by":"y","state":["done"]}',
        '{"seq":1,"event":"tick","at":"x","by":"y","done":1}',
        '{"seq":1,"event":"tick","at":"x","by":"y","done":"some","total":3}',
        '{"seq":1,"event":"tick","at":"x","by":"y","done":1,"total":[]}',
        '{"seq":1,"event":"ask","at":"x","by":"y"}',
        '{"seq":1,"event":"answer","at":"x","by":"y","question":"two"}',
        '{"seq":1,"event":"claim","at":"x","by":"y","attempt":{}}',
        '{"seq":1,"event":"tick","at":"x","by":"y","text":' + "[" * 100_000,
    ],
)
def test_a_line_that_is_no_entry_raises_nothing_but_value_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_entry(line)


def entry(seq: int, event: str, state: State | None = None, **facts: object) -> Entry:
    return Entry(seq=seq, at=f"2026-11-23T12:00:{seq:02d}.000Z", event=event, by="build-1:1", state=state, facts=facts)


SUBMITTED = entry(1, Event.SUBMIT, State.QUEUED, done=0, total=3)
CLAIMED = entry(2, Event.CLAIM, State.RUNNING, attempt=1, worker="build-1:7", host="build-1")
ASKED = entry(3, Event.ASK, State.ASKING, question=1, text="which?", reason="question 1")


def test_no_entries_are_no_standing() -> None:
    assert fold([]) == Standing()
    assert not Standing().final


def test_the_standing_of_a_task_that_waits_for_an_answer() -> None:
    assert fold([SUBMITTED, CLAIMED, ASKED]) == Standing(
        state=State.ASKING,
        reason="question 1",
        seq=3,
        attempt=1,
        token=1,
        done=0,
        total=3,
        questions=(1,),
        worker="build-1:7",
        changed="2026-11-23T12:00:03.000Z",
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([entry(4, Event.ANSWER, State.RUNNING, question=1)], {"state": State.RUNNING, "questions": (), "reason": ""}),
        ([entry(4, Event.ASK, question=3), entry(5, Event.ASK, question=2)], {"questions": (1, 2, 3)}),
        ([entry(4, Event.ASK, question=1)], {"questions": (1,)}),
        ([entry(4, Event.ANSWER, question=9)], {"questions": (1,), "state": State.ASKING}),
        (
            [entry(4, "tick", done=1, total=4, item=1)],
            {"done": 1, "total": 4, "state": State.ASKING, "reason": "question 1"},
        ),
        ([entry(4, Event.PARK, State.PARKED, reason="question 1")], {"worker": "", "questions": (1,), "attempt": 1}),
        ([entry(4, Event.GIVE_BACK, State.QUEUED), entry(5, Event.CLAIM, State.RUNNING)], {"attempt": 2, "worker": ""}),
        ([entry(4, Event.FAIL, State.FAILED, reason="item: 2")], {"questions": (), "reason": "item: 2", "worker": ""}),
        ([entry(4, Event.CANCEL, State.CANCELLED)], {"questions": (), "worker": ""}),
        ([entry(4, "attempt", branch="dispatch/build-api")], {"branch": "dispatch/build-api", "worker": "build-1:7"}),
        ([entry(2, "late")], {"seq": 3}),
    ],
)
def test_an_entry_changes_the_standing_in_what_it_tells(more: list[Entry], expected: dict[str, object]) -> None:
    standing = fold([SUBMITTED, CLAIMED, ASKED, *more])

    assert {name: getattr(standing, name) for name in expected} == expected


@pytest.mark.parametrize("state", State)
def test_the_final_states_are_final(state: State) -> None:
    assert Standing(state=state).final == (state in FINAL)


MOVES = sorted(TRANSITIONS.items(), key=str)


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Entries along the table of states, as the change script writes them."""
    entries: list[Entry] = []
    state: State | None = None
    for seq in range(1, draw(st.integers(1, 25)) + 1):
        if state is not None and draw(st.booleans()):
            entries.append(entry(seq, "tick", done=draw(st.integers(0, 3)), total=3, item=1))
            continue
        event, state = draw(st.sampled_from([(e, target) for (source, e), target in MOVES if source == state]))
        facts: dict[str, object] = {}
        if event is Event.CLAIM:
            facts = {"attempt": seq, "worker": "w:1"}
        if event in (Event.ASK, Event.ANSWER):
            facts = {"question": draw(st.integers(1, 3))}
        entries.append(entry(seq, event, state, **facts))
    return entries


@given(histories())
def test_a_standing_holds_together_after_every_entry(entries: list[Entry]) -> None:
    standing = Standing()
    for one in entries:
        standing = step(standing, one)
        states = [seen.state for seen in entries[: one.seq] if seen.state is not None]
        assert standing.state is states[-1]
        assert standing.seq == one.seq
        assert bool(standing.worker) == (standing.state in HELD)
        assert not (standing.final and standing.questions)
    assert standing == fold(entries)


@given(histories())
def test_a_journal_gives_the_same_standing_after_a_round_through_its_lines(entries: list[Entry]) -> None:
    assert fold(parse_entry(one.line()) for one in entries) == fold(entries)


def test_the_notes_are_those_of_the_dispatcher_in_their_order() -> None:
    entries = [
        SUBMITTED,
        entry(2, "note", text="first"),
        entry(3, "tick", done=1, total=3),
        entry(4, "note", text="second"),
    ]

    assert notes_of(entries) == ["first", "second"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("timeout", '"long"'), ("title", "7"), ("priority", "true"), ("self_planned", "1"), ("id", "null")],
)
def test_a_value_of_another_kind_is_refused_with_its_key(key: str, value: str) -> None:
    lines = [line for line in dump_task(TASK).decode().splitlines() if not line.startswith(f"{key}: ")]

    with pytest.raises(BadInput, match=f"task.yaml: `{key}` cannot be"):
        load_task("\n".join([*lines, f"{key}: {value}"]).encode())
