"""Redis: the only module that imports it. Every change of a task is one call of `Store.change`."""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatch_queue import keys
from dispatch_queue.change import (
    NOTHING,
    Beaten,
    Change,
    Changed,
    GuardFailed,
    LimitReached,
    Outline,
    Pulled,
    Record,
    Waits,
    read_questions,
)
from dispatch_queue.errors import ClaimLost, Refused, StoreDown
from dispatch_queue.home import dispatch_home
from dispatch_queue.record import Ref, parse_entry
from dispatch_queue.states import State, moves

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_SECONDS = 5.0  # with None a half-open connection never recovers
HEALTH_CHECK_SECONDS = 5  # a connection that was idle for so long is tried before it is used
WORKER_FORGOTTEN_AFTER_SECONDS = 15
RECORDS_AT_ONCE = 500
TOKEN_LEAP_BYTES = 3  # by how much a token is larger than the one before, at most; Lua writes 10^14 as 1e+14
SCRIPTS = ("change", "pull", "beat", "enroll", "release", "resend", "show", "forget")


@contextlib.contextmanager
def _answering(url: str) -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
        said = "refused" if isinstance(error, (redis.ResponseError, redis.AuthenticationError)) else "does not answer"
        raise StoreDown(f"Redis at {_shown(url)} {said}: {error}", hint=_way_on(url)) from error


def _way_on(url: str) -> str:
    """What to do about a server that does not work for us: our own is started by a command, another by its owner."""
    if Path(unquote(urlsplit(url).path)).parent == dispatch_home() / "run":
        return "dispatch up"
    return "start or mend the Redis there, or name another one: `redis.url` in config.yaml, or DISPATCH_REDIS_URL"


def _shown(url: str) -> str:
    """`url` without its password, which may also stand in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Store:
    """A connection to Redis; safe for threads. Every method raises StoreDown when Redis does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.node = ""  # the worker this store is of, as Celery names it
        self._unreadable: set[Ref] = set()  # records that were complained about
        # No retry inside: a change that was sent may have happened, and only the caller knows whether to ask again.
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            health_check_interval=HEALTH_CHECK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        prelude = keys.lua_table(self._redis.connection_pool.connection_kwargs.get("db") or 0)
        self._scripts = {name: self._redis.register_script(prelude + _script(name)) for name in SCRIPTS}

    def close(self) -> None:
        self._redis.close()

    @property
    def shown(self) -> str:
        """Its URL without the password."""
        return _shown(self.url)

    def ping(self) -> None:
        with _answering(self.url):
            self._redis.ping()

    def check_writes(self) -> None:
        """Raise StoreDown while Redis answers and refuses what is written: it is full, or another's copy."""
        with _answering(self.url):
            self._redis.set(keys.written(), b"1")

    def change(self, ref: Ref, change: Change) -> Changed:
        """Do `change`, and tell the host of the home copy.

        Raises ClaimLost if the token is stale, GuardFailed, LimitReached, Refused if the state table has no such move,
        StoreDown (then the change may or may not have happened).
        """
        want: dict[str, Any] = {
            "fields": {key: _text(value) for key, value in change.fields.items()},
            "entries": list(change.entries),
            "node": self.node,
            "once": change.once,
            "at": change.at,
            "by": change.by,
        }
        if change.event is not None:
            want["moves"] = moves(change.event) | {state.value: state.value for state in change.stay}
        if change.token is not None:
            want["token"] = change.token
        if change.guard is not None:
            want["guard"] = list(change.guard)
        if change.claim:
            want["claim"] = int.from_bytes(os.urandom(TOKEN_LEAP_BYTES)) + 1
            want["begun"] = change.begun
        if change.limits:
            want["limits"] = [dataclasses.asdict(limit) for limit in change.limits]
        if change.hold is not None:
            want["hold"] = {"name": change.hold[0], "until": str(change.hold[1])}
        with _answering(self.url):
            answer: list[Any] = self._scripts["change"](args=[str(ref), json.dumps(want), *_flat(change.files)])
        match answer[0]:
            case b"ok":
                return Changed(int(answer[1]), State(answer[2].decode()), int(answer[3]), int(answer[4]))
            case b"stale":
                raise ClaimLost(ref.task, token=change.token or 0, held=int(answer[1]))
            case b"guard":
                raise GuardFailed(f"task `{ref.task}` changed meanwhile", state=answer[1].decode())
            case b"full":
                raise LimitReached(answer[1].decode(), int(answer[2]))
        state = answer[1].decode()
        raise Refused(f"task `{ref.task}` is {state or 'unknown'}", state=state)

    def enroll(
        self, ref: Ref, state: State, fields: Mapping[str, str | int], *, waits: Waits = NOTHING, at: str, by: str
    ) -> bool:
        """Make the record of a task that only files know; False: it exists by now and was left alone.

        `waits` is for a waiting task: it goes on at once if nothing of it is left.
        """
        told = {"after": [str(other) for other in waits.after], "due": waits.due_milliseconds, "at": at, "by": by}
        with _answering(self.url):
            return bool(self._scripts["enroll"](args=[str(ref), state, json.dumps(told), *_flat(fields)]))

    def release(self, ref: Ref, what: str, *, at: str, by: str) -> bool | None:
        """Take away one thing a waiting task waits for: `hold`, `due`, or all of it with "".

        Returns True if it is queued now, False if it waits on; None if it was not waiting.
        """
        with _answering(self.url):
            answer = int(self._scripts["release"](args=[str(ref), what, at, by]))
        return None if answer < 0 else bool(answer)

    def resend(self, ref: Ref, sent: int) -> bool:
        """Send the ticket of a queued task again, unless somebody did since the caller saw `sent` of them."""
        with _answering(self.url):
            return bool(self._scripts["resend"](args=[str(ref), sent]))

    def show(self, ref: Ref, *, taken: bool = False) -> None:
        """Tell Flower where a task stands. `taken`: this store's worker took a ticket of it, and is done with that."""
        with _answering(self.url):
            self._scripts["show"](args=[str(ref), self.node if taken else ""])

    def forget(self, ref: Ref, seq: int, *, unfinished: bool = False) -> bool | None:
        """Delete all that Redis knows of a final task, if the record still is at `seq` and no task waits for it.

        With `unfinished` also of one that is not final, but of which no attempt runs. None: there was no record.
        """
        with _answering(self.url):
            answer = int(self._scripts["forget"](args=[str(ref), seq, "1" if unfinished else ""]))
        return None if answer < 0 else bool(answer)

    def tickets(self, queue: str) -> list[bytes]:
        """The tickets that wait in a queue."""
        with _answering(self.url):
            return list(self._redis.lrange(keys.queue(queue), 0, -1))  # type: ignore[arg-type]

    def in_state(self, *states: State) -> list[Ref]:
        """The tasks in these states."""
        with _answering(self.url):
            found = self._redis.sunion([keys.in_state(state) for state in states])
        return _refs(found)

    def due(self) -> list[Ref]:
        """The tasks whose time has come, by the server's clock."""
        with _answering(self.url):
            seconds, microseconds = self._redis.time()
            now = int(seconds) * 1000 + int(microseconds) // 1000
            found = self._redis.zrangebyscore(keys.due(), 0, now)
        return _refs(found)

    def holds(self) -> dict[str, datetime]:
        """The families of models of accounts that are at their limit, and until when."""
        with _answering(self.url):
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(keys.holds())
            pipe.time()
            found, (seconds, _) = pipe.execute()
            until = {name.decode(): int(at) / 1000 for name, at in found.items()}
            over = [name for name, at in until.items() if at <= seconds]
            if over:
                self._redis.hdel(keys.holds(), *over)
        return {name: datetime.fromtimestamp(at, UTC) for name, at in until.items() if name not in over}

    def generation(self) -> str:
        """A word that stays while Redis keeps its data, and is another one after it lost them."""
        with _answering(self.url):
            self._redis.set(keys.generation(), os.urandom(8).hex(), nx=True)
            return (self._redis.get(keys.generation()) or b"").decode()  # type: ignore[union-attr]

    def beat(self, claims: Mapping[Ref, int]) -> "Beaten":
        """Raise the heartbeat of every claim (ref → token); returns those that are not ours any more."""
        if not claims:
            return Beaten((), ())
        order = list(claims)
        with _answering(self.url):
            pipe = self._redis.pipeline(transaction=False)
            for ref in order:
                self._scripts["beat"](args=[str(ref), claims[ref]], client=pipe)
            answers = pipe.execute()
        told = list(zip(order, answers, strict=True))
        return Beaten(*(tuple(ref for ref, answer in told if answer == missed) for missed in (0, -1)))

    def pull(self, ref: Ref, since: int) -> Pulled:
        """Entries and files of `ref` that are newer than `since`."""
        with _answering(self.url):
            seq, lines, files = self._scripts["pull"](args=[str(ref), since])
        names = [name.decode() for name in files[::2]]
        return Pulled(
            seq=int(seq),
            entries=tuple(parse_entry(line.decode()) for line in lines),
            files=dict(zip(names, files[1::2], strict=True)),
        )

    def record(self, ref: Ref) -> Record | None:
        """The task's record, or None."""
        return self.records([ref]).get(ref)

    def records(self, refs: Sequence[Ref] | None = None) -> dict[Ref, Record]:
        """The records of `refs`, or of every task. One that cannot be read, as of a newer version, is passed over."""
        with _answering(self.url):
            if refs is None:
                refs = _refs(self._redis.smembers(keys.tasks()))
            found: dict[Ref, Record] = {}
            for start in range(0, len(refs), RECORDS_AT_ONCE):
                pipe = self._redis.pipeline(transaction=False)
                some = refs[start : start + RECORDS_AT_ONCE]
                for ref in some:
                    pipe.hgetall(keys.record(ref))
                for ref, raw in zip(some, pipe.execute(), strict=True):
                    if b"state" in raw and (record := self._read(ref, raw)) is not None:
                        found[ref] = record
        return found

    def _read(self, ref: Ref, raw: Mapping[bytes, bytes]) -> Record | None:
        try:
            return Record.read(ref, {k.decode(): v.decode() for k, v in raw.items()})
        except ValueError as error:
            if ref not in self._unreadable:
                log.warning("the record of %s is left alone: %s", ref, error, extra={"action": "record_unreadable"})
                self._unreadable.add(ref)
            return None

    def outlines(self, refs: Sequence[Ref]) -> dict[Ref, Outline]:
        """What the records of `refs` say in short; nothing of those that there is none of, or none to be read."""
        with _answering(self.url):
            found: dict[Ref, Outline] = {}
            for start in range(0, len(refs), RECORDS_AT_ONCE):
                pipe = self._redis.pipeline(transaction=False)
                some = refs[start : start + RECORDS_AT_ONCE]
                for ref in some:
                    pipe.hmget(keys.record(ref), "state", "seq", "changed", "questions")
                for ref, raw in zip(some, pipe.execute(), strict=True):
                    with contextlib.suppress(ValueError):
                        state, seq, changed, questions = ((value or b"").decode() for value in raw)
                        found[ref] = Outline(State(state), int(seq or 0), changed, read_questions(questions))
        return found

    def announce(self, worker: str, facts: Mapping[str, str]) -> None:
        """Say that a worker lives, and what it serves. Forgotten a while after the last call."""
        with _answering(self.url):
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(keys.worker(worker), items=_flat(facts))
            pipe.expire(keys.worker(worker), WORKER_FORGOTTEN_AFTER_SECONDS)
            pipe.sadd(keys.workers(), worker)
            pipe.execute()

    def leave(self, worker: str) -> None:
        """Forget a worker."""
        with _answering(self.url):
            self._redis.delete(keys.worker(worker))
            self._redis.srem(keys.workers(), worker)

    def workers(self) -> dict[str, dict[str, str]]:
        """What every live worker said of itself."""
        with _answering(self.url):
            names = [name.decode() for name in self._redis.smembers(keys.workers())]  # type: ignore[union-attr]
            found = {}
            for name in names:
                facts = self._redis.hgetall(keys.worker(name))
                if facts:
                    found[name] = {k.decode(): v.decode() for k, v in facts.items()}  # type: ignore[union-attr]
                else:
                    self._redis.srem(keys.workers(), name)
        return found

    def listen(self, channel: str, *, timeout_seconds: float) -> "Listener":
        """Subscribe to a channel of refs. Close the listener when done."""
        return Listener(self.url, self._redis, channel, timeout_seconds)


class Listener:
    """News on one channel. What was said before it was made, or while Redis was away, is not heard."""

    def __init__(self, url: str, client: redis.Redis, channel: str, timeout_seconds: float) -> None:
        self._url, self._timeout = url, timeout_seconds
        with _answering(url):
            self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]
            self._pubsub.subscribe(channel)
            # The first message is the confirmation: from here on nothing is missed.
            if self._pubsub.get_message(timeout=SOCKET_TIMEOUT_SECONDS) is None:
                self._pubsub.close()
                raise redis.TimeoutError("no answer to SUBSCRIBE")

    def next(self) -> str | None:
        """The next message, or None when there was none in the time. Raises StoreDown."""
        with _answering(self._url):
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=self._timeout)
            # A connection that is only half there gives no error; what shows it is that no ping comes back.
            if message is None and self._pubsub.health_check_response_counter * self._timeout > SOCKET_TIMEOUT_SECONDS:
                raise redis.TimeoutError("no answer to PING")
        return message["data"].decode(errors="replace") if message else None

    def is_ready(self, *, within_seconds: float = 0.0) -> bool:
        """Whether `next` need not wait, or soon will not. Raises StoreDown."""
        connection = self._pubsub.connection
        with _answering(self._url):
            return connection is not None and bool(connection.can_read(timeout=within_seconds))

    def close(self) -> None:
        self._pubsub.close()


def _script(name: str) -> str:
    folder = resources.files("dispatch_queue") / "scripts"
    return "".join((folder / f"{part}.lua").read_text() for part in ("shown", "common", name))


def _refs(names: Any) -> list[Ref]:
    """The refs that these names are; what none of us wrote is passed over."""
    found = []
    for name in names:
        with contextlib.suppress(ValueError):
            found.append(Ref.parse(name.decode()))
    return found


def _text(value: str | int) -> str:
    """A field as Lua can read it: a name of a file in it may be no UTF-8."""
    return str(value).encode(errors="backslashreplace").decode()


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
