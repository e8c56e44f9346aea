"""The clean-up: once an hour in a worker, and whole as `python -m worker.janitor`, which `dispatch gc` starts."""

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dispatch_queue import registry
from dispatch_queue.clock import SYSTEM, Clock
from dispatch_queue.config.schema import KEEP_DAYS
from dispatch_queue.errors import DispatchError
from dispatch_queue.home import run_folder
from dispatch_queue.locks import trying
from dispatch_queue.store import Store
from worker import retention, retire, sweep
from worker.retention import Finding
from worker.settings import Settings, read_settings
from worker.sweep import Scope

log = logging.getLogger(__name__)

LOCK: Final = "janitor.lock"  # held by the one clean-up of this host; its time is that of the last one
LOOK_EVERY: Final = timedelta(minutes=1)


def tidy(scope: Scope, keep_days: int | None) -> Iterator[Finding]:
    """What workers do by themselves; records only where that is configured. Raises StoreDown."""
    yield from retire.leftovers(scope)
    yield from sweep.worktrees(scope)
    if keep_days is not None:
        yield from retire.records(scope, keep_days)


def clean(scope: Scope, keep_days: int) -> Iterator[Finding]:
    """All that `dispatch gc` does, in the order in which one thing frees the next. Raises StoreDown."""
    yield from tidy(scope, keep_days)
    yield from sweep.refs(scope)
    yield from retire.orphans(scope)


class Janitor:
    """One thread of a worker; of all workers of a host one at a time cleans up."""

    def __init__(self, store: Store, settings: Settings, *, clock: Clock) -> None:
        self._store, self.settings, self._clock = store, settings, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Does not wait for a clean-up that is under way: it can end anywhere."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY.total_seconds()):
            try:
                self.look()
            except (DispatchError, OSError, ValueError) as error:
                log.warning("the janitor pauses: %s", error, extra={"action": "janitor_pause"})
            except Exception:
                log.exception("the janitor goes on after an error of ours", extra={"action": "janitor_error"})

    def look(self) -> None:
        """Clean up if that is due on this host. Raises StoreDown, OSError."""
        home = self.settings.home
        now = self._clock.now()
        if not retention.is_sweep_due(_last(home), now):
            return
        with trying(home, LOCK) as ours:
            if not ours:
                return
            os.utime(home / "run" / LOCK, (now.timestamp(), now.timestamp()))
            projects = registry.projects(home)
            scope = _scope(self.settings, self._store, now, projects, everywhere=True, dry_run=False)
            for finding in tidy(scope, self.settings.keep_days):
                if self._stop.is_set():
                    return
                said = f"kept: {finding.reason}" if finding.reason else "removed"
                level = logging.DEBUG if finding.reason else logging.INFO
                log.log(level, "%s %s %s", finding.kind, finding.name, said, extra={"action": "janitor"})


def _last(home: Path) -> datetime | None:
    """When this host was cleaned up last; None for never."""
    try:
        return datetime.fromtimestamp((home / "run" / LOCK).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _scope(
    settings: Settings, store: Store, now: datetime, projects: Mapping[str, Path], *, everywhere: bool, dry_run: bool
) -> Scope:
    return Scope(settings.home, settings.host, store, now, projects, everywhere, dry_run)


@contextlib.contextmanager
def _alone(home: Path, *, dry_run: bool) -> Iterator[None]:
    """Be the only clean-up of this host. Raises DispatchError if there is one already."""
    if dry_run:
        yield
        return
    run_folder(home)
    with trying(home, LOCK) as ours:
        if not ours:
            raise DispatchError("another clean-up runs on this machine", hint="wait until it has ended: dispatch gc")
        yield


def _answer(words: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    settings = read_settings()
    projects = registry.projects(settings.home)
    if not words.all:
        projects = {project_id: path for project_id, path in projects.items() if project_id in words.project}
    store = Store(settings.redis_url)
    try:
        with _alone(settings.home, dry_run=words.dry_run):
            scope = _scope(settings, store, clock.now(), projects, everywhere=words.all, dry_run=words.dry_run)
            found = list(clean(scope, words.keep_days))
    finally:
        store.close()
    items = [dataclasses.asdict(finding) | {"removed": finding.removed} for finding in found]
    return {"dry_run": words.dry_run, "items": items}


def main() -> int:
    """The whole clean-up; what was found, or why nothing was, as one JSON value on standard output."""
    parser = argparse.ArgumentParser(prog="python -m worker.janitor")
    parser.add_argument("--project", action="append", default=[], metavar="ID")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--keep-days", type=int, default=KEEP_DAYS)
    parser.add_argument("--dry-run", action="store_true")
    try:
        answer = _answer(parser.parse_args(), SYSTEM)
    except DispatchError as error:
        answer = {"error": error.message, "hint": error.hint, "status": int(error.exit_status)}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
