"""Watches one agent from its start to the last of its processes: look, decide, act."""

import enum
import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dispatch_queue.clock import Clock
from worker.process import AgentProcess, ProcessExit
from worker.quiet import Attention, Quiet
from worker.transcript import Transcript

GRACE = timedelta(seconds=5)  # between TERM and KILL
HURRIED_GRACE = timedelta(seconds=0.5)  # the same, once the worker was told a second time to stop
PARK_GRACE = timedelta(seconds=30)  # for the agent to write context.md after its question timed out
LOOK_EVERY_SECONDS = 5.0
_READS_AT_ONCE = 16


class Stop(enum.StrEnum):
    """Why a supervisor ends its agent."""

    LOST = "lost"  # cancelled, or another worker holds the task
    DRAIN = "drain"  # the worker stops
    TIMEOUT = "timeout"
    PARK = "park"  # nobody answered, and the agent did not stop by itself
    BROKEN = "broken"  # the agent put something hostile into the task's record


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the world; times in seconds on one monotonic clock."""

    now: float
    exited: bool = False
    lost: bool = False
    broken: bool = False
    drain_at: float = float("inf")
    deadline: float = float("inf")
    asked_since: float | None = None  # the oldest open question
    question_timeout: float = float("inf")
    stopping: bool = False


def decide(seen: Seen) -> Stop | None:
    """Why to stop the agent now, or None to let it work. Once it is being stopped, or has ended, nothing more."""
    if seen.exited or seen.stopping:
        return None
    if seen.lost:
        return Stop.LOST
    if seen.broken:
        return Stop.BROKEN
    if seen.now >= seen.drain_at:
        return Stop.DRAIN
    if seen.now >= seen.deadline:
        return Stop.TIMEOUT
    if seen.asked_since is not None and seen.now >= seen.asked_since + seen.question_timeout:
        return Stop.PARK
    return None


def wait_seconds(seen: Seen) -> float:
    """How long nothing can become due, if nothing happens."""
    due = [seen.deadline, seen.drain_at]
    if seen.asked_since is not None:
        due.append(seen.asked_since + seen.question_timeout)
    return max(0.0, min(due) - seen.now)


class Mailbox:
    """What other threads tell a supervisor; waking it costs one byte in a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._lock = threading.Lock()
        self._words: set[str] = set()
        self._closed = False

    def fileno(self) -> int:
        return self._read

    def tell(self, word: str) -> None:
        """`files` changed, `news` came through Redis, `drain` or `drain-now`: the worker stops."""
        with self._lock:
            if self._closed:
                return
            first = not self._words
            self._words.add(word)
            if first:
                os.write(self._write, b"!")

    def take(self) -> set[str]:
        """What was told since the last call."""
        with self._lock:
            words, self._words = self._words, set()
            if words:
                os.read(self._read, 1)
            return words

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)


@dataclass(frozen=True, slots=True)
class Watching:
    """What a supervisor asks of its attempt at each turn."""

    lost: bool
    broken: bool
    asked_since: float | None
    stirred: bool = False  # the agent changed something in its record


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds. `question` is until `overdue` is called, or else the agent is parked."""

    timeout: float
    question: float
    drain: Callable[[], float]  # asked when the worker stops
    quiet: float


def supervise(
    process: AgentProcess,
    mailbox: Mailbox,
    transcript: Transcript,
    turn: Callable[[set[str]], Watching],
    *,
    clock: Clock,
    limits: Limits,
    overdue: Callable[[], bool] = lambda: False,
    quiet: Callable[[Quiet | None], None] = lambda change: None,
) -> tuple[ProcessExit, Stop | None]:
    """Run until no process of the agent is left. `turn` is called with what was told, at the start and at each news.

    `overdue` may deal with a question that nobody answered; `quiet` is told when the agent falls quiet, and with
    None when it stirs again. Returns how the agent ended and why we stopped it, if we did.
    """
    poll = select.poll()
    for handle in (process.output, process.status, mailbox.fileno()):
        poll.register(handle, select.POLLIN)
    attention = Attention(process.pid, now=clock.monotonic(), after=limits.quiet)
    deadline = clock.monotonic() + limits.timeout
    drain_at = float("inf")
    stopped: Stop | None = None
    ended: ProcessExit | None = None
    words: set[str] = {"files", "news"}
    output_open = True
    watching = turn(words)
    while True:
        now = clock.monotonic()
        if "drain" in words:
            drain_at = min(drain_at, now + limits.drain())
        hurried = "drain-now" in words
        if hurried:
            drain_at = now
        seen = Seen(
            now=now,
            exited=ended is not None,
            lost=watching.lost,
            broken=watching.broken,
            drain_at=drain_at,
            deadline=deadline,
            asked_since=watching.asked_since,
            question_timeout=limits.question,
            stopping=stopped is not None,
        )
        reason = decide(seen)
        if reason is Stop.PARK and overdue():
            watching = turn({"files"})
            continue
        if reason is not None:
            stopped = reason
            process.terminate(HURRIED_GRACE if hurried else GRACE)
        elif hurried:
            process.terminate(HURRIED_GRACE)
        if ended is not None and not output_open:
            return ended, stopped
        told = attention.look(now)
        if told is not False:
            quiet(told)
        pause = min(LOOK_EVERY_SECONDS, limits.quiet / 4)
        if stopped is None:
            pause = min(pause, wait_seconds(seen))
        ready = {handle for handle, _ in poll.poll(pause * 1000)}
        if process.output in ready:
            attention.stirred(now)
            for _ in range(_READS_AT_ONCE):
                data = process.read_output()
                if data is None:
                    output_open = False
                    poll.unregister(process.output)
                    break
                if not data:
                    break
                transcript.write(data)
        if process.status in ready and ended is None:
            ended = process.read_status()
            if ended is not None:
                poll.unregister(process.status)
                while output_open and (data := process.read_output()):
                    transcript.write(data)
                output_open = False  # whoever holds the pipe still is no process of ours
        words = mailbox.take()
        if not ready:
            words.add("files")  # a file watch can fail, and sees nothing of a network disk
        if words:
            watching = turn(words)
            if watching.stirred:
                attention.stirred(now)
