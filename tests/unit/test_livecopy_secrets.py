"""Secrets of the environment in a plan: what the agent wrote is masked, what a person wrote stays."""

from pathlib import Path

import pytest

from dispatch_queue.record import Entry
from dispatch_queue.taskdir import TASKS, TaskDir
from worker.livecopy import LiveCopy
from worker.masking import Masker

PLAN = b"# Shop\n\nUse postgres.\n\n- [ ] start\n- [ ] clean: `rm -v g/postgres*`\n"


@pytest.fixture
def copy(tmp_path: Path) -> TaskDir:
    found = TaskDir(tmp_path, "shop")
    (tmp_path / TASKS / "shop/ipc").mkdir(parents=True)
    (found.path / "plan.md").write_bytes(PLAN)
    return found


@pytest.fixture
def live(copy: TaskDir) -> LiveCopy:
    return LiveCopy(copy, Masker({"POSTGRES_PASSWORD": "postgres"}))


def test_the_items_of_a_person_stay_as_they_are_while_they_are_ticked(copy: TaskDir, live: LiveCopy) -> None:
    ticked = PLAN.replace(b"[ ]", b"[x]").replace(b"clean: `rm -v g/postgres*`", b"~~clean: `rm -v g/postgres*`~~")
    copy.write("plan.md", ticked)

    live.look()

    assert copy.read("plan.md") == ticked == live.view.plan_bytes


def test_what_the_agent_adds_to_a_plan_is_masked_beside_items_that_stay(copy: TaskDir, live: LiveCopy) -> None:
    added = b"  it is postgres\n- [ ] try postgres\n"
    copy.write("plan.md", PLAN + added)

    live.look()

    masked = PLAN + added.replace(b"postgres", b"[POSTGRES_PASSWORD]")
    assert copy.read("plan.md") == masked == live.view.plan_bytes


def test_a_note_of_the_dispatcher_stays_as_it_is_and_comes_once(copy: TaskDir, live: LiveCopy) -> None:
    live.hear([Entry(seq=1, at="", by="", event="note", facts={"text": "take postgres\nand postgres"})], {})

    for _ in range(3):
        live.look()
        live.keep_notes()

    assert copy.read("plan.md").count(b"take postgres\n> and postgres") == 1
