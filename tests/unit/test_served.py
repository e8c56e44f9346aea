"""Why a queued task is taken by no worker."""

import dataclasses
import os
from pathlib import Path

import pytest

from dispatch_queue.home import host_name
from dispatch_queue.overview import Unserved
from dispatch_queue.record import Isolation, Task
from dispatch_queue.served import FRESH_SECONDS, Served, keep, kept, unserved
from tests.support.cards import TASK

HERE = f"dispatch.host.{host_name()}"
SHARED = dataclasses.replace(TASK, isolation=Isolation.SHARED, host=host_name())
CODEX = dataclasses.replace(TASK, backend="codex")
QUEUE = "dispatch.local.codex"
OTHERS = frozenset({"dispatch.local.shell"})
NO_LIVE = f"no live worker on {host_name()}"


@pytest.mark.parametrize(
    ("task", "served", "own", "why"),
    [
        (CODEX, Served(frozenset({QUEUE})), True, None),
        (CODEX, Served(frozenset({QUEUE}), stopping=frozenset({QUEUE})), True, None),
        (CODEX, Served(OTHERS), True, ("no live worker serves backend codex", "dispatch doctor")),
        (CODEX, Served(), True, ("no live worker serves backend codex", "dispatch up")),
        (CODEX, Served(), False, ("no live worker serves backend codex", "dispatch worker")),
        (
            dataclasses.replace(CODEX, pool="gpu"),
            Served(frozenset({QUEUE})),
            False,
            ("no live worker serves backend codex in pool gpu", "dispatch doctor"),
        ),
        (
            CODEX,
            Served(OTHERS, stopping=frozenset({QUEUE})),
            False,
            ("the last worker that serves backend codex is stopping, and takes nothing new", "dispatch worker"),
        ),
        (SHARED, Served(frozenset({HERE})), True, None),
        (SHARED, Served(), True, (NO_LIVE, "dispatch up")),
        (SHARED, Served(OTHERS), False, (NO_LIVE, "dispatch worker")),
        (
            SHARED,
            Served(stopping=frozenset({HERE})),
            True,
            (f"the worker on {host_name()} is stopping, and takes nothing new", "dispatch up  # when it has ended"),
        ),
        (
            dataclasses.replace(SHARED, host="build-9"),
            Served(frozenset({HERE})),
            False,
            ("no live worker on build-9", "dispatch worker  # on build-9"),
        ),
        (
            dataclasses.replace(SHARED, host="old-name"),
            Served(frozenset({HERE})),
            True,
            (
                "no live worker on old-name: this machine had another name",
                "dispatch down; DISPATCH_HOST=old-name dispatch up",
            ),
        ),
        (
            SHARED,
            Served(frozenset({"dispatch.host.old-name"})),
            True,
            (f"{NO_LIVE}: this machine had another name", "dispatch down; dispatch up"),
        ),
        (
            dataclasses.replace(SHARED, host="old-name"),
            Served(),
            True,
            ("no live worker on old-name", "DISPATCH_HOST=old-name dispatch up"),
        ),
    ],
)
def test_a_queue_that_no_live_worker_consumes_is_a_reason_with_its_command(
    task: Task, served: Served, own: bool, why: tuple[str, str] | None
) -> None:
    assert unserved(task, served, own_server=own) == (Unserved(*why) if why else None)


def test_what_workers_say_of_themselves_is_what_is_served() -> None:
    workers = [{"queues": "a b"}, {"queues": "b c", "stopping": "1"}, {}]

    assert Served.by(workers) == Served(frozenset("ab"), stopping=frozenset("bc"))


def test_what_was_kept_is_believed_while_it_is_fresh(tmp_path: Path) -> None:
    served = Served(frozenset("ab"), stopping=frozenset("c"))
    assert kept(tmp_path) is None

    keep(tmp_path, served)

    assert kept(tmp_path) == served
    path = tmp_path / "run/served.json"
    written = path.stat().st_mtime - FRESH_SECONDS
    os.utime(path, (written, written))
    assert kept(tmp_path) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"live": 1, "stopping": []}', b"\xff"])
def test_a_file_that_cannot_be_read_tells_nothing(tmp_path: Path, data: bytes) -> None:
    keep(tmp_path, Served())
    (tmp_path / "run/served.json").write_bytes(data)

    assert kept(tmp_path) is None
