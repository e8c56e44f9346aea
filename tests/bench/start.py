"""start and cold: a submit from this process, and commands from their start to their end."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dispatch_queue.record import Isolation
from dispatch_queue.taskdir import TaskDir
from tests.bench import clocked
from tests.bench.clocked import now
from tests.bench.figures import Sample, Series, percentile
from tests.bench.peers import Peers
from tests.bench.stage import Stage

START_AIM_MS = 60.0
LS_AIM_MS = 150.0
SUBMIT_AIM_TIMES = 1.3  # of `rq enqueue`
LISTED_TASKS = 20

DISPATCH, SUBMIT, ENQUEUE = "dispatch", "dispatch submit", "rq enqueue"
LS = f"dispatch ls, of {LISTED_TASKS} tasks"

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one submit, in milliseconds: called, returned, and the agent's first act."""

    called: float
    returned: float
    began: float


def in_process(stage: Stage, peers: Peers, times: int) -> Iterator[Series]:
    """A warm producer. The kinds take turns, so that a busy moment of the machine meets all of them."""
    kinds = {
        "in a process, shared checkout": {
            DISPATCH: lambda: _dispatch(stage, Isolation.SHARED),
            "Celery": lambda: _peer(stage, peers.send_celery),
            "RQ": lambda: _peer(stage, peers.send_rq),
            "fork+exec": lambda: _fork(stage),
        },
        "in a process, worktree": {
            DISPATCH: lambda: _dispatch(stage, Isolation.WORKTREE),
            "git worktree add, fork+exec": lambda: _fork_in_worktree(stage),
        },
    }
    ways = {(kind, name): way for kind, named in kinds.items() for name, way in named.items()}
    taken = _in_turn(stage, ways, times)
    for (kind, name), found in taken.items():
        aim = START_AIM_MS if name == DISPATCH else None
        values = tuple(one.began - one.returned for one in found)
        yield Series("start", f"{kind}: submit returned → agent", name, "ms", values, aim, name != DISPATCH)
    for (kind, name), found in taken.items():
        values = tuple(one.began - one.called for one in found)
        yield Series("start", f"{kind}: submit called → agent", name, "ms", values, None, name != DISPATCH)


def commands(stage: Stage, peers: Peers, times: int) -> Iterator[Series]:
    """`dispatch submit` and the like as whole commands: for `start` from their end, for `cold` themselves."""
    ways = {
        SUBMIT: lambda: _submit(stage),
        "celery call": lambda: _call(stage, peers.celery_words, peers.env),
        ENQUEUE: lambda: _call(stage, peers.rq_words, peers.env),
    }
    taken = _in_turn(stage, ways, times)
    for name, found in taken.items():
        aim = START_AIM_MS if name == SUBMIT else None
        values = tuple(one.began - one.returned for one in found)
        yield Series("start", "as a command: ended → agent", name, "ms", values, aim, name != SUBMIT)
    for name, found in taken.items():
        values = tuple(one.began - one.called for one in found)
        yield Series("start", "as a command: begun → agent", name, "ms", values, None, name != SUBMIT)
    lasted = {name: tuple(one.returned - one.called for one in found) for name, found in taken.items()}
    for name, values in lasted.items():
        yield Series("cold", "that submit", name, "ms", values, None, name != SUBMIT)
    quotient = percentile(lasted[SUBMIT], 50) / percentile(lasted[ENQUEUE], 50)
    yield Series("cold", "that submit", f"{SUBMIT} ÷ {ENQUEUE}", "×", (quotient,), SUBMIT_AIM_TIMES)


def cold(stage: Stage, times: int) -> Iterator[Series]:
    """Commands that only read, and what Python itself needs."""
    project = stage.box.folder / "listed"
    project.mkdir()
    for _ in range(LISTED_TASKS):
        stage.wait_until_done(stage.submit("noop", project=project).home)
    ways = {
        LS: stage.command("ls"),
        "dispatch --version": stage.command("--version"),
        "python -c pass": [sys.executable, "-c", "pass"],
        "sh -c :": ["/bin/sh", "-c", ":"],
    }
    taken = Sample()
    for _ in range(times):
        for name, words in ways.items():
            stage.rest()
            begin, end = clocked.run(words, stage.env, project)
            taken.add(name, end - begin)
    for name in ways:
        yield Series("cold", "that read", name, "ms", taken.of(name), LS_AIM_MS if name == LS else None)


def _in_turn(stage: Stage, ways: Mapping[Name, Callable[[], Times]], times: int) -> dict[Name, list[Times]]:
    taken: dict[Name, list[Times]] = {name: [] for name in ways}
    for turn in range(times + 1):
        for name, way in ways.items():
            one = way()
            if turn:  # the first one warms the files and the connections
                taken[name].append(one)
            stage.rest()
    return taken


def _dispatch(stage: Stage, isolation: Isolation) -> Times:
    called = now()
    sent = stage.submit("noop", isolation)
    returned = now()
    began = stage.first_acts.of(sent.task.id)
    stage.wait_until_done(sent.home)
    return Times(called, returned, began)


def _peer(stage: Stage, send: Callable[..., None]) -> Times:
    name = stage.new_name()
    called = now()
    send(str(stage.noop), name)
    returned = now()
    return Times(called, returned, stage.first_acts.of(name))


def _fork(stage: Stage) -> Times:
    name = stage.new_name()
    called = now()
    with subprocess.Popen([str(stage.noop), name], env=stage.env, stdin=subprocess.DEVNULL):
        began = stage.first_acts.of(name)
    return Times(called, called, began)  # Popen returns when the program runs: there is no submit to return from


def _fork_in_worktree(stage: Stage) -> Times:
    name = stage.new_name()
    place = stage.box.folder / "worktrees" / name
    called = now()
    add = ["git", "worktree", "add", "--quiet", "-b", name, str(place)]
    subprocess.run(add, env=stage.env, cwd=stage.box.project, stdin=subprocess.DEVNULL, check=True)
    with subprocess.Popen([str(stage.noop), name], env=stage.env, cwd=place, stdin=subprocess.DEVNULL):
        began = stage.first_acts.of(name)
    remove = ["git", "worktree", "remove", "--force", str(place)]
    subprocess.run(remove, env=stage.env, cwd=stage.box.project, stdin=subprocess.DEVNULL, check=True)
    return Times(called, called, began)


def _submit(stage: Stage) -> Times:
    home = TaskDir(stage.box.project, stage.new_name())
    begin, end = clocked.run(
        stage.command("submit", "--model", "noop", "--item", "nothing", "--name", home.id), stage.env, stage.box.project
    )
    began = stage.first_acts.of(home.id)
    stage.wait_until_done(home)
    return Times(begin, end, began)


def _call(stage: Stage, words: Callable[..., list[str]], env: Mapping[str, str]) -> Times:
    name = stage.new_name()
    begin, end = clocked.run(words(str(stage.noop), name), env, stage.box.project)
    return Times(begin, end, stage.first_acts.of(name))
