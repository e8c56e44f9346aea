"""What is uncommitted in a worktree keeps it unless every byte of it is proven to be in the project."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import Repository, made_by
from worker import elsewhere, git, workspace
from worker.workspace import Removal, Workspace

FILES = {"a.txt": "a\n", "sub/b.txt": "b\n", ".gitignore": "*.log\n"}
GONE = Removal(True)
NOBODY = 65534


def kept(*names: str) -> Removal:
    return Removal(False, f"not committed: {', '.join(names)}")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return made_by(tmp_path / "repo", FILES)


@pytest.fixture
def lost(repo: Repository, tmp_path: Path) -> Repository:
    """The worktree of an attempt that was lost; nothing has taken it over."""
    return Repository(made(repo, tmp_path, 1).top)


def made(repo: Repository, tmp_path: Path, attempt: int) -> Workspace:
    return workspace.worktree(repo.path, root=tmp_path / "w", project_id="p", task_id="t", attempt=attempt)


def place_of(work: Repository) -> Workspace:
    return Workspace(work.path, workspace.Isolation.WORKTREE, work.path)


def remove(repo: Repository, work: Repository) -> Removal:
    """What the clean-up does, after a dry run that must have said the same."""
    told = workspace.reason_to_keep(place_of(work), repo.path)
    removal = workspace.remove(place_of(work), repo.path)
    assert removal == Removal(not told, told)
    assert work.path.exists() is not removal.removed
    return removal


# -- what goes --------------------------------------------------------------------------------------------------------


def test_a_worktree_goes_whose_uncommitted_work_a_later_attempt_took_over(
    repo: Repository, lost: Repository, tmp_path: Path
) -> None:
    lost.write(
        {
            "a.txt": "changed\n",
            ":(magic)*": "*",
            "new\n☃": b"\xff\r\n",
            os.fsdecode(b"n\xe9"): "n",
            "run.sh": "x\n",
            "empty": "",
        }
    )
    (lost.path / "run.sh").chmod(0o755)
    (lost.path / "link").symlink_to("sub/b.txt")
    (lost.path / "sub/b.txt").unlink()
    later = made(repo, tmp_path, 2)
    workspace.collect(later, task_id="t", attempt=2)

    assert remove(repo, lost) == GONE
    assert repo.git("show", "dispatch/t:a.txt") == "changed"


def deleted(lost: Repository) -> None:
    (lost.path / "a.txt").unlink()
    lost.git("rm", "--quiet", "sub/b.txt")


def executable(lost: Repository) -> None:
    (lost.path / "a.txt").chmod(0o755)


def staged_and_undone(lost: Repository) -> None:
    lost.git("rm", "--quiet", "--cached", "a.txt")


@pytest.mark.parametrize("change", [deleted, executable, staged_and_undone])
def test_a_change_without_bytes_keeps_nothing(repo: Repository, lost: Repository, change: Any) -> None:
    change(lost)
    assert lost.git("status", "--porcelain")

    assert remove(repo, lost) == GONE


@pytest.mark.parametrize("by_name", [0, 100])
@pytest.mark.parametrize("ref", ["refs/tags/v1", "refs/remotes/origin/main", "refs/heads/side"])
def test_the_bytes_may_be_on_any_branch_or_tag_also_below_its_tip(
    repo: Repository, lost: Repository, monkeypatch: pytest.MonkeyPatch, ref: str, by_name: int
) -> None:
    monkeypatch.setattr(elsewhere, "SEARCHED_BY_NAME", by_name)
    lost.write({"new": "n\n"})
    repo.commit({"new": "n\n"})
    repo.git("update-ref", ref, repo.commit({"new": "newer\n"}))
    repo.git("reset", "--quiet", "--hard", "HEAD~2")

    assert remove(repo, lost) == GONE


def test_the_bytes_may_be_those_of_a_conflict_that_a_merge_settled(repo: Repository, lost: Repository) -> None:
    lost.write({"a.txt": "settled\n"})
    repo.git("checkout", "--quiet", "-b", "side")
    repo.commit({"a.txt": "theirs\n"})
    repo.git("checkout", "--quiet", "main")
    repo.commit({"a.txt": "ours\n"})
    repo.git("merge", "side", check=False)
    repo.commit({"a.txt": "settled\n"})
    assert len(repo.git("log", "-1", "--format=%P").split()) == 2

    assert remove(repo, lost) == GONE


def test_bytes_that_several_lots_of_commits_have_together_are_found(
    repo: Repository, lost: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "SEARCHED_AT_ONCE", 2)
    names = {f"f{number}": f"{number}\n" for number in range(5)}
    lost.write(names)
    for name, text in names.items():
        repo.commit({name: text})

    assert remove(repo, lost) == GONE


def test_a_repository_with_long_hashes_is_searched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    repo = made_by(tmp_path / "repo", FILES)
    monkeypatch.delenv("GIT_DEFAULT_HASH")
    lost = Repository(made(repo, tmp_path, 1).top)
    lost.write({"new": "n\n"})
    assert remove(repo, lost) == kept("new")

    assert len(repo.commit({"new": "n\n"})) == 64
    assert remove(repo, lost) == GONE


# -- what stays -------------------------------------------------------------------------------------------------------


def test_bytes_that_a_later_attempt_changed_further_are_kept_and_only_they_are_named(
    repo: Repository, lost: Repository, tmp_path: Path
) -> None:
    lost.write({"a.txt": "half\n", "new": "n\n"})
    later = Repository(made(repo, tmp_path, 2).top)
    later.commit({"a.txt": "whole\n", "new": "n\n"})

    assert remove(repo, lost) == kept("a.txt")
    assert (lost.path / "a.txt").read_text() == "half\n"


def other_bytes(lost: Repository) -> None:
    lost.write({"new": "N\n"})


def other_place(lost: Repository) -> None:
    lost.write({"sub/new": "n\n"})


def other_kind(lost: Repository) -> None:
    (lost.path / "new").symlink_to("n\n")


def other_link(lost: Repository) -> None:
    (lost.path / "link").symlink_to("sub")


def other_line_ends(lost: Repository) -> None:
    lost.write({"text/new": "n\r\n"})


def other_staged(lost: Repository) -> None:
    lost.write({"new": "staged\n"})
    lost.git("add", "new")
    lost.write({"new": "n\n"})


def staged_and_deleted(lost: Repository) -> None:
    lost.write({"new": "staged\n"})
    lost.git("add", "new")
    (lost.path / "new").unlink()


def unmerged(lost: Repository) -> None:
    lost.write({"new": "n\n"})
    blob = lost.git("hash-object", "-w", "new")
    stages = "".join(f"100644 {blob} {stage}\tnew\n" for stage in (2, 3))
    git.run(["update-index", "--index-info"], lost.path, stdin=stages)


def hidden(lost: Repository) -> None:
    lost.git("update-index", "--skip-worktree", "a.txt")
    lost.write({"a.txt": "later\n"})


def pipe(lost: Repository) -> None:
    (lost.path / "a.txt").unlink()
    os.mkfifo(lost.path / "a.txt")


def nested(lost: Repository) -> None:
    made_by(lost.path / "new", {"x": "x"})


def nested_in_place_of_a_file(lost: Repository) -> None:
    (lost.path / "a.txt").unlink()
    made_by(lost.path / "a.txt", {"x": "x"})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (other_bytes, "new"),
        (other_place, "sub/new"),
        (other_kind, "new"),
        (other_link, "link"),
        (other_line_ends, "text/new"),
        (other_staged, "new"),
        (staged_and_deleted, "new"),
        (unmerged, "new"),
        (hidden, "a.txt"),
        (pipe, "a.txt"),
        (nested, "new/"),
        (nested_in_place_of_a_file, "a.txt"),
    ],
)
def test_what_is_not_proven_byte_by_byte_at_its_name_is_kept(
    repo: Repository, lost: Repository, change: Any, name: str
) -> None:
    (repo.path / "link").symlink_to("a.txt")
    repo.commit(
        {"new": "n\n", "text/new": "n\n", "text/.gitattributes": "new text\n", "link": "a\n", "a.txt": "later\n"}
    )
    change(lost)

    removal = remove(repo, lost)

    assert not removal.removed
    assert name in removal.reason.removeprefix("not committed: ").split(", ")


def test_bytes_that_only_a_snapshot_has_are_kept(repo: Repository, tmp_path: Path) -> None:
    place = made(repo, tmp_path, 1)
    lost = Repository(place.top)
    lost.write({"new": "n\n"})
    assert workspace.save(place) is not None
    assert repo.git("show", "refs/dispatch/t/wip:new") == "n"

    assert remove(repo, lost) == kept("new")


def test_a_large_file_is_not_read_and_kept(repo: Repository, lost: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "SNAPSHOT_LIMIT_BYTES", 9)
    for files in ({"fits": "9 bytes!\n"}, {"large": "10 bytes!\n"}):
        lost.write(files)
        repo.commit(files)

    assert remove(repo, lost) == kept("large")


def test_the_search_goes_back_so_many_commits_and_no_further(
    repo: Repository, lost: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "SEARCHED_COMMITS", 2)
    lost.write({"new": "n\n"})
    repo.commit({"new": "n\n"})
    repo.commit({"new": "newer\n"})
    assert workspace.reason_to_keep(place_of(lost), repo.path) == ""
    repo.commit({"more": "m\n"})

    assert remove(repo, lost) == kept("new")


def test_a_file_that_changes_while_it_is_looked_for_is_kept(
    repo: Repository, lost: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost.write({"new": "n\n"})
    repo.commit({"new": "n\n"})
    search = elsewhere._searched

    def meanwhile(*given: Any) -> Iterator[set[elsewhere.Content]]:
        found = [*search(*given)]
        lost.write({"new": "newer\n"})
        return iter(found)

    monkeypatch.setattr(elsewhere, "_searched", meanwhile)

    removal = workspace.remove(place_of(lost), repo.path)

    assert removal == kept("new")
    assert (lost.path / "new").read_text() == "newer\n"


def test_a_submodule_keeps_it_also_without_its_files(repo: Repository, tmp_path: Path) -> None:
    part = made_by(tmp_path / "part", {"p": "p"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(part.path), "part")
    repo.git("commit", "--quiet", "-m", "part")
    lost = Repository(made(repo, tmp_path, 1).top)
    lost.git("-c", "protocol.file.allow=always", "submodule", "update", "--quiet", "--init")
    Repository(lost.path / "part").commit({"only": "here\n"})
    lost.git("submodule", "--quiet", "deinit", "--force", "part")
    assert lost.git("status", "--porcelain") == ""

    assert remove(repo, lost) == Removal(False, "it has the repository of a submodule")


def test_a_link_to_another_worktree_is_no_worktree(repo: Repository, lost: Repository) -> None:
    link = Repository(lost.path.with_name("t.0"))
    link.path.symlink_to(lost.path)

    assert remove(repo, link) == Removal(False, "it is a link")
    assert lost.git("status", "--porcelain") == ""


@contextlib.contextmanager
def as_somebody_else(*owned: Path) -> Iterator[None]:
    """Without root's right to read everything, if these tests have it; the folders become that user's."""
    if os.geteuid() != 0:
        yield
        return
    for folder in owned:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        for above in folder.parents:
            if not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["closed/new", "closed"])
def test_what_cannot_be_read_is_kept(
    repo: Repository, lost: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lost.write({"closed/new": "n\n"})
    repo.commit({"closed/new": "n\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (lost.path / name).chmod(0)
    with as_somebody_else(repo.path, tmp_path / "w"):
        removal = workspace.remove(place_of(lost), repo.path)
    (lost.path / name).chmod(0o755)

    assert not removal.removed
    assert "closed/" in removal.reason
    assert (lost.path / "closed/new").exists()
