"""A task in a git worktree: its branch has all of the work, and nothing of the user's checkout changes."""

import contextlib
import shutil
from pathlib import Path

import pytest

from dispatch_queue.change import Record
from dispatch_queue.embedded import server_url
from dispatch_queue.states import State
from dispatch_queue.store import Store
from tests.support.repository import Repository
from tests.support.tasks import (
    Gate,
    Project,
    agents_of,
    await_state,
    copy_of,
    do,
    journal,
    marks_of,
    result_of,
    state_of,
    submit,
    transcript,
    workspace_of,
)
from tests.support.waiting import wait_for

S = State

COMMIT = "Commit: `echo new > new.txt; git add new.txt; git commit --quiet --message 'Add new'`"
LEAVE = "Leave: `echo changed >> README.md; mkdir -p deep; echo left > deep/left.txt; rm doomed.txt`"
FILES = {"README.md": "# A project\n", "doomed.txt": "bye\n", ".gitignore": "*.local\n"}


@pytest.fixture
def project(box: Project) -> Project:
    box.make_repository(FILES)
    return box


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository(project.project)


def script(project: Project, text: str, *, mode: int = 0o755) -> Path:
    """The project's `.dispatch/setup`."""
    path = project.project / ".dispatch/setup"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def test_the_branch_has_the_agents_commits_and_then_what_it_left(project: Project) -> None:
    head = project.git("rev-parse", "HEAD")

    task = do(project, "--worktree", "--title", "Change it", items=(COMMIT, LEAVE))

    branch = f"dispatch/{task}"
    assert project.git("log", "--format=%s", f"{head}..{branch}").splitlines() == [
        f"Leftovers of task {task}, attempt 1",
        "Add new",
    ]
    assert sorted(project.git("diff", "--name-status", head, branch).splitlines()) == [
        "A\tdeep/left.txt",
        "A\tnew.txt",
        "D\tdoomed.txt",
        "M\tREADME.md",
    ]
    assert result_of(project, task)["commit"] == project.git("rev-parse", branch)
    assert project.run("status", task, "--json").json["branch"] == branch


def test_nothing_of_the_users_checkout_changes(project: Project, repository: Repository) -> None:
    repository.commit({"stashed.txt": "1\n"})
    repository.write({"stashed.txt": "2\n"})
    project.git("stash", "--quiet")
    repository.write({"staged.txt": "staged\n", "README.md": "# Half written\n", "untracked.txt": "mine\n"})
    project.git("add", "staged.txt")
    before = repository.picture()

    task = do(project, "--worktree", items=(COMMIT, LEAVE))

    assert repository.picture() == before
    assert project.git("show", f"dispatch/{task}:README.md") == "# A project\nchanged"


def test_the_users_own_changes_are_not_in_the_worktree(project: Project, repository: Repository) -> None:
    repository.write({"README.md": "# Half written\n", "untracked.txt": "mine\n"})

    task = do(project, "--worktree", items=("Look: `cat README.md; ls`",))

    said = transcript(project, task)
    assert "# A project" in said
    assert "Half written" not in said
    assert "untracked.txt" not in said


def test_the_worktree_is_gone_when_the_task_is_done(project: Project) -> None:
    task = do(project, "--worktree", items=(COMMIT,))

    wait_for(lambda: len(project.git("worktree", "list").splitlines()) == 1, "the worktree to be gone")
    assert not workspace_of(project, task).exists()


def test_a_task_that_changes_nothing_leaves_a_branch_at_its_base(project: Project) -> None:
    task = do(project, "--worktree", items=("Look: `ls`",))

    assert project.git("rev-parse", f"dispatch/{task}") == project.git("rev-parse", "HEAD")
    assert project.run("diff", task).stdout == ""


def test_the_record_is_not_committed_nor_seen_by_git(project: Project) -> None:
    task = do(project, "--worktree", items=('Report: `echo fine > "$DISPATCH_TASK_DIR/output.md"`', COMMIT))

    assert "dispatch" not in project.git("ls-tree", "-r", "--name-only", f"dispatch/{task}")
    assert project.git("status", "--porcelain", "--ignored") == "!! .dispatch/"
    assert project.git("diff", "HEAD", "--", ".gitignore") == ""
    assert (project.task(task) / "output.md").read_text() == "fine\n"


def test_a_second_attempt_goes_on_with_what_the_first_left_uncommitted(project: Project) -> None:
    items = (COMMIT, LEAVE, "ask: Go on?", "Look: `cat deep/left.txt; git log -1 --format=%s; ls`")
    task = submit(project, "--worktree", "--question-timeout", "1", items=items)
    await_state(project, task, S.PARKED)
    head = project.git("rev-parse", "HEAD")

    project.run("answer", task, "yes")

    await_state(project, task, S.DONE)
    said = transcript(project, task, 2).splitlines()
    assert "left" in said
    assert "new.txt" in said
    assert "doomed.txt" not in said
    assert project.git("merge-base", head, f"dispatch/{task}") == head
    assert sorted(project.git("diff", "--name-only", head, f"dispatch/{task}").split()) == [
        "README.md",
        "deep/left.txt",
        "doomed.txt",
        "new.txt",
    ]


def test_two_tasks_at_once_do_not_see_each_other(project: Project, tmp_path: Path) -> None:
    gates = [Gate(tmp_path / name) for name in ("a", "b")]
    tasks = [
        submit(
            project, "--worktree", "--title", gate.path.name, items=(f"Write: `echo {gate.path} > new.txt`", gate.item)
        )
        for gate in gates
    ]
    for task in tasks:
        wait_for(lambda task=task: marks_of(project, task) == "x_", "both to have written")  # type: ignore[misc]

    for gate in gates:
        gate.open()

    for task, gate in zip(tasks, gates, strict=True):
        await_state(project, task, S.DONE)
        assert project.git("show", f"dispatch/{task}:new.txt") == str(gate.path)


def test_a_branch_that_is_there_already_is_left_alone(project: Project) -> None:
    project.git("branch", "dispatch/same")

    task = do(project, "--worktree", "--title", "Same", items=(COMMIT,))

    assert task == "same"
    assert project.git("rev-parse", "dispatch/same") == project.git("rev-parse", "HEAD")
    assert project.run("status", task, "--json").json["branch"] == "dispatch/same-2"
    assert project.git("log", "-1", "--format=%s", "dispatch/same-2") == "Add new"


def test_a_prompt_that_asks_for_a_worktree_gets_one(project: Project) -> None:
    task = submit(project, "fix the login in a worktree", model="says_its_input")

    await_state(project, task, S.DONE)
    assert copy_of(project, task).task().isolation == "worktree"
    assert project.git("rev-parse", "--verify", f"dispatch/{task}")


def test_a_failed_task_keeps_its_work_on_its_branch(project: Project) -> None:
    task = submit(project, "--worktree", items=(LEAVE, "Fail: `false`"))
    await_state(project, task, S.FAILED)

    assert project.git("show", f"dispatch/{task}:deep/left.txt") == "left"
    assert "deep/left.txt" in project.run("diff", task, "--stat").stdout


def test_a_cancelled_task_keeps_its_work_on_its_branch(project: Project, gate: Gate) -> None:
    task = submit(project, "--worktree", items=(LEAVE, gate.item))
    wait_for(lambda: marks_of(project, task) == "x_", "the work")

    project.run("cancel", task)

    wait_for(lambda: journal(project, task)[-1].event == "stopped", "the worker's last word")
    assert project.git("show", f"dispatch/{task}:deep/left.txt") == "left"


@pytest.mark.parametrize("where", ["no repository", "no commit"])
def test_without_a_commit_there_is_no_worktree_and_nothing_is_written(box: Project, where: str) -> None:
    if where == "no commit":
        box.git("init", "--quiet")

    refused = box.run("submit", "-m", "shell", "--worktree", "--item", "Work: `true`", check=False)

    assert refused.code == 2
    assert "hint: " in refused.stderr
    assert not (box.project / ".dispatch").exists()


# -- what a worktree gets besides the commit --------------------------------------------------------------------------


def test_files_of_worktreeinclude_are_there_and_are_not_committed(project: Project, repository: Repository) -> None:
    repository.commit({".worktreeinclude": "*.local\n!not.local\n"})
    repository.write({"env.local": "SECRET=1\n", "not.local": "no\n", "deep/more.local": "2\n"})

    task = do(project, "--worktree", items=("Look: `cat env.local deep/more.local; ls; echo x > added.txt`",))

    said = transcript(project, task).splitlines()
    assert {"SECRET=1", "2", "env.local"} <= set(said)
    assert "not.local" not in said
    assert project.git("diff", "--name-only", "HEAD", f"dispatch/{task}") == "added.txt"


def test_setup_runs_in_the_worktree_before_the_agent_and_knows_the_task(project: Project) -> None:
    script(project, 'pwd > where.local; echo "$DISPATCH_TASK_ID $DISPATCH_ATTEMPT" >> where.local; echo installing')

    task = do(project, "--worktree", items=("Look: `cat where.local; pwd`",))

    place, ids = transcript(project, task).splitlines()[1:3]
    assert place == str(workspace_of(project, task))
    assert ids == f"{task} 1"
    assert "installing" in (project.task(task) / "attempts/1/setup.log").read_text()
    assert not (project.project / "where.local").exists()


def test_setup_runs_for_each_attempt_because_each_has_its_own_worktree(project: Project) -> None:
    script(project, 'echo "$DISPATCH_ATTEMPT" > which.local')
    task = submit(project, "--worktree", "--question-timeout", "1", items=("ask: Go on?", "Look: `cat which.local`"))
    await_state(project, task, S.PARKED)

    project.run("answer", task, "yes")

    await_state(project, task, S.DONE)
    assert "2" in transcript(project, task, 2).splitlines()


@pytest.mark.parametrize("case", ["shared", "not executable"])
def test_setup_does_not_run_in_a_shared_checkout_nor_unless_executable(project: Project, case: str) -> None:
    script(project, "touch ran.local", mode=0o644 if case == "not executable" else 0o755)

    task = do(project, "--shared" if case == "shared" else "--worktree", items=("Look: `ls -a`",))

    assert "ran.local" not in transcript(project, task)


def test_a_setup_that_fails_fails_the_task_before_an_agent_starts(project: Project) -> None:
    script(project, "echo no network >&2; exit 9")

    task = submit(project, "--worktree", items=("Work: `true`",))

    await_state(project, task, S.FAILED)
    reason = copy_of(project, task).standing().reason
    assert reason.startswith("start: .dispatch/setup exited 9: no network")
    assert "setup.log" in reason
    assert marks_of(project, task) == "_"
    assert not (project.task(task) / "attempts/1/agent.log").exists()
    assert "no network" in project.run("show", task).stdout
    assert project.run("wait", task, check=False).code == 1


def test_after_a_failed_setup_a_retry_starts_afresh(project: Project) -> None:
    script(project, "exit 9")
    task = submit(project, "--worktree", items=("Work: `true`",))
    await_state(project, task, S.FAILED)
    script(project, "exit 0")

    project.run("retry", task)

    await_state(project, task, S.DONE)


def test_a_cancel_ends_a_setup_that_runs(project: Project, gate: Gate) -> None:
    begun, ended = Path(f"{gate.path}.begun"), Path(f"{gate.path}.ended")
    script(project, f"touch '{begun}'; until [ -e '{gate.path}' ]; do sleep 0.02; done; touch '{ended}'")
    task = submit(project, "--worktree", items=("Work: `true`",))
    wait_for(begun.exists, "the setup to run")

    project.run("cancel", task)

    assert agents_of(project, task) == []
    assert state_of(project, task) is S.CANCELLED
    gate.open()
    assert not ended.exists()


@pytest.mark.parametrize(("verify", "end"), [((), S.DONE), (("--verify", "true"), S.FAILED)])
def test_a_task_whose_directory_was_removed_while_it_ran_is_not_made_again(
    project: Project, gate: Gate, verify: tuple[str, ...], end: State
) -> None:
    task = submit(project, "--worktree", "--name", "gone", *verify, items=("One: `true`", gate.item))
    home = copy_of(project, task)
    ref = home.task().ref
    with contextlib.closing(Store(server_url(project.home))) as store:

        def said() -> Record:
            record = store.record(ref)
            assert record is not None
            return record

        wait_for(lambda: home.standing().done == 1 and home.standing().seq == said().seq, "the first tick, at home")
        shutil.rmtree(home.path)
        gate.open()

        wait_for(lambda: said().state is end, f"Redis to say {end}")
    assert not home.path.exists()
    assert submit(project, "--name", task, items=("One: `true`",)) == task
    await_state(project, task, State.DONE)
