"""The home copy and Redis: what is said on one side arrives on the other, once, whatever dies in between."""

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import homemirror, keys, plan, producer
from dispatch_queue.change import Change, Changed, Pulled, Record, step, write_questions
from dispatch_queue.errors import Refused, StoreDown
from dispatch_queue.home import dispatch_home, host_name
from dispatch_queue.homemirror import HomeMirror
from dispatch_queue.locks import MIRROR, is_held, trying
from dispatch_queue.mirror import publish_answer, publish_note, push, reconcile, settled, sync
from dispatch_queue.producer import Request, record_locally
from dispatch_queue.project import Project
from dispatch_queue.record import Entry, Isolation, Ref, draft
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import JOURNAL, PLAN
from tests.support.server import Server, start_server
from tests.support.waiting import wait_for

S, E = State, Event
AT = "2026-11-23T12:00:00.000Z"
WORKER = "other-host:7"


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


class Job:
    """A task with its home copy, and what a worker elsewhere says of it."""

    def __init__(self, store: Store, project: Path, name: str, isolation: Isolation, *, known: bool = True) -> None:
        request = Request(
            items=("one", "two"), title=name, name=name, model="shell", backend="shell", isolation=isolation
        )
        made = record_locally(request, Project(project, None), home=dispatch_home())
        self.store, self.home, self.ref = store, made.home, made.task.ref
        self.token = 0
        if known:
            push(store, self.home, self.ref)

    @property
    def record(self) -> Record:
        found = self.store.record(self.ref)
        assert found is not None
        return found

    def claim(self) -> None:
        facts = {"worker": WORKER, "host": "other-host"}
        taken = self.change(E.CLAIM, claim=True, facts=facts, fields={"worker": WORKER})
        self.token = taken.token

    def change(self, event: Event, **more: Any) -> Changed:
        return self.store.change(self.ref, step(event, at=AT, by="w:1", **more))

    def publish(self, event: str = "tick", contents: dict[str, bytes] | None = None, **facts: Any) -> None:
        entry = draft(event, at=AT, by="w:1", **facts)
        self.store.change(self.ref, Change(entries=[entry], token=self.token, files=contents or {}))

    def ask(self, number: int) -> None:
        questions = write_questions(sorted({*self.record.questions, number}))
        self.change(
            E.ASK,
            token=self.token,
            stay=frozenset({S.ASKING}),
            facts={"question": number, "text": "which?"},
            reason=f"question {number}",
            fields={"questions": questions},
            files={f"ipc/{number:03d}.question": b"which?\n"},
        )

    def park(self) -> None:
        self.change(E.PARK, token=self.token, fields={"worker": ""})

    def tickets(self) -> int:
        return len(self.store.tickets(self.record.queue))

    def sync(self) -> Any:
        return sync(self.store, self.home, self.ref)

    def notes(self) -> list[str]:
        return plan.notes_in(self.home.read(PLAN))

    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.home.entries()]

    def events(self) -> list[str]:
        return [entry.event for entry in self.home.entries()]


@pytest.fixture(params=Isolation)
def job(store: Store, project: Path, request: pytest.FixtureRequest) -> Job:
    """In both isolations."""
    return Job(store, project, "a-job", request.param)


@pytest.fixture
def far(store: Store, project: Path) -> Job:
    """In a worktree: the live copy is elsewhere."""
    return Job(store, project, "far", Isolation.WORKTREE)


@pytest.fixture
def near(store: Store, project: Path) -> Job:
    """In the checkout: the home copy is the live one."""
    return Job(store, project, "near", Isolation.SHARED)


TICKED = b"# a-job\n\n- [x] one\n- [ ] two\n"


def test_a_task_that_only_files_know_is_told_to_redis_once(store: Store, project: Path) -> None:
    job = Job(store, project, "fresh", Isolation.SHARED, known=False)
    assert store.record(job.ref) is None

    for _ in range(3):
        push(store, job.home, job.ref)

    assert (job.record.state, job.record.total, job.tickets()) == (S.QUEUED, 2, 1)
    assert sync(store, job.home, job.ref).state is S.QUEUED
    assert job.seqs() == [1]


def test_what_a_worker_publishes_comes_home_in_its_order(far: Job) -> None:
    far.claim()
    far.publish(contents={"plan.md": TICKED}, item=1, mark="x", text="one", done=1, total=2)
    far.publish("note-of-mine", {"output.md": b"a report", "context.md": b"what I know"})
    far.change(E.FINISH, token=far.token)

    standing = far.sync()

    assert (standing.state, standing.done, standing.total, standing.attempt) == (S.DONE, 1, 2, 1)
    assert far.events() == ["submit", "claim", "tick", "note-of-mine", "finish"]
    assert far.seqs() == [1, 2, 3, 4, 5]
    assert [far.home.read(name) for name in ("plan.md", "output.md", "context.md")] == [
        TICKED,
        b"a report",
        b"what I know",
    ]


def test_bringing_home_again_changes_nothing(job: Job) -> None:
    job.claim()
    job.ask(1)
    job.publish(contents={"output.md": b"x"})
    publish_note(job.store, job.ref, "a note")
    job.sync()
    before = {path: path.read_bytes() for path in sorted(job.home.path.rglob("*")) if path.is_file()}

    for _ in range(3):
        job.sync()
        push(job.store, job.home, job.ref)

    assert {path: path.read_bytes() for path in sorted(job.home.path.rglob("*")) if path.is_file()} == before


def test_in_the_checkout_the_agents_own_file_is_newer_than_what_was_published_of_it(near: Job) -> None:
    near.claim()
    near.publish(contents={"plan.md": b"- [ ] old\n", "output.md": b"old"})
    (near.home.path / "plan.md").write_bytes(TICKED)

    near.sync()

    assert near.home.read(PLAN) == TICKED
    assert not (near.home.path / "output.md").exists()


@pytest.mark.parametrize(
    "name", ["task.yaml", "journal.jsonl", "attempts/1/agent.log", "../../escaped", "ipc/1.answer", "x"]
)
def test_a_file_outside_the_table_is_not_brought_home(far: Job, name: str) -> None:
    before = far.home.read("task.yaml")
    far.claim()
    far.publish(contents={name: b"forged\n"})

    far.sync()

    assert far.home.read("task.yaml") == before
    assert [path for path in far.home.base.rglob("*") if path.is_file() and path.read_bytes() == b"forged\n"] == []


# -- answers ----------------------------------------------------------------------------------------------------------


def answer_by_hand(job: Job, number: int, text: str) -> None:
    (job.home.path / f"ipc/{number:03d}.answer").write_text(text)


def test_an_answer_written_by_hand_reaches_the_worker(job: Job) -> None:
    job.claim()
    job.ask(1)
    job.sync()
    (job.home.path / "ipc/001.question").write_text("which?\n")
    answer_by_hand(job, 1, "this one\n")

    push(job.store, job.home, job.ref)
    push(job.store, job.home, job.ref)

    assert (job.record.state, job.record.questions, job.record.reason) == (S.RUNNING, (), "")
    pulled = job.store.pull(job.ref, 0)
    assert pulled.files["ipc/001.answer"] == b"this one\n"
    assert [entry.facts["text"] for entry in pulled.entries if entry.event == "answer"] == ["this one"]
    assert job.sync().questions == ()


def test_the_worker_that_asked_is_told(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.sync()
    answer_by_hand(far, 1, "this\n")
    listener = far.store.listen(keys.live_channel(WORKER), timeout_seconds=60)

    push(far.store, far.home, far.ref)

    assert listener.next() == str(far.ref)
    listener.close()


def test_the_answer_to_the_last_question_queues_a_parked_task(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.ask(2)
    far.park()
    far.sync()
    assert far.tickets() == 1

    answer_by_hand(far, 2, "second\n")
    push(far.store, far.home, far.ref)
    assert (far.record.state, far.record.questions, far.tickets()) == (S.PARKED, (1,), 1)
    answer_by_hand(far, 1, "first\n")
    push(far.store, far.home, far.ref)

    assert (far.record.state, far.record.questions, far.tickets()) == (S.QUEUED, (), 2)


def test_of_many_who_send_the_same_answer_at_once_one_does(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.park()
    far.sync()
    answer_by_hand(far, 1, "this\n")

    with ThreadPoolExecutor(6) as pool:
        sent = list(pool.map(lambda _: publish_answer(far.store, far.home, far.ref, 1), range(12)))

    assert sorted(sent) == [False] * 11 + [True]
    assert far.tickets() == 2
    assert [entry.event for entry in far.store.pull(far.ref, 0).entries].count("answer") == 1


def test_answers_to_two_questions_at_once_are_both_taken(far: Job) -> None:
    for number in range(1, 9):
        if number == 1:
            far.claim()
        far.ask(number)
    far.park()
    far.sync()
    for number in range(1, 9):
        answer_by_hand(far, number, f"{number}\n")

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda number: publish_answer(far.store, far.home, far.ref, number), range(1, 9)))

    assert sent == [True] * 8
    assert (far.record.state, far.record.questions, far.tickets()) == (S.QUEUED, (), 2)


def test_an_answer_that_is_empty_while_it_is_written_anew_is_sent_when_it_has_text(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.sync()
    answer_by_hand(far, 1, "")

    assert not publish_answer(far.store, far.home, far.ref, 1)
    assert far.record.questions == (1,)

    answer_by_hand(far, 1, "this\n")
    push(far.store, far.home, far.ref)
    assert far.record.questions == ()
    assert far.store.pull(far.ref, 0).files["ipc/001.answer"] == b"this\n"


def test_a_second_answer_is_not_taken_by_anybody(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.sync()
    answer_by_hand(far, 1, "first\n")
    push(far.store, far.home, far.ref)

    answer_by_hand(far, 1, "second\n")
    push(far.store, far.home, far.ref)
    assert not publish_answer(far.store, far.home, far.ref, 1)

    assert far.store.pull(far.ref, 0).files["ipc/001.answer"] == b"first\n"
    with pytest.raises(Refused, match="answered already"):
        producer.answer(far.home, 1, "third")


def test_an_answer_from_elsewhere_does_not_overwrite_the_one_at_home(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.sync()
    answer_by_hand(far, 1, "mine\n")
    far.change(E.ANSWER, facts={"question": 1}, fields={"questions": ""}, files={"ipc/001.answer": b"theirs\n"})

    far.sync()

    assert far.home.read("ipc/001.answer") == b"mine\n"


def test_an_empty_answer_is_one_that_is_being_written(far: Job) -> None:
    far.claim()
    far.ask(1)
    far.sync()
    answer_by_hand(far, 1, "")

    push(far.store, far.home, far.ref)

    assert far.record.questions == (1,)


# -- notes ------------------------------------------------------------------------------------------------------------


def test_a_note_for_a_task_that_nobody_runs_is_in_its_plan_at_once(job: Job) -> None:
    publish_note(job.store, job.ref, "use postgres")

    job.sync()

    assert job.notes() == ["use postgres"]
    assert job.home.plan().done == 0


def test_notes_are_written_once_however_many_bring_them_home(job: Job) -> None:
    texts = [f"note {number}" for number in range(20)]
    barrier = threading.Barrier(6)

    def bring_home(_: int) -> None:
        barrier.wait()
        for _ in range(20):
            job.sync()

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(bring_home, number) for number in range(5)]
        barrier.wait()
        for text in texts:
            publish_note(job.store, job.ref, text)
        for one in running:
            one.result()
    job.sync()

    assert job.notes() == texts
    assert job.seqs() == list(range(1, 22))


def test_the_same_note_given_twice_is_there_twice(job: Job) -> None:
    publish_note(job.store, job.ref, "again")
    job.sync()
    publish_note(job.store, job.ref, "again")
    job.sync()
    job.sync()

    assert job.notes() == ["again", "again"]


def test_a_note_survives_a_plan_that_was_published_without_it(far: Job) -> None:
    far.claim()
    publish_note(far.store, far.ref, "use postgres")
    far.sync()

    far.publish(contents={"plan.md": TICKED})
    far.sync()

    assert far.notes() == ["use postgres"]
    assert far.home.read(PLAN).startswith(TICKED)


def test_a_journal_stays_when_redis_loses_its_data_while_it_is_compared(
    far: Job, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.claim()
    far.publish(item=1, mark="x", text="one")
    far.sync()
    with (far.home.path / JOURNAL).open("a") as journal:
        journal.write(json.dumps({"seq": 4, "event": "tick", "at": AT, "by": "w:1"}) + "\n")
    pull = Store.pull

    def pull_and_lose(store: Store, ref: Ref, since: int) -> Pulled:
        pulled = pull(store, ref, since)
        redis_server.flush()
        return pulled

    monkeypatch.setattr(Store, "pull", pull_and_lose)
    far.sync()

    assert far.seqs() == [1, 2, 3, 4]


def test_while_an_attempt_runs_in_the_checkout_notes_are_left_to_its_worker(near: Job) -> None:
    near.claim()
    publish_note(near.store, near.ref, "use postgres")
    near.sync()
    assert near.notes() == []

    near.change(E.GIVE_BACK, token=near.token)
    near.sync()
    assert near.notes() == ["use postgres"]


def test_a_note_for_a_task_that_redis_does_not_know_is_refused(store: Store) -> None:
    with pytest.raises(Refused, match="is unknown"):
        publish_note(store, Ref("p", "nothing"), "x")


# -- what breaks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"seq":3,"st', b"{", b"\xff\xfe\x00"])
def test_a_journal_whose_last_line_a_crash_has_torn_is_made_whole(far: Job, torn: bytes) -> None:
    far.claim()
    far.sync()
    with open(far.home.path / JOURNAL, "ab") as journal:
        journal.write(torn)
    far.publish(item=1, mark="x", text="one", done=1, total=2)

    standing = far.sync()

    assert (standing.seq, far.seqs()) == (3, [1, 2, 3])
    lines = (far.home.path / JOURNAL).read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("length", [200_000, 300_000, 1_500_000])
def test_a_journal_that_ends_in_long_lines_is_not_written_twice(far: Job, length: int) -> None:
    far.claim()
    for _ in range(2):
        far.publish("warning", text="x" * length)

    for _ in range(3):
        far.sync()

    assert far.seqs() == [1, 2, 3, 4]


def test_a_journal_that_ends_in_a_long_torn_line_is_made_whole(far: Job) -> None:
    far.claim()
    far.sync()
    with open(far.home.path / JOURNAL, "ab") as journal:
        journal.write(b'{"seq":3,"text":"' + b"x" * 700_000)
    far.publish(item=1, mark="x", text="one", done=1, total=2)

    far.sync()

    assert far.seqs() == [1, 2, 3]


def parked(job: Job) -> Job:
    job.claim()
    job.ask(1)
    job.park()
    job.sync()
    return job


def is_settled(job: Job) -> bool:
    return settled(job.home, job.store.outlines([job.ref]).get(job.ref)) is not None


def test_a_home_copy_that_says_what_redis_says_is_left_alone(far: Job) -> None:
    outline = parked(far).store.outlines([far.ref])[far.ref]

    assert settled(far.home, outline) == far.home.standing()
    assert far.store.outlines([Ref(far.ref.project, "unknown")]) == {}


@pytest.mark.parametrize(
    "happens",
    [
        lambda job: job.change(E.ANSWER, fields={"questions": ""}),
        lambda job: publish_note(job.store, job.ref, "mind the gap"),
        lambda job: (publish_note(job.store, job.ref, "mind"), job.sync(), job.home.write(PLAN, TICKED)),
        lambda job: job.home.write("ipc/001.answer", b"this one\n"),
        lambda job: job.store.forget(job.ref, job.record.seq, unfinished=True),
        lambda job: (job.home.path / JOURNAL).unlink(),
        lambda job: (job.home.path / JOURNAL).write_bytes(b"torn"),
    ],
    ids=["change", "note", "note left out", "answer", "forgotten", "gone", "torn"],
)
def test_a_home_copy_that_has_something_to_tell_or_to_hear_is_looked_at(
    far: Job, happens: Callable[[Job], Any]
) -> None:
    assert is_settled(parked(far))

    happens(far)

    assert not is_settled(far)


def test_a_home_copy_that_is_gone_is_an_error_for_one_and_nothing_for_all(
    far: Job, store: Store, project: Path
) -> None:
    other = Job(store, project, "other", Isolation.WORKTREE)
    far.claim()
    other.claim()
    shutil.rmtree(far.home.path)

    with pytest.raises(FileNotFoundError):
        far.sync()
    reconcile(store, project, far.ref.project)
    reconcile(store, project, far.ref.project, far.ref.task)

    assert other.events() == ["submit", "claim"]
    assert far.record.state is S.RUNNING
    assert not far.home.path.exists()


def corrupt_task(job: Job) -> None:
    (job.home.path / "task.yaml").write_bytes(b"\xff\x00")


def corrupt_plan(job: Job) -> None:
    (job.home.path / "plan.md").unlink()
    (job.home.path / "plan.md").symlink_to("/etc/passwd")


def corrupt_journal(job: Job) -> None:
    with open(job.home.path / JOURNAL, "ab") as journal:
        journal.write(b'{"seq":2,"event":"ask","at":"","by":""}\n{"seq":2,"event":"x","at":"","by":"","done":"a"}\n')
        journal.write(b'{"seq":Infinity,"event":"ask","at":"","by":""}\n' + b"[" * 100_000 + b"\n")


def corrupt_folder(job: Job) -> None:
    shutil.rmtree(job.home.path / "ipc")
    (job.home.path / "ipc").symlink_to("/etc")


@pytest.mark.parametrize("corrupt", [corrupt_task, corrupt_plan, corrupt_journal, corrupt_folder])
def test_a_broken_record_does_not_keep_the_others_from_home(
    store: Store, project: Path, corrupt: Callable[[Job], None]
) -> None:
    jobs = [Job(store, project, name, Isolation.SHARED) for name in ("a-first", "b-broken", "c-last")]
    corrupt(jobs[1])
    for job in jobs:
        publish_note(job.store, job.ref, "a note")

    reconcile(store, project, jobs[0].ref.project)

    assert [job.notes() for job in (jobs[0], jobs[2])] == [["a note"], ["a note"]]


def hostile_question(job: Job) -> None:
    (job.home.path / "ipc/002.question").symlink_to("/etc/passwd")


def hostile_answer(job: Job) -> None:
    (job.home.path / "ipc/001.answer").mkdir()


@pytest.mark.parametrize("spoil", [hostile_question, hostile_answer, corrupt_folder])
def test_the_end_of_a_task_comes_home_whatever_its_agent_left_there(near: Job, spoil: Callable[[Job], None]) -> None:
    near.claim()
    near.ask(1)
    near.sync()
    spoil(near)
    near.change(E.ANSWER, facts={"question": 1}, fields={"questions": ""}, files={"ipc/001.answer": b"this\n"})
    near.change(E.FAIL, token=near.token, reason="agent: the agent broke the task's record")

    reconcile(near.store, near.home.base, near.ref.project)

    assert near.home.standing().state is S.FAILED
    assert not Path("/etc/001.answer").exists()


def test_a_full_disk_keeps_the_news_for_the_next_time(far: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    far.claim()
    far.sync()
    far.publish(contents={"plan.md": TICKED}, item=1, mark="x", text="one", done=1, total=2)
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", full_disk)
        with pytest.raises(OSError, match="No space left"):
            far.sync()

    far.sync()

    assert far.home.read(PLAN) == TICKED
    assert far.seqs() == [1, 2, 3]


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_two_processes_bring_home_the_same_news_once(far: Job, redis_url: str) -> None:
    far.claim()
    for number in range(30):
        far.publish("warning", {"output.md": str(number).encode()}, text=str(number))
    script = (
        "import sys; from pathlib import Path\n"
        "from dispatch_queue.mirror import reconcile; from dispatch_queue.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for _ in range(10): reconcile(store, Path(sys.argv[2]), sys.argv[3])\n"
    )
    words = [sys.executable, "-c", script, redis_url, str(far.home.base), far.ref.project]
    running = [subprocess.Popen(words) for _ in range(2)]
    for number in range(30, 60):
        far.publish("warning", {"output.md": str(number).encode()}, text=str(number))

    assert [one.wait(60) for one in running] == [0, 0]
    far.sync()

    assert far.seqs() == list(range(1, 63))
    assert far.home.read("output.md") == b"59"


# -- the thread -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mirroring(url: str, host: str | None = None) -> Iterator[HomeMirror]:
    store = Store(url)
    running = HomeMirror(store, dispatch_home(), host=host or host_name())
    running.start()
    try:
        yield running
    finally:
        running.close()
        store.close()


def mirrored() -> bool:
    return is_held(dispatch_home(), MIRROR)


def test_news_arrive_by_themselves(job: Job, redis_url: str) -> None:
    with mirroring(redis_url):
        wait_for(mirrored, "the mirror to run")
        job.claim()
        wait_for(lambda: job.home.standing().state is S.RUNNING, "the claim at home")
        job.ask(1)
        wait_for(lambda: job.home.standing().questions == (1,), "the question at home")


def test_what_happened_before_the_mirror_ran_is_brought_home(far: Job, redis_url: str) -> None:
    far.claim()
    far.publish(contents={"plan.md": TICKED})

    with mirroring(redis_url):
        wait_for(lambda: far.home.read(PLAN) == TICKED, "the plan at home")


def test_an_answer_written_by_hand_is_seen_by_itself(job: Job, redis_url: str) -> None:
    with mirroring(redis_url):
        job.claim()
        job.ask(1)
        wait_for(lambda: job.home.standing().questions == (1,), "the question at home")
        (job.home.path / "ipc/001.question").write_text("which?\n")
        answer_by_hand(job, 1, "this\n")

        wait_for(lambda: job.record.questions == (), "the answer in Redis")
        wait_for(lambda: job.home.standing().state is S.RUNNING, "the answer in the journal")


def test_a_task_submitted_while_redis_was_away_is_sent_when_a_mirror_runs(
    store: Store, project: Path, redis_url: str
) -> None:
    job = Job(store, project, "fresh", Isolation.SHARED, known=False)

    with mirroring(redis_url):
        wait_for(lambda: store.record(job.ref) is not None, "the task in Redis")

    assert job.tickets() == 1


def test_tasks_whose_submit_died_are_found_by_a_mirror_that_runs(store: Store, project: Path, redis_url: str) -> None:
    with mirroring(redis_url) as mirror:
        for name in ("first", "second"):
            job = Job(store, project, name, Isolation.SHARED, known=False)
            wait_for(lambda job=job: store.record(job.ref), f"Redis to know of the {name} task")
            wait_for(
                lambda: {listed for _, listed in mirror._listed.values()} == {True},
                "the folder to be known to be as it is",
            )


def test_what_was_published_last_is_at_home_when_the_mirror_has_closed(far: Job, redis_url: str) -> None:
    with mirroring(redis_url):
        wait_for(mirrored, "the mirror to run")
        far.claim()
        for number in range(200):
            far.publish("warning", {"output.md": str(number).encode()}, text=str(number))
        far.change(E.FINISH, token=far.token)

    assert far.home.standing().state is S.DONE
    assert far.home.read("output.md") == b"199"
    assert far.seqs() == list(range(1, 204))


def test_one_mirror_runs_for_a_host_and_the_next_takes_over(far: Job, redis_url: str) -> None:
    with mirroring(redis_url), mirroring(redis_url):
        wait_for(mirrored, "a mirror to run")
        far.claim()
        wait_for(lambda: far.home.standing().state is S.RUNNING, "the claim at home")
        assert far.seqs() == [1, 2]
    assert not mirrored()


HOLDER = """
import sys, time
from dispatch_queue.home import dispatch_home, host_name
from dispatch_queue.locks import MIRROR, trying
with trying(dispatch_home(), MIRROR) as ours:
    print(ours, flush=True)
    time.sleep(100)
"""


def test_when_the_process_that_mirrors_dies_the_next_takes_over(far: Job, redis_url: str) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "True\n"
    with mirroring(redis_url):
        far.claim()
        assert far.home.standing().state is S.QUEUED

        first.kill()
        first.wait()
        first.stdout.close()

        wait_for(lambda: far.home.standing().state is S.RUNNING, "the claim at home")


def test_a_message_that_names_no_task_of_ours_is_passed_over(far: Job, redis_url: str, redis_server: Server) -> None:
    with mirroring(redis_url):
        wait_for(mirrored, "the mirror to run")
        for odd in (
            "nonsense",
            "/",
            "a/b/c",
            "../..",
            f"{far.ref.project}/..",
            f"{far.ref.project}/nothing",
            "no/such",
        ):
            redis_server.command(f"PUBLISH {keys.home_channel(host_name())} {odd}")
        far.claim()

        wait_for(lambda: far.home.standing().state is S.RUNNING, "the claim at home")


def test_a_broken_record_does_not_stop_the_mirror(store: Store, project: Path, redis_url: str) -> None:
    jobs = [Job(store, project, name, Isolation.SHARED) for name in ("a-broken", "b-broken", "c-broken", "z-last")]
    for job, corrupt in zip(jobs, (corrupt_task, corrupt_journal, corrupt_folder), strict=False):
        corrupt(job)

    with mirroring(redis_url):
        for job in jobs:
            job.claim()
        wait_for(lambda: jobs[3].home.standing().state is S.RUNNING, "the claim at home")


def test_a_run_folder_that_cannot_be_used_for_a_while_does_not_end_the_mirror(
    far: Job, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = dispatch_home() / "run"
    run.mkdir()
    run.chmod(0o777)  # where others may write, nothing is locked
    with mirroring(redis_url):
        wait_for(lambda: "the home mirror pauses" in caplog.text, "the mirror to be told")

        run.chmod(0o700)

        wait_for(mirrored, "the mirror")


@pytest.mark.parametrize("where", ["settled", "both"])
def test_an_error_of_ours_does_not_end_the_mirror(
    far: Job, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    right, failed = getattr(homemirror, where), threading.Event()

    def once_broken(*given: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise KeyError("no such leaf")
        return right(*given, **named)

    monkeypatch.setattr(homemirror, where, once_broken)
    far.claim()
    with mirroring(redis_url):
        wait_for(lambda: "claim" in far.events(), "the claim at home")

    assert failed.is_set()
    assert "KeyError: 'no such leaf'" in caplog.text


def test_a_home_that_disappears_does_not_stop_the_mirror(store: Store, tmp_path: Path, redis_url: str) -> None:
    gone, kept = tmp_path / "gone", tmp_path / "kept"
    jobs = []
    for folder in (gone, kept):
        folder.mkdir()
        jobs.append(Job(store, folder, "a-job", Isolation.WORKTREE))

    with mirroring(redis_url):
        wait_for(mirrored, "the mirror to run")
        shutil.rmtree(gone)
        for job in jobs:
            job.claim()
        wait_for(lambda: jobs[1].home.standing().state is S.RUNNING, "the claim at home")

    assert not gone.exists()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill."""
    server = start_server(tmp_path / "redis")
    yield server
    server.stop()


@pytest.mark.parametrize("keeps", [True, False], ids=["with its data", "with nothing"])
def test_when_redis_is_back_the_claim_holds_and_what_is_published_arrives(
    own_server: Server, project: Path, keeps: bool
) -> None:
    store = Store(own_server.url)
    job = Job(store, project, "a-job", Isolation.WORKTREE)
    with mirroring(own_server.url):
        job.claim()
        wait_for(lambda: job.home.standing().state is S.RUNNING, "the claim at home")
        if keeps:
            assert own_server.command("SAVE") == "+OK"
        own_server.kill()
        again = start_server(own_server.folder)
        try:
            wait_for(lambda: store.record(job.ref) is not None, "the task to be known again")
            job.publish(contents={"plan.md": TICKED}, item=1, mark="x", text="one", done=1, total=2)
            job.ask(1)

            wait_for(lambda: job.home.standing().questions == (1,), "the question at home")
            assert job.home.read(PLAN) == TICKED
            assert job.seqs() == [1, 2, 3, 4]
            assert job.tickets() == int(keeps)
        finally:
            store.close()
            again.stop()


def test_answers_and_tasks_made_while_redis_was_away_are_sent_when_it_is_back(
    own_server: Server, project: Path
) -> None:
    store = Store(own_server.url)
    asked = Job(store, project, "asked", Isolation.WORKTREE)
    asked.claim()
    asked.ask(1)
    asked.park()
    asked.sync()
    with mirroring(own_server.url):
        wait_for(mirrored, "the mirror to run")
        own_server.kill()
        answer_by_hand(asked, 1, "this\n")
        fresh = Job(store, project, "fresh", Isolation.SHARED, known=False)
        with pytest.raises(StoreDown):
            push(store, fresh.home, fresh.ref)

        again = start_server(own_server.folder)  # with nothing in it: the files know all
        try:
            wait_for(lambda: store.record(fresh.ref) is not None, "the new task in Redis")
            wait_for(lambda: asked.record.questions == (), "the answer in Redis")
            wait_for(lambda: asked.home.standing().state is S.QUEUED, "the parked task to be queued again")
            assert asked.tickets() == fresh.tickets() == 1
        finally:
            store.close()
            again.stop()


def test_the_lock_is_free_again_when_its_holder_has_ended_and_belongs_to_no_child() -> None:
    home = dispatch_home()
    home.mkdir(parents=True)
    with trying(home, MIRROR) as ours:
        assert ours
        assert is_held(home, MIRROR)
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert not is_held(home, MIRROR)
    finally:
        child.kill()
        child.wait()


def test_a_journal_is_not_read_while_another_writes_it(far: Job) -> None:
    far.claim()
    with open(far.home.path / JOURNAL, "rb") as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = pool.submit(far.sync)
        with pytest.raises(TimeoutError):
            running.result(0.3)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert running.result(60).state is S.RUNNING


def test_an_entry_that_was_read_back_is_the_one_in_redis(far: Job) -> None:
    far.claim()
    far.publish("warning", text="é \u2028 \x7f \x1b[0m", other=[1, None, True])

    far.sync()

    kept: list[Entry] = [entry for entry in far.home.entries() if entry.seq > 1]
    assert kept == list(far.store.pull(far.ref, 0).entries)


def test_a_task_whose_directory_was_removed_leaves_nothing_to_the_next_one_of_its_name(
    store: Store, project: Path
) -> None:
    old = Job(store, project, "again", Isolation.SHARED)
    old.claim()
    old.change(E.FINISH, token=old.token)
    shutil.rmtree(old.home.path)

    new = Job(store, project, "again", Isolation.SHARED)
    reconcile(store, project, new.ref.project)

    assert (new.sync().state, new.events()) == (S.QUEUED, ["submit"])
    assert new.record.state is S.QUEUED


def test_a_task_is_not_sent_while_a_removed_one_of_its_name_runs(store: Store, project: Path) -> None:
    old = Job(store, project, "again", Isolation.SHARED)
    old.claim()
    shutil.rmtree(old.home.path)

    with pytest.raises(Refused, match="whose directory was removed, is running"):
        Job(store, project, "again", Isolation.SHARED)

    reconcile(store, project, old.ref.project)
    assert old.events() == ["submit"]
    old.change(E.CANCEL)
    reconcile(store, project, old.ref.project)
    assert old.record.state is S.QUEUED
