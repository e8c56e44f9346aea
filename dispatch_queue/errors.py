"""What can go wrong, as exceptions that carry facts, an exit status and the command that fixes it.

The command line prints them at one place; nothing else catches `DispatchError` to print it.
"""

import enum
from typing import ClassVar


class Exit(enum.IntEnum):
    """Exit statuses of the commands."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    QUESTION = 3
    CONFIG = 4
    UNREACHABLE = 69  # EX_UNAVAILABLE, sysexits(3)
    TEMPORARY = 75  # EX_TEMPFAIL, sysexits(3)
    TIMED_OUT = 124  # as timeout(1)
    INTERRUPTED = 130  # 128 + SIGINT


class DispatchError(Exception):
    """Base of every error that is told to a person: `message`, an optional `hint`, an exit status."""

    exit_status: ClassVar[int] = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


class BadInput(DispatchError):
    """What the user gave cannot be used; nothing was written."""

    exit_status = Exit.USAGE


class BadPlan(BadInput):
    """A plan breaks the grammar. `line` is 1-based, 0 when the whole file is meant."""

    def __init__(self, name: str, line: int, message: str, *, hint: str | None = None) -> None:
        self.name, self.line = name, line
        where = f"{name}:{line}" if line else name
        super().__init__(f"{where}: {message}", hint=hint)


class BadConfig(DispatchError):
    """The configuration cannot be used."""

    exit_status = Exit.CONFIG


class StoreDown(DispatchError):
    """Redis did not answer. Whether the last change took effect is unknown."""

    exit_status = Exit.UNREACHABLE


class ClaimLost(DispatchError):
    """Another claim holds the task now; this one must stop and write nothing."""

    exit_status = Exit.TEMPORARY

    def __init__(self, task_id: str, *, token: int, held: int) -> None:
        self.task_id, self.token, self.held = task_id, token, held
        super().__init__(f"lost the claim on task `{task_id}`: token {token}, the record has {held}")


class Refused(DispatchError):
    """The task's state does not allow what was asked. `state` is the state found."""

    def __init__(self, message: str, *, state: str, hint: str | None = None) -> None:
        self.state = state
        super().__init__(message, hint=hint)


class UntrustedPath(DispatchError):
    """A file of a task is not what it must be: a link, a folder, too large, or out of its place."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name}: {reason}")


class TooLarge(UntrustedPath):
    """A file of a task that is one, but larger than its like may be."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(name, f"is larger than {limit_bytes} bytes")
