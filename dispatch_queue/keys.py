"""Every key and channel in Redis, as functions. Celery's own keys stand under the same prefix."""

from dispatch_queue.record import Ref

PREFIX = "dispatch:"


def record(ref: Ref) -> str:
    """hash: the standing and the routing of a task"""
    return f"{PREFIX}task:{ref}"


def files(ref: Ref) -> str:
    """hash: name below the task folder → bytes"""
    return f"{PREFIX}files:{ref}"


def revisions(ref: Ref) -> str:
    """hash: name → seq of the change that wrote it"""
    return f"{PREFIX}revisions:{ref}"


def journal(ref: Ref) -> str:
    """stream: the task's entries, the id is `<seq>-0`"""
    return f"{PREFIX}journal:{ref}"


def tasks() -> str:
    """set: every ref that has a record"""
    return f"{PREFIX}tasks"


def queue(name: str) -> str:
    """list: tickets, as kombu lays them out"""
    return f"{PREFIX}{name}"


def worker(name: str) -> str:
    """hash: what a worker says of itself; gone a while after it stopped beating"""
    return f"{PREFIX}worker:{name}"


def workers() -> str:
    """set: names of workers that were ever seen and not yet forgotten"""
    return f"{PREFIX}workers"


def home_channel(host: str) -> str:
    """channel: refs whose home copy on this host is behind"""
    return f"{PREFIX}home:{host}"


def live_channel(worker_name: str) -> str:
    """channel: refs which this worker runs and somebody else changed"""
    return f"{PREFIX}live:{worker_name}"
