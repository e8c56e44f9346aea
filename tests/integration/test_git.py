"""Git children: their environment, the lock, commits of leftovers, snapshots and their way back."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.repository import Repository, below, fingerprint, made_by
from tests.support.waiting import wait_for
from worker import git, snapshots
from worker.git import GitFailed

LIMIT = 1_000_000
WIP = "refs/dispatch/task/wip"
BRANCH = "dispatch/task"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return made_by(tmp_path / "repo", {"a.txt": "a\n", "dir/b.txt": "b\n", ".gitignore": "*.log\n", "run.sh": "x\n"})


@pytest.fixture
def work(repo: Repository, tmp_path: Path) -> Repository:
    """A worktree on the task's branch."""
    path = tmp_path / "work"
    return added(repo, path)


def added(repo: Repository, path: Path, branch: str = BRANCH) -> Repository:
    git.add_worktree(repo.path, path, branch, repo.git("rev-parse", "HEAD"))
    git.check_out(path)
    return Repository(path)


def commit_all(work: Repository) -> snapshots.Commit | None:
    return snapshots.commit_all(work.path, "Leftovers\n", branch=BRANCH)


def snapshot(work: Repository, limit_bytes: int = LIMIT) -> snapshots.Commit | None:
    return snapshots.snapshot(work.path, WIP, "Work in progress", limit_bytes=limit_bytes)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): fingerprint(path) for path in below(folder) if not path.is_dir()}


def tree(repo: Repository, commit: str) -> list[str]:
    return repo.git("ls-tree", "-r", "--name-only", commit).splitlines()


# --- running git ---


def test_variables_of_a_hook_do_not_lead_git_astray(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, "/nowhere")
    assert git.top_level(repo.path) == repo.path
    assert git.head(repo.path) is not None


def test_a_failure_names_the_command_the_cause_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=r"git status failed .*not a git repository") as raised:
        git.run(["status"], tmp_path)
    assert raised.value.status == 128
    assert raised.value.hint


def test_a_stale_lock_is_named_in_the_hint(repo: Repository) -> None:
    lock = repo.path / ".git" / "refs" / "heads" / "x.lock"
    lock.touch()
    with pytest.raises(GitFailed) as raised:
        git.set_ref(repo.path, "refs/heads/x", repo.git("rev-parse", "HEAD"))
    assert raised.value.hint is not None
    assert f"rm {lock}" in raised.value.hint


def test_git_is_killed_with_its_children_when_it_takes_too_long(repo: Repository, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    repo.git("config", "alias.wait", f"!echo $$ > {pid_file}; sleep 600")
    with pytest.raises(GitFailed, match=r"did not end within 0\.5 s"):
        git.run(["wait"], repo.path, timeout=timedelta(seconds=0.5))

    def gone() -> bool:
        try:
            os.kill(int(pid_file.read_text()), 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(gone, "the alias to be gone")


def test_a_missing_git_is_told(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GitFailed, match="No such file"):
        git.run(["status"], repo.path)


def test_a_repository_without_a_commit_has_no_head(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert git.head(tmp_path) is None
    assert git.top_level(tmp_path) == tmp_path
    assert git.top_level(tmp_path / ".git") is None


def test_outside_a_repository_there_is_no_top_level(tmp_path: Path) -> None:
    assert git.top_level(tmp_path) is None


def test_the_lock_lets_one_in_at_a_time(repo: Repository) -> None:
    inside: list[int] = []
    most: list[int] = []

    def one(number: int) -> None:
        with git.locked(repo.path):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_killed_holder_of_the_lock_is_no_obstacle(repo: Repository) -> None:
    code = f"from worker import git; import pathlib, time\nwith git.locked(pathlib.Path({str(repo.path)!r})):\n"
    code += " print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with git.locked(repo.path):
        pass


def test_contains_knows_refs_and_nothing_else(repo: Repository) -> None:
    first = repo.git("rev-parse", "HEAD")
    second = repo.commit({"c": "c"})
    repo.git("reset", "--quiet", "--hard", first)
    assert git.contains(repo.path, first)
    assert not git.contains(repo.path, second)
    assert not git.contains(repo.path, "f" * 40)
    git.set_ref(repo.path, "refs/dispatch/x/wip", second)
    assert git.contains(repo.path, second)
    assert not git.contains(repo.path, second, ["refs/heads"])


def test_diff_is_a_patch_or_a_summary(repo: Repository) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.git("config", "diff.external", "false")
    repo.git("config", "color.ui", "always")
    second = repo.commit({"a.txt": "changed\n"})
    assert "+changed" in git.diff(repo.path, first, second).splitlines()
    assert git.diff(repo.path, first, second, stat=True).startswith(" a.txt |")


def test_a_worktree_that_cannot_be_made_leaves_nothing(repo: Repository, tmp_path: Path) -> None:
    before = repo.git("for-each-ref"), repo.git("worktree", "list")
    (tmp_path / "file").touch()
    with pytest.raises(GitFailed):
        git.add_worktree(repo.path, tmp_path / "file" / "below", "dispatch/x", repo.git("rev-parse", "HEAD"))
    assert (repo.git("for-each-ref"), repo.git("worktree", "list")) == before


def test_read_only_folders_do_not_stop_a_removal(repo: Repository, work: Repository) -> None:
    work.write({"cache/mod/file": "x"})
    (work.path / "cache" / "mod").chmod(0o555)
    git.remove_worktree(repo.path, work.path)
    assert not work.path.exists()
    assert str(work.path) not in repo.git("worktree", "list")


def test_a_branch_called_dispatch_is_told_with_the_way_out(repo: Repository, tmp_path: Path) -> None:
    repo.git("branch", "dispatch")
    with pytest.raises(GitFailed) as raised:
        git.add_worktree(repo.path, tmp_path / "w", BRANCH, repo.git("rev-parse", "HEAD"))
    assert raised.value.hint is not None
    assert "branch -m dispatch" in raised.value.hint


# --- leftovers ---


def test_leftovers_of_every_kind_are_committed(work: Repository) -> None:
    work.write({"new/[x] *?.txt": "n", ".dispatch/tasks/t/plan.md": "p", "x.log": "ignored", "-dash": "d"})
    (work.path / "a.txt").unlink()
    (work.path / "run.sh").chmod(0o755)
    (work.path / "link").symlink_to("/nowhere")
    (work.path / os.fsdecode(b"bad-\xff")).write_text("b")
    made = commit_all(work)
    assert made is not None
    assert made.left_out == ()
    names = work.git("-c", "core.quotePath=true", "ls-tree", "-r", "--name-only", made.id).splitlines()
    assert names == ["-dash", ".gitignore", '"bad-\\377"', "dir/b.txt", "link", "new/[x] *?.txt", "run.sh"]
    assert work.git("status", "--porcelain") == "?? .dispatch/"
    assert work.git("rev-parse", BRANCH) == made.id
    assert work.git("log", "-1", "--format=%s") == "Leftovers"
    assert work.git("ls-tree", made.id, "run.sh").startswith("100755")


def test_without_leftovers_there_is_no_commit(work: Repository) -> None:
    before = work.git("rev-parse", "HEAD")
    assert commit_all(work) is None
    assert work.git("rev-parse", BRANCH) == before


def test_what_was_staged_or_added_by_force_is_committed(work: Repository) -> None:
    work.write({"forced.log": "f", "a.txt": "staged\n"})
    work.git("add", "--force", "forced.log", "a.txt")
    work.write({"a.txt": "and changed\n"})
    made = commit_all(work)
    assert made is not None
    assert "forced.log" in tree(work, made.id)
    assert work.git("show", f"{made.id}:a.txt") == "and changed"


def test_a_file_in_place_of_a_folder_and_the_other_way_round(work: Repository) -> None:
    (work.path / "dir" / "b.txt").unlink()
    (work.path / "dir").rmdir()
    (work.path / "a.txt").unlink()
    work.write({"dir": "file", "a.txt/in": "folder"})
    made = commit_all(work)
    assert made is not None
    assert tree(work, made.id) == [".gitignore", "a.txt/in", "dir", "run.sh"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("commit.gpgsign", "true"),
        ("core.hooksPath", "hooks"),
        ("status.showUntrackedFiles", "no"),
        ("core.autocrlf", "true"),
        ("core.splitIndex", "true"),
        ("core.fsmonitor", "true"),
        ("user.useConfigOnly", "true"),
        ("core.untrackedCache", "true"),
        ("log.showSignature", "true"),
        ("core.quotePath", "true"),
    ],
)
def test_the_users_settings_do_not_stop_a_commit_or_a_snapshot(work: Repository, name: str, value: str) -> None:
    work.write({"hooks/pre-commit": "#!/bin/sh\nexit 1\n", "hooks/reference-transaction": "#!/bin/sh\nexit 1\n"})
    for hook in (work.path / "hooks").iterdir():
        hook.chmod(0o755)
    value = str(work.path / value) if value == "hooks" else value
    work.git("config", "gpg.program", "false")
    work.git("config", "core.safecrlf", "true")
    work.git("config", name, value)
    work.write({"mixed.txt": b"one\r\ntwo\n", "ünï.txt": "u"})
    saved, made = snapshot(work), commit_all(work)
    assert saved is not None
    assert made is not None
    assert {"mixed.txt", "ünï.txt"} <= set(work.git("ls-tree", "-r", "-z", "--name-only", made.id).split("\0"))
    assert snapshots.leftovers(work.path) == []


def test_without_an_identity_the_commit_is_ours(work: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    work.write({"new": "n"})
    made = commit_all(work)
    assert made is not None
    assert work.git("log", "-1", "--format=%an <%ae> %cn <%ce>", made.id) == " ".join(
        ["dispatch <dispatch@localhost>"] * 2
    )


def test_with_an_identity_the_commit_is_the_users(work: Repository) -> None:
    work.write({"new": "n"})
    made = commit_all(work)
    assert made is not None
    assert work.git("log", "-1", "--format=%an <%ae>", made.id) == "Test <test@example.invalid>"


def test_a_repository_within_is_left_out_and_told(work: Repository, tmp_path: Path) -> None:
    made_by(work.path / "cloned", {"inner": "i"})
    subprocess.run(["git", "init", "--quiet", str(work.path / "empty")], check=True)
    work.write({"new": "n"})
    made = commit_all(work)
    assert made is not None
    assert made.left_out == ("cloned", "empty")
    assert "new" in tree(work, made.id)
    assert snapshots.leftovers(work.path) == ["cloned/", "empty/"]


def test_a_repository_within_that_the_agent_added_is_still_told(work: Repository) -> None:
    made_by(work.path / "cloned", {"inner": "i"})
    work.git("-c", "advice.addEmbeddedRepo=false", "add", "cloned")
    commit_all(work)
    assert snapshots.leftovers(work.path) == ["cloned"]


def test_a_merge_under_way_is_committed_with_both_parents(work: Repository) -> None:
    start = work.git("rev-parse", "HEAD")
    work.git("checkout", "--quiet", "--detach")
    other = work.commit({"a.txt": "theirs\n"})
    work.git("checkout", "--quiet", BRANCH)
    ours = work.commit({"a.txt": "ours\n"})
    work.git("merge", other, check=False)
    assert work.git("ls-files", "--unmerged")
    saved = snapshot(work)
    assert saved is not None
    assert work.git("ls-files", "--unmerged")
    made = commit_all(work)
    assert made is not None
    assert work.git("log", "-1", "--format=%P", made.id).split() == [ours, other]
    assert "<<<<<<<" in work.git("show", f"{made.id}:a.txt")
    assert start != ours
    assert work.git("status", "--porcelain=v2", "--branch").splitlines()[1] == f"# branch.head {BRANCH}"
    assert snapshots.leftovers(work.path) == []


def test_commits_on_another_branch_come_onto_the_tasks_branch(repo: Repository, work: Repository) -> None:
    work.git("checkout", "--quiet", "-b", "feature")
    feature = work.commit({"f": "f"})
    work.write({"g": "g"})
    made = commit_all(work)
    assert made is not None
    assert {"f", "g"} <= set(tree(work, BRANCH))
    assert repo.git("rev-parse", "feature") == feature
    assert work.git("log", "-1", "--format=%P", BRANCH) == feature


def test_work_that_went_another_way_keeps_both_histories(work: Repository) -> None:
    tip = work.commit({"first": "1"})
    work.git("checkout", "--quiet", "--detach", "HEAD~1")
    at = work.commit({"second": "2"})
    work.write({"third": "3"})
    made = commit_all(work)
    assert made is not None
    assert git.is_ancestor(work.path, tip, made.id)
    assert git.is_ancestor(work.path, at, made.id)
    assert {"second", "third"} <= set(tree(work, made.id))
    assert snapshots.leftovers(work.path) == []


def test_looking_at_an_older_commit_undoes_nothing(work: Repository) -> None:
    tip = work.commit({"first": "1"})
    work.git("checkout", "--quiet", "--detach", "HEAD~1")
    assert commit_all(work) is None
    assert work.git("rev-parse", BRANCH) == tip
    work.write({"scribble": "s"})
    made = commit_all(work)
    assert made is not None
    assert "first" in tree(work, BRANCH)
    assert "scribble" in tree(work, f"{made.id}^2")
    assert snapshots.leftovers(work.path) == []


def test_a_rebase_that_stopped_half_way_loses_nothing(work: Repository) -> None:
    start = work.git("rev-parse", "HEAD")
    work.commit({"a.txt": "one\n"})
    tip = work.commit({"first": "1"})
    work.git("checkout", "--quiet", "--detach", start)
    onto = work.commit({"a.txt": "two\n"})
    work.git("checkout", "--quiet", BRANCH)
    work.git("rebase", onto, check=False)
    assert work.git("rev-parse", "HEAD") == onto
    made = commit_all(work)
    assert made is not None
    assert work.git("show", f"{BRANCH}:a.txt") == "one"
    assert git.is_ancestor(work.path, tip, BRANCH)
    assert git.is_ancestor(work.path, onto, BRANCH)


def test_an_orphan_branch_is_joined(work: Repository) -> None:
    tip = work.commit({"first": "1"})
    work.git("checkout", "--quiet", "--orphan", "fresh")
    made = commit_all(work)
    assert made is not None
    assert git.is_ancestor(work.path, tip, BRANCH)
    assert "first" in tree(work, BRANCH)


@pytest.mark.parametrize("data", [b"", b"DIRC garbage", None])
def test_a_broken_index_and_a_stale_lock_of_a_killed_agent_are_no_obstacle(
    work: Repository, data: bytes | None
) -> None:
    own = git.git_dir(work.path)
    if data is None:
        (own / "index").unlink()
    else:
        (own / "index").write_bytes(data)
    (own / "index.lock").touch()
    work.write({"new": "n"})
    saved, made = snapshot(work), commit_all(work)
    assert saved is not None
    assert made is not None
    assert tree(work, saved.id) == tree(work, made.id) == [".gitignore", "a.txt", "dir/b.txt", "new", "run.sh"]


def test_a_worktree_without_its_git_file_is_never_taken_for_the_repository_around_it(tmp_path: Path) -> None:
    outer = made_by(tmp_path / "outer")
    repo = made_by(outer.path / "repo")
    path = outer.path / "work"
    added(repo, path)
    (path / ".git").unlink()
    before = outer.git("for-each-ref")
    for keep in (commit_all, snapshot):
        with pytest.raises(GitFailed, match="no checkout any more"):
            keep(Repository(path))
    assert outer.git("for-each-ref") == before


# --- snapshots ---


def test_a_snapshot_has_everything_and_the_worktree_does_not_notice(work: Repository) -> None:
    work.write({"staged": "s", "x.log": "ignored", ".dispatch/tasks/t/plan.md": "p"})
    work.git("add", "staged")
    work.write({"staged": "s2", "new": "n"})
    (work.path / "a.txt").unlink()
    work.git("stash", "push", "--quiet", "--", "staged")
    work.write({"staged": "s3"})
    work.git("add", "--intent-to-add", "staged")
    before = work.picture()
    made = snapshot(work)
    assert made is not None
    assert work.picture() == before
    assert tree(work, made.id) == [".gitignore", "dir/b.txt", "new", "run.sh", "staged"]
    assert work.git("show", f"{made.id}:staged") == "s3"
    assert work.git("rev-parse", WIP, f"{WIP}^1").split() == [made.id, work.git("rev-parse", "HEAD")]


def test_nothing_new_makes_no_snapshot(work: Repository) -> None:
    work.write({"new": "n"})
    first = snapshot(work)
    assert first is not None
    assert snapshot(work) is None
    (work.path / "new").touch()
    assert snapshot(work) is None
    work.commit({"new": "n"})
    after_commit = snapshot(work)
    assert after_commit is not None
    assert work.git("rev-parse", f"{after_commit.id}^") == work.git("rev-parse", "HEAD")
    assert snapshot(work) is None


def test_large_files_are_left_out_and_told(work: Repository) -> None:
    work.write({"small": b"x" * 100, "large": b"x" * 101, "a.txt": b"y" * 101})
    made = snapshot(work, limit_bytes=100)
    assert made is not None
    assert made.left_out == ("a.txt", "large")
    assert "large" not in tree(work, made.id)
    assert work.git("show", f"{made.id}:a.txt") == "a"


def test_a_fifo_and_a_socket_do_no_harm(work: Repository) -> None:
    os.mkfifo(work.path / "fifo")
    (work.path / "a.txt").unlink()
    os.mkfifo(work.path / "a.txt")
    work.write({"new": "n"})
    made = snapshot(work)
    assert made is not None
    assert "new" in tree(work, made.id)
    assert made.left_out == ("a.txt",)


def test_a_snapshot_while_an_agent_writes_and_deletes(work: Repository) -> None:
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = work.path / f"churn-{number % 40}"
            path.write_text("x")
            (work.path / f"churn-{(number + 20) % 40}").unlink(missing_ok=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        work.write({"kept": "k"})
        made = [snapshot(work) for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    assert any(made)
    assert "kept" in tree(work, WIP)


@pytest.fixture
def second(repo: Repository, work: Repository, tmp_path: Path) -> Repository:
    """The worktree of the next attempt: the branch as it was at the beginning."""
    path = tmp_path / "second"
    return added(repo, path, "dispatch/second")


@pytest.mark.parametrize("autocrlf", ["false", "true", "input"])
def test_a_snapshot_comes_back_byte_for_byte_and_uncommitted(
    work: Repository, second: Repository, autocrlf: str
) -> None:
    work.git("config", "core.autocrlf", autocrlf)
    work.write({"dos.txt": b"a\r\nb\r\n", "mixed": b"a\r\nb\n", "bin": bytes(range(256)), "deep/er/x": "x"})
    work.write({"a.txt": b"changed\r\n", "sp ace\n": "newline"})
    (work.path / "dir" / "b.txt").unlink()
    (work.path / "dir").rmdir()
    (work.path / "run.sh").chmod(0o755)
    (work.path / "link").symlink_to("a.txt")
    made = snapshot(work)
    assert made is not None
    head = second.git("rev-parse", "HEAD")
    assert snapshots.restore(second.path, made.id) == ()
    assert content(second.path) == content(work.path)
    assert not (second.path / "dir").exists()
    assert second.git("rev-parse", "HEAD") == head
    assert second.git("diff", "--cached") == ""


def test_kinds_that_changed_come_back(work: Repository, second: Repository) -> None:
    (work.path / "dir" / "b.txt").unlink()
    (work.path / "dir").rmdir()
    (work.path / "dir").symlink_to("/tmp")
    (work.path / "a.txt").unlink()
    work.write({"a.txt/in": "folder"})
    made = snapshot(work)
    assert made is not None
    snapshots.restore(second.path, made.id)
    assert content(second.path) == content(work.path)


def test_what_was_committed_after_the_snapshot_is_not_overwritten(work: Repository, second: Repository) -> None:
    work.write({"a.txt": "half\n", "run.sh": "half\n"})
    made = snapshot(work)
    assert made is not None
    second.commit({"a.txt": "whole\n"})
    assert snapshots.restore(second.path, made.id) == ("a.txt",)
    assert (second.path / "a.txt").read_text() == "whole\n"
    assert (second.path / "run.sh").read_text() == "half\n"


def test_restoring_never_deletes_through_a_link(work: Repository, second: Repository, tmp_path: Path) -> None:
    (work.path / "dir" / "b.txt").unlink()
    made = snapshot(work)
    assert made is not None
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("keep")
    (second.path / "dir" / "b.txt").unlink()
    (second.path / "dir").rmdir()
    (second.path / "dir").symlink_to(outside)
    snapshots.restore(second.path, made.id)
    assert (outside / "b.txt").read_text() == "keep"


def test_in_a_submodule_everything_works_the_same(repo: Repository, tmp_path: Path) -> None:
    part = made_by(tmp_path / "part", {"p": "p"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(part.path), "part")
    inner = Repository(repo.path / "part")
    before = inner.picture()
    path = tmp_path / "work"
    work = added(inner, path)
    work.write({"new": "n"})
    assert snapshot(work) is not None
    made = commit_all(work)
    assert made is not None
    assert tree(inner, BRANCH) == ["new", "p"]
    assert inner.picture() == before
    git.remove_worktree(inner.path, path)
    assert inner.picture() == before


def test_a_submodule_checked_out_in_the_worktree_counts_as_left(repo: Repository, tmp_path: Path) -> None:
    part = made_by(tmp_path / "part", {"p": "p"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(part.path), "part")
    repo.git("commit", "--quiet", "-m", "part")
    work = added(repo, tmp_path / "work")
    assert snapshots.leftovers(work.path) == []
    work.git("-c", "protocol.file.allow=always", "submodule", "update", "--quiet", "--init")
    (work.path / "part" / "p").write_text("changed")
    assert snapshot(work) is not None
    commit_all(work)
    assert snapshots.leftovers(work.path) == ["part"]
