"""Questions and answers as files: what is seen, what is not opened, and that only one answer wins."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import files, ipc
from dispatch_queue.errors import BadInput, Exit, Refused, UntrustedPath
from dispatch_queue.ipc import Ipc, Kind

TASK = ".dispatch/tasks/fix-bug"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder `ipc` of a task below `tmp_path`."""
    made = tmp_path / TASK / "ipc"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("number", "kind", "name"),
    [
        (1, Kind.QUESTION, "ipc/001.question"),
        (42, Kind.ANSWER, "ipc/042.answer"),
        (999, Kind.DONE, "ipc/999.done"),
    ],
)
def test_files_are_named_as_the_protocol_says(number: int, kind: Kind, name: str) -> None:
    assert ipc.name_of(number, kind) == name


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_a_number_outside_the_range_has_no_name(number: int) -> None:
    with pytest.raises(BadInput):
        ipc.name_of(number, Kind.QUESTION)


def test_a_look_sees_questions_answers_and_marks(tmp_path: Path, folder: Path) -> None:
    (folder / "001.question").write_text("Which database?\n")
    (folder / "001.answer").write_text("Postgres\n")
    (folder / "001.done").touch()
    (folder / "010.question").write_text("Which port?\nAnd why?\n")
    (folder / "002.question").write_text("\n")
    (folder / ".done").touch()

    seen = ipc.look(tmp_path, TASK)

    assert seen == Ipc(
        questions={1: "Which database?", 2: "(no text)", 10: "Which port?\nAnd why?"},
        answers={1: "Postgres"},
        acknowledged=frozenset({1}),
        done=True,
        foreign=(),
    )
    assert seen.open == (2, 10)


@pytest.mark.parametrize("missing", [TASK, ".dispatch/tasks/none"])
def test_where_there_is_nothing_nothing_is_seen(tmp_path: Path, missing: str) -> None:
    (tmp_path / TASK).mkdir(parents=True)

    assert ipc.look(tmp_path, missing) == Ipc({}, {}, frozenset(), False, ())


def test_files_in_the_making_are_not_there_yet(tmp_path: Path, folder: Path) -> None:
    for name in ("001.question.tmp", "002.tmp", ".001.question.a1b2.tmp", ".hidden", ".003.question", ".done.tmp"):
        (folder / name).write_text("half")

    assert ipc.look(tmp_path, TASK) == Ipc({}, {}, frozenset(), False, ())


def test_an_answer_without_text_is_still_being_written(tmp_path: Path, folder: Path) -> None:
    (folder / "001.question").write_text("?")
    (folder / "001.answer").touch()

    assert ipc.look(tmp_path, TASK).open == (1,)

    (folder / "001.answer").write_text("yes\n")
    assert ipc.look(tmp_path, TASK).answers == {1: "yes"}


def test_other_names_are_told_but_never_opened(tmp_path: Path, folder: Path) -> None:
    names = [
        "1.question",
        "01.question",
        "0001.question",
        "000.question",
        "001.Question",
        "001.question~",
        "٠٠١.answer",
    ]
    for name in names:
        (folder / name).symlink_to("/etc/passwd")
    (folder / "notes").mkdir()
    os.mkfifo(folder / "fifo")

    seen = ipc.look(tmp_path, TASK)

    assert sorted(seen.foreign) == sorted([*names, "notes", "fifo"])
    assert (seen.questions, seen.answers) == ({}, {})


def test_a_foreign_name_can_be_shown_on_a_terminal(tmp_path: Path, folder: Path) -> None:
    (folder / "\x1b[2J\n").touch()
    (folder / "ö").touch()
    foreign = [r"\x1b[2J\n", "ö"]
    try:
        (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).touch()
        foreign.append(r"\udcff")
    except OSError:  # macOS takes UTF-8 only
        pass

    assert sorted(ipc.look(tmp_path, TASK).foreign) == sorted(foreign)


@pytest.mark.parametrize("name", ["001.question", "001.answer", ".done"])
def test_links_folders_and_large_files_are_unreadable_and_hide_nothing_else(
    tmp_path: Path, folder: Path, name: str
) -> None:
    at = folder / name
    (folder / "002.question").write_text("which?")
    (folder / "003.answer").write_text("this")
    for make in (
        lambda: at.symlink_to("/etc/passwd"),
        lambda: at.symlink_to("nowhere"),
        at.mkdir,
        lambda: os.mkfifo(at),
        *([] if name == "001.answer" else [lambda: at.write_bytes(b"x" * (64 * 1024 + 1))]),
    ):
        make()
        seen = ipc.look(tmp_path, TASK)
        assert (seen.questions, seen.answers, seen.done) == ({2: "which?"}, {3: "this"}, False)
        assert list(seen.unreadable) == [f"ipc/{name}"]
        with pytest.raises(UntrustedPath, match=f"ipc/{name}: "):
            seen.check()
        at.rmdir() if at.is_dir() and not at.is_symlink() else at.unlink()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda at: at.write_bytes(b"x" * (ipc.ANSWER_LIMIT_BYTES + 1)), "is larger than 65536 bytes"),
        (Path.touch, "has no text"),
        (lambda at: at.write_text(" \n"), "has no text"),
        (lambda at: at.symlink_to("nowhere"), "is a link, not a file"),
        (Path.mkdir, "is not a regular file"),
    ],
)
def test_what_is_no_answer_is_told_and_an_answer_refused_with_the_command_that_mends_it(
    tmp_path: Path, folder: Path, make: Callable[[Path], None], why: str
) -> None:
    (folder / "001.question").touch()
    at = folder / "001.answer"
    make(at)

    seen = ipc.look(tmp_path, TASK)

    assert (seen.open, seen.answers, seen.why_unread(1)) == ((1,), {}, why)
    with pytest.raises(Refused, match=f"has an answer that is not read: it {why}") as caught:
        ipc.write_answer(tmp_path, TASK, 1, "yes")
    assert caught.value.hint == f'mv {at} {at}.rejected && dispatch answer fix-bug 1 "…"'
    at.rename(f"{at}.rejected")
    ipc.write_answer(tmp_path, TASK, 1, "yes")
    assert ipc.look(tmp_path, TASK).answers == {1: "yes"}


def test_an_answer_that_belongs_to_somebody_else_hides_no_question(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "001.question").write_text("which?")
    (folder / "001.answer").write_text("this")
    read = files.read

    def of_another_user(base: Path, name: str, *, limit_bytes: int) -> bytes:
        if name.endswith(".answer"):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return read(base, name, limit_bytes=limit_bytes)

    monkeypatch.setattr(files, "read", of_another_user)  # whoever runs the tests may be root
    seen = ipc.look(tmp_path, TASK)

    assert (seen.questions, seen.open, seen.answers) == ({1: "which?"}, (1,), {})
    assert seen.why_unread(1) == "may not be read by this user"


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to("/etc")

    with pytest.raises(UntrustedPath, match="is not a folder"):
        ipc.look(tmp_path, TASK)
    with pytest.raises(UntrustedPath):
        ipc.write_answer(tmp_path, TASK, 1, "yes")


@given(st.binary(max_size=200))
def test_any_bytes_of_an_agent_are_a_question(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    base = tmp_path_factory.mktemp("base")
    (base / "t" / "ipc").mkdir(parents=True)
    (base / "t" / "ipc" / "001.question").write_bytes(data)

    assert ipc.look(base, "t").questions[1]


def test_an_answer_is_written_with_a_newline_and_seen(tmp_path: Path, folder: Path) -> None:
    (folder / "002.question").write_text("?")

    ipc.write_answer(tmp_path, TASK, 2, "  indented\nünd mehr\n\n")

    assert (folder / "002.answer").read_bytes() == "  indented\nünd mehr\n".encode()
    assert ipc.look(tmp_path, TASK).open == ()
    assert names_in(folder) == ["002.answer", "002.question"]


def test_the_longest_answer_can_be_read_back(tmp_path: Path, folder: Path) -> None:
    (folder / "001.question").write_text("?")

    ipc.write_answer(tmp_path, TASK, 1, "x" * (ipc.ANSWER_LIMIT_BYTES - 1))

    assert len(ipc.look(tmp_path, TASK).answers[1]) == ipc.ANSWER_LIMIT_BYTES - 1


@pytest.mark.parametrize("text", ["", " \n", "\udcff", "x" * ipc.ANSWER_LIMIT_BYTES])
def test_an_answer_that_could_not_be_read_is_not_written(tmp_path: Path, folder: Path, text: str) -> None:
    (folder / "001.question").write_text("?")

    with pytest.raises(BadInput) as caught:
        ipc.write_answer(tmp_path, TASK, 1, text)

    assert caught.value.exit_status == Exit.USAGE
    assert names_in(folder) == ["001.question"]


@pytest.mark.parametrize("number", [0, 2, 1000])
def test_an_answer_to_no_question_is_refused(tmp_path: Path, folder: Path, number: int) -> None:
    (folder / "001.question").write_text("?")

    with pytest.raises(BadInput, match=str(number)):
        ipc.write_answer(tmp_path, TASK, number, "yes")

    assert names_in(folder) == ["001.question"]


def test_a_second_answer_is_refused_and_the_first_stays(tmp_path: Path, folder: Path) -> None:
    (folder / "001.question").write_text("?")
    ipc.write_answer(tmp_path, TASK, 1, "first")

    with pytest.raises(Refused, match="question 1 of task `fix-bug` is answered already") as caught:
        ipc.write_answer(tmp_path, TASK, 1, "second")

    assert caught.value.state == "answered"
    assert (folder / "001.answer").read_text() == "first\n"


def test_of_two_answers_at_once_one_wins(tmp_path: Path, folder: Path) -> None:
    (folder / "001.question").write_text("?")
    together = threading.Barrier(6)
    outcomes: list[str] = []

    def answer(text: str) -> None:
        together.wait()
        try:
            ipc.write_answer(tmp_path, TASK, 1, text)
        except Refused:
            return
        outcomes.append(text)

    threads = [threading.Thread(target=answer, args=(f"answer {who}",)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == [ipc.look(tmp_path, TASK).answers[1]]
