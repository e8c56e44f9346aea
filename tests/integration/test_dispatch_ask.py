"""`dispatch-ask` as agents call it, in every shell that is here."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch_queue import files
from dispatch_queue.ipc import QUESTION_LIMIT_BYTES
from tests.support.waiting import wait_for

ASK = Path(__file__).parents[2] / "worker" / "bin" / "dispatch-ask"
KNOWN = {"sh": ["sh"], "dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
# Each program once: `sh` is dash here and bash there.
SHELLS = {str(Path(found).resolve()): words for words in KNOWN.values() if (found := shutil.which(words[0]))}
TEXTS = ["Which one?", "-n", "%s %d \\n", 'it\'s "quoted" `x` $(touch made) $HOME', "two\nlines", "Größe: 漢字 🎉", "*"]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task" / "ipc").mkdir(parents=True)
    return tmp_path / "task"


@pytest.fixture(params=SHELLS.values(), ids=" ".join)
def ask(request: pytest.FixtureRequest, task: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start dispatch-ask; it is killed at the end if it still waits."""
    asked: list[subprocess.Popen[str]] = []

    def ask_(*words: str, stdin: str = "", **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*request.param, str(ASK), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "DISPATCH_TASK_DIR": str(task), **env},
            cwd="/",
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        asked.append(process)
        return process

    yield ask_
    for process in asked:
        if process.returncode is None:
            process.kill()
            process.communicate()


def questions(task: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((task / "ipc").glob("*.question"))}


def answer(task: Path, number: str, text: str) -> None:
    files.write(task, f"ipc/{number}.answer", text.encode())


def names(task: Path) -> list[str]:
    return files.names(task, "ipc")


def result(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    out, err = process.communicate(timeout=60)
    return out, err, process.returncode


def test_a_question_goes_out_as_given_and_its_answer_comes_back(
    ask: Callable[..., subprocess.Popen[str]], task: Path
) -> None:
    asking = {text: ask(text) for text in TEXTS}

    wait_for(lambda: sorted(questions(task).values()) == sorted(f"{text}\n" for text in TEXTS), "the questions")
    for name, text in questions(task).items():
        answer(task, name.partition(".")[0], f"{text}!\n")

    assert {text: result(process) for text, process in asking.items()} == {
        text: (f"{text}\n!\n", "", 0) for text in TEXTS
    }
    assert len(names(task)) == 3 * len(TEXTS)


def test_a_question_is_read_from_standard_input(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    asking = ask("-", stdin="first\n\nlast\n\n")

    wait_for(lambda: questions(task) == {"001.question": "first\n\nlast\n"}, "the question")
    answer(task, "001", "")  # nothing, on purpose

    assert result(asking) == ("\n", "", 0)


def test_words_need_no_quotes(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    ask("Which", "one?")

    wait_for(lambda: questions(task) == {"001.question": "Which one?\n"}, "the question")


def test_an_answer_arrives_within_a_second(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    asking = ask("When?")
    wait_for(lambda: questions(task), "the question")

    answer(task, "001", "now")

    assert result(asking)[0] == "now\n"


def test_an_unanswered_question_ends_with_75_and_what_to_do(
    ask: Callable[..., subprocess.Popen[str]], task: Path
) -> None:
    out, err, code = result(ask("Anyone?", DISPATCH_QUESTION_TIMEOUT="1"))

    assert (out, code) == ("", 75)
    for part in ("question 001", "1 seconds", f"{task}/context.md", f"{task}/plan.md", "[?]", "stop"):
        assert part in err
    assert names(task) == ["001.question"]


def test_an_answer_that_was_there_before_is_given_at_once(
    ask: Callable[..., subprocess.Popen[str]], task: Path
) -> None:
    for number, text in (("001", "old"), ("002", "new"), ("003", None)):
        files.write(task, f"ipc/{number}.question", b"Same?\n" if text else b"Other?\n")
        if text:
            answer(task, number, text)

    assert result(ask("Same?", DISPATCH_QUESTION_TIMEOUT="0")) == ("new\n", "", 0)
    assert "002.done" in names(task)


def test_a_question_asked_again_keeps_its_number(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    files.write(task, "ipc/001.question", b"Same?\n")

    asking = ask("Same?")
    answer(task, "001", "yes")

    assert result(asking)[0] == "yes\n"
    assert list(questions(task)) == ["001.question"]


@pytest.mark.parametrize(
    ("there", "number"),
    [
        ("007.question", "008"),
        ("008.done", "009"),
        ("099.answer", "100"),
        ("999.question", "1000"),
        ("x.question", "001"),
    ],
)
def test_the_next_number_is_above_all_that_are_there(
    ask: Callable[..., subprocess.Popen[str]], task: Path, there: str, number: str
) -> None:
    files.write(task, f"ipc/{there}", b"Other?\n")

    ask("Which?")

    wait_for(lambda: questions(task).get(f"{number}.question") == "Which?\n", f"question {number}")


def test_two_who_ask_at_once_get_a_number_each(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    asking = [ask(f"Question {n}?") for n in range(12)]

    wait_for(lambda: len(questions(task)) == len(asking), "all questions")
    assert sorted(questions(task).values()) == sorted(f"Question {n}?\n" for n in range(12))
    for name, text in questions(task).items():
        answer(task, name.partition(".")[0], text.upper())

    assert [result(process)[0] for process in asking] == [f"QUESTION {n}?\n" for n in range(12)]


def test_the_folder_for_questions_is_made(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    (task / "ipc").rmdir()

    ask("First?")

    wait_for(lambda: questions(task), "the question")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_leaves_the_question(
    ask: Callable[..., subprocess.Popen[str]], task: Path, number: int
) -> None:
    asking = ask("Still there?")
    wait_for(lambda: names(task) == ["001.question"], "the question alone")

    asking.send_signal(number)

    assert result(asking) == ("", "", 128 + number)
    assert names(task) == ["001.question"]


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {}, "usage: dispatch-ask"),
        (("",), {}, "the question is empty"),
        ((" \n",), {}, "the question is empty"),
        (("Q?",), {"DISPATCH_TASK_DIR": ""}, "not an absolute folder"),
        (("Q?",), {"DISPATCH_TASK_DIR": "tmp"}, "not an absolute folder"),
        (("Q?",), {"DISPATCH_TASK_DIR": "/no/such"}, "no such task folder: /no/such"),
        (("Q?",), {"DISPATCH_QUESTION_TIMEOUT": "soon"}, "not a number of seconds: 'soon'"),
    ],
)
def test_a_wrong_call_is_refused_and_asks_nothing(
    ask: Callable[..., subprocess.Popen[str]], task: Path, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    out, err, code = result(ask(*words, **env))

    assert (out, code) == ("", 2)
    assert said in err
    assert names(task) == []


def test_a_question_that_nobody_could_read_is_refused(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    out, err, code = result(ask("q" * QUESTION_LIMIT_BYTES))

    assert (out, code) == ("", 2)
    assert f"the question has {QUESTION_LIMIT_BYTES + 1} bytes, the limit is {QUESTION_LIMIT_BYTES}" in err
    assert names(task) == []


def test_a_question_that_cannot_be_written_is_told(ask: Callable[..., subprocess.Popen[str]], task: Path) -> None:
    (task / "ipc").rmdir()
    (task / "ipc").write_text("in the way")

    out, err, code = result(ask("Q?"))

    assert (out, code) == ("", 73)
    assert f"cannot write to {task}/ipc" in err
