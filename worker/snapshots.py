"""Keeping what a worktree holds: a commit of all leftovers at the end, a snapshot in between, and back again.

Both are made from an index file of our own, so that the agent working there sees nothing of it. `worktree` is the top
folder of a checkout. Every function may raise GitFailed.
"""

import contextlib
import enum
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatch_queue.project import RECORD
from worker.git import (
    CHECKOUT_TIMEOUT,
    GitFailed,
    ask,
    branch_tip,
    commit_of,
    git_dir,
    head,
    is_ancestor,
    move_branch,
    names,
    run,
)

STAGE_TRIES: Final = 5  # a file may go away between the look and the reading

# The bytes of the files themselves, as far as no .gitattributes says otherwise.
_EXACT: Final = ("-c", "core.autocrlf=false")
_HEADS: Final = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")
_MERGING: Final = (*_HEADS, "MERGE_MSG", "MERGE_MODE")
_REBASING: Final = ("rebase-merge", "rebase-apply")
_GITLINK: Final = "160000"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that was made, and which names below the worktree are not in it although they changed."""

    id: str
    left_out: tuple[str, ...]


def commit_all(worktree: Path, message: str, *, branch: str, skip: Sequence[str] = (RECORD,)) -> Commit | None:
    """Bring all of the worktree, committed or not, onto `branch`. None: it was there already.

    Left out are ignored files, `skip`, and what git cannot hold: unreadable files, repositories within. No process may
    work in the worktree any more. HEAD may have been moved anywhere, see `_joined`; no other branch is changed.
    """
    own = _own_git_dir(worktree)
    at, tip = head(worktree), branch_tip(worktree, branch)
    with _private_index(worktree, own) as index:
        tree, left_out = _staged(worktree, index, skip=skip)
        merging = own / "MERGE_HEAD"
        merged = merging.read_text().split() if merging.exists() else []
        work = at
        if at is None or merged or tree != _tree_of(worktree, at):
            work = _commit(worktree, tree, [*([at] if at else []), *merged], message)
        assert work is not None
        rebasing = any((own / name).exists() for name in _REBASING)
        new = _joined(worktree, work, at=at, tip=tip, rebasing=rebasing, message=message)
        if new != tip:
            move_branch(worktree, branch, new, tip)
        if _tree_of(worktree, new) == tree:
            run(["symbolic-ref", "-m", "dispatch: collect", "HEAD", f"refs/heads/{branch}"], worktree)
        else:
            run(["update-ref", "--no-deref", "-m", "dispatch: collect", "HEAD", work], worktree)
        os.replace(index, own / "index")
        for name in _MERGING:
            (own / name).unlink(missing_ok=True)
    return Commit(new, left_out) if new != tip or left_out else None


def _joined(worktree: Path, work: str, *, at: str | None, tip: str | None, rebasing: bool, message: str) -> str:
    """The branch's new tip, from which both its old one and `work`, the worktree's state made on `at`, are reached.

    The content is that of the worktree, but for one that looks back at an older commit or stopped in a rebase: there
    the branch has what was finished, and `work` is only kept, as a parent.
    """
    if tip is None or is_ancestor(worktree, tip, work):
        return work
    looks_back = at is not None and is_ancestor(worktree, at, tip)
    if looks_back and work == at:
        return tip
    if looks_back or rebasing:
        return _commit(worktree, _tree_of(worktree, tip), [tip, work], message)
    return _commit(worktree, _tree_of(worktree, work), [work, tip], message)


def snapshot(
    worktree: Path, ref: str, message: str, *, limit_bytes: int, skip: Sequence[str] = (RECORD,)
) -> Commit | None:
    """Keep the worktree as it is now, uncommitted files included, as a commit on HEAD under `ref`.

    Left out are ignored files, files over `limit_bytes`, `skip`, and what git cannot hold. None: nothing has changed
    since the last one.
    """
    own = _own_git_dir(worktree)
    at = head(worktree)
    with _private_index(worktree, own) as index:
        tree, left_out = _staged(worktree, index, skip=skip, limit_bytes=limit_bytes, config=_EXACT)
    parents = [at] if at else []
    last = commit_of(worktree, ref)
    if last and (tree, parents) == (_tree_of(worktree, last), _parents_of(worktree, last)):
        return None
    new = _commit(worktree, tree, parents, message)
    run(["update-ref", "--no-deref", ref, new, last or "0" * len(new)], worktree)
    return Commit(new, left_out)


def restore(worktree: Path, commit: str) -> tuple[str, ...]:
    """Put the changes of a snapshot into a worktree, uncommitted; which names were passed over.

    Passed over is what was committed since the snapshot: that is newer. Its parents are the commit it was made on.
    """
    ours = head(worktree)
    base = next(iter(_parents_of(worktree, commit)), None)
    if ours is None or base is None:
        return ()
    newer = set(names(run(["diff-tree", "-r", "-z", "--no-renames", "--name-only", base, ours], worktree)))
    changes = names(run(["diff-tree", "-r", "-z", "--no-renames", "--raw", base, commit], worktree))
    put, passed = [], []
    for fact, name in zip(changes[::2], changes[1::2], strict=True):
        _, mode, *_, status = fact.split()
        if name in newer:
            passed.append(name)
        elif status == "D":
            _delete(worktree, name)
        elif mode != _GITLINK:
            put.append(name)
    if put:
        with _private_index(worktree, _own_git_dir(worktree)) as index:
            environ = {"GIT_INDEX_FILE": str(index)}
            run([*_EXACT, "read-tree", commit], worktree, environ=environ)
            words = [*_EXACT, "checkout-index", "--force", "--quiet", "-z", "--stdin"]
            run(words, worktree, environ=environ, stdin="\0".join(put), timeout=CHECKOUT_TIMEOUT)
    return tuple(passed)


def leftovers(worktree: Path, *, skip: Sequence[str] = (RECORD,)) -> list[str]:
    """What removing the worktree would lose besides ignored files: changed and new files, repositories within.

    Raises GitFailed also where a folder cannot be read.
    """
    words = ["--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none"]
    changed = [entry[3:] for entry in names(run(["status", *words, "--", *_but(skip)], worktree, silent=True))]
    links = [
        line.partition("\t")[2]
        for line in names(run(["ls-files", "-z", "--stage"], worktree))
        if line.startswith(_GITLINK)
    ]
    within = (name for name in links if os.path.lexists(worktree / name / ".git"))
    return sorted({*changed, *within, *_hidden(worktree)})


def _hidden(worktree: Path) -> list[str]:
    """Changed files that git was told not to look at: assume-unchanged, skip-worktree."""
    tagged = [line for line in names(run(["ls-files", "-v", "-z"], worktree)) if line[0].islower() or line[0] == "S"]
    unseen = {line[2:] for line in tagged if os.path.lexists(worktree / line[2:])}
    if not unseen:
        return []
    with _private_index(worktree, _own_git_dir(worktree)) as index:
        environ = {"GIT_INDEX_FILE": str(index)}
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            run(["update-index", flag, "-z", "--stdin"], worktree, environ=environ, stdin=_ended(unseen))
        return names(run(["diff-files", "-z", "--name-only"], worktree, environ=environ))


def under_way(worktree: Path) -> list[str]:
    """What git keeps of a merge, a pick or a rebase that is not finished."""
    own = _own_git_dir(worktree)
    return [name for name in (*_HEADS, *_REBASING) if os.path.lexists(own / name)]


def _but(names: Sequence[str]) -> list[str]:
    """A pathspec of all of the worktree but these."""
    return [".", *(f":(top,exclude,literal){name.rstrip('/')}" for name in names)]


def _own_git_dir(worktree: Path) -> Path:
    """The worktree's git directory; an agent that removed `.git` must not lead us to a repository further up."""
    if not os.path.lexists(worktree / ".git"):
        raise GitFailed(
            ["rev-parse"], f"{worktree} is no checkout any more: its .git is gone", status=None, cwd=worktree
        )
    return git_dir(worktree)


@contextlib.contextmanager
def _private_index(worktree: Path, own: Path) -> Iterator[Path]:
    """A copy of the worktree's index, gone at the end unless it was moved into place."""
    path = own / f"dispatch-index.{secrets.token_hex(4)}"
    try:
        try:
            shutil.copyfile(own / "index", path)
            run(["ls-files", "--unmerged"], worktree, environ={"GIT_INDEX_FILE": str(path)})
        except (FileNotFoundError, GitFailed):  # an agent may have died while writing it
            path.unlink(missing_ok=True)
            if head(worktree):
                run(["read-tree", "HEAD"], worktree, environ={"GIT_INDEX_FILE": str(path)})
        yield path
    finally:
        for name in (path, path.with_name(f"{path.name}.lock")):
            name.unlink(missing_ok=True)


def _staged(
    worktree: Path,
    index: Path,
    *,
    skip: Sequence[str],
    limit_bytes: int | None = None,
    config: Sequence[str] = (),
) -> tuple[str, tuple[str, ...]]:
    """Stage all of the worktree in the index file; the tree, and the names that were left out.

    Not by `git add`, which gives up when a file goes away while it looks.
    """
    environ = {"GIT_INDEX_FILE": str(index)}
    for tries_left in reversed(range(STAGE_TRIES)):
        words = ["ls-files", "-z", "--modified", "--others", "--exclude-standard", "--", *_but(skip)]
        listed = set(names(run(words, worktree, environ=environ)))
        unmerged = names(run(["ls-files", "-z", "--unmerged"], worktree, environ=environ))
        conflicts = {line.partition("\t")[2] for line in unmerged}
        look = _Look(worktree, limit_bytes)
        fates = {name: look.fate(name) for name in listed | conflicts}
        left_out = {name for name, fate in fates.items() if fate is _Fate.LEAVE}
        gone = {name for name, fate in fates.items() if fate is _Fate.REMOVE} | (left_out & conflicts)
        words = [*config, "update-index", "-z"]
        try:
            run([*words, "--force-remove", "--stdin"], worktree, environ=environ, stdin=_ended(gone))
            put = fates.keys() - gone - left_out
            run([*words, "--add", "--remove", "--replace", "--stdin"], worktree, environ=environ, stdin=_ended(put))
        except GitFailed as failed:
            if not tries_left or not re.search("Unable to process path|beyond a symbolic link", failed.said):
                raise
            continue
        tree = run(["write-tree"], worktree, environ=environ).strip()
        return tree, tuple(sorted(name.rstrip("/") for name in left_out))
    raise AssertionError("unreachable: the last try returns or raises")


def _ended(listed: Set[str]) -> str:
    return "".join(f"{name}\0" for name in sorted(listed))


class _Fate(enum.Enum):
    """What is done with a changed name."""

    PUT = enum.auto()
    REMOVE = enum.auto()
    LEAVE = enum.auto()  # git cannot hold it, or it is too large


class _Look:
    """Looks at changed names of a worktree, remembering which of its folders are links."""

    def __init__(self, worktree: Path, limit_bytes: int | None) -> None:
        self._worktree, self._limit_bytes = worktree, limit_bytes
        self._is_link: dict[str, bool] = {"": False}

    def _behind_link(self, name: str) -> bool:
        folder = name.rpartition("/")[0]
        if folder not in self._is_link:
            self._is_link[folder] = self._behind_link(folder) or (self._worktree / folder).is_symlink()
        return self._is_link[folder]

    def fate(self, name: str) -> _Fate:
        if name.endswith("/"):
            return _Fate.LEAVE  # a repository within
        path = self._worktree / name
        try:
            found = path.lstat()
        except OSError:
            return _Fate.REMOVE
        if self._behind_link(name):
            return _Fate.REMOVE
        if stat.S_ISDIR(found.st_mode):  # a submodule, or a folder where a file was
            return _Fate.PUT if os.path.lexists(path / ".git") else _Fate.REMOVE
        if stat.S_ISREG(found.st_mode):
            fits = self._limit_bytes is None or found.st_size <= self._limit_bytes
            return _Fate.PUT if fits and os.access(path, os.R_OK) else _Fate.LEAVE
        return _Fate.PUT if stat.S_ISLNK(found.st_mode) else _Fate.LEAVE


def _commit(worktree: Path, tree: str, parents: Sequence[str], message: str) -> str:
    identity = []
    for name, fallback in (("user.name", "dispatch"), ("user.email", "dispatch@localhost")):
        if not ask(["config", "--get", name], worktree):
            identity += ["-c", f"{name}={fallback}"]
    words = [word for parent in parents for word in ("-p", parent)]
    return run([*identity, "commit-tree", "--no-gpg-sign", tree, *words, "-F", "-"], worktree, stdin=message).strip()


def _tree_of(repo: Path, commit: str) -> str:
    return run(["rev-parse", "--verify", f"{commit}^{{tree}}"], repo).strip()


def _parents_of(repo: Path, commit: str) -> list[str]:
    return run(["rev-list", "--max-count=1", "--parents", commit, "--"], repo).split()[1:]


def _delete(worktree: Path, name: str) -> None:
    """Remove a file and the folders that it leaves empty, without going through a link."""
    path = worktree / name
    if path.parent.resolve() != worktree.resolve() / Path(name).parent:
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
        for folder in Path(name).parents:
            (worktree / folder).rmdir()
