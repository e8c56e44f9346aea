"""The record side of the clean-up: records of tasks that ended long ago, what only Redis knows, half-made files.

A record goes in two steps, Redis first: a kill in between leaves a task that files alone know, which is a whole one.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_queue import files, taskdir
from dispatch_queue.errors import DispatchError, StoreDown, UntrustedPath
from dispatch_queue.project import RECORD
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import FINAL
from dispatch_queue.taskdir import TaskDir
from worker import git, retention
from worker.retention import Finding, Kind, Known
from worker.sweep import LASTING, Scope

_HOME_FOLDERS: Final = (".", "projects", "run")  # of DISPATCH_HOME, where files are written
_DEEPEST: Final = 4  # folders below .dispatch in which files are written: tasks/<id>/attempts/<n>


def records(scope: Scope, keep_days: int) -> Iterator[Finding]:
    """Remove the records of tasks that ended `keep_days` ago or earlier; never a branch. Raises StoreDown."""
    for project_id, base in scope.projects.items():
        try:
            known_ids = taskdir.known_ids(base)
        except (UntrustedPath, OSError):
            continue
        waiting: dict[str, list[str]] | None = None
        for task_id in known_ids:
            home, ref = TaskDir(base, task_id), Ref(project_id, task_id)
            known = scope.known(ref)
            if not retention.is_due(known, scope.now, keep_days):
                continue
            if waiting is None:
                waiting = _waiting(base, known_ids)
            try:
                reason = _settle_record(scope, ref, home, known, waiting.get(task_id, []))
            except StoreDown:
                raise
            except (DispatchError, OSError) as error:
                reason = str(error)
            if not reason:
                scope.gone.add(home.path)
            look = f"dispatch -C {shlex.quote(str(base))} show {task_id}" if reason else ""
            yield Finding(Kind.RECORD, str(home.path), reason, look)


def _settle_record(scope: Scope, ref: Ref, home: TaskDir, known: Known, waiting: list[str]) -> str:
    """Why a record that is due is kept; "" if it is removed, or would be. Raises DispatchError, OSError."""
    standing = home.standing()
    branch_exists, lost = False, False
    if standing.branch and home.task().isolation is Isolation.WORKTREE:
        branch_exists = git.branch_tip(home.base, standing.branch) is not None
        tips = [str(entry.facts["commit"]) for entry in home.entries() if entry.facts.get("commit")]
        lost = not branch_exists and bool(tips) and not git.contains(home.base, tips[-1], LASTING)
    stays = retention.why_record_stays(
        known,
        worktrees=_kept_worktrees(scope, ref),
        branch=standing.branch,
        branch_exists=branch_exists,
        lost=lost,
        waiting=waiting,
    )
    return stays if stays or scope.dry_run else _forget(scope, ref, home, known)


def _kept_worktrees(scope: Scope, ref: Ref) -> list[str]:
    folder = scope.worktrees / ref.project
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        path.name
        for path in found
        if retention.task_of_worktree(path.name) == ref.task and path not in scope.gone and path.is_dir()
    ]


def _waiting(base: Path, known_ids: list[str]) -> dict[str, list[str]]:
    """The unfinished tasks of a project that name another in their `after`, by that other."""
    found: dict[str, list[str]] = {}
    for task_id in known_ids:
        home = TaskDir(base, task_id)
        with contextlib.suppress(DispatchError, OSError):
            if home.standing().state not in FINAL:
                for other in home.task().after:
                    found.setdefault(other, []).append(task_id)
    return found


def _forget(scope: Scope, ref: Ref, home: TaskDir, known: Known) -> str:
    """Remove a record, from Redis and then from the disk; why not, if something happened to it meanwhile."""
    aside = home.path.with_name(f".{home.id}.{os.urandom(6).hex()}.forgotten")
    with files.locked(home.base, home.name(taskdir.JOURNAL)):  # nobody brings news home meanwhile
        standing = home.standing()
        if not standing.final or standing.seq != known.home_seq:
            return "it changed just now"
        if scope.store.forget(ref, known.redis_seq) is False:
            return "it changed in Redis just now, or another task waits for it"
        os.rename(home.path, aside)
        if scope.store.record(ref) is not None:  # a retry told Redis of it again
            os.rename(aside, home.path)
            return "it was sent again just now"
    git.remove_tree(aside)
    return "" if not os.path.lexists(aside) else f"{aside} could not be removed"


def orphans(scope: Scope) -> Iterator[Finding]:
    """Make Redis forget tasks of this host whose directory is gone. Raises StoreDown."""
    for ref, record in sorted(scope.store.records().items(), key=lambda one: str(one[0])):
        base = scope.projects.get(ref.project)
        if base is None or record.home != scope.host or TaskDir(base, ref.task).path in scope.gone:
            continue
        known = scope.known(ref)
        reason = retention.why_orphan_stays(known)
        if reason is None:
            continue
        if not reason and not scope.dry_run and scope.store.forget(ref, known.redis_seq, unfinished=True) is False:
            reason = "its directory is gone, but another task waits for it"
        yield Finding(Kind.REDIS, str(ref), reason, f"dispatch -C {shlex.quote(str(base))} ls" if reason else "")


def leftovers(scope: Scope) -> Iterator[Finding]:
    """Remove files and folders that a process was making, or removing, when it died."""
    for base in scope.projects.values():
        top = base / RECORD
        for folder, folders, names in () if top.is_symlink() else os.walk(top):
            here = Path(folder).relative_to(top)
            if len(here.parts) >= _DEEPEST:
                folders.clear()
            in_tasks = here == Path("tasks")
            yield from _left_in(scope, base, Path(folder), [*names, *(folders if in_tasks else ())])
            folders[:] = [name for name in folders if not name.startswith(".")]
    for name in _HOME_FOLDERS:
        place = scope.home / name
        with contextlib.suppress(OSError):
            yield from _left_in(scope, scope.home, place, sorted(path.name for path in place.iterdir()))


def _left_in(scope: Scope, base: Path, folder: Path, names: list[str]) -> Iterator[Finding]:
    for name in names:
        path = folder / name
        try:
            found = path.lstat()
            age = timedelta(seconds=scope.now.timestamp() - found.st_mtime)
            if not retention.is_leftover(name, age):
                continue
            if not scope.dry_run:
                if path.is_dir() and not path.is_symlink():
                    git.remove_tree(path)
                else:
                    files.remove(base, path.relative_to(base).as_posix())
            yield Finding(Kind.LEFTOVER, str(path))
        except FileNotFoundError:
            continue
        except (UntrustedPath, OSError) as error:
            yield Finding(Kind.LEFTOVER, str(path), str(error), f"ls -la {shlex.quote(str(path))}")
