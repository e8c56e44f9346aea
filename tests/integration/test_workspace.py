"""Worktrees of attempts: made, continued, collected and removed, with the user's checkout untouched."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue.errors import BadInput
from dispatch_queue.project import ensure, find
from dispatch_queue.record import Isolation
from tests.support.processes import processes_of
from tests.support.repository import Repository, made_by
from worker import git, provision, workspace
from worker.git import GitFailed
from worker.masking import Masker
from worker.workspace import Result, Workspace

FILES = {"a.txt": "a\n", "sub/b.txt": "b\n", ".gitignore": ".env\n*.log\nnode_modules/\n"}


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    repo = made_by(tmp_path / "repo", FILES)
    ensure(find(repo.path))
    return repo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "worktrees"


def make(repo: Repository, root: Path, attempt: int = 1, **given: Any) -> Workspace:
    given = {"project_id": "proj", "task_id": "task", **given}
    return workspace.worktree(given.pop("project", repo.path), root=root, attempt=attempt, **given)


def again(repo: Repository, root: Path, before: Workspace, attempt: int = 2, **given: Any) -> Workspace:
    return make(repo, root, attempt, branch=before.branch, base=before.base, **given)


def collect(made: Workspace, attempt: int = 1) -> Result:
    return workspace.collect(made, task_id="task", attempt=attempt)


def at(made: Workspace) -> Repository:
    return Repository(made.top)


# --- making ---


def test_the_first_attempt_gets_a_branch_at_the_users_commit(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    assert made == Workspace(
        path=root / "proj" / "task.1",
        isolation=Isolation.WORKTREE,
        top=root / "proj" / "task.1",
        branch="dispatch/task",
        base=repo.git("rev-parse", "HEAD"),
    )
    assert (made.path / "a.txt").read_text() == "a\n"
    assert at(made).git("rev-parse", "--abbrev-ref", "HEAD") == "dispatch/task"
    assert at(made).git("status", "--porcelain") == ""


def test_a_base_can_be_given(repo: Repository, root: Path) -> None:
    base = repo.git("rev-parse", "HEAD")
    repo.commit({"later": "l"})
    made = make(repo, root, base=base)
    assert made.base == base
    assert not (made.path / "later").exists()


def test_the_record_is_invisible_in_the_worktree_too(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).write({".dispatch/tasks/task/plan.md": "p"})
    assert at(made).git("status", "--porcelain", "--untracked-files=all") == ""
    assert collect(made) == Result(changed=False)


def dirty(repo: Repository) -> None:
    """Everything that a user may have under way."""
    repo.write({"a.txt": "staged\n", "stashed": "s"})
    repo.git("add", "stashed")
    repo.git("stash", "push", "--quiet", "--", "stashed")
    repo.git("add", "a.txt")
    repo.write({"a.txt": "unstaged\n", "untracked": "u", ".env": "secret", "x.log": "log"})


def merging(repo: Repository) -> None:
    """A merge with a conflict."""
    repo.git("checkout", "--quiet", "-b", "theirs")
    repo.commit({"a.txt": "theirs\n"})
    repo.git("checkout", "--quiet", "main")
    repo.commit({"a.txt": "ours\n"})
    repo.git("merge", "theirs", check=False)
    assert (repo.path / ".git" / "MERGE_HEAD").exists()


def detached(repo: Repository) -> None:
    repo.git("checkout", "--quiet", "--detach")
    dirty(repo)


@pytest.mark.parametrize("state", [dirty, merging, detached])
def test_a_whole_life_changes_nothing_in_the_users_checkout(repo: Repository, root: Path, state: Any) -> None:
    state(repo)
    repo.write({".worktreeinclude": ".env\n"})
    for name in ("post-checkout", "reference-transaction", "pre-commit", "post-commit"):
        hook = repo.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {repo.path}/hook-ran\nexit 1\n")
        hook.chmod(0o755)
    before = repo.picture()
    first = make(repo, root)
    at(first).write({"new": "n", "a.txt": "agent\n"})
    assert workspace.save(first) is not None
    second = again(repo, root, first)
    at(second).write({"more": "m"})
    result = collect(second, 2)
    assert workspace.remove(second, repo.path).removed
    assert repo.picture() == before
    assert result.commit == repo.git("rev-parse", "dispatch/task")
    assert repo.git("show", "dispatch/task:a.txt") == "agent"


def test_a_branch_of_an_older_task_with_the_same_id_is_left_alone(repo: Repository, root: Path) -> None:
    repo.git("branch", "dispatch/task")
    repo.git("branch", "dispatch/task-2/deeper")
    old = repo.git("rev-parse", "dispatch/task")
    made = make(repo, root)
    assert made.branch == "dispatch/task-3"
    at(made).commit({"x": "x"})
    assert repo.git("rev-parse", "dispatch/task") == old


def test_a_folder_of_an_older_task_with_the_same_id_is_left_alone(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).write({"unsaved": "u"})
    made = make(repo, root)
    assert made.path == root / "proj" / "task.1-2"
    assert (first.path / "unsaved").exists()
    assert not (made.path / "unsaved").exists()


def test_a_project_in_a_subfolder_gets_the_same_subfolder(repo: Repository, root: Path) -> None:
    project = repo.path / "sub"
    ensure(find(project))
    made = make(repo, root, project=project)
    assert (made.top, made.path) == (root / "proj" / "task.1", root / "proj" / "task.1" / "sub")
    assert (made.path / "b.txt").exists()
    at(made).write({"sub/.dispatch/tasks/task/plan.md": "p", "above": "a", "sub/new": "n"})
    assert workspace.save(made) is not None
    assert collect(made).changed
    assert set(repo.git("diff", "--name-only", "main", "dispatch/task").split()) == {"above", "sub/new"}
    assert workspace.remove(made, project).removed


def test_a_subfolder_that_is_not_in_the_commit_is_made(repo: Repository, root: Path) -> None:
    (repo.path / "fresh").mkdir()
    made = make(repo, root, project=repo.path / "fresh")
    assert made.path.is_dir()


def test_a_subfolder_that_is_a_link_in_the_commit_is_refused(repo: Repository, root: Path, tmp_path: Path) -> None:
    (repo.path / "out").symlink_to(tmp_path)
    repo.git("add", "out")
    repo.git("commit", "--quiet", "-m", "link")
    (repo.path / "out").unlink()
    (repo.path / "out").mkdir()
    refs = repo.git("for-each-ref")
    with pytest.raises(workspace.WorkspaceFailed, match="is a link"):
        make(repo, root, project=repo.path / "out")
    assert repo.git("for-each-ref") == refs
    assert list((root / "proj").iterdir()) == []


def test_without_a_commit_there_is_nothing_to_start_from(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    with pytest.raises(BadInput, match="no commit yet"):
        make(Repository(folder), root)


def test_an_unknown_base_is_told(repo: Repository, root: Path) -> None:
    with pytest.raises(BadInput, match="no commit ffff"):
        make(repo, root, base="f" * 40)


def test_outside_git_no_worktree_is_made(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    with pytest.raises(GitFailed, match="not a git repository"):
        make(Repository(folder), root)


def test_a_linked_worktree_a_submodule_and_a_bare_layout_can_be_projects(
    repo: Repository, root: Path, tmp_path: Path
) -> None:
    linked = Repository(tmp_path / "linked")
    repo.git("worktree", "add", "--quiet", "-b", "mine", str(linked.path))
    head = linked.commit({"mine": "m"})
    layout = tmp_path / "layout"
    layout.mkdir()
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(layout / ".bare"))
    (layout / ".git").write_text("gitdir: ./.bare\n")
    outer = made_by(tmp_path / "outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(repo.path), "part")
    for number, (project, base) in enumerate([(linked.path, head), (layout, None), (outer.path / "part", None)]):
        ensure(find(project))
        made = make(repo, root, project=project, task_id=f"task{number}")
        assert base in (None, made.base)
        at(made).write({"new": "n", ".dispatch/x": "x"})
        assert workspace.save(made) is not None
        second = again(repo, root, made, project=project, task_id=f"task{number}")
        assert (second.path / "new").read_text() == "n"
        assert collect(second).commits == 1
        assert workspace.remove(second, project) == workspace.Removal(True)
        assert not second.path.exists()


def test_many_at_once_on_one_repository(repo: Repository, root: Path) -> None:
    before = repo.picture()
    made: list[Workspace] = []
    failed: list[BaseException] = []
    barrier = threading.Barrier(6)

    def one(number: int) -> None:
        try:
            barrier.wait()
            mine = make(repo, root, task_id="same" if number < 3 else f"t{number}")
            at(mine).write({f"new{number}": "n"})
            workspace.save(mine)
            collect(mine)
            made.append(mine)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len({one.path for one in made}) == len({one.branch for one in made}) == 6
    assert {one.branch for one in made if "same" in one.path.name} == {
        "dispatch/same",
        "dispatch/same-2",
        "dispatch/same-3",
    }
    assert repo.picture() == before


def test_processes_at_once_on_one_repository(repo: Repository, root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from worker import workspace\n"
        "made = workspace.worktree(Path(sys.argv[1]), root=Path(sys.argv[2]), project_id='proj',"
        " task_id=sys.argv[3], attempt=1)\nprint(made.branch)"
    )
    words = [sys.executable, "-c", code, str(repo.path), str(root)]
    children = [subprocess.Popen([*words, name], stdout=subprocess.PIPE, text=True) for name in ("x", "x", "y", "z")]
    said = sorted(child.communicate()[0].strip() for child in children)
    assert said == ["dispatch/x", "dispatch/x-2", "dispatch/y", "dispatch/z"]


# --- the next attempt ---


def test_the_next_attempt_has_the_commits_and_the_uncommitted_files(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    done = at(first).commit({"done": "d"})
    at(first).write({"half": b"h\r\n\xff", "a.txt": "changed\n", "x.log": "ignored"})
    (first.path / "sub" / "b.txt").unlink()
    second = again(repo, root, first)
    assert (second.branch, second.base) == (first.branch, first.base)
    assert at(second).git("rev-parse", "HEAD") == done
    assert (second.path / "half").read_bytes() == b"h\r\n\xff"
    assert at(second).git("status", "--porcelain").splitlines() == [" M a.txt", " D sub/b.txt", "?? half"]
    assert not (second.path / "x.log").exists()
    assert (first.path / "half").exists()
    assert at(first).git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"


LOCKS = ["refs/heads/dispatch/task", "refs/dispatch/task/wip", "refs/dispatch/task/base", "worktrees/task.1/HEAD"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_a_killed_git_left_is_in_nobodys_way(repo: Repository, root: Path, lock: str) -> None:
    first = make(repo, root)
    workspace.save(first)
    at(first).write({"half": "h"})
    left = git.common_dir(repo.path) / f"{lock}.lock"
    left.touch()

    second = again(repo, root, first)

    assert (second.branch, (second.path / "half").read_text()) == (first.branch, "h")
    if "worktrees" in lock:
        left = left.parent.with_name("task.2") / left.name
    left.touch()
    collect(second, 2)
    assert repo.git("show", "dispatch/task:half") == "h"


def test_a_lock_that_somebody_holds_is_not_taken_away(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = git.common_dir(repo.path) / "refs/heads/other.lock"
    lock.touch()

    def another_one(_seconds: float) -> None:
        next_one = lock.with_name("next")
        next_one.touch()
        os.replace(next_one, lock)

    with monkeypatch.context() as patch:
        patch.setattr(git.time, "sleep", another_one)
        git.drop_stale_locks([lock])

    assert lock.exists()


def test_the_branch_is_found_by_the_older_worktree_alone(repo: Repository, root: Path) -> None:
    repo.git("branch", "dispatch/task")
    first = make(repo, root)
    at(first).git("checkout", "--quiet", "-b", "elsewhere")
    at(first).commit({"done": "d"})
    second = make(repo, root, 2)
    assert (second.branch, second.base) == ("dispatch/task-2", first.base)
    assert (second.path / "done").exists()


def test_the_older_agent_that_runs_on_cannot_move_the_branch(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    second = again(repo, root, first)
    at(first).commit({"late": "l"})
    assert repo.git("rev-parse", "dispatch/task") == at(second).git("rev-parse", "HEAD") == first.base


def test_without_the_older_worktree_the_snapshot_is_used(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).commit({"done": "d"})
    at(first).write({"half": "h"})
    workspace.save(first)
    shutil.rmtree(first.path)
    second = again(repo, root, first)
    assert (second.path / "half").read_text() == "h"
    assert (second.path / "done").exists()
    assert at(second).git("status", "--porcelain") == "?? half"
    third = again(repo, root, second, 3)
    assert (third.path / "half").read_text() == "h"


def test_a_snapshot_can_be_given(repo: Repository, root: Path) -> None:
    repo.write({"wip": "w"})
    index = {"GIT_INDEX_FILE": str(repo.path / ".git" / "other"), **os.environ}
    subprocess.run(["git", "add", "wip"], cwd=repo.path, env=index, check=True)
    tree = subprocess.check_output(["git", "write-tree"], cwd=repo.path, env=index, text=True).strip()
    made = make(repo, root, snapshot=repo.git("commit-tree", tree, "-p", "HEAD", "-m", "wip"))
    assert at(made).git("status", "--porcelain").splitlines() == [
        " D .gitignore",
        " D a.txt",
        " D sub/b.txt",
        "?? wip",
    ]


def test_commits_on_a_detached_head_are_continued(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).git("checkout", "--quiet", "--detach")
    tip = at(first).commit({"done": "d"})
    at(first).write({"half": "h"})
    second = again(repo, root, first)
    assert at(second).git("rev-parse", "HEAD", "dispatch/task").split() == [tip, tip]
    assert (second.path / "half").exists()


def test_a_worktree_in_a_conflict_is_continued(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).git("checkout", "--quiet", "--detach")
    other = at(first).commit({"a.txt": "theirs\n"})
    at(first).git("checkout", "--quiet", "dispatch/task")
    at(first).commit({"a.txt": "ours\n"})
    at(first).git("merge", other, check=False)
    second = again(repo, root, first)
    assert "<<<<<<<" in (second.path / "a.txt").read_text()


def test_a_half_made_worktree_is_not_continued(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).write({"half": "h"})
    workspace.save(first)
    second = again(repo, root, first)
    (git.git_dir(second.path) / "dispatch-complete").unlink()
    (second.path / "a.txt").unlink()
    third = again(repo, root, first, 3)
    assert (third.path / "a.txt").exists()
    assert (third.path / "half").exists()


def test_an_older_worktree_that_is_none_any_more_is_left_and_the_snapshot_used(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).write({"half": "h"})
    workspace.save(first)
    (first.path / ".git").unlink()
    subprocess.run(["git", "init", "--quiet"], cwd=first.path, check=True)
    second = again(repo, root, first)
    assert (second.path / "half").exists()
    assert (first.path / "half").exists()


def test_after_a_collected_attempt_nothing_old_comes_back(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    at(first).write({"draft": "d", "kept": "k"})
    workspace.save(first)
    (first.path / "draft").unlink()
    collect(first)
    assert workspace.remove(first, repo.path).removed
    second = again(repo, root, first)
    assert (second.path / "kept").exists()
    assert not (second.path / "draft").exists()
    assert at(second).git("status", "--porcelain") == ""


def test_a_branch_that_the_user_has_checked_out_is_left_to_the_user(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    tip = at(first).commit({"done": "d"})
    collect(first)
    workspace.remove(first, repo.path)
    repo.git("checkout", "--quiet", "dispatch/task")
    before = repo.picture()
    second = again(repo, root, first)
    assert second.branch == "dispatch/task-2"
    assert at(second).git("rev-parse", "HEAD") == tip
    at(second).write({"more": "m"})
    assert collect(second).commits == 2
    assert repo.picture() == before
    assert repo.git("rev-parse", "dispatch/task") == tip


def test_a_branch_that_the_user_deleted_begins_anew(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    collect(first)
    workspace.remove(first, repo.path)
    repo.git("branch", "--quiet", "-D", "dispatch/task")
    second = again(repo, root, first)
    assert (second.branch, at(second).git("rev-parse", "HEAD")) == ("dispatch/task", first.base)


def test_the_base_stays_when_the_user_commits_in_between(repo: Repository, root: Path) -> None:
    first = make(repo, root)
    repo.commit({"meanwhile": "m"})
    second = make(repo, root, 2, branch=first.branch)
    assert second.base == first.base


# --- what else a worktree gets ---


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_listed_files_are_copied_and_nothing_else(repo: Repository, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    repo.write({".worktreeinclude": ".env\nconf/*\n!conf/no\nlinks/\nlocal\n.dispatch/\nnested/\n", ".env": "e"})
    repo.write({"conf/yes": "y", "conf/no": "n", "x.log": "l", "local": "untracked", "links/real": "r"})
    (repo.path / "links" / "in").symlink_to("real")
    (repo.path / "links" / "out").symlink_to(outside)
    (repo.path / "links" / "up").symlink_to("../../secret")
    (repo.path / ".env").chmod(0o600)
    made_by(repo.path / "nested", {"inner": "i"})
    made = make(repo, root)
    assert (made.path / ".env").read_text() == "e"
    assert stat.S_IMODE((made.path / ".env").stat().st_mode) == 0o600
    assert names_in(made.path / "conf") == ["yes"]
    assert names_in(made.path / "links") == ["in", "real"]
    assert (made.path / "links" / "in").is_symlink()
    assert (made.path / "local").exists()
    assert not any((made.path / name).exists() for name in ("x.log", "nested", ".dispatch"))


def test_a_list_in_the_projects_subfolder_is_read_from_there(repo: Repository, root: Path) -> None:
    repo.write({"sub/.worktreeinclude": "/.env\n", "sub/.env": "e", ".env": "no"})
    made = make(repo, root, project=repo.path / "sub")
    assert (made.path / ".env").read_text() == "e"
    assert not (made.top / ".env").exists()


def test_copies_never_go_through_a_link_of_the_commit(repo: Repository, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo.path / "conf").symlink_to(outside)
    repo.git("add", "conf")
    repo.git("commit", "--quiet", "-m", "link")
    (repo.path / "conf").unlink()
    repo.write({".worktreeinclude": "conf/\n", "conf/x": "x"})
    make(repo, root)
    assert list(outside.iterdir()) == []


def setup(repo: Repository, text: str) -> Path:
    script = repo.path / ".dispatch" / "setup"
    script.write_text(text)
    script.chmod(0o755)
    return script


def run_setup(repo: Repository, made: Workspace, tmp_path: Path, timeout: timedelta = timedelta(minutes=1)) -> bool:
    environ = {**os.environ, "DISPATCH_TASK_ID": "task"}
    return provision.set_up(
        repo.path, made.path, environ=environ, output=tmp_path / "setup.log", masker=Masker(environ), timeout=timeout
    )


def test_setup_runs_in_the_workspace_with_its_environment(repo: Repository, root: Path, tmp_path: Path) -> None:
    made = make(repo, root)
    assert not run_setup(repo, made, tmp_path)
    setup(repo, "#!/bin/sh\necho hello; pwd > where; echo $DISPATCH_TASK_ID > task; echo oops >&2\n")
    assert run_setup(repo, made, tmp_path)
    assert (made.path / "where").read_text() == f"{made.path}\n"
    assert (made.path / "task").read_text() == "task\n"
    assert (tmp_path / "setup.log").read_text() == "hello\noops\n"


def test_a_failing_setup_is_told_with_its_last_lines(repo: Repository, root: Path, tmp_path: Path) -> None:
    setup(repo, "#!/bin/sh\nfor n in 1 2 3 4 5 6 7; do echo line $n; done; exit 3\n")
    with pytest.raises(provision.SetupFailed, match=r"(?s)exited 3: line 3.*line 7$") as raised:
        run_setup(repo, make(repo, root), tmp_path)
    assert raised.value.hint == f"less {tmp_path / 'setup.log'}"


def test_a_setup_that_hangs_is_ended_with_all_it_started(repo: Repository, root: Path, tmp_path: Path) -> None:
    setup(repo, "#!/bin/sh\ntrap '' TERM; setsid sleep 600 & yes | head -c 100000; exec >&-; sleep 600\n")
    made = make(repo, root)
    with pytest.raises(provision.SetupFailed, match="did not end within 1 s"):
        run_setup(repo, made, tmp_path, timedelta(seconds=1))
    assert processes_of(made.path) == []


def test_a_setup_that_is_a_link_or_not_executable_is_not_run(repo: Repository, root: Path, tmp_path: Path) -> None:
    made = make(repo, root)
    script = setup(repo, "#!/bin/sh\ntouch ran\n")
    script.chmod(0o644)
    assert not run_setup(repo, made, tmp_path)
    script.unlink()
    script.symlink_to("/bin/true")
    assert not run_setup(repo, made, tmp_path)


# --- the end ---


def test_leftovers_are_collected_on_the_branch(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).commit({"one": "1"})
    at(made).write({"two": "2"})
    result = collect(made)
    tip = repo.git("rev-parse", "dispatch/task")
    assert result == Result(commit=tip, commits=2, changed=True)
    assert repo.git("log", "-1", "--format=%s", tip) == "Leftovers of task task, attempt 1"
    assert collect(made) == result
    assert repo.git("for-each-ref", "refs/dispatch/task/wip") == ""


def test_commits_without_a_change_are_told_as_such(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).git("commit", "--quiet", "--allow-empty", "-m", "nothing")
    assert collect(made) == Result(commit=repo.git("rev-parse", "dispatch/task"), commits=1, changed=False)


def test_a_shared_checkout_is_never_committed_saved_or_removed(repo: Repository) -> None:
    repo.write({"new": "n"})
    before = repo.picture()
    made = workspace.shared(repo.path)
    assert (made.path, made.isolation, made.branch, made.base) == (repo.path, Isolation.SHARED, None, None)
    assert workspace.save(made) is None
    assert collect(made) == Result()
    assert not workspace.remove(made, repo.path).removed
    assert repo.picture() == before


def test_a_clean_worktree_is_removed_and_its_branch_stays(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).write({"new": "n", "x.log": "ignored", ".dispatch/tasks/task/plan.md": "p"})
    collect(made)
    assert workspace.remove(made, repo.path) == workspace.Removal(True)
    assert not made.path.exists()
    assert repo.git("worktree", "list").count("\n") == 0
    assert repo.git("show", "dispatch/task:new") == "n"
    assert workspace.remove(made, repo.path) == workspace.Removal(True)


def test_a_worktree_with_unsaved_work_is_kept_with_the_reason(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).write({"new": "n"})
    assert workspace.remove(made, repo.path) == workspace.Removal(False, "not committed: new")
    made_by(made.path / "cloned", {"inner": "i"})
    assert collect(made).files_left == ("cloned",)
    assert workspace.remove(made, repo.path).reason == "not committed: cloned/"
    assert (made.path / "cloned" / "inner").exists()


def test_a_worktree_whose_commit_is_nowhere_else_is_kept(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).git("checkout", "--quiet", "--detach")
    at(made).commit({"x": "x"})
    removal = workspace.remove(made, repo.path)
    assert not removal.removed
    assert "is on no branch" in removal.reason


def test_a_worktree_whose_git_file_is_gone_is_kept(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    (made.path / ".git").unlink()
    assert not workspace.remove(made, repo.path).removed
    assert (made.path / "a.txt").exists()


def test_a_worktree_that_became_a_repository_of_its_own_is_kept(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    (made.path / ".git").unlink()
    own = at(made)
    own.git("init", "--quiet")
    own.commit({"elsewhere": "e"})
    own.git("add", "--all")
    own.git("commit", "--quiet", "-m", "all")
    assert not workspace.remove(made, repo.path).removed


def test_a_worktree_whose_repository_is_gone_is_kept_with_the_reason(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    shutil.rmtree(repo.path / ".git")
    assert "not a git repository" in workspace.remove(made, repo.path).reason
    assert (made.path / "a.txt").exists()


def test_a_failing_checkout_leaves_nothing(repo: Repository, root: Path) -> None:
    repo.commit({".gitattributes": "a.txt filter=broken\n"})
    repo.git("config", "filter.broken.smudge", "false")
    repo.git("config", "filter.broken.required", "true")
    before = repo.git("for-each-ref"), repo.git("worktree", "list")
    with pytest.raises(GitFailed, match="smudge filter broken failed"):
        make(repo, root)
    assert (repo.git("for-each-ref"), repo.git("worktree", "list")) == before
    assert list((root / "proj").iterdir()) == []


def test_the_reason_names_a_few_of_many_files(repo: Repository, root: Path) -> None:
    made = make(repo, root)
    at(made).write({f"f{number}": "x" for number in range(8)})
    assert workspace.remove(made, repo.path).reason == "not committed: f0, f1, f2, f3, f4 and 3 more"
