"""Whether what is uncommitted in a worktree is in its repository all the same: a proof by content, name by name.

Compared are the bytes as they are on the disk. What a filter would change on its way into git is not proven.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Final, NamedTuple

from worker import snapshots
from worker.git import names, run

SEARCHED_COMMITS: Final = 10_000  # a second or two; what a later attempt or a person committed is among the newest
SEARCHED_AT_ONCE: Final = 500
SEARCHED_BY_NAME: Final = 100  # so few make git ten times as fast, many more make it slower

_FILE: Final = "100"
_LINK: Final = "120"
_SUBMODULE: Final = "160"
_PLAIN: Final = "H"  # of an entry in the index: no conflict, nor one that git was told not to look at


class Content(NamedTuple):
    """What stands at a name. `kind` is how git's mode of it begins, for a file may be executable there and not here."""

    name: str
    kind: str
    id: str


class _Seen(NamedTuple):
    """What is uncommitted in a worktree; `unsure` are names with something that cannot be compared."""

    contents: frozenset[Content]
    unsure: frozenset[str]


def missing(worktree: Path, project: Path, head: str, *, skip: Sequence[str], limit_bytes: int) -> list[str]:
    """The uncommitted names of a worktree whose bytes, on the disk or staged, are not proven to be elsewhere.

    Proven are bytes that stand at the same name in `head`, which is checked out there, or in one of the newest commits
    since then of a branch, a remote branch or a tag. Neither a deletion nor a mode is any bytes. No file over
    `limit_bytes` is read. Raises GitFailed.
    """
    seen = _look(worktree, head, skip, limit_bytes)
    if seen == _Seen(frozenset(), frozenset()):
        return []
    lacking = set(seen.contents)
    for found in _searched(project, head, {content.name for content in lacking}):
        lacking.difference_update(found)
        if not lacking:
            break
    left = {content.name for content in lacking} | seen.unsure
    if not left and _look(worktree, head, skip, limit_bytes) != seen:
        left = {content.name for content in seen.contents}  # somebody writes there
    return sorted(left)


def _look(worktree: Path, head: str, skip: Sequence[str], limit_bytes: int) -> _Seen:
    left = set(snapshots.leftovers(worktree, skip=skip))
    contents, unsure = set(), set()
    for name in left:
        try:
            contents.add(_on_disk(worktree, name, head, limit_bytes))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            unsure.add(name)
    for line in names(run(["ls-files", "-z", "-v", "--stage"], worktree)) if left else ():
        facts, _, name = line.partition("\t")
        tag, mode, blob, _ = facts.split(" ")
        if name not in left:
            continue
        contents.add(Content(name, mode[:3], blob))
        if tag != _PLAIN or mode.startswith(_SUBMODULE):
            unsure.add(name)
    return _Seen(frozenset(contents), frozenset(unsure))


def _on_disk(worktree: Path, name: str, head: str, limit_bytes: int) -> Content:
    """Raises OSError, also for what is no file and no link, or too large."""
    path = worktree / name
    facts = path.lstat()
    digest = hashlib.new("sha1" if len(head) == 40 else "sha256", usedforsecurity=False)
    digest.update(b"blob %d\0" % facts.st_size)
    if stat.S_ISLNK(facts.st_mode):
        digest.update(os.fsencode(os.readlink(path)))
        return Content(name, _LINK, digest.hexdigest())
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit_bytes:
        raise OSError(f"{path} is not compared")
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    return Content(name, _FILE, digest.hexdigest())


def _searched(project: Path, head: str, wanted: Set[str]) -> Iterator[set[Content]]:
    """What stands in `head`, and then what was put under the `wanted` names by the commits since, the newest first.

    There may be other names among it.
    """
    tree = (line.partition("\t") for line in names(run(["ls-tree", "-r", "-z", "--full-tree", head], project)))
    yield {Content(name, facts[:3], facts.rpartition(" ")[2]) for facts, _, name in tree}
    since = ["--branches", "--remotes", "--tags", f"--max-count={SEARCHED_COMMITS}", f"^{head}"]
    few = wanted if len(wanted) <= SEARCHED_BY_NAME else ()
    commits = run(["rev-list", *since, "--"], project).splitlines()
    for first in range(0, len(commits), SEARCHED_AT_ONCE):
        # Of a merge (-c) only what none of its parents has.
        words = ["diff-tree", "--stdin", "-r", "-c", "-z", "--root", "--no-renames", "--no-commit-id", "--", *few]
        lot = "\n".join(commits[first : first + SEARCHED_AT_ONCE])
        changes = names(run(["--literal-pathspecs", *words], project, stdin=f"{lot}\n"))
        yield {_put(facts.split(" "), name) for facts, name in zip(changes[::2], changes[1::2], strict=True)}


def _put(facts: Sequence[str], name: str) -> Content:
    """From a mode for each parent and the new one, an id for each parent and the new one, and the status."""
    return Content(name, facts[len(facts) // 2 - 1][:3], facts[-2])
