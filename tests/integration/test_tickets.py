"""Our tickets beside those of Celery itself: laid out alike, read alike, in the same lists."""

import base64
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Queue

from dispatch_queue.record import Isolation, Ref, Task
from dispatch_queue.states import State
from dispatch_queue.store import Store
from dispatch_queue.tickets import RUN, broker_url, key_of, message, queue_of, ref_in, settings, shown
from tests.support.server import Server
from tests.support.waiting import wait_for

REF = Ref("shop-1a2b3c", "build-api")
QUEUE = "dispatch.local.shell"
AT = "2026-11-23T12:00:00.000Z"
PREFIX = b"dispatch:"

WORKER = """
import sys
from celery import Celery
from dispatch_queue.tickets import RUN, settings

url, told = sys.argv.pop(1), sys.argv.pop(1)
app = Celery("reader")
app.conf.update(settings(url))

@app.task(name=RUN, bind=True, ignore_result=True)
def run(self, project, task):
    with open(told, "a") as stream:
        stream.write(f"{self.request.id} {self.request.delivery_info['priority']} {project} {task}\\n")

app.start(sys.argv[1:])
"""


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = Celery("producer", set_as_current=False)
    made.conf.update(settings(redis_url))
    yield made
    made.close()


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


def send(app: Celery, ref: Ref = REF, *, queue: str = QUEUE, priority: int = 6) -> None:
    """What a Celery producer sends for the same call."""
    app.send_task(
        RUN,
        args=[ref.project, ref.task],
        queue=queue,
        priority=priority,
        argsrepr=shown(ref, "opus"),
        ignore_result=True,
    )


def send_ours(url: str, ref: Ref = REF, *, queue: str = QUEUE, priority: int = 6) -> None:
    """The ticket of a task that becomes queued."""
    store = Store(url)
    fields: dict[str, str | int] = {
        "queue": key_of(queue, priority),
        "ticket": message(ref, queue=queue, model="opus", priority=priority),
        "home": "h",
        "seq": 1,
    }
    assert store.enroll(ref, State.QUEUED, fields, at=AT, by="h:1")
    store.close()


def taken(raw: "redis.Redis", queue: str = QUEUE, priority: int = 6) -> dict[str, Any]:
    """The oldest ticket of a list, as a consumer takes it."""
    found = raw.rpop(PREFIX.decode() + key_of(queue, priority))
    assert isinstance(found, bytes), "no ticket"
    envelope: dict[str, Any] = json.loads(found)
    envelope["body"] = json.loads(base64.b64decode(envelope["body"]))
    return envelope


# What cannot be alike: who sent it, and which message it is.
OWN = {
    "headers.id",
    "headers.root_id",
    "headers.origin",
    "properties.correlation_id",
    "properties.reply_to",
    "properties.delivery_tag",
}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of an envelope by its dotted name; an empty object is a leaf."""
    if isinstance(value, dict) and value:
        return {key: leaf for part in value for key, leaf in flat(value[part], f"{name}.{part}".lstrip(".")).items()}
    return {name: value}


@pytest.mark.parametrize("priority", [0, 3, 6, 9])
def test_a_ticket_is_key_by_key_what_celery_sends(
    app: Celery, redis_url: str, raw: "redis.Redis", priority: int
) -> None:
    send(app, priority=priority)
    theirs = flat(taken(raw, priority=priority))
    send_ours(redis_url, priority=priority)
    ours = flat(taken(raw, priority=priority))

    assert ours.keys() == theirs.keys()
    assert {name: value for name, value in ours.items() if name not in OWN} == {
        name: value for name, value in theirs.items() if name not in OWN
    }
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in theirs.items()}


def test_the_ids_of_a_ticket_are_uuids_and_belong_together(redis_url: str, raw: "redis.Redis") -> None:
    send_ours(redis_url)
    ours = flat(taken(raw))

    assert ours["headers.id"] == ours["headers.root_id"] == ours["properties.correlation_id"]
    for name in ("headers.id", "properties.delivery_tag"):
        assert str(uuid.UUID(ours[name])) == ours[name]


def test_two_tickets_of_a_task_are_two_messages(redis_url: str, raw: "redis.Redis") -> None:
    send_ours(redis_url)
    store = Store(redis_url)
    assert store.resend(REF, 1)
    assert store.resend(REF, 2)
    store.close()

    assert len({taken(raw)["properties"]["delivery_tag"] for _ in range(3)}) == 3


def test_a_ticket_has_ids_only(redis_url: str, raw: "redis.Redis") -> None:
    send_ours(redis_url)
    ours = taken(raw)

    assert ours["body"][:2] == [["shop-1a2b3c", "build-api"], {}]
    assert ours["headers"]["argsrepr"] == "(build-api, opus, shop-1a2b3c)"
    assert len(json.dumps(ours)) < 1500


@pytest.mark.parametrize("priority", range(10))
def test_every_priority_goes_to_the_list_that_kombu_uses(
    app: Celery, redis_url: str, raw: "redis.Redis", priority: int
) -> None:
    def lists() -> dict[bytes, int]:
        found: list[bytes] = raw.keys(PREFIX + b"dispatch.*")  # type: ignore[assignment]
        return {name: int(raw.llen(name)) for name in found if raw.type(name) == b"list"}

    send(app, priority=priority)
    theirs = lists()
    raw.flushall()
    send_ours(redis_url, priority=priority)

    assert len(theirs) == 1
    assert lists() == theirs


@pytest.mark.parametrize(("priority", "suffix"), [(-1, ""), (10, "\x06\x169"), (99, "\x06\x169")])
def test_a_priority_out_of_range_is_taken_for_the_nearest(priority: int, suffix: str) -> None:
    assert key_of("q", priority) == f"q{suffix}"


def test_a_consumer_of_kombu_reads_our_ticket_as_celerys(app: Celery, redis_url: str) -> None:
    send(app)
    send_ours(redis_url)
    seen: list[tuple[Any, Any, Any]] = []

    options = settings(redis_url)["broker_transport_options"]
    with Connection(broker_url(redis_url), transport_options=options) as connection:
        consumer = Consumer(connection, [Queue(QUEUE, routing_key=QUEUE)], accept=["json"])

        def heard(body: Any, got: Any) -> None:
            seen.append((body, got.headers["task"], got.delivery_info["routing_key"]))
            got.ack()

        consumer.register_callback(heard)
        with consumer:
            while len(seen) < 2:
                connection.drain_events(timeout=60)

    assert seen[0] == seen[1]
    assert seen[1][0][0] == ["shop-1a2b3c", "build-api"]


def test_a_worker_of_celery_that_knows_nothing_of_us_runs_our_tickets_the_most_urgent_first(
    redis_url: str, redis_server: Server, tmp_path: Path
) -> None:
    for number, priority in enumerate([9, 6, 3, 0]):
        send_ours(redis_url, Ref("shop-1a2b3c", f"task-{number}"), priority=priority)
    told = tmp_path / "told"
    words = ["worker", "--without-mingle", "--without-gossip", "--loglevel", "warning", "-c", "1", "-Q", QUEUE]
    worker = subprocess.Popen([sys.executable, "-c", WORKER, redis_url, str(told), *words], cwd=tmp_path)

    try:
        wait_for(lambda: len(told.read_text().splitlines()) == 4, "four tickets to be run")
    finally:
        worker.terminate()
        worker.wait(60)

    lines = [line.split() for line in told.read_text().splitlines()]
    assert [line[1:] for line in lines] == [
        [str(priority), "shop-1a2b3c", f"task-{number}"] for number, priority in [(3, 0), (2, 3), (1, 6), (0, 9)]
    ]
    assert redis_server.command("EXISTS dispatch:unacked") == ":0"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://u:p@h/0?ssl_cert_reqs=required", "rediss://u:p@h/0?ssl_cert_reqs=required"),
        ("unix:///a/b.sock?db=3", "redis+socket:///a/b.sock?virtual_host=3"),
        ("unix:///a/b.sock?password=x&db=3", "redis+socket:///a/b.sock?password=x&virtual_host=3"),
    ],
)
def test_a_url_is_what_kombu_wants(url: str, expected: str) -> None:
    assert broker_url(url) == expected


@pytest.mark.parametrize("database", [0, 3])
def test_celery_and_the_store_use_the_same_database(app: Celery, redis_url: str, database: int) -> None:
    url = redis_url.replace("db=0", f"db={database}")
    app.conf.update(settings(url))
    send(app)
    store = Store(url)

    assert [ref_in(ticket) for ticket in store.tickets(key_of(QUEUE, 6))] == [REF]
    store.close()


@pytest.mark.parametrize(
    "ticket",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"body": 5}',
        b'{"body": "!!"}',
        b'{"body": "W10="}',
        b'{"body": "bnVsbA=="}',
    ],
)
def test_what_is_no_ticket_of_ours_asks_for_nothing(ticket: bytes) -> None:
    assert ref_in(ticket) is None


def test_a_ticket_asks_for_its_task() -> None:
    assert ref_in(message(REF, queue=QUEUE, model="opus").encode()) == REF


def test_a_shared_task_goes_to_its_host_and_a_worktree_task_to_its_pool() -> None:
    def queued(isolation: Isolation) -> str:
        return queue_of(
            Task(
                id="t",
                project="p",
                title="",
                model="opus",
                backend="claude",
                isolation=isolation,
                host="build-1",
                created=AT,
                pool="big",
            )
        )

    assert queued(Isolation.SHARED) == "dispatch.host.build-1"
    assert queued(Isolation.WORKTREE) == "dispatch.big.claude"
