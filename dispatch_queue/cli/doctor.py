"""doctor: what works on this machine, what does not, and the command that fixes it."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import click

from dispatch_queue import embedded
from dispatch_queue.cli.finding import Finding
from dispatch_queue.cli.render import line
from dispatch_queue.cli.standing import Here
from dispatch_queue.clock import SYSTEM, parse_stamp
from dispatch_queue.config.schema import LOCAL_POOL, MIN_FREE_MIB
from dispatch_queue.errors import BadConfig, DispatchError, Exit, StoreDown

_READY_WITHIN = timedelta(seconds=30)  # a worker after its start, on a slow machine
_WATCHES_FLOOR = 8192
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


def _python(here: Here) -> Iterator[Finding]:
    yield Finding("python", f"{sys.version.split()[0]} at {sys.executable}")


def _home(here: Here) -> Iterator[Finding]:
    from dispatch_queue.home import run_folder

    run_folder(here.home)
    free_mib = shutil.disk_usage(here.home).free // 2**20
    try:
        floor_mib = here.config.worker.min_free_mib
    except BadConfig:  # told of by the next check
        floor_mib = MIN_FREE_MIB
    if free_mib >= floor_mib:
        yield Finding("home", f"{here.home}, {free_mib} MiB free")
        return
    seen = f"{here.home}, {free_mib} MiB free, and no attempt begins below {floor_mib}"
    yield Finding("home", seen, f"free some space on {here.home}, or lower `worker.min_free_mib`")


def _config(here: Here) -> Iterator[Finding]:
    config = here.config
    path = here.home / "config.yaml"
    if not path.exists():
        yield Finding(
            "config", f"{path} is not written yet: `dispatch config init` does it, or the first `dispatch submit`"
        )
        return
    yield Finding("config", f"{path}: default {config.default or '-'}, {len(config.models)} models")


def _server(here: Here) -> Iterator[Finding]:
    from dispatch_queue.store import Store

    url = here.config.redis.url
    if url is None and not embedded.is_up(here.home):
        yield Finding(
            "server", "dispatch's own server does not run (the first task starts it)", "dispatch up", fatal=False
        )
        return
    store = Store(url or embedded.server_url(here.home))
    store.ping()
    yield Finding("server", "configured Redis answers" if url else "dispatch's own server answers")
    workers = store.workers()
    start = "dispatch worker" if url else "dispatch up"
    if not workers:
        own = embedded.status(here.home).worker if url is None else None
        yield (
            unready(own, SYSTEM.now())
            if own and own.running
            else Finding("workers", "no live worker", start, fatal=False)
        )
    for name, facts in sorted(workers.items()):
        if _is_gone(name):
            seen = f"{line(name)}: its process is gone; Redis forgets it in some seconds"
            yield Finding("worker", seen, start, fatal=False)
            continue
        slots = f"{facts.get('running', '?')} of {facts.get('slots', '?')} slots in use"
        yield Finding("worker", f"{name}: {slots}, serves {_served(facts.get('queues', ''))}")
    if url is None and embedded.status(here.home).outdated:
        yield Finding("worker", "runs another version of dispatch, or another Python", "dispatch down && dispatch up")


def unready(worker: embedded.Part, now: datetime) -> Finding:
    """What there is to say of a worker that runs and that Redis does not know. Pure."""
    with contextlib.suppress(ValueError):
        if now - parse_stamp(worker.started) < _READY_WITHIN:
            return Finding("workers", f"process {worker.pid} has begun, and is not ready yet")
    seen = f"process {worker.pid} runs, and Redis does not know of it; its log: {worker.log}"
    return Finding("workers", seen, "dispatch down && dispatch up", fatal=False)


def _is_gone(worker: str) -> bool:
    """Whether a worker that said it is of this host, as `host:pid`, has no process here."""
    import psutil

    from dispatch_queue.home import host_name

    host, _, pid = worker.rpartition(":")
    if host != host_name() or not pid.isdecimal():
        return False
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True


def _served(queues: str) -> str:
    """The back ends of a worker's queues, `POOL/NAME` in a pool of their own."""
    names = [name.removeprefix("dispatch.") for name in queues.split() if not name.startswith("dispatch.host.")]
    return line(", ".join(name.removeprefix(f"{LOCAL_POOL}.") for name in names)) or "no back end"


def _backends(here: Here) -> Iterator[Finding]:
    from dispatch_queue.cli.backends import look, worker_environment

    yield Finding("shell", "always there")
    own = here.config.redis.url is None and embedded.is_up(here.home)
    worker = worker_environment(embedded.status(here.home).worker.pid) if own else None
    yield from look(here.config, here.home, os.environ, worker, root=os.geteuid() == 0, queues=_queues(here))


def _queues(here: Here) -> frozenset[str] | None:
    """The queues of all live workers; None without one, which is told of by another check."""
    from dispatch_queue.home import host_name
    from dispatch_queue.served import Served
    from dispatch_queue.store import Store

    url = here.config.redis.url
    if url is None and not embedded.is_up(here.home):
        return None
    try:
        workers = Store(url or embedded.server_url(here.home)).workers()
    except StoreDown:
        return None
    return Served.by(workers.values()).live_on(host_name()) if workers else None


def _tools(here: Here) -> Iterator[Finding]:
    git = shutil.which("git")
    yield Finding("git", git or "not on PATH: no worktrees", "" if git else "install git", fatal=False)
    if _WATCHES.exists():
        limit = int(_WATCHES.read_text())
        low = limit < _WATCHES_FLOOR
        yield Finding(
            "file watches", f"{limit} allowed", f"sudo sysctl fs.inotify.max_user_watches={65536}" if low else ""
        )
    if os.name == "posix" and sys.platform == "darwin":
        yield Finding("processes", "macOS: a killed worker's agents are found by their process group only", fatal=False)


CHECKS: tuple[Callable[[Here], Iterator[Finding]], ...] = (_python, _home, _config, _server, _backends, _tools)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Check this machine and say what to fix.

    Exit status 1 when something is wrong that is needed for a task that names no model.
    """
    here = Here()
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(here)
        except DispatchError as error:
            findings.append(Finding(check.__name__.strip("_"), error.message, error.hint or "mend what it says"))
    if as_json:
        from dispatch_queue.cli.look import print_json

        print_json([finding.plain() for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            sign = "ok " if not finding.fix else ("BAD" if finding.fatal else "-  ")
            fix = f"\n{' ' * (width + 6)}fix: {finding.fix}" if finding.fix else ""
            click.echo(f"{sign} {finding.what.ljust(width)}  {finding.seen}{fix}")
    return Exit.FAILED if any(finding.fix and finding.fatal for finding in findings) else Exit.DONE
