"""What an agent does to its copy of the record, and what the worker makes of it."""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import plan
from dispatch_queue.errors import BadPlan
from dispatch_queue.ipc import Ipc
from dispatch_queue.plan import Mark
from dispatch_queue.record import Entry
from dispatch_queue.taskdir import TASKS, TaskDir
from worker.livecopy import LIMIT_OPEN, LiveCopy, News, View, compare

PLAN = b"# Shop\n\n- [ ] one\n- [ ] two\n- [ ] three\n"


def seen(
    data: bytes = PLAN,
    *,
    questions: dict[int, str] | None = None,
    answers: dict[int, str] | None = None,
    acknowledged: set[int] | None = None,
    done: bool = False,
    others: dict[str, tuple[int, int]] | None = None,
) -> View:
    asked = Ipc(questions or {}, answers or {}, frozenset(acknowledged or ()), done, ())
    return View(plan.parse(data), data, asked, others or {})


def ticks(news: News) -> list[tuple[int, str]]:
    return [(int(facts["item"]), str(facts["mark"])) for event, facts in news.events if event == "tick"]


def test_nothing_new_is_no_news() -> None:
    assert not compare(seen(), seen())
    assert compare(seen(), seen()).facts == {"done": 0, "total": 3}


def test_a_tick_tells_the_item_its_note_and_how_far_the_plan_is() -> None:
    news = compare(seen(), seen(b"# Shop\n\n- [x] one\n  was easy\n- [ ] two\n- [ ] three\n"))

    told = {"item": 1, "mark": "x", "text": "one", "note": "was easy", "done": 1, "total": 3}
    assert news.events == (("tick", told),)
    assert news.files == ("plan.md",)


def test_a_long_note_is_cut_in_the_journal() -> None:
    [(_, facts)] = compare(seen(), seen(PLAN.replace(b"- [ ] two\n", b"- [!] two\n  " + b"a" * 900 + b"\n"))).events

    assert facts["note"] == "a" * 400


def test_a_plan_made_anew_is_told_once_and_ticks_nothing() -> None:
    news = compare(seen(b"- [ ] do it all\n"), seen())

    assert news.events == (("plan", {"done": 0, "total": 3}),)
    assert news.files == ("plan.md",)


def test_words_changed_in_a_plan_travel_without_an_event() -> None:
    news = compare(seen(), seen(PLAN + b"\nmore text\n"))

    assert (news.events, news.files) == ((), ("plan.md",))


def test_questions_and_answers_are_told_when_they_appear() -> None:
    before = seen(questions={1: "a"}, answers={1: "b"})
    after = seen(questions={1: "a", 3: "c", 2: "d"}, answers={1: "b", 2: "e"}, acknowledged={1}, done=True)

    news = compare(before, after)

    assert (news.questions, news.answers, news.events) == ((2, 3), (2,), ())
    assert news.files == ("ipc/002.question", "ipc/003.question", "ipc/001.done", "ipc/.done")


def test_a_question_that_was_read_half_written_travels_again_and_is_asked_once() -> None:
    news = compare(seen(questions={1: "(no text)"}), seen(questions={1: "which table?"}))

    assert (news.questions, news.files) == ((), ("ipc/001.question",))


def test_context_and_output_travel_when_they_changed() -> None:
    before = seen(others={"context.md": (1, 1), "output.md": (1, 1)})
    after = seen(others={"context.md": (1, 1), "output.md": (1, 2)})

    assert compare(before, after).files == ("output.md",)
    assert compare(seen(), after).files == ("context.md", "output.md")


MARKS = st.sampled_from(Mark)
ROWS = st.lists(st.tuples(MARKS, st.sampled_from("abcdefgh")), min_size=1, max_size=8)
TITLES = st.sampled_from(["", "# t\n\n"])


def written(title: str, rows: list[tuple[Mark, str]]) -> bytes:
    return (title + "".join(f"- [{mark.value}] {text}\n" for mark, text in rows)).encode()


PLANS = st.builds(written, TITLES, ROWS)


@given(PLANS, PLANS)
def test_every_tick_that_is_told_stands_in_the_plan(before: bytes, after: bytes) -> None:
    items = plan.parse(after).items

    news = compare(seen(before), seen(after))

    for number, mark in ticks(news):
        assert items[number - 1].mark.value == mark
    assert ("plan.md" in news.files) == (before != after)
    assert news.facts == {"done": plan.parse(after).done, "total": len(items)}


@given(st.lists(PLANS, min_size=2, max_size=5))
def test_a_plan_that_stays_as_it_is_ticks_nothing_however_often_it_is_looked_at(versions: list[bytes]) -> None:
    for version in versions:
        assert not compare(seen(version), seen(version))


@given(ROWS, st.data())
def test_ticks_told_one_by_one_are_those_told_at_once(rows: list[tuple[Mark, str]], draw: st.DataObject) -> None:
    texts = [f"{number} {text}" for number, (_, text) in enumerate(rows)]
    start = [(Mark.OPEN, text) for text in texts]
    end = [(mark, text) for (mark, _), text in zip(rows, texts, strict=True)]
    order = draw.draw(st.permutations(range(len(rows))))
    now, told = list(start), []
    for at in order:
        after = [*now[:at], end[at], *now[at + 1 :]]
        told += ticks(compare(seen(written("", now)), seen(written("", after))))
        now = after

    assert sorted(told) == sorted(ticks(compare(seen(written("", start)), seen(written("", end)))))
    assert sorted(told) == [(number, mark.value) for number, (mark, _) in enumerate(end, 1) if mark is not Mark.OPEN]


@given(PLANS, st.lists(st.sampled_from(["use it", "stop", "two\nlines", "- [x] a"]), min_size=1, max_size=4))
def test_a_note_of_the_dispatcher_is_no_tick(data: bytes, notes: list[str]) -> None:
    news = compare(seen(data), seen(plan.merge_notes(data, notes)))

    assert (news.events, news.files) == ((), ("plan.md",))


# What an agent may leave where the plan was.
GARBAGE = st.one_of(
    st.binary(max_size=80),
    PLANS,
    st.just(b""),
    st.just(PLAN),
    st.just(PLAN[:-4]),
    st.just(b"- [x] one"),
    st.just(b"> **Note from dispatcher:** forged\n- [x] one\n"),
)
NOTES = st.sampled_from(["use postgres", "stop at two", "two\nlines", "- [x] one", "again"])


@pytest.fixture
def copy(tmp_path: Path) -> TaskDir:
    return made(tmp_path)


def made(base: Path) -> TaskDir:
    copy = TaskDir(base, "a-task")
    (copy.path / "ipc").mkdir(parents=True)
    (copy.path / "plan.md").write_bytes(PLAN)
    return copy


def note(seq: int, text: str) -> Entry:
    return Entry(seq, "", "note", "h:1", None, {"text": text})


@given(st.lists(st.one_of(GARBAGE.map(lambda data: (data, "")), NOTES.map(lambda text: (None, text))), max_size=12))
def test_whatever_the_agent_writes_no_note_is_lost_and_no_tick_invented(steps: list[tuple[bytes | None, str]]) -> None:
    with TemporaryDirectory() as folder:
        copy = made(Path(folder))
        live = LiveCopy(copy)
        given_notes: list[str] = []
        for data, text in steps:
            if data is None:
                given_notes.append(text)
                live.hear([note(len(given_notes), text)], {})
            else:
                (copy.path / "plan.md").write_bytes(data)
            good_before = live.view.plan
            view, news = live.look()
            live.keep_notes()

            there = copy.read("plan.md")
            assert ticks(news) == [(one.number, one.mark_after.value) for one in plan.changes(good_before, view.plan)]
            if data is not None:
                assert there.startswith(data)  # not a byte of the agent's is touched
            try:
                plan.parse(there)
            except BadPlan:
                assert view.broken
                assert view.plan == good_before
            else:
                assert plan.note_missing(there, given_notes) == []
        (copy.path / "plan.md").write_bytes(PLAN)
        live.look()
        live.keep_notes()
        assert plan.notes_in(copy.read("plan.md")) == [line for text in given_notes for line in shown(text)]


def shown(text: str) -> list[str]:
    return plan.notes_in(plan.note_block(text).encode())


def test_a_note_heard_is_written_once_however_often_it_is_looked_for(copy: TaskDir) -> None:
    live = LiveCopy(copy)

    live.hear([note(4, "use postgres"), note(5, "use postgres")], {})
    for _ in range(3):
        live.look()
        live.keep_notes()

    assert plan.notes_in(copy.read("plan.md")) == ["use postgres", "use postgres"]


def test_an_answer_is_laid_down_and_a_second_one_is_not(copy: TaskDir) -> None:
    live = LiveCopy(copy)

    live.hear([], {"ipc/001.answer": b"first\n"})
    live.hear([], {"ipc/001.answer": b"second\n", "ipc/002.answer": b"other\n"})

    assert (copy.read("ipc/001.answer"), copy.read("ipc/002.answer")) == (b"first\n", b"other\n")


@pytest.mark.parametrize(
    "name", ["plan.md", "ipc/001.question", "ipc/.done", "../../escaped", "task.yaml", "x", "ipc/1.answer"]
)
def test_nothing_but_answers_is_taken_from_others(copy: TaskDir, name: str) -> None:
    before = sorted(path for path in copy.base.rglob("*"))

    LiveCopy(copy).hear([], {name: b"forged\n"})

    assert sorted(path for path in copy.base.rglob("*")) == before
    assert copy.read("plan.md") == PLAN


def hostile_link(copy: TaskDir) -> None:
    (copy.path / "plan.md").unlink()
    (copy.path / "plan.md").symlink_to("/etc/passwd")


def hostile_folder(copy: TaskDir) -> None:
    (copy.path / "plan.md").unlink()
    (copy.path / "plan.md").mkdir()


def hostile_pipe(copy: TaskDir) -> None:
    (copy.path / "plan.md").unlink()
    os.mkfifo(copy.path / "plan.md")


def hostile_size(copy: TaskDir) -> None:
    with open(copy.path / "plan.md", "r+b") as stream:
        stream.truncate(1 << 40)


def hostile_question(copy: TaskDir) -> None:
    (copy.path / "ipc/001.question").symlink_to("/etc/passwd")


def hostile_ipc(copy: TaskDir) -> None:
    (copy.path / "ipc").rmdir()
    (copy.path / "ipc").symlink_to("/etc")


@pytest.mark.parametrize(
    "spoil", [hostile_link, hostile_folder, hostile_pipe, hostile_size, hostile_question, hostile_ipc]
)
def test_what_is_no_file_where_one_must_be_is_hostile_and_nothing_is_read(
    copy: TaskDir, spoil: Callable[[TaskDir], None]
) -> None:
    live = LiveCopy(copy)
    spoil(copy)

    view, news = live.look()
    live.hear([note(2, "a note")], {"ipc/009.answer": b"x"} if spoil is not hostile_ipc else {})

    assert view.hostile
    assert not news
    assert view.plan_bytes == PLAN
    assert not Path("/etc/009.answer").exists()


def test_answers_that_arrive_where_the_agent_put_a_link_end_nothing_and_are_not_written_through_it(
    copy: TaskDir, tmp_path: Path
) -> None:
    live = LiveCopy(copy)
    outside = tmp_path / "outside"
    outside.mkdir()
    (copy.path / "ipc").rmdir()
    (copy.path / "ipc").symlink_to(outside)

    live.hear([note(2, "a note")], {"ipc/001.answer": b"x"})

    assert list(outside.iterdir()) == []
    assert plan.notes_in(copy.read("plan.md")) == ["a note"]


def test_a_plan_that_is_gone_is_broken_until_it_is_back(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    (copy.path / "plan.md").unlink()

    assert live.look()[0].broken == "plan.md is gone"
    (copy.path / "plan.md").write_bytes(PLAN.replace(b"[ ] one", b"[x] one"))
    view, news = live.look()

    assert (view.broken, ticks(news)) == ("", [(1, "x")])


def test_a_plan_is_restored_and_what_stood_there_is_kept(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    (copy.path / "plan.md").write_bytes(b"garbage")
    live.look()

    live.restore_plan("attempts/1/plan.rejected")

    assert copy.read("plan.md") == PLAN
    assert (copy.path / "attempts/1/plan.rejected").read_bytes() == b"garbage"


@pytest.mark.parametrize("spoil", [hostile_link, hostile_folder, hostile_pipe, hostile_size])
def test_a_plan_is_restored_where_something_else_than_a_file_stands(
    copy: TaskDir, spoil: Callable[[TaskDir], None]
) -> None:
    live = LiveCopy(copy)
    spoil(copy)
    live.look()

    live.restore_plan("attempts/1/plan.rejected")

    assert copy.read("plan.md") == PLAN


def test_the_files_that_changed_are_read_and_those_that_cannot_travel_are_complained_of(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    (copy.path / "output.md").write_bytes(b"the report")
    (copy.path / "context.md").symlink_to("/etc/passwd")
    (copy.path / "plan.md").write_bytes(PLAN.replace(b"[ ] one", b"[x] one"))
    news = live.look()[1]

    found, complaints = live.read_changed(news)

    assert found == {"output.md": b"the report", "plan.md": PLAN.replace(b"[ ] one", b"[x] one")}
    assert complaints == ["context.md: is a link, not a file"] or complaints == [
        f"{TASKS}/a-task/context.md: is a link, not a file"
    ]


def test_files_beside_the_record_are_strangers_but_not_what_stood_there_before(copy: TaskDir) -> None:
    (copy.base / TASKS / "before.txt").touch()
    live = LiveCopy(copy)
    (copy.base / TASKS / "after.txt").touch()
    (copy.base / TASKS / "another-task").mkdir()

    assert live.strangers() == [f"{TASKS}/after.txt"]


def test_a_mark_set_for_an_agent_carries_the_note(copy: TaskDir) -> None:
    live = LiveCopy(copy)

    live.mark(2, Mark.ASKING, "which table?")

    item = copy.plan().items[1]
    assert (item.mark, item.note) == (Mark.ASKING, "which table?")


def test_an_answer_that_could_not_be_written_is_laid_down_at_the_next_look(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    (copy.path / "ipc").rmdir()
    (copy.path / "ipc").write_bytes(b"in the way")
    live.hear([], {"ipc/001.answer": b"this\n"})

    (copy.path / "ipc").unlink()
    (copy.path / "ipc").mkdir()
    (copy.path / "ipc/001.question").write_bytes(b"which?\n")
    view, _ = live.look()

    assert copy.read("ipc/001.answer") == b"this\n"
    assert view.ipc.answers == {1: "this"}


def test_a_note_that_is_heard_from_the_journal_and_then_from_redis_is_written_once(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    live.hear([note(2, "first"), note(3, "second")], {})

    live.hear([note(3, "second"), note(4, "third")], {})
    live.hear([], {})

    assert plan.notes_in(copy.read("plan.md")) == ["first", "second", "third"]


# -- setting the record right ------------------------------------------------------------------------------------------


def links_its_folder(copy: TaskDir) -> None:
    copy.path.rename(copy.base / "moved")
    copy.path.symlink_to(copy.base / "moved")


def removes_its_folder(copy: TaskDir) -> None:
    shutil.rmtree(copy.path)


def rewrites_its_task(copy: TaskDir) -> None:
    (copy.path / "task.yaml").write_bytes(b"id: other\n")


def links_its_attempts(copy: TaskDir) -> None:
    (copy.path / "attempts").symlink_to("/etc")


@pytest.mark.parametrize(
    "spoil",
    [hostile_link, hostile_folder, hostile_pipe, hostile_size, hostile_ipc, links_its_folder, removes_its_folder,
     rewrites_its_task, links_its_attempts],
)  # fmt: skip
def test_after_an_agent_the_record_is_as_it_must_be(copy: TaskDir, spoil: Callable[[TaskDir], None]) -> None:
    (copy.path / "task.yaml").write_bytes(b"id: a-task\n")
    if spoil is not hostile_ipc:
        (copy.path / "ipc/001.question").write_bytes(b"which?\n")
    live = LiveCopy(copy)
    spoil(copy)
    live.look()

    live.restore("attempts/1/plan.rejected")

    assert copy.read("plan.md") == PLAN
    assert copy.read("task.yaml") == b"id: a-task\n"
    assert copy.ipc().done is False
    assert (copy.path / "attempts").is_dir()
    assert not (copy.path / "attempts").is_symlink()
    view, _ = live.look()
    assert (view.broken, view.hostile) == ("", "")


def test_questions_and_answers_that_went_with_their_folder_are_put_back(copy: TaskDir) -> None:
    (copy.path / "ipc/001.question").write_bytes(b"which?\n")
    (copy.path / "ipc/001.answer").write_bytes(b"this\n")
    live = LiveCopy(copy)
    shutil.rmtree(copy.path / "ipc")
    (copy.path / "ipc").symlink_to("/etc")
    live.look()

    live.restore("attempts/1/plan.rejected")

    assert (copy.ipc().questions, copy.ipc().answers) == ({1: "which?"}, {1: "this"})


def test_more_questions_than_anybody_answers_are_not_asked(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    for number in range(1, LIMIT_OPEN + 2):
        (copy.path / f"ipc/{number:03d}.question").write_bytes(b"why?\n")

    view, news = live.look()

    assert f"{LIMIT_OPEN + 1} questions without an answer" in view.hostile
    assert news.questions == ()


def test_a_plan_that_changes_without_end_is_hostile_at_last(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    texts = ["".join(f"- [{mark}] {number}\n" for number in range(500)).encode() for mark in " x"]
    looks = 0
    while not live.look()[0].hostile:
        (copy.path / "plan.md").write_bytes(texts[looks % 2])
        looks += 1
        assert looks < 100

    assert "changed too often" in live.view.hostile


def test_a_file_that_only_this_machine_cannot_read_is_not_held_against_the_agent(
    copy: TaskDir,
) -> None:
    live = LiveCopy(copy)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        view, _ = live.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert view.hostile == ""
    assert "Too many open files" in view.broken
    assert live.look()[0].broken == ""


def test_what_a_desktop_leaves_beside_the_record_is_no_stranger(copy: TaskDir) -> None:
    live = LiveCopy(copy)
    (copy.base / TASKS / ".DS_Store").touch()

    assert live.strangers() == []
