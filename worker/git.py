"""Git as child processes, and the questions and changes to a repository that workspaces need.

What the user has checked out, staged and configured stays as it is: our children run without hooks, signatures and
background work, and change only refs under `dispatch/` and worktrees of ours. Every function may raise GitFailed.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_queue.errors import DispatchError
from dispatch_queue.project import git_environment

GIT_TIMEOUT: Final = timedelta(minutes=2)
CHECKOUT_TIMEOUT: Final = timedelta(minutes=15)  # a large tree whose files come through a filter from the network
LOCK_WAIT: Final = 2 * GIT_TIMEOUT
LOCK_POLL: Final = timedelta(milliseconds=20)
LOCK_NAME: Final = "dispatch.lock"
STALE_AFTER: Final = timedelta(seconds=2)  # git has a ref's lock for milliseconds, and gives up on one after 100
REACHABLE_FROM: Final = ("refs/heads", "refs/remotes", "refs/tags", "refs/dispatch")
SHOWN_LINES: Final = 3  # of what git said, in an error

_SETTINGS: Final = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",  # would leave a daemon for each worktree
    "core.splitIndex": "false",
    "core.safecrlf": "false",  # would refuse a file with mixed line ends
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "UTF-8",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class GitFailed(DispatchError):
    """A git command failed. `status` is None where it did not run or not end."""

    def __init__(self, command: Sequence[str], said: str, *, status: int | None, cwd: Path) -> None:
        self.command, self.said, self.status, self.cwd = tuple(command), said, status, cwd
        lines = [line for line in said.splitlines() if line.strip()]
        outcome = f"exit status {status}" if status is not None else "did not end well"
        told = "; ".join(lines[:SHOWN_LINES]) or outcome
        super().__init__(f"git {' '.join(command[:3])} failed in {cwd}: {told}", hint=_hint(said, command, cwd))


def _hint(said: str, command: Sequence[str], cwd: Path) -> str:
    if "dubious ownership" in said:
        return f"git config --global --add safe.directory {cwd}"
    if "No space left" in said:
        return f"free some disk space: `df -h {cwd}`"
    if "'refs/heads/dispatch' exists" in said:
        return f"our branches are called `dispatch/…`: `git -C {cwd} branch -m dispatch dispatch-old`"
    if (lock := re.search(r"'([^']+\.lock)': File exists", said)) is not None:
        return f"if no git runs there any more: `rm {lock[1]}`"
    return f"see it for yourself: `git -C {cwd} {' '.join(command[:3])} …`"


def run(
    args: Sequence[str],
    cwd: Path,
    *,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    ok: Container[int] = (0,),
    timeout: timedelta = GIT_TIMEOUT,
    silent: bool = False,
) -> str:
    """What `git ARGS` prints. It and what it started are killed after `timeout`.

    With `silent` a warning is a failure: git passes over what it cannot read, and ends well. Bytes that are no UTF-8
    come and go as surrogates, as in file names everywhere in Python.
    """
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    env = git_environment(os.environ) | dict(environ or {})
    try:
        child = subprocess.Popen(
            ["git", "--no-pager", *settings, *args],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise GitFailed(args, str(error), status=None, cwd=cwd) from error
    with child:
        try:
            out, err = child.communicate(stdin.encode(errors="surrogateescape"), timeout.total_seconds())
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said = f"did not end within {timeout.total_seconds():g} s"
            raise GitFailed(args, said, status=None, cwd=cwd) from error
    if child.returncode not in ok or (silent and err):
        raise GitFailed(args, err.decode(errors="replace"), status=child.returncode, cwd=cwd)
    return out.decode(errors="surrogateescape")


def ask(args: Sequence[str], cwd: Path) -> str | None:
    """What git answers, None where it says no by exit status 1."""
    try:
        return run(args, cwd).removesuffix("\n")
    except GitFailed as failed:
        if failed.status == 1:
            return None
        raise


def names(listed: str) -> list[str]:
    return [name for name in listed.split("\0") if name]


def top_level(path: Path) -> Path | None:
    """The top folder of the checkout that `path` is in; None outside, and in a bare repository."""
    try:
        top = run(["rev-parse", "--show-toplevel"], path).removesuffix("\n")
    except GitFailed as failed:
        if failed.status == 128 and re.search("not a git repository|must be run in a work tree", failed.said):
            return None
        raise
    return Path(top)


def git_dir(worktree: Path) -> Path:
    """Where git keeps what belongs to this worktree alone."""
    return (worktree / run(["rev-parse", "--git-dir"], worktree).removesuffix("\n")).resolve()


def common_dir(repo: Path) -> Path:
    """Where git keeps what all worktrees share."""
    return (repo / run(["rev-parse", "--git-common-dir"], repo).removesuffix("\n")).resolve()


@contextlib.contextmanager
def locked(repo: Path) -> Iterator[None]:
    """Hold the repository, against other workers, while its worktrees and branches change."""
    path = common_dir(repo) / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise GitFailed(["worktree"], f"cannot open {path}: {error.strerror}", status=None, cwd=repo) from error
    try:
        deadline = time.monotonic() + LOCK_WAIT.total_seconds()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise GitFailed(["worktree"], f"{path} is held by another", status=None, cwd=repo) from error
                time.sleep(LOCK_POLL.total_seconds())
        yield
    finally:
        os.close(handle)


def drop_stale_locks(locks: Sequence[Path]) -> None:
    """Remove those of these lock files that a killed git left behind: they stay as they are, for STALE_AFTER."""
    deadline = time.monotonic() + STALE_AFTER.total_seconds()
    seen = {lock: found for lock in locks if (found := _facts(lock)) is not None}
    while seen and time.monotonic() < deadline:
        time.sleep(LOCK_POLL.total_seconds())
        seen = {lock: found for lock, found in seen.items() if _facts(lock) == found}
    for lock in seen:
        with contextlib.suppress(OSError):  # git says what is wrong with it
            lock.unlink()


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def commit_of(repo: Path, name: str) -> str | None:
    """The commit that a ref, a hash or an expression names; None where there is none."""
    return ask(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], repo)


def head(repo: Path) -> str | None:
    """The commit that is checked out; None where there is none yet."""
    return commit_of(repo, "HEAD")


def branch_tip(repo: Path, branch: str) -> str | None:
    return commit_of(repo, f"refs/heads/{branch}")


def is_ancestor(repo: Path, older: str, newer: str) -> bool:
    return ask(["merge-base", "--is-ancestor", older, newer], repo) is not None


def refs(repo: Path, *prefixes: str) -> set[str]:
    """The full names of all refs under these prefixes."""
    return set(run(["for-each-ref", "--format=%(refname)", *prefixes], repo).splitlines())


def contains(repo: Path, commit: str, refs: Sequence[str] = REACHABLE_FROM) -> bool:
    """Whether some ref of the repository leads to `commit`; False too where it does not have it at all."""
    if commit_of(repo, commit) is None:
        return False
    return run(["for-each-ref", "--count=1", f"--contains={commit}", *refs], repo) != ""


def commits_between(repo: Path, base: str, tip: str) -> int:
    return int(run(["rev-list", "--count", f"{base}..{tip}", "--"], repo))


def diff(repo: Path, base: str, tip: str, *, stat: bool = False) -> str:
    """The changes from one commit to another, as a patch or as one line a file."""
    form = ["--stat=100"] if stat else []
    return run(["diff", "--no-color", "--no-ext-diff", *form, base, tip, "--"], repo)


@dataclass(frozen=True, slots=True)
class Linked:
    """A checkout of a repository and the commit there; `branch` is None where HEAD is detached."""

    path: Path
    head: str
    branch: str | None


def worktrees(repo: Path) -> list[Linked]:
    """Every checkout of the repository, the main one too, and those whose folder is gone."""
    found = []
    for block in run(["worktree", "list", "--porcelain"], repo).split("\n\n"):
        facts = dict(line.partition(" ")[::2] for line in block.splitlines())
        if "worktree" in facts:
            branch = facts.get("branch", "").removeprefix("refs/heads/") or None
            found.append(Linked(Path(facts["worktree"]), facts.get("HEAD", ""), branch))
    return found


def add_worktree(repo: Path, path: Path, branch: str, base: str | None) -> None:
    """Make a worktree for `branch`, still without files; with `base`, a commit, the branch is made there.

    Hold `locked(repo)`. Nothing is left of a failed one.
    """
    words = ["-b", branch, "--no-track", str(path), base] if base else [str(path), branch]
    try:
        run(["worktree", "add", "--quiet", "--no-checkout", *words], repo)
    except BaseException:
        with contextlib.suppress(GitFailed):
            remove_worktree(repo, path)
        if base:
            with contextlib.suppress(GitFailed):
                delete_ref(repo, f"refs/heads/{branch}", base)
        raise


def check_out(worktree: Path) -> None:
    """Put the commit's files into a new worktree."""
    run(["reset", "--quiet", "--hard", "--no-recurse-submodules"], worktree, timeout=CHECKOUT_TIMEOUT)


def remove_worktree(repo: Path, path: Path) -> None:
    """Remove a worktree with all that is in it. Hold `locked(repo)`."""
    # Not by git, which stops half-way at a read-only folder (a module cache) and forgets the worktree all the same.
    if os.path.lexists(path):
        remove_tree(path)
    known = {linked.path for linked in worktrees(repo)}
    if path in known or path.resolve() in known:
        run(["worktree", "remove", "--force", "--force", str(path)], repo)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, also what is read-only; what cannot be removed stays."""

    def make_writable(function: object, name: str, _: object) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(stat.S_IRWXU)
            Path(name).chmod(stat.S_IRWXU)
            shutil.rmtree(name) if Path(name).is_dir() else os.unlink(name)

    shutil.rmtree(folder, onerror=make_writable)


def detach(repo: Path, linked: Linked) -> None:
    """Free a worktree's branch; its files, its index and what is under way in it stay. Hold `locked(repo)`.

    By what the repository knows of it, for the worktree's own `.git` may be gone or another's.
    """
    for entry in (common_dir(repo) / "worktrees").iterdir():
        with contextlib.suppress(OSError):
            if Path(os.fsdecode((entry / "gitdir").read_bytes().rstrip(b"\n"))).parent == linked.path:
                words = ["update-ref", "--no-deref", "-m", "dispatch: detach", "HEAD", linked.head]
                run(words, repo, environ={"GIT_DIR": str(entry)})


def move_branch(repo: Path, branch: str, new: str, old: str | None) -> None:
    """Set a branch that nobody has checked out, if it still is at `old` (None: not there)."""
    run(["update-ref", "--no-deref", "-m", "dispatch", f"refs/heads/{branch}", new, old or "0" * len(new)], repo)


def set_ref(repo: Path, ref: str, new: str) -> None:
    run(["update-ref", "--no-deref", ref, new], repo)


def delete_ref(repo: Path, ref: str, old: str) -> None:
    """Delete a ref that is nobody's HEAD, if it still is at `old`."""
    run(["update-ref", "--no-deref", "-d", ref, old], repo)
