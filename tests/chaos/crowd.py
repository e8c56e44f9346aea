"""Tasks that write all the time, and what was seen of their writing when something was killed."""

import random
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from dispatch_queue import ipc, overview
from dispatch_queue.errors import BadInput, Refused
from dispatch_queue.record import Isolation, Ref
from tests.chaos.arena import Arena
from worker.workspace import snapshot_ref

RUNNING_AT_ONCE = 4
ITEMS = 12
PARTS = 3  # lines that an item writes
COMMIT_EACH = 5  # items; all that is between two of them is a dirty tree
BY_COMMAND = 0.3  # the share of submits and answers by a `dispatch` of their own; the others are cheaper
QUESTION_SECONDS = 2  # then a task is parked
ANSWER_SECONDS = (0.2, 4.0)

# A line goes into the tree first and into the log afterwards: what the log has was in the tree.
_WORK = """\
#!/bin/sh
# NUMBER PAUSE [COMMIT]: an item of a task
set -eu
for part in {parts}; do
  line="$1 $DISPATCH_ATTEMPT $part $(date +%s.%N)"
  echo "$line" >>"work-$DISPATCH_TASK_ID.txt"
  echo "$line" >>"{log}/$DISPATCH_TASK_ID"
  sleep "$2"
done
[ $# -lt 3 ] || {{ git add --all && git commit --quiet --message kept; }}
"""


@dataclass(frozen=True, order=True)
class Line:
    """What an item wrote: its number, the attempt's, the line's own within the item, when (wall time)."""

    item: int
    attempt: int
    part: int
    at: float


def lines_in(text: str) -> list[Line]:
    """The whole lines of what a task wrote; a torn one is left out."""
    parts = [line.split() for line in text.split("\n")[:-1]]
    return [Line(int(part[0]), int(part[1]), int(part[2]), float(part[3])) for part in parts if len(part) == 4]


@dataclass
class Crowd:
    """The tasks: always some that are not finished, one question each, answered in a while.

    `seen` is what stood in a worktree, or in the checkout, when something was killed, `saved` what the newest snapshots
    had then.
    """

    arena: Arena
    isolation: Isolation
    random: random.Random
    refs: list[Ref] = field(default_factory=list)
    seen: dict[Ref, set[Line]] = field(default_factory=lambda: defaultdict(set))
    saved: dict[Ref, set[Line]] = field(default_factory=lambda: defaultdict(set))
    _answer_at: dict[tuple[Ref, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._log = self.arena.box.folder / "written"
        self._log.mkdir()
        self._work = self.arena.box.folder / "work"
        self._work.write_text(_WORK.format(parts=" ".join(map(str, range(1, PARTS + 1))), log=self._log))
        self._work.chmod(0o755)

    def items(self, name: str) -> tuple[str, ...]:
        ask_at = self.random.randrange(2, ITEMS)
        return tuple(
            f"ask: {number}: how does {name} go on?" if number == ask_at else self._item(number)
            for number in range(1, ITEMS + 1)
        )

    def _item(self, number: int) -> str:
        pause = self.random.uniform(0.1, 0.5) / PARTS
        commit = " commit" if self.isolation is Isolation.WORKTREE and number % COMMIT_EACH == 0 else ""
        return f"{number}: `{self._work} {number} {pause:.2f}{commit}`"

    def unfinished(self) -> list[Ref]:
        return [ref for ref in self.refs if not self.arena.standing(ref).final]

    def fill_up(self) -> None:
        while len(self.unfinished()) < RUNNING_AT_ONCE:
            name = f"t{len(self.refs) + 1}"
            send = self.arena.submit if self.random.random() < BY_COMMAND else self.arena.send
            ref = send(name, self.items(name), self.isolation, question=QUESTION_SECONDS)
            self.refs.append(ref)

    def answer(self) -> None:
        """Answer what has waited for its time, by the command or by hand."""
        for ref in self.unfinished():
            for number in self.arena.standing(ref).questions:
                key = ref, number
                due = self._answer_at.setdefault(key, time.monotonic() + self.random.uniform(*ANSWER_SECONDS))
                if (
                    time.monotonic() < due
                    or (self.arena.home(ref.task).path / ipc.name_of(number, ipc.Kind.ANSWER)).exists()
                ):
                    continue
                text = f"well, {ref.task}"
                if self.random.random() < BY_COMMAND:
                    self.arena.box.run("answer", ref.task, str(number), text, check=False)
                else:
                    try:
                        self.arena.answer(ref, number, text)
                    except (BadInput, Refused, FileExistsError):
                        continue

    def look(self) -> None:
        """Note what is written now, and what of it is saved."""
        for ref in self.unfinished():
            place = overview.workspace(self.arena.home(ref.task))
            if place is not None:
                self.seen[ref] |= set(lines_in(_text(place / _name(ref))))
            branch = self.arena.standing(ref).branch
            if branch:
                self.saved[ref] |= set(lines_in(self._committed(ref, snapshot_ref(branch))))

    def written(self, ref: Ref) -> list[Line]:
        """All that a task ever wrote, in its order."""
        return lines_in(_text(self._log / ref.task))

    def left(self, ref: Ref) -> list[Line]:
        """What came of it: in the checkout, or on the task's branch."""
        if self.isolation is Isolation.SHARED:
            return lines_in(_text(self.arena.box.project / _name(ref)))
        branch = self.arena.standing(ref).branch
        return lines_in(self._committed(ref, branch)) if branch else []

    def told(self) -> str:
        """How many lines the checks are about."""
        written = sum(len(self.written(ref)) for ref in self.refs)
        seen, saved = (sum(map(len, found.values())) for found in (self.seen, self.saved))
        return f"{written} written, {seen} seen in trees at kills, {saved} in the newest snapshots at kills"

    def _committed(self, ref: Ref, commit: str) -> str:
        words = ["git", "cat-file", "blob", f"{commit}:{_name(ref)}"]
        found = subprocess.run(words, cwd=self.arena.box.project, capture_output=True, text=True, check=False)
        return found.stdout


def _name(ref: Ref) -> str:
    return f"work-{ref.task}.txt"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
