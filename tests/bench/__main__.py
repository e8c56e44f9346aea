"""`python -m tests.bench [--quick] [--times N] [--json] [PART…]`: measure, print, leave nothing behind."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dispatch_queue.server import version_of
from tests.bench import live, machine, memory, parked, peers, recover, report, stage, start
from tests.bench.figures import PARTS, Series
from tests.conftest import FOREIGN, GIT_CONFIG

TIMES, TIMES_QUICK = 30, 4
RUNNING_TASKS, RUNNING_TASKS_QUICK = [1, 50, 200], [1, 10]
PARKED_TASKS, PARKED_TASKS_QUICK = 1000, 40
SPARE_SLOTS = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure; docs/bench.md says what and how.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {' '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a few samples of each, within a minute")
    parser.add_argument("--times", type=_number, metavar="N", help="so many samples of each")
    parser.add_argument("--json", action="store_true", help="print JSON, with every single value")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; the parts are: {' '.join(PARTS)}")
    parts = [part for part in PARTS if part in (arguments.parts or PARTS)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that it is tidied up
    try:
        with folder() as own:
            series, facts = measure(parts, own, quick=arguments.quick, times=arguments.times)
    except KeyboardInterrupt:
        sys.exit(130)
    if arguments.json:
        print(json.dumps(report.as_json(series, facts, quick=arguments.quick), indent=2, ensure_ascii=False))
    else:
        print(report.table(series, facts), end="")


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number from 1 on")
    return number


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own, and an environment in which nothing leads out of it."""
    own = Path(tempfile.mkdtemp(prefix="b-")).resolve()
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    (own / "gitconfig").write_text(GIT_CONFIG)
    os.environ.update(HOME=str(own), GIT_CONFIG_GLOBAL=str(own / "gitconfig"), GIT_CONFIG_NOSYSTEM="1", NO_COLOR="1")
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def measure(parts: list[str], own: Path, *, quick: bool, times: int | None) -> tuple[list[Series], dict[str, str]]:
    """Everything asked for, and what it was measured on."""
    kills = times or (recover.TIMES_QUICK if quick else recover.TIMES)
    times = times or (TIMES_QUICK if quick else TIMES)
    series: list[Series] = []
    facts: dict[str, str] = {}
    before = machine.busy()

    def take(found: Iterator[Series]) -> None:
        for one in found:
            series.append(one)
            say(one)

    def note(socket: Path) -> None:
        if not facts:
            facts.update(machine.facts(version_of(socket)))

    if {"start", "tick", "question", "answer", "cold"} & {*parts}:
        with stage.opened(own / "a") as here:
            note(here.socket)
            if {"start", "cold"} & {*parts}:
                with peers.running(here, slots=stage.SLOTS) as others:
                    if "start" in parts:
                        take(start.in_process(here, others, times))
                    take(one for one in start.commands(here, others, times) if one.part in parts)
            if "cold" in parts:
                take(start.cold(here, times))
            if "tick" in parts:
                take(live.ticks(here, times))
            if "question" in parts:
                take(live.questions(here, times))
            if "answer" in parts:
                take(live.answers(here, times))
    if "memory" in parts:
        counts = RUNNING_TASKS_QUICK if quick else RUNNING_TASKS
        with stage.opened(own / "m", slots=counts[-1] + SPARE_SLOTS) as here:
            note(here.socket)
            take(memory.ours(here, counts))
        with stage.opened(own / "p") as here, peers.running(here, slots=counts[1]) as others:
            take(memory.celery(here, others, counts[1]))
            take(memory.rq(here, others))
    if "parked" in parts:
        with stage.opened(own / "k") as many, stage.opened(own / "n") as none:
            note(many.socket)
            count = PARKED_TASKS_QUICK if quick else PARKED_TASKS
            take(parked.measure(many, none, count, times, quick=quick))
    if "recover" in parts:
        window_seconds = recover.WINDOW_SECONDS_QUICK if quick else recover.WINDOW_SECONDS
        with recover.server(own / "r") as server:
            note(server.socket)
            take(recover.measure(server, kills, window_seconds))
    return series, facts | {"busy before": before, "busy after": machine.busy()}


def say(one: Series) -> None:
    """Progress, on standard error."""
    print(f"bench: {one.part}: {one.group}: {one.name}: {one.p50:.1f} {one.unit}", file=sys.stderr)


if __name__ == "__main__":
    main()
