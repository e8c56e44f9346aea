"""The reference agent: a process like any other agent's, which follows the file protocol and needs no account.

It works through plan.md from the first item that is not done. What it makes of an item:

`ask: QUESTION`          asks by `dispatch-ask`; the answer becomes the item's note
text with a `command`    runs the first command by `sh -c` in the workspace; all of it counts, also `;` and `|`;
                         one that ends with 75 after it asked by `dispatch-ask` waits for its answer
only words               `[!]`: a shell cannot do words

Exit status: 0 all done, or parked on a question; 1 an item is `[!]`; 2 started without a task.
"""

import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatch_queue import files, plan
from dispatch_queue.errors import DispatchError, Exit
from dispatch_queue.ownnotes import ANSWERED, NO_COMMAND, NO_QUESTION, cleared, of_the_shell
from dispatch_queue.plan import Item, Mark

# `-S` spares a third of the start, the second folder the modules that the package `worker.backends` imports.
_PROGRAM: Final = "import sys; sys.path += sys.argv[1:]; import shell_agent; sys.exit(shell_agent.main())"
_NOTE_CHARACTERS: Final = 2000
_TAIL_BYTES: Final = 4096
_CODE_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_QUESTION: Final = re.compile(r"\s*ask:(.*)", re.IGNORECASE | re.DOTALL)
_HERE: Final = Path(__file__).parent
_DISPATCH_ASK: Final = _HERE.parent / "bin" / "dispatch-ask"


def command() -> tuple[str, ...]:
    """The argv that starts this agent with the interpreter that runs now."""
    return (sys.executable, "-I", "-S", "-c", _PROGRAM, str(_HERE.parents[1]), str(_HERE))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an item came to: its new mark, and the note for under it."""

    mark: Mark
    note: str = ""


def question_of(text: str) -> str | None:
    """What an item asks, None if it asks nothing."""
    found = _QUESTION.match(text)
    return found[1].strip() if found else None


def command_of(text: str) -> str | None:
    """The first code span of an item, None if there is none; as in Markdown, more backticks may quote one."""
    found = _CODE_SPAN.search(text)
    if found is None:
        return None
    span = found[2]
    return span[1:-1] if span.startswith(" ") and span.endswith(" ") and span.strip() else span


class Shell:
    """Runs commands one after the other. What one left running may go on printing while the next one runs."""

    def __init__(self) -> None:
        self._output, self._end = os.pipe()
        self._wake, woken = os.pipe()
        for handle in (self._output, self._wake, woken):
            os.set_blocking(handle, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._tail = b""

    def run(self, command: str) -> Outcome:
        """Run a command to its own end, showing what it prints."""
        self._tail = b""
        child = subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=self._end, stderr=self._end)
        while (code := child.poll()) is None:
            self._poll.poll()
            _drain(self._wake)
            self._show()
        self._show()
        if code == 0:
            return Outcome(Mark.DONE)
        if code == Exit.TEMPORARY and (question := open_question()) is not None:
            return Outcome(Mark.ASKING, question)
        how = f"exit status {code}" if code > 0 else f"ended by signal {-code}"
        last = self._tail.decode(errors="replace").strip().rpartition("\n")[2].strip()
        return Outcome(Mark.FAILED, f"{how}: {last}" if last else how)

    def _show(self) -> None:
        for part in _drain(self._output):
            _put(part)
            self._tail = (self._tail + part)[-_TAIL_BYTES:]


def _drain(handle: int) -> list[bytes]:
    parts = []
    while True:
        try:
            parts.append(os.read(handle, 65536))
        except BlockingIOError:
            return parts


def open_question() -> str | None:
    """The newest question of the task that has no answer: what a command asked that nobody answered in time."""
    folder = Path(os.environ["DISPATCH_TASK_DIR"]) / "ipc"
    asked = sorted(path for path in folder.glob("*.question") if not path.with_suffix(".answer").exists())
    return asked[-1].read_text(errors="replace").strip() if asked else None


def ask(question: str) -> Outcome:
    """Put a question to the dispatcher and wait, for as long as `dispatch-ask` does."""
    if not question:
        return Outcome(Mark.FAILED, NO_QUESTION)
    try:
        asked = subprocess.run(
            ["dispatch-ask", question], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
    except FileNotFoundError:
        asked = subprocess.run([_DISPATCH_ASK, question], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if asked.returncode == Exit.TEMPORARY:
        return Outcome(Mark.ASKING, question)
    if asked.returncode != 0:
        return Outcome(Mark.FAILED, f"`dispatch-ask` ended with exit status {asked.returncode}")
    answer = asked.stdout.decode(errors="replace").strip()
    _say(f"answer: {answer}")
    return Outcome(Mark.DONE, f"{ANSWERED}{answer}")


def work(item: Item, shell: Shell) -> Outcome:
    """Do what one item says."""
    question, line = question_of(item.text), command_of(item.text)
    if question is not None:
        return ask(question)
    if line is None:
        return Outcome(Mark.FAILED, NO_COMMAND)
    return shell.run(line)


class Task:
    """The record of the task, in the folder that the worker named."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes_heard = 0

    def read(self) -> plan.Plan:
        """The plan as it is now; notes that were not seen before are shown."""
        data = self._data()
        notes = plan.notes_in(data)
        for note in notes[self._notes_heard :]:
            _say(f"note from the dispatcher: {note}")
        self._notes_heard = len(notes)
        return plan.parse(data)

    def set_mark(self, item: Item, outcome: Outcome) -> None:
        """Mark an item, which may have moved while it was worked on, in the plan as it is now.

        The note takes the place of those that stand there from earlier attempts.
        """
        data = self._data()
        same = [now for now in plan.parse(data).items if now.text == item.text]
        there = next((now for now in same if now.number == item.number), None)
        there = there or next((now for now in same if now.mark is not Mark.DONE), None)
        if there is None:
            _say(f"item {item.number} is no longer in the plan: {item.text}")
            return
        note = outcome.note
        if len(note) > _NOTE_CHARACTERS:
            note = note[:_NOTE_CHARACTERS] + "…"
        data = cleared(data, there.number, of_the_shell([note, question_of(item.text) or ""]))
        files.write(self._folder, "plan.md", plan.set_mark(data, there.number, outcome.mark, note))

    def write_context(self, plan_: plan.Plan, item: Item, question: str) -> None:
        """What a successor must know."""
        done = [f"- {each.text}" for each in plan_.items if each.mark is Mark.DONE] or ["- nothing"]
        text = [f"Stopped at item {item.number} of {len(plan_.items)}, because nobody answered:", "", question, ""]
        files.write(self._folder, "context.md", "\n".join([*text, "Done before:", "", *done, ""]).encode())

    def finish(self) -> None:
        """The completion marker."""
        files.write(self._folder, "ipc/.done", b"")

    def _data(self) -> bytes:
        return files.read(self._folder, "plan.md", limit_bytes=plan.LIMIT_BYTES)


def main() -> int:
    """Work through the plan of $DISPATCH_TASK_DIR; the exit status."""
    folder = Path(os.environ.get("DISPATCH_TASK_DIR", ""))
    if not (folder.is_absolute() and folder.is_dir()):
        _say("DISPATCH_TASK_DIR names no folder; this program is started by a dispatch worker")
        return Exit.USAGE
    try:
        return _work_through(Task(folder))
    except (DispatchError, FileNotFoundError) as error:
        _say(f"error: {error}")
        return Exit.FAILED


def _work_through(task: Task) -> int:
    shell = Shell()
    while (item := (now := task.read()).first_open) is not None:
        _say(f"item {item.number}/{len(now.items)}: {item.text}")
        outcome = work(item, shell)
        if outcome.mark is Mark.ASKING:
            task.write_context(now, item, outcome.note)
        task.set_mark(item, outcome)
        if outcome.mark is not Mark.DONE:
            _say(f"item {item.number}/{len(now.items)}: [{outcome.mark}] {outcome.note}")
            return Exit.DONE if outcome.mark is Mark.ASKING else Exit.FAILED
    task.finish()
    return Exit.DONE


def _say(text: str) -> None:
    _put(f"{text}\n".encode(errors="replace"))


def _put(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
