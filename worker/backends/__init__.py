"""The back ends: how each kind of agent CLI is run.

The reference agent, a process of its own, passes through this package at its start: so the table and all that it
needs are imported only when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.backends.table import Invocation, available, invoke, runnable

__all__ = ["Invocation", "available", "invoke", "runnable"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from worker.backends import table

    return getattr(table, name)
