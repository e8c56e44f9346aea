"""Tasks that wait: for each other, for a time, for a person. Redis and the files agree, also when Redis forgets."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import again, batch, plan, producer, schedule, waiting, when
from dispatch_queue.change import Record, step
from dispatch_queue.clock import SYSTEM, stamp
from dispatch_queue.errors import Refused
from dispatch_queue.home import dispatch_home
from dispatch_queue.mirror import enroll, push, reconcile, sync
from dispatch_queue.producer import Request, Submitted
from dispatch_queue.project import find
from dispatch_queue.record import Ref
from dispatch_queue.states import Event, State
from dispatch_queue.store import Store
from dispatch_queue.taskdir import JOURNAL, PLAN
from tests.support.server import Server

S, E = State, Event
AT = "2026-11-23T12:00:00.000Z"


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url)
    yield made
    made.close()


class Shop:
    """A project whose tasks a worker elsewhere runs."""

    def __init__(self, store: Store, folder: Path) -> None:
        folder.mkdir()
        self.store, self.folder = store, folder
        self.tasks: dict[str, Submitted] = {}

    def write(self, name: str, **asked: Any) -> Submitted:
        """Only the files."""
        request = Request(items=("one", "two"), name=name, model="shell", backend="shell", **asked)
        self.tasks[name] = producer.record_locally(request, find(self.folder), home=dispatch_home())
        return self.tasks[name]

    def tell(self, name: str) -> bool:
        one = self.tasks[name]
        return enroll(self.store, one.home, one.task.ref, one.home.standing())

    def submit(self, name: str, **asked: Any) -> None:
        self.write(name, **asked)
        self.tell(name)

    def chain(self, *names: str, **asked: Any) -> None:
        self.submit(names[0])
        for before, name in itertools.pairwise(names):
            self.submit(name, after=(before,), **asked)

    def ref(self, name: str) -> Ref:
        return self.tasks[name].task.ref

    def record(self, name: str) -> Record:
        found = self.store.record(self.ref(name))
        assert found is not None
        return found

    def state(self, name: str) -> State:
        return self.record(name).state

    def states(self) -> str:
        """The first letters of the states of all tasks."""
        return "".join(self.state(name)[0] for name in self.tasks)

    def claim(self, name: str) -> int:
        return self.store.change(self.ref(name), step(E.CLAIM, at=AT, by="w:1", claim=True)).token

    def end(self, name: str, event: Event = E.FINISH) -> None:
        token = self.claim(name)
        self.store.change(self.ref(name), step(event, at=AT, by="w:1", token=token))

    def cancel(self, name: str) -> None:
        self.store.change(self.ref(name), step(E.CANCEL, at=AT, by="h:1"))

    def hold(self, name: str) -> None:
        schedule.hold(self.store, self.tasks[name].home, self.ref(name))

    def release(self, name: str, *, now: bool = False) -> bool:
        return schedule.release(self.store, self.ref(name), now=now)

    def home(self) -> None:
        """Bring home what Redis knows."""
        for one in self.tasks.values():
            sync(self.store, one.home, one.task.ref)

    def let_go(self) -> None:
        """What the reaper does."""
        for ref in self.store.due():
            self.store.release(ref, "due", at=AT, by="w:1")

    def tickets(self, name: str) -> int:
        return self.record(name).sent


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Shop:
    return Shop(store, tmp_path / "shop")


def soon() -> str:
    return stamp(SYSTEM.now() + timedelta(hours=1))


def past() -> str:
    return stamp(SYSTEM.now() - timedelta(seconds=1))


# -- after ------------------------------------------------------------------------------------------------------------


def test_a_chain_of_five_goes_link_by_link(shop: Shop) -> None:
    names = [f"t{number}" for number in range(5)]
    shop.chain(*names)

    seen = []
    for name in names:
        seen.append(shop.states())
        shop.end(name)

    assert seen == ["qwwww", "dqwww", "ddqww", "dddqw", "ddddq"]
    assert shop.states() == "ddddd"
    assert [shop.tickets(name) for name in names] == [1] * 5


def test_the_last_of_a_diamond_waits_for_both_sides(shop: Shop) -> None:
    shop.chain("top", "left")
    shop.submit("right", after=("top",))
    shop.submit("bottom", after=("left", "right"))
    assert shop.record("bottom").reason == "after left, right"

    shop.end("top")
    assert shop.states() == "dqqw"
    shop.end("right")
    assert (shop.states(), shop.record("bottom").reason) == ("dqdw", "after left")
    shop.end("left")

    assert (shop.states(), shop.record("bottom").reason) == ("dddq", "")
    assert shop.tickets("bottom") == 1


@pytest.mark.parametrize("how", [E.FAIL, E.CANCEL])
def test_a_prerequisite_that_fails_fails_all_that_wait_for_it(shop: Shop, how: Event) -> None:
    shop.chain("a", "b", "c", "d")
    shop.submit("aside")

    shop.cancel("a") if how is E.CANCEL else shop.end("a", how)

    end = "cancelled" if how is E.CANCEL else "failed"
    assert [shop.record(name).reason for name in "bcd"] == [
        f"dependency: `a` is {end}",
        "dependency: `b` is failed",
        "dependency: `c` is failed",
    ]
    assert shop.states() == f"{end[0]}fffq"
    shop.home()
    assert shop.tasks["d"].home.standing().reason == "dependency: `c` is failed"


def test_who_does_not_care_how_it_ended_goes_all_the_same(shop: Shop) -> None:
    shop.chain("a", "b")
    shop.submit("report", after=("a", "b"), after_any=True)

    shop.end("a", E.FAIL)

    assert shop.states() == "ffq"


@pytest.mark.parametrize(("event", "then"), [(E.FINISH, "queued"), (E.FAIL, "failed")])
def test_a_prerequisite_that_has_ended_counts_at_once(shop: Shop, event: Event, then: str) -> None:
    shop.submit("a")
    shop.end("a", event)

    shop.submit("b", after=("a",))

    assert shop.state("b") == then
    shop.home()
    assert shop.tasks["b"].home.standing().state == then


def test_a_retried_prerequisite_is_waited_for_only_by_those_who_still_do(shop: Shop) -> None:
    shop.submit("a")
    shop.submit("other")
    shop.submit("b", after=("a", "other"))
    shop.end("a")
    again.retry(shop.store, shop.tasks["a"].home, shop.ref("a"), from_start=True)

    shop.end("other")

    assert shop.states() == "qdq"


def test_a_prerequisite_that_ends_while_a_task_is_submitted_is_never_missed(shop: Shop, redis_url: str) -> None:
    rounds = 40
    for number in range(rounds):
        shop.submit(f"a{number}")
        shop.write(f"b{number}", after=(f"a{number}",))
    barrier = threading.Barrier(2)

    def both(act: Callable[[int], object]) -> None:
        for number in range(rounds):
            barrier.wait()
            act(number)

    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(both, lambda number: shop.end(f"a{number}")),
            pool.submit(both, lambda number: shop.tell(f"b{number}")),
        ]
        for job in jobs:
            job.result()

    assert shop.states() == "dq" * rounds
    assert {shop.tickets(f"b{number}") for number in range(rounds)} == {1}


def test_a_cancelled_task_waits_for_nothing_any_more_also_after_a_retry(shop: Shop) -> None:
    shop.submit("a")
    shop.submit("b", after=("a",), not_before=soon())
    shop.cancel("b")
    shop.home()

    again.retry(shop.store, shop.tasks["b"].home, shop.ref("b"))
    shop.hold("b")
    shop.end("a", E.FAIL)

    assert shop.release("b")
    assert shop.states() == "fq"


# -- a time -----------------------------------------------------------------------------------------------------------


def test_a_task_goes_when_its_time_has_come_and_not_before(shop: Shop) -> None:
    shop.submit("later", not_before=soon())
    shop.submit("now", not_before=past())

    shop.let_go()

    assert shop.states() == "wq"
    assert shop.record("later").reason.startswith("until 20")
    shop.home()
    assert shop.tasks["now"].home.standing().until == ""


def test_a_task_goes_when_the_last_of_all_it_waits_for_is_there(shop: Shop) -> None:
    until = past()
    shop.submit("a")
    shop.submit("b", after=("a",), not_before=until, hold=True)
    assert shop.record("b").reason == f"held: dispatch release b; after a; until {when.shown(until)}"

    shop.let_go()
    assert shop.record("b").reason == "held: dispatch release b; after a"
    assert not shop.release("b")
    assert shop.record("b").reason == "after a"
    shop.end("a")

    assert shop.states() == "dq"


# -- hold and release -------------------------------------------------------------------------------------------------


def test_a_held_task_is_not_claimed_until_it_is_released(shop: Shop) -> None:
    shop.submit("a")
    shop.hold("a")

    with pytest.raises(Refused):
        shop.claim("a")
    assert (shop.state("a"), shop.record("a").hold, shop.record("a").reason) == (
        S.WAITING,
        True,
        "held: dispatch release a",
    )
    assert shop.release("a")
    assert (shop.state("a"), shop.record("a").hold) == (S.QUEUED, False)
    assert shop.claim("a")


def test_a_waiting_task_that_is_held_waits_for_both(shop: Shop) -> None:
    shop.chain("a", "b")
    shop.hold("b")
    assert shop.record("b").reason == "held: dispatch release b; after a"

    shop.end("a")

    assert (shop.state("b"), shop.record("b").reason) == (S.WAITING, "held: dispatch release b")
    assert shop.release("b")


def test_release_now_starts_a_task_whatever_it_waits_for_and_for_good(shop: Shop) -> None:
    shop.submit("a")
    shop.submit("b", after=("a",), not_before=soon(), hold=True)

    assert shop.release("b", now=True)
    shop.hold("b")
    shop.end("a", E.FAIL)

    assert shop.states() == "fw"
    assert shop.release("b")
    assert shop.store.due() == []


@pytest.mark.parametrize(
    ("way", "hold_said", "release_said"),
    [
        ("queued", "", "is queued; it waits for nothing"),
        ("running", "is running; only a queued or waiting one", "is running; it waits for nothing"),
        ("done", "is done; only", "is done; it waits for nothing"),
        ("waiting", "", "is not held; it waits: after x"),
    ],
)
def test_only_what_can_be_held_is_and_only_what_is_held_is_released(
    shop: Shop, way: str, hold_said: str, release_said: str
) -> None:
    shop.submit("x")
    shop.submit("t", after=("x",) if way == "waiting" else ())
    if way == "running":
        shop.claim("t")
    if way == "done":
        shop.end("t")

    with pytest.raises(Refused, match=release_said) as caught:
        shop.release("t")
    assert caught.value.hint
    if hold_said:
        with pytest.raises(Refused, match=hold_said):
            shop.hold("t")
    assert shop.state("t") == way


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_what_a_task_waits_for_is_said_alike_on_both_sides(shop: Shop, count: int) -> None:
    names = [f"t{number}" for number in range(count)]
    for name in [*names, "last"]:
        shop.submit(name)
    shop.submit("b", after=(*names, "last"), hold=True, not_before=soon())
    shop.end("last")
    shop.home()

    standing = shop.tasks["b"].home.standing()

    assert standing.after == tuple(names)
    expected = waiting.reason("b", held=True, after=standing.after, until=standing.until)
    assert shop.record("b").reason == standing.reason == expected


# -- Redis forgets ----------------------------------------------------------------------------------------------------


def rebuilt(shop: Shop, redis_server: Server) -> None:
    """FLUSHALL, and all is told again."""
    shop.home()
    redis_server.flush()
    reconcile(shop.store, shop.folder, shop.ref(next(iter(shop.tasks))).project)


@pytest.mark.parametrize("journal", [b"", b'{"seq":1,"sta'], ids=["empty", "torn"])
def test_a_task_that_waits_still_waits_when_its_journal_has_lost_why(
    shop: Shop, redis_server: Server, journal: bytes
) -> None:
    until = soon()
    for name, asked in (("held", {"hold": True}), ("late", {"not_before": until}), ("free", {})):
        shop.write(name, **asked)
        (shop.tasks[name].home.path / JOURNAL).write_bytes(journal)

    rebuilt(shop, redis_server)

    assert [shop.state(name) for name in ("held", "late", "free")] == [S.WAITING, S.WAITING, S.QUEUED]
    standing = shop.tasks["held"].home.standing()
    assert (standing.state, standing.reason) == (S.WAITING, "held: dispatch release held")


def test_waiting_tasks_come_back_as_they_were(shop: Shop, redis_server: Server) -> None:
    until = soon()
    shop.chain("a", "b", "c")
    shop.submit("x")
    shop.submit("d", after=("a", "x"), not_before=until)
    shop.submit("h")
    shop.hold("h")
    shop.submit("e", after=("x",), after_any=True, hold=True)
    shop.end("a")
    before = {name: shop.record(name) for name in shop.tasks if name != "a"}

    rebuilt(shop, redis_server)

    after = {name: shop.record(name) for name in before}
    for name, record in before.items():
        now = after[name]
        assert (now.state, now.reason, now.hold) == (record.state, record.reason, record.hold), name
    assert shop.store.record(shop.ref("a")) is None  # ended, and nobody waits for it any more
    shop.end("x", E.FAIL)
    assert (shop.state("d"), shop.record("d").reason) == (S.FAILED, "dependency: `x` is failed")
    assert shop.record("e").reason == "held: dispatch release e"
    assert shop.release("e")
    assert shop.release("h")


@pytest.mark.parametrize(("event", "then"), [(E.FINISH, S.QUEUED), (E.FAIL, S.FAILED)])
def test_a_prerequisite_whose_end_only_files_know_counts(
    shop: Shop, redis_server: Server, event: Event, then: State
) -> None:
    shop.chain("a", "b")
    shop.write("z", after=("a",))  # its submit died before it told Redis
    shop.end("a", event)
    shop.home()
    redis_server.flush()
    assert shop.store.record(shop.ref("a")) is None

    shop.tell("z")

    assert shop.state("z") is then


def test_an_end_that_redis_learns_of_after_those_who_wait_lets_them_go(shop: Shop, redis_server: Server) -> None:
    shop.chain("a", "b")
    shop.home()
    redis_server.flush()
    shop.tell("b")
    assert shop.state("b") is S.WAITING

    shop.tell("a")
    shop.end("a")

    assert shop.state("b") is S.QUEUED


@pytest.mark.parametrize(("any_end", "state"), [(False, S.FAILED), (True, S.QUEUED)])
def test_a_prerequisite_that_is_nowhere_any_more_ends_the_wait(
    shop: Shop, redis_server: Server, any_end: bool, state: State
) -> None:
    shop.submit("a")
    shop.submit("b", after=("a",), after_any=any_end)
    redis_server.flush()
    home = shop.tasks["a"].home.path
    home.rename(home.with_name(".thrown-away"))

    shop.tell("b")

    assert shop.state("b") is state
    assert shop.record("b").reason == ("" if any_end else "dependency: `a` is gone")


def test_release_now_and_ended_prerequisites_stay_so_after_a_rebuild(shop: Shop, redis_server: Server) -> None:
    shop.submit("a")
    shop.submit("b", after=("a",))
    shop.release("b", now=True)
    shop.hold("b")

    rebuilt(shop, redis_server)
    shop.end("a", E.FAIL)

    assert (shop.state("b"), shop.record("b").reason) == (S.WAITING, "held: dispatch release b")


def test_a_file_of_tasks_whose_submit_died_is_told_by_the_next_look(shop: Shop) -> None:
    text = "- {name: c, items: [x], after: [b]}\n- {name: a, items: [x]}\n- {name: b, items: [x], after: [a]}\n"
    asked = batch.parse(text, "f")
    requests = [Request(name=one.text("name"), items=("x",), model="shell", backend="shell") for one in asked]
    made = batch.record_locally(asked, requests, find(shop.folder), "f", home=dispatch_home())
    shop.tasks = {one.task.id: one for one in made}

    for _ in range(2):
        reconcile(shop.store, shop.folder, made[0].task.project)

    assert list(shop.tasks) == ["a", "b", "c"]
    assert shop.states() == "qww"


# -- retry ------------------------------------------------------------------------------------------------------------


def test_a_retry_with_another_model_goes_to_its_queue_and_stays_so_after_a_rebuild(
    shop: Shop, redis_server: Server
) -> None:
    shop.submit("a")
    shop.end("a", E.FAIL)
    shop.home()
    before = shop.record("a")

    again.retry(shop.store, shop.tasks["a"].home, shop.ref("a"), model=("gpt", "codex", "carefully"))

    assert (before.model, shop.record("a").model) == ("shell", "gpt")
    rebuilt(shop, redis_server)
    assert (shop.state("a"), shop.record("a").model) == (S.QUEUED, "gpt")
    standing = shop.tasks["a"].home.standing()
    assert (standing.model, standing.backend, standing.preamble) == ("gpt", "codex", "carefully")
    assert shop.tasks["a"].home.task().model == "shell"


def test_the_plan_of_a_retry_is_what_redis_has_too(shop: Shop) -> None:
    shop.submit("a")
    home = shop.tasks["a"].home
    home.write(PLAN, b"# a\n\n- [x] one\n- [!] two\n")
    shop.end("a", E.FAIL)
    shop.home()

    again.retry(shop.store, home, shop.ref("a"), skip=[2])

    pulled = shop.store.pull(shop.ref("a"), 0)
    assert pulled.files[PLAN] == home.read(PLAN) == b"# a\n\n- [x] one\n- [x] two\n  skipped\n"
    assert (shop.record("a").done, shop.record("a").total) == (2, 2)


def test_a_done_task_is_done_again_only_from_the_start(shop: Shop) -> None:
    shop.submit("a")
    home = shop.tasks["a"].home
    home.write(PLAN, b"# a\n\n- [x] one\n- [x] two\n")
    home.write("ipc/.done", b"")
    shop.end("a")
    shop.home()

    with pytest.raises(Refused, match="every item is checked") as caught:
        again.retry(shop.store, home, shop.ref("a"))
    assert caught.value.hint == "dispatch retry a --from-start"
    assert home.ipc().done

    again.retry(shop.store, home, shop.ref("a"), from_start=True)
    assert not home.ipc().done
    assert plan.parse(home.read(PLAN)).done == 0
    assert shop.state("a") is S.QUEUED


def test_what_is_pushed_twice_is_told_once(shop: Shop) -> None:
    shop.chain("a", "b")
    one = shop.tasks["b"]

    for _ in range(3):
        push(shop.store, one.home, one.task.ref)

    assert shop.record("b").seq == 1
