"""What may go and what stays: the decisions of the clean-up, over plain values."""

import enum
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dispatch_queue import ids
from dispatch_queue.clock import parse_stamp
from dispatch_queue.states import FINAL, HELD, State

SWEEP_EVERY: Final = timedelta(hours=1)
LEFT_AFTER: Final = timedelta(hours=2)  # so that a clock that jumps an hour makes no file look left

_WORKTREE: Final = re.compile(r"(?P<task>[^.]+)\.[0-9]+(-[0-9]+)?")  # <task>.<attempt>, see workspace.worktree
_REF: Final = re.compile(r"refs/dispatch/(?P<name>[^/]+)/(wip|base)")
_FREE_SUFFIX: Final = re.compile(r"-[0-9]+$")  # of a branch whose plain name was taken
_LEFTOVER: Final = re.compile(r"\..+\.([0-9a-f]{12}\.tmp|[0-9]+\.making|[0-9a-f]{12}\.forgotten)", re.DOTALL)


class Kind(enum.StrEnum):
    """What a finding is about."""

    WORKTREE = "worktree"
    RECORD = "record"
    REF = "ref"
    LEFTOVER = "leftover"
    REDIS = "redis"  # a task that only Redis knows


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is removed, or kept for a `reason`; `look` is the command that shows it."""

    kind: Kind
    name: str
    reason: str = ""
    look: str = ""

    @property
    def removed(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Known:
    """What its directory and Redis say of a task. A state is None, and a seq -1, where nothing is known."""

    exists: bool = False  # the directory
    broken: str = ""  # why the directory cannot be read
    home: State | None = None
    home_seq: int = -1
    changed: str = ""
    redis: State | None = None
    redis_seq: int = -1
    held_by: str = ""  # a live worker that has not given it back, whatever the state says


def why_not_over(known: Known) -> str:
    """Why a task's worktrees may still be needed; "" when it ended, or is gone without a trace."""
    if known.broken:
        return "the record of its task cannot be read"
    for state in (known.home, known.redis):
        if state is not None and state not in FINAL:
            return f"its task is {state}"
    if known.held_by:
        return f"{known.held_by} has not given its task back yet"
    return ""


def is_due(known: Known, now: datetime, keep_days: int) -> bool:
    """Whether a task ended, and so long ago that its record is removed by age."""
    if known.broken or known.home not in FINAL:
        return False
    try:
        return now - parse_stamp(known.changed) >= timedelta(days=keep_days)
    except (ValueError, TypeError, OverflowError):  # TypeError: a time without a zone
        return False


def why_record_stays(
    known: Known, *, worktrees: list[str], branch: str, branch_exists: bool, lost: bool, waiting: list[str]
) -> str:
    """Why the record of a task that is due must stay; "" if it may go.

    `lost`: the branch's last known commit is on no branch. `worktrees` and `waiting` are what stays and needs it.
    """
    over = why_not_over(known)
    if over:
        return over.replace("its task", "it", 1)
    if known.redis_seq > known.home_seq:
        return "its newest events are not in its directory yet"
    if worktrees:
        return f"its worktree is kept: {', '.join(worktrees)}"
    if branch and not branch_exists and lost:
        return f"its branch {branch} is gone, and its commit is on no other"
    if waiting:
        return f"{', '.join(waiting)} waits for it"
    return ""


def why_orphan_stays(known: Known) -> str | None:
    """Why Redis must go on knowing of a task whose directory is gone; None: it is no orphan."""
    if known.exists or known.redis is None:
        return None
    if known.redis in HELD or known.held_by:
        return f"its directory is gone, but an attempt is {known.redis}"
    return ""


def is_leftover(name: str, age: timedelta) -> bool:
    """Whether a file or folder of this name was being made, or removed, by a process that died over it."""
    return age >= LEFT_AFTER and _LEFTOVER.fullmatch(name) is not None


def is_sweep_due(last: datetime | None, now: datetime) -> bool:
    """Whether this host's workers are to look again; a time in the future is a clock's mistake."""
    return last is None or not timedelta(0) <= now - last < SWEEP_EVERY


def task_of_worktree(name: str) -> str | None:
    """The task that a folder of worktrees is named after; None for a foreign one."""
    found = _WORKTREE.fullmatch(name)
    return found["task"] if found and ids.is_id(found["task"]) else None


def owners_of_ref(ref: str) -> frozenset[str]:
    """The tasks that may have made a ref, for a branch may have a number more than its task; empty: it is not ours."""
    found = _REF.fullmatch(ref)
    if found is None:
        return frozenset()
    return frozenset({found["name"], _FREE_SUFFIX.sub("", found["name"])})
