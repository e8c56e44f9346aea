"""The seed of this run, told to every test process and printed; what was measured, printed at the end.

DISPATCH_CHAOS_SEED repeats a run's decisions, DISPATCH_CHAOS_KILLS and DISPATCH_CHAOS_SECONDS say how much of it.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import arena as arenas
from tests.chaos.arena import Arena
from tests.chaos.observer import Observer

# Read at once: tests/conftest.py takes out of the environment what begins with DISPATCH_.
_GIVEN = {name: os.environ.get(f"DISPATCH_CHAOS_{name}", "") for name in ("SEED", "KILLS", "SECONDS")}

KILLS, SECONDS = 50, 240.0
WHOLE_RUN_SECONDS = 1200.0  # of all tests here; they need some 300, twice that beside other work


@dataclass(frozen=True)
class Plan:
    """How much chaos: so many kills, but no new one after so many seconds."""

    seed: int
    kills: int
    seconds: float


plan_key = pytest.StashKey[Plan]()


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", {}).get("chaos", _GIVEN)
    seed = int(told["SEED"] or random.SystemRandom().randrange(10**6))
    config.option.session_timeout = config.option.session_timeout or WHOLE_RUN_SECONDS
    config.stash[plan_key] = Plan(seed, int(told["KILLS"] or KILLS), float(told["SECONDS"] or SECONDS))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    plan: Plan = node.config.stash[plan_key]  # type: ignore[attr-defined]
    told = {"SEED": str(plan.seed), "KILLS": str(plan.kills), "SECONDS": str(plan.seconds)}
    node.workerinput["chaos"] = told  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> str:
    plan = config.stash[plan_key]
    return f"chaos: DISPATCH_CHAOS_SEED={plan.seed}, {plan.kills} kills within {plan.seconds:g} s"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_sep("-", f"chaos, seed {config.stash[plan_key].seed}: what was measured")
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {name}: {value}")


@pytest.fixture
def chaos(pytestconfig: pytest.Config) -> Plan:
    return pytestconfig.stash[plan_key]


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """A server, and no worker yet."""
    with arenas.opened(tmp_path) as arena:
        yield arena


@pytest.fixture
def observer(arena: Arena) -> Iterator[Observer]:
    """Watches the arena from its first moment to its last."""
    plans = ("project/.dispatch/tasks/*/plan.md", "d/worktrees/*/*/.dispatch/tasks/*/plan.md")
    made = Observer(arena.box.folder, plans)
    yield made
    made.close()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Notes a figure, which the end of the run prints."""
    return record_property
