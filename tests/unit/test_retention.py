"""What the clean-up may remove: never what is unfinished, unproven or somebody else's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatch_queue.cli.gc import lines, summary
from dispatch_queue.states import FINAL, State
from worker import retention
from worker.retention import Known

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OVER = Known(
    exists=True, home=State.DONE, home_seq=9, changed="2026-10-01T12:00:00.000Z", redis=State.DONE, redis_seq=9
)
STAYS = {"worktrees": [], "branch": "", "branch_exists": False, "lost": False, "waiting": []}
UNFINISHED = sorted(set(State) - FINAL)


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize("place", ["home", "redis"])
def test_a_task_that_is_unfinished_in_either_place_is_not_over(state: State, place: str) -> None:
    known = replace(OVER, **{place: state})
    assert retention.why_not_over(known) == f"its task is {state}"
    assert state in retention.why_record_stays(known, **STAYS)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_task_is_over_also_when_redis_does_not_know_it(state: State) -> None:
    assert retention.why_not_over(replace(OVER, home=state, redis=None)) == ""


def test_a_task_whose_worker_still_ends_its_agent_is_not_over() -> None:
    assert "build-1:7" in retention.why_not_over(replace(OVER, held_by="build-1:7"))


def test_a_task_that_left_no_trace_is_over() -> None:
    assert retention.why_not_over(Known()) == ""


def test_a_record_that_cannot_be_read_keeps_everything() -> None:
    broken = replace(OVER, broken="task.yaml: is a link")
    assert retention.why_not_over(broken) != ""
    assert not retention.is_due(broken, NOW, 0)


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        ("2026-10-24T12:00:00.000Z", True),
        ("2026-10-24T12:00:00.001Z", False),
        ("2027-01-01T00:00:00.000Z", False),
        ("2026-10-01", False),
        ("", False),
        ("yesterday", False),
    ],
)
def test_a_record_is_due_when_its_task_ended_so_many_days_ago(changed: str, due: bool) -> None:
    assert retention.is_due(replace(OVER, changed=changed), NOW, 30) is due


@pytest.mark.parametrize("state", UNFINISHED)
def test_no_age_makes_the_record_of_an_unfinished_task_due(state: State) -> None:
    assert not retention.is_due(replace(OVER, home=state), NOW, 0)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"worktrees": ["fix.1"]}, "its worktree is kept: fix.1"),
        ({"branch": "dispatch/fix", "lost": True}, "its branch dispatch/fix is gone, and its commit is on no other"),
        ({"branch": "dispatch/fix", "branch_exists": True, "lost": True}, ""),
        ({"branch": "dispatch/fix"}, ""),
        ({"waiting": ["later"]}, "later waits for it"),
        ({}, ""),
    ],
)
def test_a_due_record_stays_while_something_needs_it(seen: dict[str, object], said: str) -> None:
    assert retention.why_record_stays(OVER, **(STAYS | seen)) == said  # type: ignore[arg-type]


def test_a_record_stays_until_its_newest_events_are_in_its_directory() -> None:
    assert "not in its directory" in retention.why_record_stays(replace(OVER, redis_seq=10), **STAYS)


@pytest.mark.parametrize("state", sorted(State))
def test_redis_forgets_a_task_without_a_directory_unless_it_runs(state: State) -> None:
    why = retention.why_orphan_stays(Known(redis=state, redis_seq=1))
    assert bool(why) is (state in (State.RUNNING, State.ASKING))
    assert retention.why_orphan_stays(replace(OVER, redis=state)) is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (".plan.md.0123456789ab.tmp", True),
        (".001.answer.0123456789ab.tmp", True),
        (".build-api.4711.making", True),
        (".build-api.0123456789ab.forgotten", True),
        (".plan.tmp", False),
        ("plan.md.0123456789ab.tmp", False),
        (".plan.md.0123456789ab", False),
        ("build-api", False),
        (".unsent", False),
    ],
)
def test_only_what_we_were_making_is_a_leftover_and_only_after_a_while(name: str, is_one: bool) -> None:
    assert retention.is_leftover(name, timedelta(hours=2)) is is_one
    assert not retention.is_leftover(name, timedelta(minutes=61))
    assert not retention.is_leftover(name, timedelta(hours=-5))


@pytest.mark.parametrize(
    ("minutes", "due"), [(None, True), (1, False), (59, False), (60, True), (600, True), (-1, True)]
)
def test_a_host_is_cleaned_up_once_an_hour_whatever_its_clock_does(minutes: int | None, due: bool) -> None:
    last = None if minutes is None else NOW - timedelta(minutes=minutes)
    assert retention.is_sweep_due(last, NOW) is due


@pytest.mark.parametrize(
    ("name", "task"),
    [("fix.1", "fix"), ("fix-it.12-3", "fix-it"), ("fix", None), ("fix.1.bak", None), ("Fix.1", None), (".1", None)],
)
def test_the_folder_of_a_worktree_names_its_task(name: str, task: str | None) -> None:
    assert retention.task_of_worktree(name) == task


@pytest.mark.parametrize(
    ("ref", "owners"),
    [
        ("refs/dispatch/fix/wip", {"fix"}),
        ("refs/dispatch/fix-2/base", {"fix-2", "fix"}),
        ("refs/dispatch/fix/other", set()),
        ("refs/dispatch/a/b/wip", set()),
        ("refs/heads/fix/wip", set()),
    ],
)
def test_a_ref_may_belong_to_the_task_of_its_name_or_to_the_one_without_the_number(ref: str, owners: set[str]) -> None:
    assert retention.owners_of_ref(ref) == owners


ITEMS = [
    {"kind": "worktree", "name": "/w/fix.1", "reason": "", "look": "", "removed": True},
    {
        "kind": "worktree",
        "name": "/w/b.2",
        "reason": "not committed: a",
        "look": "git -C /w/b.2 status",
        "removed": False,
    },
    {"kind": "record", "name": "/p/\x1b[2J", "reason": "", "look": "", "removed": True},
]


def test_what_is_kept_is_told_with_the_reason_and_the_command_that_looks_at_it() -> None:
    assert lines(ITEMS, dry_run=False) == [
        "removed  worktree  /w/fix.1",
        "kept     worktree  /w/b.2: not committed: a",
        "         git -C /w/b.2 status",
        "removed  record    /p/\\x1b[2J",
    ]
    assert lines(ITEMS, dry_run=True)[0] == "would remove  worktree  /w/fix.1"
    assert summary(ITEMS, dry_run=False) == "1 worktree, 1 record removed, 1 kept"
    assert summary([], dry_run=True) == "nothing would be removed"
