"""States of a task and the one table of how they change. Nothing else assigns a state."""

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.StrEnum):
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    ASKING = "asking"
    PARKED = "parked"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(enum.StrEnum):
    """What happens to a task. Also the `event` of its journal entries."""

    SUBMIT = "submit"
    HOLD = "hold"
    RELEASE = "release"
    CLAIM = "claim"
    ASK = "ask"
    ANSWER = "answer"
    PARK = "park"
    LOSE = "lose"
    GIVE_BACK = "give-back"
    LIMIT = "limit"
    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"
    CANCEL = "cancel"


class FailReason(enum.StrEnum):
    """Why a task failed; the word before the colon of its reason."""

    ITEM = "item"  # the agent marked an item [!]
    AGENT = "agent"  # the agent broke the protocol or left items unchecked
    START = "start"  # the agent or its workspace could not be started
    AUTH = "auth"
    MODEL = "model"  # there is no such model, or not for this account
    LIMIT = "limit"
    CREDIT = "credit"  # nothing left to pay with
    PROVIDER = "provider"  # overloaded or out of reach, for too long
    TIMEOUT = "timeout"
    BUDGET = "budget"
    LOST = "lost"
    DEPENDENCY = "dependency"
    VERIFY = "verify"


S, E = State, Event

FINAL = frozenset({S.DONE, S.FAILED, S.CANCELLED})
HELD = frozenset({S.RUNNING, S.ASKING})  # an attempt holds a slot

TRANSITIONS: Mapping[tuple[State | None, Event], State] = MappingProxyType(
    {
        (None, E.SUBMIT): S.QUEUED,
        (None, E.HOLD): S.WAITING,
        (S.QUEUED, E.HOLD): S.WAITING,
        (S.WAITING, E.RELEASE): S.QUEUED,
        (S.QUEUED, E.CLAIM): S.RUNNING,
        (S.RUNNING, E.ASK): S.ASKING,
        (S.ASKING, E.ANSWER): S.RUNNING,
        (S.RUNNING, E.PARK): S.PARKED,
        (S.ASKING, E.PARK): S.PARKED,
        (S.PARKED, E.ANSWER): S.QUEUED,
        # A dead worker gives the task back; counting attempts is the caller's.
        (S.RUNNING, E.LOSE): S.QUEUED,
        (S.ASKING, E.LOSE): S.QUEUED,
        # A stopping worker gives the task back, and so does an attempt that is to be continued.
        (S.RUNNING, E.GIVE_BACK): S.QUEUED,
        (S.ASKING, E.GIVE_BACK): S.QUEUED,
        (S.RUNNING, E.LIMIT): S.WAITING,
        (S.ASKING, E.LIMIT): S.WAITING,
        (S.RUNNING, E.FINISH): S.DONE,
        # An agent may go on without the answer, and end with all done.
        (S.ASKING, E.FINISH): S.DONE,
        (S.RUNNING, E.FAIL): S.FAILED,
        (S.ASKING, E.FAIL): S.FAILED,
        # A dependency failed, or no attempt could be started.
        (S.WAITING, E.FAIL): S.FAILED,
        (S.QUEUED, E.FAIL): S.FAILED,
        (S.FAILED, E.RETRY): S.QUEUED,
        (S.CANCELLED, E.RETRY): S.QUEUED,
        (S.DONE, E.RETRY): S.QUEUED,
        (S.WAITING, E.CANCEL): S.CANCELLED,
        (S.QUEUED, E.CANCEL): S.CANCELLED,
        (S.RUNNING, E.CANCEL): S.CANCELLED,
        (S.ASKING, E.CANCEL): S.CANCELLED,
        (S.PARKED, E.CANCEL): S.CANCELLED,
    }
)


def after(state: State | None, event: Event) -> State | None:
    """The state that `event` leads to from `state`; None where the table has no such line."""
    return TRANSITIONS.get((state, event))


def moves(event: Event) -> dict[str, str]:
    """Every line of the table for `event`, as `{from: to}` for a Lua script; "" is the state of no task."""
    return {(source or ""): target for (source, named), target in TRANSITIONS.items() if named is event}
