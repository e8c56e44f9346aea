"""The clean-up on real repositories and a real server: what is not proven to be elsewhere stays."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import keys, registry
from dispatch_queue.change import step
from dispatch_queue.clock import SYSTEM
from dispatch_queue.home import dispatch_home, host_name
from dispatch_queue.locks import trying
from dispatch_queue.mirror import push, sync
from dispatch_queue.producer import Request, record_locally
from dispatch_queue.project import find
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from tests.support.repository import Repository, made_by
from worker import git, retire, workspace
from worker.janitor import LOCK, Janitor, clean
from worker.retention import Finding, Kind
from worker.settings import Settings
from worker.sweep import Scope
from worker.workspace import Workspace

S, E = State, Event
FILES = {"a.txt": "a\n", ".gitignore": "*.log\n"}
NOW = SYSTEM.now()
LATER = NOW + timedelta(days=31)
WORKER = "other-host:7"


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return made_by(tmp_path / "repo", FILES)


class Job:
    """A task with its home copy, what Redis knows of it, and the worktrees of its attempts."""

    def __init__(self, store: Store, base: Path, name: str = "fix", isolation: Isolation = Isolation.WORKTREE) -> None:
        request = Request(items=("one",), title=name, name=name, model="shell", backend="shell", isolation=isolation)
        made = record_locally(request, find(base), home=dispatch_home())
        self.store, self.home, self.ref = store, made.home, made.task.ref
        push(store, self.home, self.ref)

    def change(self, event: Event, **more: Any) -> int:
        changed = self.store.change(self.ref, step(event, at=at(NOW), by="w:1", **more))
        sync(self.store, self.home, self.ref)
        return changed.token

    def begin(self) -> Workspace:
        """Claim it and make a worktree."""
        self.token = self.change(E.CLAIM, claim=True, facts={"worker": WORKER}, fields={"worker": WORKER})
        standing = self.home.standing()
        return workspace.worktree(
            self.home.base,
            root=dispatch_home() / "worktrees",
            project_id=self.ref.project,
            task_id=self.ref.task,
            attempt=standing.attempt,
            branch=standing.branch or None,
        )

    def end(self, made: Workspace | None = None, event: Event = E.FINISH) -> None:
        facts = {"branch": made.branch or "", "commit": git.head(made.top) or ""} if made else {}
        self.change(event, token=self.token, facts=facts, fields={"worker": ""})

    def done(self) -> Workspace:
        """Claimed, worked in a worktree of its own, ended; the worktree is there and clean."""
        made = self.begin()
        Repository(made.top).commit({"work.txt": "w\n"})
        self.end(made)
        return made

    @property
    def is_known(self) -> bool:
        return self.store.record(self.ref) is not None


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def scope_of(store: Store, *, now: datetime = LATER, dry_run: bool = False, everywhere: bool = True) -> Scope:
    home = dispatch_home()
    return Scope(home, host_name(), store, now, registry.projects(home), everywhere, dry_run)


def cleaned(store: Store, keep_days: int = 30, **more: Any) -> list[Finding]:
    return list(clean(scope_of(store, **more), keep_days))


def by_kind(found: list[Finding], kind: Kind) -> list[Finding]:
    return [finding for finding in found if finding.kind is kind]


def only(found: list[Finding], kind: Kind) -> Finding:
    (finding,) = by_kind(found, kind)
    return finding


def picture(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and link below these folders with its time and content."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            facts = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (facts.st_mtime_ns, data)
    return found


# -- worktrees --------------------------------------------------------------------------------------------------------


def test_a_worktree_of_a_task_that_is_done_goes_and_its_branch_stays(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()

    assert only(cleaned(store, now=NOW), Kind.WORKTREE) == Finding(Kind.WORKTREE, str(made.top))

    assert not made.top.exists()
    assert not made.top.parent.exists()
    assert repo.git("worktree", "list").count("\n") == 0
    assert repo.git("show", "dispatch/fix:work.txt") == "w"


def dirty(at: Repository) -> None:
    at.write({"a.txt": "changed\n"})


def untracked(at: Repository) -> None:
    at.write({"new/deep.txt": "new\n"})


def staged(at: Repository) -> None:
    at.write({"a.txt": "changed\n"})
    at.git("add", "a.txt")


def detached(at: Repository) -> None:
    at.git("checkout", "--quiet", "--detach")
    at.commit({"only.txt": "here\n"})


def hidden(at: Repository) -> None:
    at.git("update-index", "--assume-unchanged", "a.txt")
    at.write({"a.txt": "changed\n"})


def skipped(at: Repository) -> None:
    at.git("update-index", "--skip-worktree", "a.txt")
    at.write({"a.txt": "changed\n"})


def nested(at: Repository) -> None:
    made_by(at.path / "inner", {"x": "x\n"})


def merging(at: Repository) -> None:
    at.git("branch", "side")
    at.commit({"more.txt": "m\n"})
    at.git("checkout", "--quiet", "side")
    at.git("merge", "--quiet", "--no-commit", "--no-ff", "-s", "ours", "dispatch/fix")


def own_ref(at: Repository) -> None:
    at.git("update-ref", "refs/worktree/mine", "HEAD")


def another_repository(at: Repository) -> None:
    (at.path / ".git").unlink()
    at.git("init", "--quiet")
    at.git("add", "--all")
    at.git("commit", "--quiet", "-m", "elsewhere")


def no_repository(at: Repository) -> None:
    (at.path / ".git").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        dirty,
        untracked,
        staged,
        detached,
        hidden,
        skipped,
        nested,
        merging,
        own_ref,
        another_repository,
        no_repository,
    ],
)
@pytest.mark.parametrize("of", ["done task", "task that is gone"])
def test_a_worktree_with_work_that_is_nowhere_else_is_kept_with_the_reason(
    store: Store, repo: Repository, spoil: Any, of: str
) -> None:
    job = Job(store, repo.path)
    made = job.done()
    spoil(Repository(made.top))
    if of == "task that is gone":
        shutil.rmtree(job.home.path)
        assert store.forget(job.ref, job.store.record(job.ref).seq)  # type: ignore[union-attr]
    before = picture(made.top)

    found = only(cleaned(store, now=NOW), Kind.WORKTREE)

    assert not found.removed
    assert found.name == str(made.top)
    assert str(made.top) in found.look
    assert picture(made.top) == before


def test_what_was_stashed_in_a_worktree_outlives_it(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()
    Repository(made.top).write({"a.txt": "stashed\n"})
    Repository(made.top).git("stash", "--quiet")

    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed

    assert repo.git("show", "stash@{0}:a.txt") == "stashed"


def test_ignored_files_do_not_keep_a_worktree(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()
    Repository(made.top).write({"x.log": "ignored\n"})

    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed


def test_a_file_that_is_hidden_from_git_and_unchanged_keeps_nothing(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()
    Repository(made.top).git("update-index", "--assume-unchanged", "a.txt")

    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed


@pytest.mark.parametrize("state", [S.RUNNING, S.ASKING, S.PARKED, S.QUEUED])
def test_a_clean_worktree_of_an_unfinished_task_is_kept(store: Store, repo: Repository, state: State) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    more: dict[str, Any] = {"token": job.token}
    if state is S.ASKING:
        job.change(E.ASK, facts={"question": 1, "text": "which?"}, fields={"questions": "1"}, **more)
    elif state is not S.RUNNING:
        job.change(E.PARK if state is S.PARKED else E.GIVE_BACK, **more)

    found = only(cleaned(store), Kind.WORKTREE)

    assert found.reason == f"its task is {state}"
    assert made.top.exists()


def test_a_worktree_whose_task_redis_knows_to_run_is_kept_though_its_directory_is_gone(
    store: Store, repo: Repository
) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    shutil.rmtree(job.home.path)

    found = cleaned(store)

    assert only(found, Kind.WORKTREE).reason == "its task is running"
    assert "an attempt is running" in only(found, Kind.REDIS).reason
    assert made.top.exists()
    assert job.is_known


def test_a_worktree_is_kept_while_a_live_worker_still_ends_its_agent(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    job.change(E.CANCEL)
    store.announce(WORKER, {"host": "other-host"})

    assert only(cleaned(store, now=NOW), Kind.WORKTREE).reason == f"{WORKER} has not given its task back yet"
    store.leave(WORKER)
    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed
    assert not made.top.exists()


def test_a_worktree_is_kept_while_a_process_works_in_it(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()
    (made.top / "logs").mkdir()
    with subprocess.Popen(["cat"], cwd=made.top / "logs", stdin=subprocess.PIPE) as process:
        assert only(cleaned(store, now=NOW), Kind.WORKTREE).reason == f"process {process.pid} works in it"
        assert process.stdin is not None
        process.stdin.close()
    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed


def test_worktrees_of_a_project_that_vanished_are_only_reported(store: Store, repo: Repository, tmp_path: Path) -> None:
    made = Job(store, repo.path).done()
    repo.path.rename(tmp_path / "moved")
    before = picture(made.top)

    found = cleaned(store)

    assert f"is not in {repo.path} any more" in only(found, Kind.WORKTREE).reason
    assert picture(made.top) == before
    assert by_kind(cleaned(store, everywhere=False), Kind.WORKTREE) == []


def test_a_folder_among_the_worktrees_that_is_not_ours_is_kept(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    foreign = dispatch_home() / "worktrees" / job.ref.project / "notes"
    foreign.mkdir(parents=True)

    assert "not made by dispatch" in only(cleaned(store), Kind.WORKTREE).reason
    assert foreign.exists()


def test_a_project_in_a_part_of_its_repository_is_cleaned_up_too(store: Store, repo: Repository) -> None:
    repo.commit({"part/x": "x\n"})
    (repo.path / "part/.dispatch").mkdir()
    made = Job(store, repo.path / "part").done()
    assert made.path == made.top / "part"
    Repository(made.path).write({".dispatch/tasks/fix/plan.md": "live copy\n"})

    assert only(cleaned(store, now=NOW), Kind.WORKTREE).removed
    assert not made.top.exists()


# -- refs -------------------------------------------------------------------------------------------------------------


def snapshot_of(made: Workspace, files: dict[str, str]) -> str:
    Repository(made.top).write(files)
    assert workspace.save(made) is not None
    assert made.branch is not None
    return workspace.snapshot_ref(made.branch)


def drop(job: Job, made: Workspace) -> None:
    """Take the task and its worktree away, as a user with `rm -rf` does."""
    shutil.rmtree(job.home.path)
    record = job.store.record(job.ref)
    assert record is not None
    job.store.forget(job.ref, record.seq, unfinished=True)
    git.remove_worktree(job.home.base, made.top)


def test_refs_of_a_task_that_is_gone_go_when_a_branch_has_their_content(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    snapshot_of(made, {"work.txt": "w\n"})
    Repository(made.top).commit({"work.txt": "w\n"})
    job.end(made)
    drop(job, made)

    found = cleaned(store)

    assert [finding.removed for finding in by_kind(found, Kind.REF)] == [True, True]
    assert repo.git("for-each-ref", "refs/dispatch") == ""
    assert repo.git("show", "dispatch/fix:work.txt") == "w"


def test_a_snapshot_with_the_only_copy_of_some_work_stays_whatever_became_of_its_task(
    store: Store, repo: Repository
) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    ref = snapshot_of(made, {"work.txt": "w\n"})
    job.end(made)
    drop(job, made)

    found = {finding.name.split()[0]: finding for finding in by_kind(cleaned(store), Kind.REF)}

    assert found[ref].reason == "what it holds is on no branch"
    assert ref in found[ref].look
    assert repo.git("show", f"{ref}:work.txt") == "w"
    assert found["refs/dispatch/fix/base"].removed


def test_a_base_that_is_on_no_branch_any_more_stays(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    made = job.done()
    drop(job, made)
    repo.git("branch", "--quiet", "-D", "dispatch/fix")
    repo.git("commit", "--quiet", "--amend", "-m", "Another start")

    assert only(cleaned(store), Kind.REF).reason == "what it holds is on no branch"
    assert repo.git("for-each-ref", "refs/dispatch") != ""


@pytest.mark.parametrize("state", [S.PARKED, S.DONE])
def test_refs_of_a_task_that_is_there_stay(store: Store, repo: Repository, state: State) -> None:
    job = Job(store, repo.path)
    made = job.begin()
    snapshot_of(made, {"a.txt": "a\n"})
    if state is S.PARKED:
        job.change(E.PARK, token=job.token)
    else:
        job.end(made)
    before = repo.git("for-each-ref", "refs/dispatch")

    assert by_kind(cleaned(store, now=NOW), Kind.REF) == []
    assert repo.git("for-each-ref", "refs/dispatch") == before


def test_refs_of_a_branch_with_a_number_belong_to_their_task(store: Store, repo: Repository) -> None:
    repo.git("branch", "dispatch/fix")
    job = Job(store, repo.path)
    made = job.done()
    assert made.branch == "dispatch/fix-2"

    assert by_kind(cleaned(store, now=NOW), Kind.REF) == []


def test_refs_of_a_task_in_another_checkout_of_the_repository_stay(
    store: Store, repo: Repository, tmp_path: Path
) -> None:
    Job(store, repo.path, "mine")
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"))
    other = Job(store, tmp_path / "second", "theirs")
    other.done()
    (dispatch_home() / "projects" / other.ref.project).unlink()  # known to another DISPATCH_HOME only
    store.forget(other.ref, store.record(other.ref).seq)  # type: ignore[union-attr]

    assert by_kind(cleaned(store), Kind.REF) == []
    assert "refs/dispatch/theirs/base" in repo.git("for-each-ref", "refs/dispatch")


# -- records ----------------------------------------------------------------------------------------------------------


def everything_of(store: Store, ref: Ref) -> list[str]:
    """Every key in Redis with the task's name in it, or in its members."""
    client = store._redis
    found = []
    for raw in client.keys("*"):  # type: ignore[union-attr]
        key = raw.decode()
        kind = client.type(key).decode()  # type: ignore[union-attr]
        members: Any = client.smembers(key) if kind == "set" else client.zrange(key, 0, -1) if kind == "zset" else ()
        if str(ref) in key or str(ref).encode() in members:
            found.append(key)
    return found


def test_the_record_of_a_task_that_ended_long_ago_goes_from_redis_and_from_the_disk(
    store: Store, repo: Repository
) -> None:
    job, young = Job(store, repo.path), Job(store, repo.path, "other")
    job.done()
    store.change(job.ref, step(E.RETRY, at=at(NOW), by="w:1"))
    job.begin()
    job.end()
    sync(store, job.home, job.ref)

    found = cleaned(store)

    assert [finding.name for finding in by_kind(found, Kind.RECORD)] == [str(job.home.path)]
    assert everything_of(store, job.ref) == []
    assert everything_of(store, young.ref) != []
    assert sorted(path.name for path in job.home.path.parent.iterdir()) == ["other"]
    assert repo.git("rev-parse", "--verify", "dispatch/fix")
    assert repo.git("for-each-ref", "refs/dispatch/fix") == ""


def test_a_record_stays_until_its_day(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    job.done()

    assert by_kind(cleaned(store, now=NOW + timedelta(days=29, hours=23)), Kind.RECORD) == []
    assert by_kind(cleaned(store, now=NOW + timedelta(days=3), keep_days=2), Kind.RECORD) != []
    assert not job.home.path.exists()


@pytest.mark.parametrize("event", [None, E.CLAIM, E.PARK])
def test_the_record_of_an_unfinished_task_is_never_removed(store: Store, repo: Repository, event: Event | None) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    if event is not None:
        token = job.change(E.CLAIM, claim=True, fields={"worker": WORKER})
        if event is E.PARK:
            job.change(E.PARK, token=token)

    assert by_kind(cleaned(store, keep_days=0, now=LATER + timedelta(days=999)), Kind.RECORD) == []
    assert job.home.exists()
    assert job.is_known


def test_the_record_stays_while_its_worktree_does(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    dirty(Repository(job.done().top))

    assert only(cleaned(store), Kind.RECORD).reason == "its worktree is kept: fix.1"
    assert job.home.exists()
    assert job.is_known


def test_the_record_of_work_that_is_on_no_branch_stays_until_it_is(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    made = job.done()
    tip = repo.git("rev-parse", "dispatch/fix")
    git.remove_worktree(repo.path, made.top)
    repo.git("branch", "--quiet", "-D", "dispatch/fix")

    assert "its branch dispatch/fix is gone" in only(cleaned(store), Kind.RECORD).reason
    assert job.home.exists()
    repo.git("merge", "--quiet", "--ff-only", tip)
    assert only(cleaned(store), Kind.RECORD).removed


def test_a_record_that_an_unfinished_task_waits_for_stays(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()
    request = Request(items=("x",), title="Later", model="shell", backend="shell", after=("fix",))
    record_locally(request, find(repo.path), home=dispatch_home())

    assert only(cleaned(store), Kind.RECORD).reason == "later waits for it"
    assert job.home.exists()


def test_a_record_is_kept_when_redis_knows_more_than_its_directory(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()
    store.change(job.ref, step(E.RETRY, at=at(NOW), by="w:1"))  # not brought home

    assert only(cleaned(store), Kind.RECORD).reason == "it is queued"
    assert job.home.exists()


class RetriesAtTheWorstMoment(Store):
    """A server that another command talks to just after it forgot a task."""

    def forget(self, ref: Ref, seq: int, *, unfinished: bool = False) -> bool | None:
        answer = super().forget(ref, seq, unfinished=unfinished)
        base = registry.path_of(dispatch_home(), ref.project)
        assert base is not None
        home = TaskDir(base, ref.task)
        from dispatch_queue.mirror import enroll

        enroll(self, home, ref, home.standing())
        return answer


def test_a_task_that_is_sent_again_while_its_record_goes_keeps_it(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()
    racing = RetriesAtTheWorstMoment(store.url)

    found = list(retire.records(scope_of(racing), 30))
    racing.close()

    assert only(found, Kind.RECORD).reason == "it was sent again just now"
    assert job.home.standing().state is S.DONE
    assert job.is_known


class DiesAfterForgetting(Store):
    """The clean-up's end, between its two steps."""

    def forget(self, ref: Ref, seq: int, *, unfinished: bool = False) -> bool | None:
        super().forget(ref, seq, unfinished=unfinished)
        raise KeyboardInterrupt


def test_a_clean_up_that_dies_between_redis_and_the_disk_leaves_a_whole_task(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()
    before = picture(job.home.path)
    dying = DiesAfterForgetting(store.url)

    with pytest.raises(KeyboardInterrupt):
        list(retire.records(scope_of(dying), 30))
    dying.close()

    assert not job.is_known
    assert picture(job.home.path) == before
    assert only(cleaned(store), Kind.RECORD).removed


def test_a_record_that_is_a_link_or_cannot_be_read_is_left_alone(
    store: Store, repo: Repository, tmp_path: Path
) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()
    job.home.path.rename(tmp_path / "elsewhere")
    job.home.path.symlink_to(tmp_path / "elsewhere")

    assert by_kind(cleaned(store), Kind.RECORD) == []
    assert (tmp_path / "elsewhere/task.yaml").exists()


# -- Redis and leftovers ----------------------------------------------------------------------------------------------


def test_redis_forgets_a_task_of_this_host_whose_directory_is_gone(store: Store, repo: Repository) -> None:
    queued, there = Job(store, repo.path, "gone"), Job(store, repo.path, "there")
    shutil.rmtree(queued.home.path)

    assert only(cleaned(store), Kind.REDIS).removed

    assert everything_of(store, queued.ref) == []
    assert there.is_known


def test_redis_keeps_tasks_of_other_hosts_and_of_projects_unknown_here(store: Store, repo: Repository) -> None:
    job, moved = Job(store, repo.path), Job(store, repo.path, "elsewhere")
    store._redis.hset(keys.record(moved.ref), "home", "other-host")
    shutil.rmtree(moved.home.path)
    (repo.path / ".dispatch/project.yaml").unlink()

    assert by_kind(cleaned(store), Kind.REDIS) == []
    assert job.is_known
    assert moved.is_known


def test_a_running_task_and_one_that_is_waited_for_are_not_forgotten(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path)
    job.begin()
    record = store.record(job.ref)
    assert record is not None
    assert store.forget(job.ref, record.seq, unfinished=True) is False
    job.end()
    record = store.record(job.ref)
    assert record is not None
    assert store.forget(job.ref, record.seq - 1) is False
    store._redis.sadd(f"{keys.FAMILIES['dependents']}{job.ref}", "p/later")
    assert store.forget(job.ref, record.seq) is False
    assert store.forget(Ref("p", "unknown"), 1) is None
    assert job.is_known


def test_half_made_files_go_after_a_while_and_nothing_else_does(store: Store, repo: Repository) -> None:
    job = Job(store, repo.path, isolation=Isolation.SHARED)
    tasks = job.home.path.parent
    old = [
        job.home.path / ".plan.md.0123456789ab.tmp",
        job.home.path / "ipc/.001.answer.0123456789ab.tmp",
        tasks / ".half.4711.making",
        tasks / ".half.0123456789ab.forgotten",
        dispatch_home() / "run/.config.checked.json.0123456789ab.tmp",
    ]
    kept = [job.home.path / ".plan.tmp", tasks / ".unsent", job.home.path / "ipc/.half.4711.making"]
    for path in (*old, *kept):
        path.parent.mkdir(exist_ok=True)
        if path.suffix in (".making", ".forgotten"):
            (path / "ipc").mkdir(parents=True)
        else:
            path.touch()
        os.utime(path, (0, 0))
    fresh = job.home.path / ".context.md.0123456789ab.tmp"
    fresh.touch()

    found = by_kind(cleaned(store, now=SYSTEM.now()), Kind.LEFTOVER)

    assert sorted(finding.name for finding in found) == sorted(map(str, old))
    assert all(not path.exists() for path in old)
    assert all(path.exists() for path in (*kept, fresh))


# -- the whole --------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, repo: Repository) -> None:
    job, worked, gone = Job(store, repo.path), Job(store, repo.path, "dirty"), Job(store, repo.path, "gone")
    job.done()
    dirty(Repository(worked.done().top))
    made = gone.done()
    drop(gone, made)
    orphan = Job(store, repo.path, "orphan")
    shutil.rmtree(orphan.home.path)
    (repo.path / ".dispatch/.project.yaml.0123456789ab.tmp").touch()
    folders = (repo.path, dispatch_home())
    before, known = picture(*folders), sorted(map(str, store.records()))

    told = cleaned(store, dry_run=True)

    assert picture(*folders) == before
    assert sorted(map(str, store.records())) == known
    assert {finding.kind for finding in told if finding.removed} == set(Kind)
    assert cleaned(store) == told
    assert cleaned(store) == [finding for finding in told if not finding.removed]


def settings_of(store: Store, keep_days: int | None) -> Settings:
    return Settings(
        home=dispatch_home(),
        host=host_name(),
        redis_url=store.url,
        slots=1,
        drain_seconds=1.0,
        quiet_seconds=1.0,
        keep_days=keep_days,
        min_free_mib=0,
    )


class At:
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


def test_a_worker_cleans_up_once_an_hour_and_removes_records_only_if_told(store: Store, repo: Repository) -> None:
    job, clock = Job(store, repo.path), At(LATER)
    made = job.done()

    Janitor(store, settings_of(store, None), clock=clock).look()

    assert not made.top.exists()
    assert job.home.exists()
    again = Janitor(store, settings_of(store, 30), clock=clock)
    again.look()
    assert job.home.exists()  # not an hour later
    clock.moment += timedelta(hours=1)
    again.look()
    assert not job.home.exists()


def test_two_clean_ups_of_a_host_never_run_at_once(store: Store, repo: Repository) -> None:
    made = Job(store, repo.path).done()
    (dispatch_home() / "run").mkdir(exist_ok=True)
    with trying(dispatch_home(), LOCK) as ours:
        assert ours
        os.utime(dispatch_home() / "run" / LOCK, (0, 0))
        Janitor(store, settings_of(store, None), clock=At(LATER)).look()
        told = run_janitor(store, "--all")
    assert "another clean-up runs" in told["error"]
    assert made.top.exists()
    assert [item["removed"] for item in run_janitor(store, "--all", "--keep-days", "1")["items"]] == [True]


def run_janitor(store: Store, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "worker.janitor", *words],
        env={**os.environ, "DISPATCH_REDIS_URL": store.url},
        capture_output=True,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_without_redis_nothing_is_decided(repo: Repository, store: Store, tmp_path: Path) -> None:
    made = Job(store, repo.path).done()
    away = Store(f"unix://{tmp_path}/no.sock?db=0")

    told = run_janitor(away, "--all")
    away.close()

    assert told["status"] == 69
    assert made.top.exists()


def test_a_project_that_is_no_repository_loses_only_what_is_due(store: Store, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    job = Job(store, tmp_path / "plain", isolation=Isolation.SHARED)
    job.token = job.change(E.CLAIM, claim=True)
    job.end()

    assert [finding.kind for finding in cleaned(store)] == [Kind.RECORD]
