"""The notes that dispatch itself puts under items: the `shell` agent's on what came of one, and a retry's.

A new one takes the place of the older ones of its item. What an agent or a person wrote stays: a line is ours only if
it is one that we write.
"""

import re
from collections.abc import Callable, Iterable

from dispatch_queue.checklist import scan
from dispatch_queue.errors import BadInput

SKIPPED = "skipped"
ANSWERED = "answer: "
NO_COMMAND = "no `command` in this item; the shell backend runs only commands"
NO_QUESTION = "there is no question after `ask:`"

_SHELLS = re.compile(
    r"(exit status|ended by signal|`dispatch-ask` ended with exit status) [0-9]+(: .*)?"
    rf"|{ANSWERED}.*|{re.escape(NO_COMMAND)}|{re.escape(NO_QUESTION)}"
)


def of_a_retry(line: str) -> bool:
    """Whether `dispatch retry` wrote this line."""
    return line == SKIPPED


def of_the_shell(said: Iterable[str] = ()) -> Callable[[str], bool]:
    """Tells the lines that the `shell` agent wrote. `said` are the texts of its task's questions and answers."""
    known = {_bare(line) for text in said for line in text.splitlines()}
    return lambda line: of_a_retry(line) or _SHELLS.fullmatch(line) is not None or _bare(line) in known


def cleared(data: bytes, number: int, is_ours: Callable[[str], bool]) -> bytes:
    """The plan `data` without those lines right under item `number` that are ours.

    Raises BadPlan where `data` is no plan, BadInput for a number that it does not have.
    """
    entries = scan(data, "plan.md").entries
    if not 1 <= number <= len(entries):
        raise BadInput(f"no item {number}: the plan has {len(entries)}", hint="count from 1, top to bottom")
    entry = entries[number - 1]
    first, *notes = data[entry.start : entry.under].splitlines(keepends=True)
    kept = [line for line in notes if not line.strip() or not is_ours(line.decode().strip())]
    return data[: entry.start] + b"".join([first, *kept]) + data[entry.under :]


def _bare(line: str) -> str:
    """A line without the backslash that keeps it from beginning a block of its own."""
    return line.strip().replace("\\", "")
