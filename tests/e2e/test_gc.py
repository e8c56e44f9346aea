"""`dispatch gc`: what is proven to be elsewhere goes, work that is not never does, and a full disk begins nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue.states import State
from tests.support.repository import Repository
from tests.support.sandbox import Sandbox
from tests.support.tasks import (
    Gate,
    Project,
    agents_of,
    await_state,
    configure,
    copy_of,
    do,
    journal,
    marks_of,
    state_of,
    states_of,
    submit,
    workspace_of,
)
from tests.support.waiting import wait_for

S = State
MIB = 1024 * 1024
WORK = "Work: `echo new > new.txt; git add new.txt; git commit --quiet --message 'Add new'`"


@pytest.fixture
def project(box: Project) -> Project:
    box.make_repository({"README.md": "# A project\n", ".gitignore": "*.local\n"})
    return box


def failed_with_worktree(project: Project) -> Repository:
    """A task that failed; what it did is on its branch, and its worktree is there."""
    task = submit(project, "--worktree", items=(WORK, "Fail: `false`"))
    await_state(project, task, S.FAILED)
    place = Repository(workspace_of(project, task))
    assert place.path.exists()
    return place


def picture(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below these folders, with its time and content; not what server and worker write all the time."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (path.lstat().st_mtime_ns, data)
    return found


def test_a_worktree_whose_work_is_on_its_branch_goes_and_the_branch_stays(project: Project) -> None:
    place = failed_with_worktree(project)

    printed = project.run("gc")

    assert printed.stdout == f"removed  worktree  {place.path}\n"
    assert printed.stderr.endswith("1 worktree removed\n")
    assert not place.path.exists()
    assert project.git("show", f"dispatch/{place.path.name.partition('.')[0]}:new.txt") == "new"
    assert len(project.git("worktree", "list").splitlines()) == 1
    assert project.run("gc").stdout == ""


def dirty(place: Repository) -> None:
    place.write({"README.md": "# Changed\n"})


def untracked(place: Repository) -> None:
    place.write({"deep/only.txt": "only here\n"})


def detached(place: Repository) -> None:
    place.git("checkout", "--quiet", "--detach")
    place.commit({"only.txt": "only here\n"})


@pytest.mark.parametrize(("spoil", "look"), [(dirty, "status"), (untracked, "status"), (detached, "log --oneline -5")])
def test_a_worktree_with_work_that_is_nowhere_else_is_never_removed(project: Project, spoil: object, look: str) -> None:
    place = failed_with_worktree(project)
    assert callable(spoil)
    spoil(place)
    before = picture(place.path)

    for words in (("gc",), ("gc", "--keep-days", "0"), ("gc", "--dry-run")):
        printed = project.run(*words)
        assert f"worktree  {place.path}: " in printed.stdout
        assert printed.stdout.startswith(("kept", "would" if "record" in printed.stdout else "kept"))
        assert f"git -C {place.path} {look}" in printed.stdout

    assert picture(place.path) == before
    task = place.path.name.partition(".")[0]
    assert copy_of(project, task).exists()


def test_a_stash_made_in_a_worktree_is_there_after_it_went(project: Project) -> None:
    place = failed_with_worktree(project)
    place.write({"README.md": "# Stashed\n"})
    place.git("stash", "--quiet")

    project.run("gc")

    assert project.git("show", "stash@{0}:README.md") == "# Stashed"


@pytest.mark.parametrize("end", ["done", "failed"])
def test_the_worktree_of_a_killed_attempt_goes_when_the_next_has_brought_its_files_home(
    sandbox: Sandbox, redis_url: str, gate: Gate, end: str
) -> None:
    sandbox.make_repository()
    configure(sandbox)
    sandbox.env["DISPATCH_REDIS_URL"] = redis_url
    first = sandbox.start("worker")
    last = "Look: `ls`" if end == "done" else "Fail: `false`"
    task = submit(sandbox, "--worktree", items=("Write: `echo 1 > f1; echo 2 > f2`", gate.item, last))
    wait_for(lambda: marks_of(sandbox, task) == "x__", "the files")
    killed = workspace_of(sandbox, task)

    first.kill()
    wait_for(lambda: not agents_of(sandbox, task), "its agent to be ended")
    gate.open()
    second = sandbox.start("worker")
    await_state(sandbox, task, S(end))

    if end == "failed":
        assert Repository(killed).git("status", "--porcelain").splitlines() == ["?? f1", "?? f2"]
        told = sandbox.run("gc", "--dry-run", "--json").json["items"]
        assert [(item["name"], item["reason"]) for item in told] == [
            (str(killed), ""),
            (str(workspace_of(sandbox, task)), ""),
        ]
        assert killed.exists()
        assert sandbox.run("gc", "--json").json["items"] == told
    wait_for(lambda: len(sandbox.git("worktree", "list").splitlines()) == 1, "both worktrees to be gone")
    assert not killed.exists()
    assert sandbox.git("show", f"dispatch/{task}:f1", f"dispatch/{task}:f2").split() == ["1", "2"]
    assert copy_of(sandbox, task).standing().attempt == 2
    second.stop()


def test_a_dry_run_changes_nothing(project: Project) -> None:
    place = failed_with_worktree(project)
    done = do(project, items=("Look: `ls`",))
    shown = [project.project, place.path, project.home / "projects", project.home / "worktrees"]
    before = picture(*shown)

    told = project.run("gc", "--dry-run", "--keep-days", "0", "--json").json

    assert picture(*shown) == before
    assert told["dry_run"] is True
    assert {(item["kind"], item["removed"]) for item in told["items"]} == {
        ("worktree", True),
        ("record", True),
        ("ref", True),
    }
    assert str(copy_of(project, done).path) in [item["name"] for item in told["items"]]
    assert project.run("gc", "--keep-days", "0", "--json").json["items"] == told["items"]
    assert project.run("ls", "--json").json == []


def test_nothing_of_a_task_that_runs_or_waits_for_an_answer_is_touched(project: Project, gate: Gate) -> None:
    running = submit(project, "--worktree", "--title", "Running", items=(WORK, gate.item))
    parked = submit(
        project, "--worktree", "--title", "Parked", "--question-timeout", "1", items=(WORK, "ask: Go on?", "Look: `ls`")
    )
    await_state(project, parked, S.PARKED)
    wait_for(lambda: marks_of(project, running) == "x_", "the other to work")

    items = project.run("gc", "--keep-days", "0", "--json").json["items"]

    assert sorted(item["reason"] for item in items) == ["its task is parked", "its task is running"]
    gate.open()
    project.run("answer", parked, "yes")
    for task in (running, parked):
        await_state(project, task, S.DONE)
        assert project.git("show", f"dispatch/{task}:new.txt") == "new"


def test_records_go_by_age_and_a_new_task_may_have_the_name(project: Project) -> None:
    task = do(project, "--title", "Look", items=("Look: `ls`",))

    assert project.run("gc").stdout == ""
    project.run("gc", "--keep-days", "0")

    assert not project.task(task).exists()
    assert do(project, "--title", "Look", items=("Look: `ls`",)) == task
    assert states_of(project, task)[0] is S.QUEUED


def test_gc_cleans_the_project_it_stands_in_unless_told_otherwise(project: Project, tmp_path: Path) -> None:
    place = failed_with_worktree(project)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".git").mkdir(parents=True)
    (elsewhere / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (elsewhere / ".dispatch").mkdir()
    (elsewhere / ".dispatch/project.yaml").write_text("id: elsewhere-123456\n")

    assert project.run("gc", cwd=elsewhere).stdout == ""
    assert place.path.exists()
    assert str(place.path) in project.run("gc", "--all", cwd=elsewhere).stdout


def test_without_its_server_a_dry_run_says_so_and_looks_at_nothing(sandbox: Sandbox) -> None:
    refused = sandbox.run("gc", "--dry-run", check=False)

    assert refused.code == 69
    assert "dispatch up" in refused.stderr


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(sandbox: Sandbox) -> Iterator[Path]:
    """The sandbox's project on a file system of 16 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(sandbox.project)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield sandbox.project
    finally:
        sandbox.run("down", check=False)
        subprocess.run(["umount", "--lazy", str(sandbox.project)], check=True)


def test_a_full_disk_begins_no_attempt_says_so_and_ends_none_that_runs(
    sandbox: Sandbox, small_disk: Path, gate: Gate
) -> None:
    configure(sandbox, worker={"min_free_mib": 8})
    running = submit(sandbox, "--title", "Running", items=("First: `true`", gate.item))
    wait_for(lambda: marks_of(sandbox, running) == "x_", "it to run")
    (small_disk / "fill").write_bytes(b"x" * 12 * MIB)

    waiting = submit(sandbox, "--title", "Waiting", items=("Work: `true`",))

    reason = wait_for(lambda: copy_of(sandbox, waiting).standing().reason, "the reason")
    assert reason.startswith("no space: ")
    assert reason.endswith(f" MiB left on {small_disk}, the floor is 8 MiB")
    assert state_of(sandbox, waiting) is S.QUEUED
    assert reason in sandbox.run("ls").stdout
    assert state_of(sandbox, running) is S.RUNNING
    gate.open()
    await_state(sandbox, running, S.DONE)

    (small_disk / "fill").unlink()

    await_state(sandbox, waiting, S.DONE)
    assert [entry.event for entry in journal(sandbox, waiting)].count("delay") == 1
    assert copy_of(sandbox, waiting).standing().attempt == 1
