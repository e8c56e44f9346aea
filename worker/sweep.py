"""The git side of the clean-up: worktrees whose work is proven to be elsewhere, refs of tasks that are gone.

What is not proven is kept and reported. A dry run decides the same and changes nothing.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from dispatch_queue import registry, taskdir
from dispatch_queue.errors import DispatchError, UntrustedPath
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from worker import git, retention, workspace
from worker.git import GitFailed
from worker.retention import Finding, Kind, Known
from worker.workspace import Workspace

# What keeps a commit when a task and its refs are gone.
LASTING: Final = ("refs/heads", "refs/remotes", "refs/tags")


@dataclass
class Scope:
    """What one clean-up looks at. `projects` of this host, id → path; `everywhere`: these are all."""

    home: Path  # DISPATCH_HOME
    host: str
    store: Store
    now: datetime
    projects: Mapping[str, Path]
    everywhere: bool
    dry_run: bool
    gone: set[Path] = field(default_factory=set)  # worktrees and records that are removed, or would be

    @property
    def worktrees(self) -> Path:
        return self.home.resolve() / "worktrees"

    def known(self, ref: Ref) -> Known:
        """What is known of a task of `projects`. Raises StoreDown."""
        record = self.store.record(ref)
        known = Known()
        if record is not None:
            worker = record.worker if record.worker in self.store.workers() else ""
            known = Known(redis=record.state, redis_seq=record.seq, held_by=worker)
        home = TaskDir(self.projects[ref.project], ref.task)
        if not os.path.lexists(home.path) or home.path in self.gone:
            return known
        try:
            standing = home.standing()
        except (DispatchError, OSError) as error:
            return replace(known, exists=True, broken=str(error))
        return replace(known, exists=True, home=standing.state, home_seq=standing.seq, changed=standing.changed)


def worktrees(scope: Scope) -> Iterator[Finding]:
    """Remove every worktree whose task is over and whose content is reachable in its project. Raises StoreDown."""
    for folder in _folders(scope.worktrees):
        project = scope.projects.get(folder.name)
        if project is None:
            if scope.everywhere:
                yield from _of_vanished(scope, folder)
            continue
        for path in _folders(folder):
            reason = _settle_worktree(scope, Ref(folder.name, retention.task_of_worktree(path.name) or ""), path)
            if not reason:
                scope.gone.add(path)
            yield Finding(Kind.WORKTREE, str(path), reason, _look_at(path, reason))
        if not scope.dry_run and not _folders(folder):
            with contextlib.suppress(OSError, GitFailed), git.locked(project):
                folder.rmdir()


def _of_vanished(scope: Scope, folder: Path) -> Iterator[Finding]:
    before = registry.registered_path(scope.home, folder.name)
    where = f"is not in {before} any more" if before else "is unknown here"
    found = _folders(folder)
    for path in found:
        yield Finding(
            Kind.WORKTREE, str(path), f"its project {folder.name} {where}", f"ls -la {shlex.quote(str(path))}"
        )
    if not found and not scope.dry_run:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _settle_worktree(scope: Scope, ref: Ref, path: Path) -> str:
    """Why a worktree is kept; "" if it is removed, or would be."""
    if not ref.task:
        return "it was not made by dispatch"
    reason = retention.why_not_over(scope.known(ref))
    if reason:
        return reason
    return remove(path, scope.projects[ref.project], dry_run=scope.dry_run)


def remove(path: Path, project: Path, *, dry_run: bool = False) -> str:
    """Remove a worktree that no attempt has; why not, "" if it is removed, or would be."""
    user = process_in(path)
    if user is not None:
        return f"process {user} works in it"
    try:
        top = git.top_level(project) or project.resolve()
        place = Workspace(path / project.resolve().relative_to(top.resolve()), Isolation.WORKTREE, path)
        if dry_run:
            return workspace.reason_to_keep(place, project)
    except (GitFailed, OSError, ValueError) as error:
        return str(error)
    return workspace.remove(place, project).reason


def _look_at(path: Path, reason: str) -> str:
    if not reason:
        return ""
    return (
        f"git -C {shlex.quote(str(path))} log --oneline -5"
        if " is on no branch" in reason
        else f"git -C {shlex.quote(str(path))} status"
    )


def process_in(folder: Path) -> int | None:
    """A process whose current folder is `folder` or below it, as far as this user may see."""
    import psutil

    inside = f"{folder}{os.sep}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if f"{process.cwd()}{os.sep}".startswith(inside):
                return int(process.pid)
    return None


def _folders(folder: Path) -> list[Path]:
    """The real folders in a folder, sorted; none where it does not exist."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def refs(scope: Scope) -> Iterator[Finding]:
    """Delete snapshot and base refs of tasks that are gone, where a branch or tag has their content.

    Raises StoreDown.
    """
    by_repository: dict[Path, list[Path]] = {}
    for base in registry.projects(scope.home).values():
        with contextlib.suppress(GitFailed, OSError):
            by_repository.setdefault(git.common_dir(base), []).append(base)
    chosen = {base.resolve() for base in scope.projects.values()}
    for repo, bases in sorted(by_repository.items()):
        if any(base.resolve() in chosen for base in bases):
            try:
                yield from _refs_of(scope, bases)
            except (GitFailed, UntrustedPath, OSError) as error:
                yield Finding(
                    Kind.REF, f"{repo}: refs/dispatch", str(error), f"git -C {shlex.quote(str(repo))} for-each-ref"
                )


def _refs_of(scope: Scope, bases: list[Path]) -> Iterator[Finding]:
    project = bases[0]
    found = sorted(git.refs(project, "refs/dispatch"))
    alive = _tasks_of(scope, bases)  # after the refs: a task made meanwhile is known
    for ref in found:
        owners = retention.owners_of_ref(ref)
        if not owners or owners & alive:
            continue
        reason = _settle_ref(scope, project, ref)
        look = f"git -C {shlex.quote(str(project))} log -1 --stat {ref}" if reason else ""
        yield Finding(Kind.REF, f"{ref} in {project}", reason, look)


def _settle_ref(scope: Scope, project: Path, ref: str) -> str:
    """Why a ref of a task that is gone is kept; "" if it is deleted, or would be."""
    commit = git.commit_of(project, ref)
    if commit is None:
        return "it names no commit"
    if not git.contains(project, commit, LASTING) and not (ref.endswith("/wip") and _is_elsewhere(project, commit)):
        return "what it holds is on no branch"
    if not scope.dry_run:
        with git.locked(project):
            git.delete_ref(project, ref, commit)
    return ""


def _is_elsewhere(project: Path, snapshot: str) -> bool:
    """Whether some commit of a branch or tag, from the one that a snapshot was made on, has all of its files."""
    made_on = git.commit_of(project, f"{snapshot}^1")
    if made_on is None or not git.contains(project, made_on, LASTING):
        return False
    tree, before = (git.run(["rev-parse", f"{commit}^{{tree}}"], project).strip() for commit in (snapshot, made_on))
    words = ["rev-list", "--ancestry-path", "--format=%T", "--branches", "--remotes", "--tags", f"^{made_on}"]
    return tree == before or tree in git.run(words, project).splitlines()


def _tasks_of(scope: Scope, bases: list[Path]) -> set[str]:
    """Every name of a task, or of its branch, in the checkouts of one repository, and those that Redis knows."""
    checkouts = {base.resolve() for base in bases}
    for linked in git.worktrees(bases[0]):
        if scope.worktrees not in linked.path.resolve().parents:
            checkouts.add(linked.path.resolve())
    names = set()
    for base in checkouts:
        for name in taskdir.known_names(base) if base.is_dir() else ():
            home = TaskDir(base, name)
            if home.path in scope.gone:
                continue
            names.add(name)
            with contextlib.suppress(DispatchError, OSError):
                names.add(home.standing().branch.removeprefix(f"{workspace.BRANCHES}/"))
    here = {project_id for project_id, base in registry.projects(scope.home).items() if base.resolve() in checkouts}
    return names | {ref.task for ref in scope.store.records() if ref.project in here and not _is_gone(scope, ref)}


def _is_gone(scope: Scope, ref: Ref) -> bool:
    base = scope.projects.get(ref.project)
    return base is not None and TaskDir(base, ref.task).path in scope.gone
