"""Every key and channel in Redis. Celery's own keys stand under the same prefix.

`FAMILIES` are the names that the scripts make keys from, too (see scripts/common.lua).
"""

from collections.abc import Mapping
from types import MappingProxyType

from dispatch_queue.record import Ref

PREFIX = "dispatch:"

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "record": f"{PREFIX}task:",  # hash: the standing and the routing of a task
        "files": f"{PREFIX}files:",  # hash: name below the task folder → bytes
        "revisions": f"{PREFIX}revisions:",  # hash: name → seq of the change that wrote it
        "journal": f"{PREFIX}journal:",  # stream: the task's entries, the id is `<seq>-0`
        "after": f"{PREFIX}after:",  # set: unfinished tasks that a task waits for
        "dependents": f"{PREFIX}dependents:",  # set: tasks that wait for a task
        "state": f"{PREFIX}state:",  # set: refs of the tasks in a state
        "tasks": f"{PREFIX}tasks",  # set: every ref that has a record
        "due": f"{PREFIX}due",  # sorted set: refs by the time they wait for, milliseconds since 1970
        "holds": f"{PREFIX}holds",  # hash: account/family of models at its limit → until when, milliseconds since 1970
        "queue": PREFIX,  # list: tickets, as kombu lays them out
        "home": f"{PREFIX}home:",  # channel: refs whose home copy on a host is behind
        "live": f"{PREFIX}live:",  # channel: refs that a worker runs and somebody else changed
        "node": f"{PREFIX}node",  # string: the worker that claimed a task last, as Celery names it
    }
)


def lua_table(db: int) -> str:
    """`FAMILIES`, and where kombu has Celery's events in database `db`, as the table `key` of the scripts."""
    names = {**FAMILIES, "event": f"{PREFIX}/{db}.celeryev/"}
    return "local key = {" + ", ".join(f"{name} = '{prefix}'" for name, prefix in names.items()) + "}\n"


def record(ref: Ref) -> str:
    return f"{FAMILIES['record']}{ref}"


def in_state(state: str) -> str:
    return f"{FAMILIES['state']}{state}"


def tasks() -> str:
    return FAMILIES["tasks"]


def due() -> str:
    return FAMILIES["due"]


def holds() -> str:
    return FAMILIES["holds"]


def queue(name: str) -> str:
    return f"{FAMILIES['queue']}{name}"


def home_channel(host: str) -> str:
    return f"{FAMILIES['home']}{host}"


def live_channel(worker_name: str) -> str:
    return f"{FAMILIES['live']}{worker_name}"


def worker(name: str) -> str:
    """hash: what a worker says of itself; gone a while after it stopped beating"""
    return f"{PREFIX}worker:{name}"


def workers() -> str:
    """set: names of workers that were ever seen and not yet forgotten"""
    return f"{PREFIX}workers"


def generation() -> str:
    """string: made when it is missing; another one means that Redis lost its data meanwhile"""
    return f"{PREFIX}generation"


def written() -> str:
    """string: what a worker writes to learn whether Redis takes what is written"""
    return f"{PREFIX}written"
