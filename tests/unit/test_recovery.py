"""What a failure of a CLI or its provider means: every branch of the decision."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from dispatch_queue.clock import stamp
from dispatch_queue.config.schema import Config, LimitsSection, Model
from dispatch_queue.record import Isolation, Standing, Task
from dispatch_queue.states import Event
from worker.backends.failures import Failure, Fault
from worker.limits import family, hold_name, limits_for, setting
from worker.recovery import LONGEST_LIMIT, MARGIN, MOST_STALLS, PAUSES, REASONS, Setting, held_back, recover

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALONE = Setting(backend="claude", model="opus", host="here", hold="account/opus")
BACKED = dataclasses.replace(ALONE, others=("claude/sonnet", "codex/gpt-5.3-codex"))
IN_AN_HOUR = Fault(Failure.LIMIT, "You've hit your limit", NOW + timedelta(hours=1))


def fault(kind: Failure) -> Fault:
    return Fault(kind, "what it said")


@pytest.mark.parametrize("kind", [Failure.AUTH, Failure.MODEL, Failure.CREDIT, Failure.MISSING, Failure.ROOT])
def test_what_waiting_cannot_mend_fails_or_goes_to_the_next_model(kind: Failure) -> None:
    alone, backed = recover(fault(kind), ALONE, NOW), recover(fault(kind), BACKED, NOW)

    assert (alone.event, alone.reason.partition(" (")[0]) == (Event.FAIL, f"{REASONS[kind]}: what it said")
    assert (backed.event, backed.instead) == (Event.GIVE_BACK, "claude/sonnet")
    assert backed.reason == f"sonnet takes over from opus: {REASONS[kind]}: what it said"
    assert not alone.counts
    assert not backed.counts


def test_an_option_that_is_not_taken_names_the_key_and_the_command_that_settle_it() -> None:
    assert recover(fault(Failure.OPTION), ALONE, NOW).reason == (
        "start: what it said; correct `backends.claude.command`, see dispatch doctor (claude on here)"
    )


def test_an_account_without_credit_is_not_called_a_limit() -> None:
    assert recover(fault(Failure.CREDIT), ALONE, NOW).reason.startswith("credit: ")


@pytest.mark.parametrize("kind", [Failure.AUTH, Failure.MISSING, Failure.ROOT])
def test_what_is_the_machines_fault_names_it(kind: Failure) -> None:
    assert recover(fault(kind), ALONE, NOW).reason.endswith(" (claude on here)")


def test_a_reached_budget_is_no_reason_to_spend_with_another_model() -> None:
    assert recover(fault(Failure.BUDGET), BACKED, NOW).event is Event.FAIL


def test_a_limit_with_a_time_is_waited_for_and_held_for_others() -> None:
    verdict = recover(IN_AN_HOUR, ALONE, NOW)

    until = stamp(NOW + timedelta(hours=1) + MARGIN)
    assert (verdict.event, verdict.until, verdict.hold) == (Event.LIMIT, until, ("account/opus", until))
    assert verdict.reason.startswith("claude limit until 2026-")
    assert not verdict.stalls


def test_a_limit_with_a_time_goes_to_the_next_model_and_is_held_for_others_all_the_same() -> None:
    verdict = recover(IN_AN_HOUR, BACKED, NOW)

    assert (verdict.event, verdict.instead) == (Event.GIVE_BACK, "claude/sonnet")
    assert verdict.hold == ("account/opus", stamp(NOW + timedelta(hours=1) + MARGIN))


def test_to_be_held_back_does_not_make_the_limit_longer() -> None:
    verdict = held_back(NOW, ALONE)

    assert (verdict.until, verdict.hold) == (stamp(NOW), ("account/opus", stamp(NOW)))


@pytest.mark.parametrize("until", [NOW + LONGEST_LIMIT + timedelta(seconds=1), None])
def test_a_limit_without_a_time_to_believe_is_tried_again_and_holds_nobody(until: datetime | None) -> None:
    verdict = recover(Fault(Failure.LIMIT, "usage limit", until), BACKED, NOW)

    assert (verdict.event, verdict.until) == (Event.LIMIT, stamp(NOW + PAUSES[Failure.LIMIT].first))
    assert verdict.hold is None


@pytest.mark.parametrize("until", [NOW, NOW - timedelta(seconds=1)])
def test_a_limit_that_ended_meanwhile_is_tried_again_soon(until: datetime) -> None:
    verdict = recover(Fault(Failure.LIMIT, "usage limit", until), BACKED, NOW)

    assert (verdict.event, verdict.until) == (Event.LIMIT, stamp(NOW + PAUSES[Failure.RATE].first))
    assert verdict.hold is None


@pytest.mark.parametrize("kind", PAUSES)
def test_a_passing_failure_waits_longer_each_time_and_not_for_ever(kind: Failure) -> None:
    waits = []
    for stalls in range(MOST_STALLS):
        verdict = recover(fault(kind), dataclasses.replace(BACKED, stalls=stalls), NOW)
        assert (verdict.event, verdict.stalls) == (Event.LIMIT, stalls + 1)
        waits.append(verdict.until)
    assert waits == sorted(waits)
    assert waits[1] == stamp(NOW + 2 * PAUSES[kind].first)
    assert waits[-1] == stamp(NOW + PAUSES[kind].longest)

    assert recover(fault(kind), dataclasses.replace(BACKED, stalls=MOST_STALLS), NOW).instead == "claude/sonnet"
    last = recover(fault(kind), dataclasses.replace(ALONE, stalls=MOST_STALLS), NOW)
    assert (last.event, last.reason) == (Event.FAIL, f"{REASONS[kind]}: what it said, {MOST_STALLS + 1} times in a row")


def test_every_kind_of_failure_has_its_reason() -> None:
    assert set(REASONS) == set(Failure)


# -- what the decision is given ---------------------------------------------------------------------------------------

TASK = Task(
    id="work",
    project="p",
    title="Work",
    model="opus",
    backend="claude",
    isolation=Isolation.SHARED,
    host="here",
    created=stamp(NOW),
    fallback=("claude/sonnet", "claude/haiku", "codex/gpt-5.3-codex"),
)
CONFIG = Config(models={"opus": Model("claude")})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("opus", "opus"),
        ("opus-4.6-thinking", "opus"),
        ("Sonnet-4.6", "sonnet"),
        ("gpt-5.3-codex", "openai"),
        ("gemini-2.5-pro", "gemini"),
        ("shell", "other"),
    ],
)
def test_models_of_a_family_share_an_allowance(model: str, name: str) -> None:
    assert family(model) == name


def test_what_takes_over_is_what_did_not_fail_and_is_not_held() -> None:
    holds = {hold_name(CONFIG, "claude", "haiku", "here"): NOW}

    first = setting(CONFIG, TASK, Standing(), "here", holds, progressed=False)
    second = setting(
        CONFIG, TASK, Standing(model="sonnet", backend="claude", failed=("opus",)), "here", holds, progressed=False
    )

    assert first.others == ("claude/sonnet", "codex/gpt-5.3-codex")
    assert second.others == ("codex/gpt-5.3-codex",)
    assert (first.model, second.model) == ("opus", "sonnet")


def test_an_item_that_was_checked_ends_a_row_of_failures() -> None:
    standing = Standing(stalls=4)

    assert setting(CONFIG, TASK, standing, "here", {}, progressed=False).stalls == 4
    assert setting(CONFIG, TASK, standing, "here", {}, progressed=True).stalls == 0


def test_accounts_are_told_apart_without_telling_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for key in ("", "sk-ant-one", "sk-ant-two"):
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        names.add(hold_name(CONFIG, "claude", "opus", "here"))

    assert len(names) == 3
    assert "here/opus" in names
    assert not any("sk-ant" in name for name in names)


def test_an_attempt_counts_for_the_limits_of_its_model_its_backend_and_its_host() -> None:
    limits = LimitsSection({"opus": 2, "sonnet": 1}, {"claude": 4}, {"here": 3, "there": 1})

    found = [(one.field, one.value, one.most) for one in limits_for(limits, TASK, "here")]

    assert found == [("model", "opus", 2), ("backend", "claude", 4), ("host", "here", 3)]
