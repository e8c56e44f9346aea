"""parked: a worker with many parked tasks beside one with none, each with a server of its own.

Parked for real: an agent ran for each, asked its question and left. Then both workers are started anew, so that what is
compared is as old; every sample is taken of both, in turns or at once.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import redis

from dispatch_queue import embedded
from dispatch_queue.states import State
from tests.bench import clocked
from tests.bench.clocked import now
from tests.bench.figures import Sample, Series
from tests.bench.memory import size_mb
from tests.bench.stage import Stage
from tests.support.waiting import wait_for

AIM_TIMES = 1.1  # of what a worker with none needs
IDLE_WORKER = "idle worker"
QUEUED_AT_ONCE = 30
PARKED_WITHIN_SECONDS = 300.0
QUIET_WITHIN_SECONDS = 60.0
STARTS, STARTS_QUICK = 5, 2
IDLE, IDLE_QUICK = (6, 5.0), (2, 1.0)  # looks of so many seconds each


def measure(many: Stage, none: Stage, count: int, times: int, *, quick: bool) -> Iterator[Series]:
    """`many` gets `count` parked tasks, `none` none."""
    name = f"{count} parked"
    stages = {name: many, "none": none}
    _park(many, count)
    starts, looks = (STARTS_QUICK, IDLE_QUICK) if quick else (STARTS, IDLE)
    for found in (_starts(stages, starts), _idle(stages, *looks), _work(stages, times)):
        for group, unit, taken in found:
            of_many, of_none = (
                Series("parked", group, which, unit, taken.of(which), peer=which != name) for which in stages
            )
            yield from (of_many, of_none)
            if group.startswith(IDLE_WORKER):
                quotient = of_many.p50 / of_none.p50 if of_none.p50 else 1.0
                yield Series("parked", group, f"{name} ÷ none", "×", (quotient,), AIM_TIMES)


def _park(here: Stage, count: int) -> None:
    for _ in range(count):
        while len(here.store.in_state(State.QUEUED)) >= QUEUED_AT_ONCE:
            time.sleep(0.02)
        here.submit("asks")
    wait_for(lambda: len(here.store.in_state(State.PARKED)) == count, f"{count} parked tasks", PARKED_WITHIN_SECONDS)


def _starts(stages: Mapping[str, Stage], times: int) -> Iterator[tuple[str, str, Sample]]:
    """`dispatch down` and `dispatch up`, and the first task after it."""
    down, began, ended = Sample(), Sample(), Sample()
    for _ in range(times):
        for name, here in stages.items():
            begin, end = clocked.run(here.command("down"), here.env, here.box.project)
            down.add(name, end - begin)
            begin = now()
            here.box.run("up")
            sent = here.submit("noop")
            began.add(name, here.first_acts.of(sent.task.id) - begin)
            here.wait_until_done(sent.home)
            ended.add(name, now() - begin)
            here.rest()
    yield "`dispatch down`", "ms", down
    yield "`dispatch up` → a task's agent", "ms", began
    yield "`dispatch up` → a task's end, at home", "ms", ended


def _idle(stages: Mapping[str, Stage], looks: int, seconds: float) -> Iterator[tuple[str, str, Sample]]:
    """Both workers at once, with nothing to do."""
    workers = {name: psutil.Process(embedded.status(here.box.home).worker.pid) for name, here in stages.items()}
    servers = {name: redis.Redis.from_url(here.url) for name, here in stages.items()}
    cpu, commands, memory, threads, files = (Sample() for _ in range(5))
    wait_for(lambda: all(_is_quiet(worker) for worker in workers.values()), "idle workers", QUIET_WITHIN_SECONDS)
    for _ in range(looks):
        before = {name: (_cpu_seconds(workers[name]), _commands(servers[name])) for name in stages}
        begin = now()
        time.sleep(seconds)
        passed = (now() - begin) / 1000
        for name in stages:
            used, said = before[name]
            cpu.add(name, 100 * (_cpu_seconds(workers[name]) - used) / passed)
            commands.add(name, (_commands(servers[name]) - said - 1) / passed)  # less our own look
            memory.add(name, size_mb(workers[name]))
            threads.add(name, workers[name].num_threads())
            files.add(name, workers[name].num_fds())
    for server in servers.values():
        server.close()
    yield f"{IDLE_WORKER}: of a core", "%", cpu
    yield f"{IDLE_WORKER}: commands to Redis", "/s", commands
    yield f"{IDLE_WORKER}: PSS", "MB", memory
    yield f"{IDLE_WORKER}: threads", "", threads
    yield f"{IDLE_WORKER}: open files", "", files


def _work(stages: Mapping[str, Stage], times: int) -> Iterator[tuple[str, str, Sample]]:
    """A new task, and `dispatch ls`, which has that many more lines to print."""
    began, ended, listed = Sample(), Sample(), Sample()
    for _ in range(times):
        for name, here in stages.items():
            begin = now()
            sent = here.submit("noop")
            began.add(name, here.first_acts.of(sent.task.id) - begin)
            here.wait_until_done(sent.home)
            ended.add(name, now() - begin)
            here.rest()
            begin, end = clocked.run(here.command("ls"), here.env, here.box.project, output=subprocess.DEVNULL)
            listed.add(name, end - begin)
            here.rest()
    yield "submit → agent", "ms", began
    yield "submit → end, at home", "ms", ended
    yield "dispatch ls", "ms", listed


def _is_quiet(worker: psutil.Process) -> bool:
    before = _cpu_seconds(worker)
    time.sleep(0.5)
    return _cpu_seconds(worker) - before <= 0.02


def _cpu_seconds(process: psutil.Process) -> float:
    """What its threads have used, in nanoseconds where the system counts them: an idle worker needs little."""
    try:
        return (
            sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
            / 1e9
        )
    except (OSError, IndexError):
        used = process.cpu_times()
        return float(used.user + used.system)


def _commands(server: redis.Redis) -> int:
    found = server.info("commandstats")
    return sum(int(facts["calls"]) for facts in found.values())  # type: ignore[union-attr]
