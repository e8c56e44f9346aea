"""What keeps a task from running now: limits of the configuration, and accounts that are at the provider's."""

from collections.abc import Mapping
from datetime import datetime

from dispatch_queue.change import Limit
from dispatch_queue.config.choose import provider_of
from dispatch_queue.config.schema import Config, LimitsSection
from dispatch_queue.record import Standing, Task, current, others
from dispatch_queue.states import State
from dispatch_queue.store import Store
from worker.backends.claude import FAMILIES
from worker.backends.table import account
from worker.recovery import Setting

REACHED = "limit: "  # the reason of a queued task that one of the configuration's limits keeps back


def limits_for(limits: LimitsSection, task: Task, host: str) -> list[Limit]:
    """The limits of the configuration that an attempt of `task` on `host` counts for."""
    named = (
        ("model", task.model, limits.models),
        ("backend", task.backend, limits.backends),
        ("host", host, limits.hosts),
    )
    return [Limit(field, value, most[value]) for field, value, most in named if value in most]


def let_next(store: Store) -> None:
    """Send the ticket of the task that waits longest for an attempt of others to end. Raises StoreDown."""
    queued = store.records(store.in_state(State.QUEUED)).values()
    kept = [record for record in queued if record.reason.startswith(REACHED)]
    if kept:
        first = min(kept, key=lambda record: (record.priority, record.changed))
        store.resend(first.ref, first.sent)


def family(model: str) -> str:
    """The models that share an allowance with `model`."""
    return next((name for name in FAMILIES if name in model.lower()), provider_of(model).lower())


def hold_name(config: Config, backend: str, model: str, host: str) -> str:
    """What a limit holds: the models of a family for the account that `backend` has on this host."""
    return f"{account(config, backend) or host}/{family(model)}"


def setting(
    config: Config, task: Task, standing: Standing, host: str, holds: Mapping[str, datetime], *, progressed: bool
) -> Setting:
    """What a decision about a failure of the task's model needs; `task` as it was submitted."""
    running = current(task, standing)
    free = []
    for other in others(task, standing):
        backend, _, model = other.partition("/")
        if hold_name(config, backend, model, host) not in holds:
            free.append(other)
    return Setting(
        backend=running.backend,
        model=running.model,
        host=host,
        others=tuple(free),
        stalls=0 if progressed else standing.stalls,
        hold=hold_name(config, running.backend, running.model, host),
    )
