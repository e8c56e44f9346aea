"""Questions and answers of a task: numbered files in its folder `ipc`.

An agent writes `001.question`, the dispatcher `001.answer`, the agent `001.done`; `.done` ends the task. Files in
the making (`*.tmp`, names with a leading dot) are not there yet; any other name is foreign and never opened.
"""

import enum
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dispatch_queue import files
from dispatch_queue.errors import BadInput, Refused, TooLarge, UntrustedPath

QUESTION_LIMIT_BYTES = 64 * 1024
ANSWER_LIMIT_BYTES = 64 * 1024
LAST_NUMBER = 999
LIMIT_FILES = 4 * LAST_NUMBER  # three for each number, and what is in the making
FOLDER = "ipc"
DONE = "ipc/.done"
NO_TEXT = "(no text)"
EMPTY = "has no text"
NOT_FOR_YOU = "may not be read by this user"

_NAME = re.compile(r"([0-9]{3})\.(question|answer|done)")


class Kind(enum.StrEnum):
    """What a numbered file is; also the end of its name."""

    QUESTION = "question"
    ANSWER = "answer"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Ipc:
    """One look at the folder. `foreign` names are escaped, so that they can be shown.

    An answer that is too large, has no text or may not be read is none until whoever wrote it mends that: `unread`, its
    number → why.
    What else cannot be read is `unreadable`, a name below the task's folder → why.
    """

    questions: Mapping[int, str]
    answers: Mapping[int, str]
    acknowledged: frozenset[int]
    done: bool
    foreign: tuple[str, ...]
    unread: Mapping[int, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def open(self) -> tuple[int, ...]:
        """The numbers of the questions that have no answer, lowest first."""
        return tuple(sorted(self.questions.keys() - self.answers.keys()))

    def why_unread(self, number: int) -> str:
        """Why what stands there as the answer to question `number` is none; "" if it is one, or nothing is there."""
        return self.unread.get(number) or self.unreadable.get(name_of(number, Kind.ANSWER), "")

    def check(self) -> None:
        """Raise UntrustedPath if something cannot be read."""
        for name, why in self.unreadable.items():
            raise UntrustedPath(name, why)


def name_of(number: int, kind: Kind) -> str:
    """The name below a task's folder: `ipc/001.question`. Raises BadInput for a number outside 1 to 999."""
    if not 1 <= number <= LAST_NUMBER:
        raise BadInput(f"no question can have the number {number}", hint=f"use a number from 1 to {LAST_NUMBER}")
    return f"{FOLDER}/{number:03d}.{kind.value}"


def look(base: Path, folder: str) -> Ipc:
    """What stands in the folder `ipc` of the task folder `folder` below `base`; nothing where there is none.

    A file that cannot be read, as a link, a folder or what is too large, hides no other one. Raises UntrustedPath
    where the folder itself is none, and for more than `LIMIT_FILES` files.
    """
    found: dict[Kind, dict[int, str]] = {kind: {} for kind in Kind}
    foreign: list[str] = []
    unread: dict[int, str] = {}
    unreadable: dict[str, str] = {}
    done = False
    for name in files.names(base, f"{folder}/{FOLDER}", limit=LIMIT_FILES):
        match = _NAME.fullmatch(name)
        try:
            if name == ".done":
                done = _read(base, f"{folder}/{DONE}", QUESTION_LIMIT_BYTES) is not None
            elif match is not None and match[1] != "000":
                number, kind = int(match[1]), Kind(match[2])
                limit = ANSWER_LIMIT_BYTES if kind is Kind.ANSWER else QUESTION_LIMIT_BYTES
                text = "" if kind is Kind.DONE else _read(base, f"{folder}/{FOLDER}/{name}", limit)
                if text is not None:
                    found[kind][number] = text
            elif not name.startswith(".") and not name.endswith(".tmp"):
                foreign.append(_escaped(name))
        except TooLarge as error:
            if match is not None and match[2] == Kind.ANSWER:
                unread[int(match[1])] = error.reason
            else:
                unreadable[f"{FOLDER}/{name}"] = error.reason
        except UntrustedPath as error:
            unreadable[f"{FOLDER}/{name}"] = error.reason
        except PermissionError:
            if match is None or match[2] != Kind.ANSWER:
                raise
            unread[int(match[1])] = NOT_FOR_YOU
    # An answer without text is one that a person or a shell has only begun to write.
    unread |= {number: EMPTY for number, text in found[Kind.ANSWER].items() if not text}
    return Ipc(
        questions={number: text or NO_TEXT for number, text in found[Kind.QUESTION].items()},
        answers={number: text for number, text in found[Kind.ANSWER].items() if text},
        acknowledged=frozenset(found[Kind.DONE]),
        done=done,
        foreign=tuple(foreign),
        unread=unread,
        unreadable=unreadable,
    )


def put_aside(path: str) -> str:
    """The command that makes room where something stands that cannot be read."""
    quoted = shlex.quote(path)
    return f"mv {quoted} {quoted}.rejected"


def write_answer(base: Path, folder: str, number: int, text: str) -> None:
    """Answer question `number` of the task folder `folder` below `base`.

    Raises BadInput for a text that is empty or too long and for a number nobody asked; Refused (state
    "answered") when an answer is there, also in a race of two; UntrustedPath; OSError with nothing written.
    """
    task = folder.rsplit("/", 1)[-1]
    data = _answer(text)
    question, answer = name_of(number, Kind.QUESTION), name_of(number, Kind.ANSWER)
    if question.removeprefix(f"{FOLDER}/") not in files.names(base, f"{folder}/{FOLDER}"):
        raise BadInput(f"task `{task}` asked no question {number}", hint=f"see its questions: `dispatch show {task}`")
    try:
        files.write(base, f"{folder}/{answer}", data, replace=False)
    except FileExistsError as error:
        why = look(base, folder).why_unread(number)
        if why:
            raise Refused(
                f"question {number} of task `{task}` has an answer that is not read: it {why}",
                state="answered",
                hint=f'{put_aside(str(base / folder / answer))} && dispatch answer {task} {number} "…"',
            ) from error
        raise Refused(
            f"question {number} of task `{task}` is answered already",
            state="answered",
            hint=f"say more in a note: `dispatch note {task} TEXT`",
        ) from error


def _answer(text: str) -> bytes:
    if not text.strip():
        raise BadInput("the answer is empty", hint="give its text, or `-` to read it from standard input")
    try:
        data = (text.rstrip("\r\n") + "\n").encode()
    except UnicodeEncodeError as error:
        raise BadInput("the answer is not valid text: it cannot be written as UTF-8") from error
    if len(data) > ANSWER_LIMIT_BYTES:
        raise BadInput(
            f"the answer has {len(data)} bytes, the limit is {ANSWER_LIMIT_BYTES}",
            hint="put it into a file of the project and answer with the file's name",
        )
    return data


def _read(base: Path, name: str, limit_bytes: int) -> str | None:
    """The text of a file; None when it went away since it was listed."""
    try:
        return files.read(base, name, limit_bytes=limit_bytes).decode(errors="replace").strip()
    except FileNotFoundError:
        return None


def _escaped(name: str) -> str:
    shown = name.encode(errors="backslashreplace").decode()
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)
