"""Tasks as a person looks at them, made without files."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dispatch_queue import plan
from dispatch_queue.overview import Card
from dispatch_queue.record import Isolation, Standing, Task
from dispatch_queue.states import State
from dispatch_queue.taskdir import TaskDir

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp.exe\u2066\x00\x7f\u200b"
TASK = Task(
    id="migrate-orders",
    project="shop-1a2b3c",
    title="Migrate the orders",
    model="opus",
    backend="claude",
    isolation=Isolation.WORKTREE,
    host="build-1",
    created="2026-11-23T11:40:00.000Z",
)
PLAN = plan.parse(b"- [x] Dump the table\n  12 GB\n- [?] Choose the database\n  which one?\n- [ ] Load it\n  soon\n")
BASE = Path("/nowhere")


def card(task_id: str = "migrate-orders", **values: Any) -> Card:
    told: dict[str, Any] = {
        "state": State.RUNNING,
        "worker": "build-2:7",
        "changed": "2026-11-23T11:48:00.000Z",
        "attempt": 1,
    }
    standing = Standing(**(told | values.pop("standing", {})))
    known: dict[str, Any] = {"task": dataclasses.replace(TASK, id=task_id), "plan": PLAN} | values
    return Card(**{"home": TaskDir(BASE, task_id), "standing": standing} | known)


ASKING = card(
    standing={"state": State.ASKING, "reason": "question 2", "questions": (2, 3)},
    questions={3: "and when?", 2: "which database should\nthe migration target?"},
)
FAILED = card("build-api", standing={"state": State.FAILED, "reason": "item: 2 'tests': no such file", "worker": ""})
