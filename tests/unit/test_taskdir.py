"""A task's directory: what must stand in its journal, and what is taken out of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import taskdir
from dispatch_queue.errors import BadInput, UntrustedPath
from dispatch_queue.record import Entry, Isolation, Task, dump_task
from dispatch_queue.states import State
from dispatch_queue.taskdir import Journal, TaskDir, agreed

TASK = Task("a-task", "p", "A task", "shell", "shell", Isolation.SHARED, "h", "2026-11-23T12:00:00.000Z")


def entry(seq: int, event: str = "tick") -> Entry:
    return Entry(seq, "2026-11-23T12:00:00.000Z", event, "h:1", State.DONE if event == "finish" else None)


def entries(*seqs: int) -> list[Entry]:
    return [entry(seq) for seq in seqs]


@pytest.fixture
def home(tmp_path: Path) -> TaskDir:
    return taskdir.create(tmp_path, TASK, b"- [ ] one\n", entry(1, "submit"))


@pytest.fixture
def handle(home: TaskDir) -> Iterator[int]:
    opened = os.open(home.path / taskdir.JOURNAL, os.O_RDWR | os.O_APPEND)
    yield opened
    os.close(opened)


# -- what is left of a task that was removed -------------------------------------------------------------------------


def test_the_attempts_of_a_removed_task_are_put_aside_whole(tmp_path: Path) -> None:
    home = TaskDir(tmp_path, "a-task")
    (home.attempt_folder(1) / "agent.log").write_text("x")

    assert taskdir.put_aside_leftover(home)
    assert not home.path.exists()
    [aside] = home.path.parent.iterdir()
    assert aside.name.startswith("a-task.rejected-")
    assert (aside / "attempts/1/agent.log").read_text() == "x"


@pytest.mark.parametrize(
    "names", [[], ["mine"], ["attempts", "mine"], ["attempts", "plan.md"], ["attempts", "task.yaml"]]
)
def test_what_may_be_somebodys_is_left_where_it_is(tmp_path: Path, names: list[str]) -> None:
    home = TaskDir(tmp_path, "a-task")
    home.path.mkdir(parents=True)
    for name in names:
        (home.path / name).mkdir()

    assert not taskdir.put_aside_leftover(home)
    assert sorted(path.name for path in home.path.iterdir()) == sorted(names)


# -- what a journal must hold -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "known", "seq", "right"),
    [
        pytest.param([1], [2, 3], 3, [1, 2, 3], id="news"),
        pytest.param([1, 2, 3], [2, 3], 3, [1, 2, 3], id="nothing new"),
        pytest.param([1, 5, 7], [], 7, [1, 5, 7], id="told again after a loss"),
        pytest.param([1, 5, 7], [9], 9, [1, 5, 7, 9], id="gone on after a loss"),
        pytest.param([1, 2, 10**6], [2, 3], 3, [1, 2, 3], id="far ahead"),
        pytest.param([1, 2, 3, 4], [2, 3], 3, [1, 2, 3], id="one ahead"),
        pytest.param([1, 2, 1], [2], 2, [1, 2], id="an old seq again"),
        pytest.param([], [2, 3], 3, [2, 3], id="all taken away"),
        pytest.param([1, 9], [], 3, [1], id="ahead of what was never told"),
    ],
)
def test_what_redis_knows_counts_and_before_it_what_only_the_file_does(
    kept: list[int], known: list[int], seq: int, right: list[int]
) -> None:
    assert agreed(entries(*kept), entries(*known), seq) == entries(*right)


def test_a_line_with_the_seq_of_another_is_not_kept() -> None:
    assert agreed([entry(1), entry(2, "finish")], entries(2), 2) == entries(1, 2)


SEQS = st.lists(st.integers(1, 20), max_size=8)


@given(SEQS, st.sets(st.integers(1, 20)), st.integers(0, 20))
def test_whatever_was_forged_what_is_right_is_in_order_has_all_that_redis_knows_and_stays_right(
    kept: list[int], known: set[int], beyond: int
) -> None:
    told = entries(*sorted(known))
    seq = max([*known, beyond])

    right = agreed(entries(*kept), told, seq)

    seqs = [one.seq for one in right]
    assert seqs == sorted(set(seqs))
    assert all(number <= seq for number in seqs)
    assert right[len(right) - len(told) :] == told
    assert agreed(right, told, seq) == right


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_journal_is_replaced_whole_and_gives_back_what_stood_there(home: TaskDir, handle: int) -> None:
    before = (home.path / taskdir.JOURNAL).read_bytes()
    journal = Journal(handle)

    assert journal.replace(entries(4, 5)) == before

    assert home.entries() == entries(4, 5)
    assert (journal.seq, journal.last) == (5, entry(5))
    journal.append(entries(5, 6))
    assert home.entries() == entries(4, 5, 6)


def test_the_last_line_counts_not_the_highest_seq(home: TaskDir, handle: int) -> None:
    with open(home.path / taskdir.JOURNAL, "ab") as stream:
        stream.write((entry(99).line() + "\n" + entry(3).line() + "\n").encode())

    assert Journal(handle).seq == 3


def test_a_journal_that_is_one_is_not_mended(home: TaskDir) -> None:
    before = (home.path / taskdir.JOURNAL).read_bytes()

    assert not home.mend_journal()

    assert (home.path / taskdir.JOURNAL).read_bytes() == before


@pytest.mark.parametrize("how", ["gone", "link", "folder"])
def test_where_no_journal_is_an_empty_one_is_put(home: TaskDir, tmp_path: Path, how: str) -> None:
    place = home.path / taskdir.JOURNAL
    place.unlink()
    if how == "link":
        (tmp_path / "secret").write_text("secret\n")
        place.symlink_to(tmp_path / "secret")
    elif how == "folder":
        place.mkdir()

    assert home.mend_journal()

    assert not place.is_symlink()
    assert place.read_bytes() == b""
    assert how != "link" or (tmp_path / "secret").read_text() == "secret\n"


def test_the_task_of_another_folder_is_refused(home: TaskDir) -> None:
    (home.path / taskdir.TASK).write_bytes(dump_task(TASK).replace(b'"a-task"', b'"../../other"'))

    with pytest.raises(BadInput, match=r"is of another task, '\.\./\.\./other'"):
        home.task()


def test_a_name_outside_the_table_is_neither_read_nor_written(home: TaskDir) -> None:
    for name in ("journal.jsonl", "../x", "ipc/../task.yaml", "attempts/1/result.json", "ipc/1.answer"):
        with pytest.raises(UntrustedPath):
            home.read(name)
        with pytest.raises(UntrustedPath):
            home.write(name, b"x")
