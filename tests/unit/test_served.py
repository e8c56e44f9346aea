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

HOST = host_name()
HERE = f"dispatch.host.{HOST}@{HOST}"
SHARED = dataclasses.replace(TASK, isolation=Isolation.SHARED, host=HOST)
CODEX = dataclasses.replace(TASK, backend="codex", host=HOST)
QUEUE = f"dispatch.local.codex@{HOST}"
OTHERS = frozenset({f"dispatch.local.shell@{HOST}"})
NO_LIVE = f"no live worker on {HOST}"


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
        (
            CODEX,
            Served(frozenset({"dispatch.local.codex@other", *OTHERS})),
            False,
            (f"no live worker on {HOST} serves backend codex", "dispatch worker"),
        ),
        (SHARED, Served(frozenset({HERE})), True, None),
        (SHARED, Served(), True, (NO_LIVE, "dispatch up")),
        (SHARED, Served(OTHERS), False, (NO_LIVE, "dispatch worker")),
        (
            SHARED,
            Served(stopping=frozenset({HERE})),
            True,
            (f"the worker on {HOST} is stopping, and takes nothing new", "dispatch up  # when it has ended"),
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
    workers = [{"queues": "a b", "host": "h1"}, {"queues": "b c", "host": "h2", "stopping": "1"}, {}]

    served = Served.by(workers)

    assert served == Served(frozenset({"a@h1", "b@h1"}), stopping=frozenset({"b@h2", "c@h2"}))
    assert (served.live_on("h1"), served.live_on("h2")) == (frozenset("ab"), frozenset())


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
