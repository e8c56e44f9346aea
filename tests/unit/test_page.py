"""`dispatch show`: the page of a task as literal text, and how much of a result.json is believed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue.caps import Caps
from dispatch_queue.cli.attempt import MEANING, Attempt, Failure, Offer, alone, cures, offer, switches
from dispatch_queue.cli.page import page
from dispatch_queue.config.schema import Config, Model
from dispatch_queue.overview import Doing, Warned
from dispatch_queue.plan import parse
from dispatch_queue.states import State
from dispatch_queue.taskdir import TaskDir
from dispatch_queue.usage import Usage
from tests.support.cards import ASKING, ESCAPES, NOW, TASK, card
from worker.backends import failures

# As worker/ending.py writes it.
RESULT: dict[str, Any] = {
    "attempt": 1,
    "started": "2026-11-23T11:50:00.000Z",
    "ended": "2026-11-23T11:55:00.000Z",
    "end": "give-back",
    "reason": "its worker stopped",
    "exit_status": 0,
    "signal": None,
    "stopped": "drain",
    "progressed": True,
    "backend": "claude",
    "resumed": False,
    "model": "claude-opus-5-5",
    "session": "s-1",
    "usage": {"input_tokens": 300, "cached_tokens": 60, "output_tokens": 50, "cost_usd": 1.25, "turns": 2},
    "denials": [],
    "retries": 0,
    "failure": None,
    "host": "build-1",
    "done": 1,
    "total": 3,
    "branch": "dispatch/migrate-orders",
    "commit": "c0ffee",
}
FAILURE = {"kind": "auth", "text": "Invalid API key", "until": None}


def read(**facts: Any) -> Attempt:
    return Attempt.read(RESULT | facts)


def test_the_page_of_a_task_that_asks() -> None:
    answers: list[dict[str, Any]] = [{"number": 1, "question": "go on?", "answer": "yes,\ngo on"}]
    shown = dataclasses.replace(
        ASKING,
        standing=dataclasses.replace(ASKING.standing, branch="dispatch/migrate-orders", attempt=2),
        doing=Doing("Bash: dispatch-ask 'which?'", "2026-11-23T11:59:20.000Z"),
    )

    assert (
        "\n".join(page(shown, [read(), Attempt(2)], answers, NOW))
        == """\
migrate-orders  asking  1/3: question 2
  Migrate the orders
  opus, worktree, submitted 20m ago

plan
  [x] 1. Dump the table
        12 GB
  [?] 2. Choose the database
        which one?
  [ ] 3. Load it

questions
  1. go on?
     → yes, go on
  2. which database should the migration target?  (open)
  3. and when?  (open)

attempts
  1. give-back: its worker stopped (5m ago on build-1)
     claude-opus-5-5, session s-1, 2 turns, 300 tokens in (60 cached), 50 out, $1.25
  2. running
     Bash: dispatch-ask 'which?' (40s)

branch  dispatch/migrate-orders

next
  dispatch answer migrate-orders 2 "…"
  dispatch answer migrate-orders 3 "…"
  dispatch logs migrate-orders -f
  dispatch note migrate-orders "…"
  dispatch diff migrate-orders"""
    )


def test_a_page_has_room_for_a_long_reason() -> None:
    reason = "agent: 1 attempt ended unfinished; unchecked: " + ", ".join(f"{n} 'Step {n}'" for n in range(40))
    failed = card(standing={"state": State.FAILED, "reason": reason})

    lines = page(failed, [read(end="fail", reason=reason)], [], NOW)

    assert lines[0].endswith(reason)
    assert any(f"1. fail: {reason} (5m ago" in text for text in lines)


def test_the_page_of_a_task_that_failed_says_why_and_what_to_do() -> None:
    failed = card(plan=parse(b"- [ ] One\n"), standing={"state": State.FAILED, "reason": "auth: Invalid API key"})
    attempt = read(
        end="fail",
        reason="auth: Invalid API key",
        session=None,
        usage=None,
        failure=FAILURE,
        retries=3,
        denials=["Bash: rm -rf old", "Write: /etc/passwd"],
        left=["build/"],
        kept="/w/1",
    )

    assert (
        "\n".join(page(failed, [attempt], [], NOW, offer=Offer("opus", ("gpt-5.3-codex", "gpt-5.2"))))
        == """\
migrate-orders  failed  0/1: auth: Invalid API key
  Migrate the orders
  opus, worktree, submitted 20m ago

plan
  [ ] 1. One

attempts
  1. fail: auth: Invalid API key (5m ago on build-1)
     claude-opus-5-5, tokens unknown, cost unknown
     auth: the CLI is not logged in, or its account may not do that
     3 retries by the CLI itself
     denied: Bash: rm -rf old, Write: /etc/passwd
     left behind: build/
     the work is in /w/1

next
  dispatch logs migrate-orders
  claude auth login  (on build-1)
  dispatch retry migrate-orders
  dispatch retry migrate-orders --model gpt-5.3-codex
  dispatch retry migrate-orders --model gpt-5.2"""
    )


def test_an_attempt_without_an_agent_of_a_provider_has_no_tokens_to_tell_of() -> None:
    for backend in ("shell", None):
        lines = page(card(), [read(backend=backend, session=None, usage=None)], [], NOW)
        assert lines[lines.index("attempts") + 1 :][:2] == [
            "  1. give-back: its worker stopped (5m ago on build-1)",
            "",
        ]


def test_a_failure_tells_until_when_and_its_words_where_the_reason_does_not() -> None:
    failure = {"kind": "limit", "text": "You've hit it", "until": "soon"}

    lines = page(card(), [read(reason="claude limit", failure=failure)], [], NOW)

    assert "     limit: the account's allowance is used up until soon: You've hit it" in lines


def test_the_page_of_a_record_that_cannot_be_read() -> None:
    broken = card(task=None, plan=None, broken="task.yaml: cannot be read", standing={"state": None})

    assert page(broken, [], [], NOW) == [
        "migrate-orders  broken  0/0",
        "the record cannot be read: task.yaml: cannot be read",
        "look into /nowhere/.dispatch/tasks/migrate-orders",
    ]


def test_the_page_of_a_task_that_ended_names_its_output(tmp_path: Path) -> None:
    home = TaskDir(tmp_path, "migrate-orders")
    home.path.mkdir(parents=True)
    (home.path / "output.md").touch()
    done = dataclasses.replace(card(standing={"state": State.DONE, "worker": ""}), home=home)

    lines = page(done, [read()], [], NOW)

    assert f"output  {home.path}/output.md" in lines
    assert lines[-2:] == ["next", "  dispatch logs migrate-orders"]


def test_the_page_of_a_running_task_tells_that_its_agent_is_quiet() -> None:
    lines = page(card(standing={"quiet": "no output for 600 s"}), [Attempt(1)], [], NOW)

    assert lines[lines.index("attempts") + 1 :][:2] == ["  1. running", "     quiet: no output for 600 s"]


def test_the_page_tells_the_warnings_whole() -> None:
    told = Warned(2, "2026-11-23T11:55:00.000Z", f"so it ran with {'x' * 300}")

    lines = page(card(), [read()], [], NOW, warnings=[told])

    assert lines[lines.index("warnings") + 1] == f"  attempt 2, 5m ago: so it ran with {'x' * 300}"


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_what_never_ran_has_no_transcript_to_look_at(state: State) -> None:
    assert [text for text in page(card(standing={"state": state}), [], [], NOW) if " logs " in text] == []


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_what_did_not_end_well_can_be_tried_again(state: State) -> None:
    for attempts in ([], [read()]):
        assert "  dispatch retry migrate-orders" in page(card(standing={"state": state}), attempts, [], NOW)


# -- why an attempt failed --------------------------------------------------------------------------------------------


def test_every_kind_of_failure_has_a_meaning() -> None:
    assert set(MEANING) == set(failures.Failure)


CONFIG = Config(models={"opus": Model("claude"), "sonnet": Model("claude"), "gpt-5.2": Model("codex")})


@pytest.mark.parametrize(
    ("kind", "backend", "commands"),
    [
        ("auth", "claude", ["claude auth login  (on build-1)", "retry", "retry --model gpt-5.2"]),
        ("auth", "codex", ["codex login  (on build-1)", "retry", "retry --model sonnet"]),
        (
            "auth",
            "mine",
            ["dispatch doctor  (on build-1)", "retry", "retry --model sonnet", "retry --model gpt-5.2"],
        ),
        (
            "missing",
            "claude",
            ["npm install -g @anthropic-ai/claude-code  (on build-1)", "retry", "retry --model gpt-5.2"],
        ),
        ("root", "claude", ["dispatch doctor  (on build-1)", "retry", "retry --model gpt-5.2"]),
        ("option", "codex", ["dispatch doctor  (on build-1)", "retry", "retry --model sonnet"]),
        ("network", "claude", ["dispatch doctor  (on build-1)", "retry"]),
        ("limit", "claude", ["retry", "retry --model gpt-5.2", "retry --model sonnet"]),
        ("credit", "codex", ["retry", "retry --model sonnet", "retry --model gpt-5.2"]),
        ("overloaded", "claude", ["retry", "retry --model gpt-5.2", "retry --model sonnet"]),
        ("model", "codex", ["retry --model gpt-5.2", "retry --model sonnet"]),
        ("rate", "claude", ["retry"]),
        ("budget", "claude", ["retry --max-cost USD", "retry --max-turns N"]),
        ("agent", "claude", ["retry"]),
        ("unheard-of", "claude", ["retry"]),
        (None, "claude", ["retry"]),
    ],
)
def test_what_to_do_about_a_failure(kind: str | None, backend: str, commands: list[str]) -> None:
    failed = read(backend=backend, failure=FAILURE | {"kind": kind} if kind else None)

    assert cures(failed, "retry", offer(CONFIG, failed, "opus")) == commands


def test_a_key_that_is_not_valid_is_not_answered_with_a_log_in() -> None:
    failed = read(backend="claude", failure=FAILURE | {"text": "Invalid API key · Fix external API key"})

    [step, *_] = cures(failed, "retry", None)

    assert step == (
        "unset ANTHROPIC_API_KEY; dispatch down && dispatch up  # or first set one that is valid  (on build-1)"
    )


@pytest.mark.parametrize(
    ("caps", "commands"),
    [
        (Caps(cost_usd=1), ["retry --model sonnet"]),
        (Caps(turns=3), ["retry --model sonnet"]),
    ],
)
def test_a_model_that_cannot_keep_the_caps_is_not_offered_beside_one_that_can(caps: Caps, commands: list[str]) -> None:
    failed = read(failure=FAILURE | {"kind": "limit"})

    assert switches("retry", offer(CONFIG, failed, "opus", caps=caps)) == commands


def test_where_no_model_can_keep_the_caps_the_command_takes_them_away() -> None:
    offered = offer(CONFIG, read(failure=FAILURE), "opus", caps=Caps(3, 1))

    assert switches("retry", offered) == ["retry --model gpt-5.2 --max-turns 0 --max-cost 0"]


def test_the_page_of_a_task_that_waits_for_a_limit_names_the_way_to_another_model() -> None:
    waiting = card(
        standing={"state": State.WAITING, "reason": "claude limit until 16:11", "until": "2026-11-23T16:11Z"}
    )
    held_back = read(end="limit", failure=None)

    shown = page(waiting, [held_back], [], NOW, offer=offer(CONFIG, held_back, "opus"))

    assert shown[shown.index("next") + 1 :] == [
        "  dispatch release migrate-orders --now",
        "  dispatch cancel migrate-orders && dispatch retry migrate-orders --model gpt-5.2",
        "  dispatch cancel migrate-orders && dispatch retry migrate-orders --model sonnet",
    ]


def test_the_shell_is_not_offered_in_the_place_of_an_agent() -> None:
    config = Config(models={"opus": Model("claude"), "shell": Model("shell")})

    assert offer(config, read(failure=FAILURE), "opus").models == ()


def test_a_model_that_failed_before_is_not_offered_again() -> None:
    failed = read(backend="codex", failure=FAILURE | {"kind": "limit"})

    assert offer(CONFIG, failed, "gpt-5.2", ("opus",)).models == ("sonnet",)


# -- what is believed -------------------------------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_written() -> None:
    attempt = read(failure=FAILURE, denials=["Bash: x"], retries=2, check="no", kept="/w/1", left=["build/"])

    known = RESULT.keys() & {field.name for field in dataclasses.fields(Attempt)}
    told = dataclasses.asdict(attempt)
    assert {name: told[name] for name in known - {"failure", "denials", "retries"}} == (
        {name: RESULT[name] for name in known - {"failure", "denials", "retries"}}
    )
    assert attempt.usage == Usage(300, 60, 50, 1.25, 2)
    assert attempt.failure == Failure("auth", "Invalid API key", None)
    assert (attempt.denials, attempt.retries, attempt.left) == (("Bash: x",), 2, ("build/",))


# -- what each attempt has used --------------------------------------------------------------------------------------


def used(cost: float | None, tokens: int | None, session: str | None = "s", turns: int = 2) -> Attempt:
    told = {"input_tokens": tokens, "cached_tokens": tokens, "output_tokens": tokens}
    return read(session=session, usage={**told, "cost_usd": cost, "turns": turns})


@pytest.mark.parametrize(
    ("told", "own"),
    [
        ([used(0.0059, 900), used(0.0099, 1500, turns=3)], [used(0.0059, 900), used(0.004, 600, turns=3)]),
        ([used(1, 10), used(None, None), used(3, 30)], [used(1, 10), used(None, None), used(2, 20)]),
        ([used(None, 10), used(3, 30)], [used(None, 10), used(3, 20)]),
        ([used(1, 10), used(0, 0), used(3, 30)], [used(1, 10), used(0, 0), used(2, 20)]),
        ([used(1, 10), used(1, 10, "t"), used(2, 20)], [used(1, 10), used(1, 10, "t"), used(1, 10)]),
        ([used(1, 10, None), used(2, 20, None)], [used(1, 10, None), used(2, 20, None)]),
    ],
    ids=["carried on", "one was killed", "cost was unknown", "told less", "another session", "no session"],
)
def test_an_attempt_is_shown_with_what_it_has_used_itself(told: list[Attempt], own: list[Attempt]) -> None:
    assert alone(told) == own


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RESULT, *FAILURE]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(RESULT)), JSON), st.booleans())
def test_no_result_of_another_shape_makes_it_fail(facts: dict[str, Any], running: bool) -> None:
    attempt = Attempt.read({**facts, "attempt": 1})
    state = State.RUNNING if running else State.FAILED

    assert all(text.isprintable() for text in page(card(standing={"state": state}), [attempt], [], NOW))
    json.dumps(dataclasses.asdict(attempt))


def test_a_huge_result_fills_no_screen() -> None:
    huge = "x" * 500_000
    attempt = read(reason=huge, session=huge, model=huge, denials=[huge] * 1000, failure={"kind": huge, "text": huge})

    assert len("\n".join(page(card(), [attempt], [], NOW))) < 4000
    assert len(json.dumps(dataclasses.asdict(attempt))) < 1_000_000


def test_no_escape_of_an_agent_reaches_the_terminal() -> None:
    everything = card(
        task=dataclasses.replace(TASK, title=ESCAPES, model=ESCAPES, created=ESCAPES),
        questions={1: ESCAPES},
        standing={"state": State.FAILED, "reason": ESCAPES, "worker": ESCAPES, "branch": ESCAPES, "changed": ESCAPES},
    )
    texts = dict.fromkeys((name for name, value in RESULT.items() if isinstance(value, str)), ESCAPES)
    failure = {"kind": ESCAPES, "text": ESCAPES, "until": ESCAPES}
    lists: dict[str, Any] = {"denials": [ESCAPES], "left": [ESCAPES], "kept": ESCAPES, "failure": failure}
    answers = [{"number": 1, "question": ESCAPES, "answer": ESCAPES}]

    shown = page(
        everything,
        [read(**texts, **lists), Attempt(2, reason=ESCAPES)],
        answers,
        NOW,
        warnings=[Warned(1, ESCAPES, ESCAPES)],
        offer=Offer("opus", ("opus",)),
    )

    assert [text for text in shown if not text.isprintable()] == []
    assert any("owned" in text for text in shown)
