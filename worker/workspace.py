"""Where an agent runs: the user's checkout itself, or a git worktree of the attempt's own.

A worktree stands at `<root>/<project-id>/<task-id>.<attempt>`, on a branch of the task's own that all its attempts
continue. Nothing of the user's checkout changes: not HEAD, index, files, stash or other branches.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Final

from dispatch_queue.errors import BadInput, DispatchError
from dispatch_queue.project import RECORD
from dispatch_queue.record import Isolation
from worker import elsewhere, git, provision, snapshots
from worker.git import GitFailed

BRANCHES: Final = "dispatch"
SNAPSHOT_LIMIT_BYTES: Final = 20 * 1024 * 1024  # of one file
SHOWN_NAMES: Final = 5  # in a reason
OWN_REFS: Final = ("refs/worktree", "refs/bisect", "refs/rewritten")  # go with their worktree
# Stands in a worktree's git directory from when all was put into it until it is taken over; holds the task's branch.
_COMPLETE: Final = "dispatch-complete"

log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workspace:
    """`path` is the agent's folder, `top` the worktree's own: above `path` where the project is a part of a repository.

    `base` is the commit that the task's branch began at.
    """

    path: Path
    isolation: Isolation
    top: Path
    branch: str | None = None
    base: str | None = None
    before: Path | None = None  # the folder of the attempt whose state was taken over

    @property
    def record(self) -> str:
        """The live copy's folder, as a name below `top`: never committed."""
        return (self.path / RECORD).relative_to(self.top).as_posix()


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt left in its workspace. Of a shared checkout nothing is known.

    `commit` is the branch's tip, None where there is no commit beyond the base; `changed` whether its files differ.
    """

    commit: str | None = None
    commits: int = 0
    changed: bool | None = None
    files_left: tuple[str, ...] = ()


class WorkspaceFailed(DispatchError):
    """A worktree cannot be made as asked, or is no longer one; nothing was changed."""


def snapshot_ref(branch: str) -> str:
    """Where the newest snapshot of the work on a task's branch is kept."""
    return f"refs/dispatch/{branch.removeprefix(f'{BRANCHES}/')}/wip"


def base_ref(branch: str) -> str:
    """Where the commit is kept that a task's branch began at."""
    return f"refs/dispatch/{branch.removeprefix(f'{BRANCHES}/')}/base"


def shared(project: Path) -> Workspace:
    """The checkout itself."""
    return Workspace(path=project, isolation=Isolation.SHARED, top=project)


def worktree(
    project: Path,
    *,
    root: Path,
    project_id: str,
    task_id: str,
    attempt: int,
    base: str | None = None,
    branch: str | None = None,
    snapshot: str | None = None,
) -> Workspace:
    """A new worktree for an attempt. `branch` and `base` are those of the attempt before, None for the first one.

    Without `branch`, a new one is made at `base`, or at the commit that the user has checked out. With it, what the
    attempt before left is continued: its commits, and uncommitted what was so in its worktree, if that is still on this
    host, else in `snapshot`, else in the newest snapshot here. Ignored files are left behind, and the older worktree
    loses only its branch. `Workspace.branch` is another one than asked for where the user has that checked out.

    Raises BadInput where there is nothing to start from, GitFailed, WorkspaceFailed; the new worktree is gone then.
    """
    project, folder = project.resolve(), root.resolve() / project_id
    top = git.top_level(project) or project  # a bare repository has no top
    part = project.relative_to(top)
    with git.locked(project):
        folder.mkdir(parents=True, exist_ok=True)  # under the lock, for an empty one is removed under it
        older = _older(project, folder, task_id, attempt)
        if branch is None and older is not None:
            branch = (git.git_dir(older) / _COMPLETE).read_text()
        began = _began(project, base, branch)
        if branch is not None:
            _unlock(project, branch, older)
            taken = _take_over(older, branch, skip=(part / RECORD).as_posix()) if older else None
            snapshot = taken or snapshot or git.commit_of(project, snapshot_ref(branch))
        name, start = _branch_for(project, folder, task_id, branch, began, snapshot)
        path = _free_path(folder, f"{task_id}.{attempt}")
        git.add_worktree(project, path, name, start)
    before = older / part if older is not None else None
    workspace = Workspace(path / part, Isolation.WORKTREE, path, name, began, before)
    try:
        git.set_ref(project, base_ref(name), began)
        git.check_out(path)
        _fill(workspace, top, snapshot)
    except BaseException:
        with git.locked(project):
            git.remove_worktree(project, path)
            if start is not None:
                for ref, made_at in ((f"refs/heads/{name}", start), (base_ref(name), began)):
                    with contextlib.suppress(GitFailed):
                        git.delete_ref(project, ref, made_at)
        raise
    return workspace


def _unlock(repo: Path, branch: str, worktree: Path | None) -> None:
    """Remove the locks of a git that was killed in a worktree of the task: nobody else uses its branch."""
    common = git.common_dir(repo)
    locks = [common / f"{ref}.lock" for ref in (f"refs/heads/{branch}", base_ref(branch), snapshot_ref(branch))]
    git.drop_stale_locks([*locks, *([git.git_dir(worktree) / "HEAD.lock"] if worktree is not None else [])])


def _began(project: Path, base: str | None, branch: str | None) -> str:
    """The commit that a task's branch begins at, or began at."""
    if base is not None:
        found = git.commit_of(project, base)
    else:
        found = (git.commit_of(project, base_ref(branch)) if branch else None) or git.head(project)
    if found is None:
        missing = f"no commit {base} in {project}" if base else f"no commit yet in {project}"
        raise BadInput(f"cannot make a worktree: {missing}", hint="commit something there, or use --shared")
    return found


def earlier(folder: Path, task_id: str, attempt: int) -> list[Path]:
    """What is in a folder of worktrees by the name of a task's attempts before this one, the newest last."""
    found = []
    for path in folder.iterdir():
        number = re.fullmatch(r"\.(\d+)(-(\d+))?", path.name.removeprefix(task_id))
        if path.name.startswith(task_id) and number and int(number[1]) < attempt:
            found.append((int(number[1]), int(number[3] or 1), path))
    return [path for *_, path in sorted(found)]


def _older(project: Path, folder: Path, task_id: str, attempt: int) -> Path | None:
    """The worktree of the newest earlier attempt here, if it was complete and nobody has taken it over."""
    found = earlier(folder, task_id, attempt)
    if not found:
        return None
    path = found[-1]
    try:
        if os.path.lexists(path / ".git") and git.common_dir(path) == git.common_dir(project):
            return path if (git.git_dir(path) / _COMPLETE).exists() else None
        reason = "it is no worktree of this project any more"
    except GitFailed as error:
        reason = error.message
    log.warning("%s is not continued: %s", path, reason, extra={"action": "worktree_left"})
    return None


def _take_over(older: Path, branch: str, *, skip: str) -> str | None:
    """The older worktree's state as a snapshot; from now on it is nobody's. None where that cannot be had."""
    try:
        kept = snapshots.snapshot(
            older, snapshot_ref(branch), "Work in progress, taken over", limit_bytes=SNAPSHOT_LIMIT_BYTES, skip=[skip]
        )
        (git.git_dir(older) / _COMPLETE).unlink()
    except GitFailed as error:
        log.warning("%s is not continued: %s", older, error.message, extra={"action": "worktree_left"})
        return None
    if kept is not None and kept.left_out:
        log.warning("left behind in %s: %s", older, ", ".join(kept.left_out), extra={"action": "worktree_left"})
    return kept.id if kept else git.commit_of(older, snapshot_ref(branch))


def _branch_for(
    project: Path, folder: Path, task_id: str, branch: str | None, began: str, snapshot: str | None
) -> tuple[str, str | None]:
    """The branch to check out, and the commit to make it at; None for one that exists and was freed."""
    if branch is None:
        return _free_branch(project, f"{BRANCHES}/{task_id}"), began
    made_on = git.commit_of(project, f"{snapshot}^1") if snapshot else None
    tip = git.branch_tip(project, branch)
    if tip is None:
        return branch, made_on or began
    for linked in git.worktrees(project):
        if linked.branch != branch:
            continue
        if folder not in linked.path.resolve().parents:
            start = made_on if made_on and git.is_ancestor(project, tip, made_on) else tip
            return _free_branch(project, branch), start
        if linked.path.exists():
            git.detach(project, linked)
        else:
            git.remove_worktree(project, linked.path)
    if made_on and made_on != tip and git.is_ancestor(project, tip, made_on):
        git.move_branch(project, branch, made_on, tip)
    return branch, None


def _free_branch(project: Path, wanted: str) -> str:
    """`wanted`, or with the first of -2, -3, … of which neither a branch nor a snapshot is there."""
    taken = git.refs(project, f"refs/heads/{BRANCHES}", f"refs/{BRANCHES}")
    name, number = wanted, 1
    while any(f"{ref}/".startswith((f"refs/heads/{name}/", f"refs/{name}/")) for ref in taken):
        number += 1
        name = f"{wanted}-{number}"
    return name


def _free_path(folder: Path, name: str) -> Path:
    """A path that is not there: a task that was deleted may have left one behind."""
    path, number = folder / name, 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{name}-{number}"
    return path


def _fill(workspace: Workspace, project_top: Path, snapshot: str | None) -> None:
    """Put into a new worktree what its branch does not have."""
    if snapshot is not None:
        passed = snapshots.restore(workspace.top, snapshot)
        if passed:
            log.warning(
                "not restored in %s, committed since: %s", workspace.top, ", ".join(passed), extra={"action": "restore"}
            )
    if workspace.path.resolve() != workspace.path:
        raise WorkspaceFailed(f"the project's folder is a link in its repository: {workspace.path}")
    workspace.path.mkdir(parents=True, exist_ok=True)
    provision.include(project_top, workspace.top, part=workspace.path.relative_to(workspace.top))
    (git.git_dir(workspace.top) / _COMPLETE).write_text(workspace.branch or "")


def save(workspace: Workspace, *, limit_bytes: int = SNAPSHOT_LIMIT_BYTES) -> snapshots.Commit | None:
    """A snapshot of a worktree as it is now; None when nothing changed since the last, and for a shared checkout."""
    if workspace.branch is None:
        return None
    return snapshots.snapshot(
        workspace.top,
        snapshot_ref(workspace.branch),
        "Work in progress",
        limit_bytes=limit_bytes,
        skip=[workspace.record],
    )


def collect(workspace: Workspace, *, task_id: str, attempt: int) -> Result:
    """Commit on the task's branch what the agent left, once none of its processes is there; tell what came of it.

    Raises GitFailed, with the work still in the worktree.
    """
    if workspace.branch is None or workspace.base is None:
        return Result()
    if os.path.lexists(workspace.top / ".git"):
        _unlock(workspace.top, workspace.branch, workspace.top)
    message = f"Leftovers of task {task_id}, attempt {attempt}\n"
    made = snapshots.commit_all(workspace.top, message, branch=workspace.branch, skip=[workspace.record])
    # All is on the branch now. A snapshot left here would bring back, in a later attempt, what was undone since.
    if (kept := git.commit_of(workspace.top, snapshot_ref(workspace.branch))) is not None:
        git.delete_ref(workspace.top, snapshot_ref(workspace.branch), kept)
    left = made.left_out if made else ()
    tip = git.branch_tip(workspace.top, workspace.branch)
    if tip is None or tip == workspace.base:
        return Result(changed=False, files_left=left)
    commits = git.commits_between(workspace.top, workspace.base, tip)
    changed = git.diff(workspace.top, workspace.base, tip, stat=True) != ""
    return Result(commit=tip, commits=commits, changed=changed, files_left=left)


@dataclass(frozen=True, slots=True)
class Removal:
    """Whether a worktree was removed, or why not."""

    removed: bool
    reason: str = ""


def remove(workspace: Workspace, project: Path) -> Removal:
    """Remove a worktree, but only when all in it, except ignored files, is reachable in the project's repository."""
    if workspace.isolation is Isolation.SHARED:
        return Removal(False, "it is the checkout itself")
    try:
        with git.locked(project):
            reason = reason_to_keep(workspace, project)
            if not reason:
                git.remove_worktree(project, workspace.top)
    except (GitFailed, OSError) as error:
        reason = str(error)
    return Removal(not reason, reason)


def reason_to_keep(workspace: Workspace, project: Path) -> str:
    """What would be lost with a worktree; "" if all in it, except ignored files, is reachable in the project.

    Raises GitFailed, OSError.
    """
    if workspace.top.is_symlink():
        return "it is a link"
    if not workspace.top.exists():
        return ""
    if not os.path.lexists(workspace.top / ".git"):
        return "it is no checkout any more: its .git is gone"
    if git.common_dir(workspace.top) != git.common_dir(project):
        return f"it is no worktree of {project} any more"
    under_way = snapshots.under_way(workspace.top)
    if under_way:
        return f"git is in the middle of something in it: {', '.join(under_way)}"
    own = git.refs(workspace.top, *OWN_REFS)
    if own:
        return f"it has refs of its own: {', '.join(sorted(own)[:SHOWN_NAMES])}"
    if os.path.lexists(git.git_dir(workspace.top) / "modules"):
        return "it has the repository of a submodule"
    tip = git.head(workspace.top)
    if tip is None or not git.contains(project, tip):
        return f"its commit {tip} is on no branch of {project}"
    left = elsewhere.missing(workspace.top, project, tip, skip=[workspace.record], limit_bytes=SNAPSHOT_LIMIT_BYTES)
    if left:
        more = f" and {len(left) - SHOWN_NAMES} more" if len(left) > SHOWN_NAMES else ""
        return f"not committed: {', '.join(left[:SHOWN_NAMES])}{more}"
    return ""
