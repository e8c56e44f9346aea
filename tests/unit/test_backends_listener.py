"""What is heard in the output of agent CLIs; tests/data/agents holds recorded ones."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue.oneline import in_one_line
from dispatch_queue.usage import Usage
from worker.backends.failures import Failure, Fault, kind_of, resets_at
from worker.backends.listener import MAX_LINE_BYTES, Listener
from worker.backends.table import KINDS

DATA = Path(__file__).parents[1] / "data" / "agents"
NOW = datetime(2026, 11, 23, 13, 30, tzinfo=UTC)


class Stopped:
    """A clock that shows NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def listener(kind: str) -> Listener:
    return Listener(KINDS[kind].read, Stopped())


def heard(name: str) -> Listener:
    """A listener that was fed with a recorded output."""
    made = listener(name.split("-")[0])
    (path,) = DATA.glob(f"{name}.*")
    made.feed(path.read_bytes())
    return made


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("claude-auth-key", Failure.AUTH, "Invalid API key · Fix external API key"),
        ("claude-auth-forbidden", Failure.AUTH, "Failed to authenticate. API Error: 403 Your account"),
        ("claude-auth-login", Failure.AUTH, "Not logged in · Please run /login"),
        ("claude-model", Failure.MODEL, "There's an issue with the selected model (claude-opus-5-5). It may not exist"),
        ("claude-rate", Failure.RATE, "API Error: Request rejected (429) · This request would exceed your rate limit"),
        ("claude-limit", Failure.LIMIT, "You've hit your 5-hour limit · resets 3:24pm (UTC)"),
        ("claude-overloaded", Failure.OVERLOADED, "API Error: 529 Overloaded."),
        ("claude-error", Failure.OVERLOADED, "API Error: 500 Internal server error."),
        ("claude-credit", Failure.CREDIT, "Credit balance is too low"),
        ("claude-turns", Failure.BUDGET, "its turns are used up"),
        ("claude-cost", Failure.BUDGET, "what it may cost is used up"),
        ("claude-session", Failure.SESSION, "No conversation found with session ID: 0b0b0b0b"),
        ("claude-root", Failure.ROOT, "--dangerously-skip-permissions cannot be used with root/sudo privileges"),
        ("claude-network", Failure.NETWORK, "API Error: No internet route"),
        ("codex-auth", Failure.AUTH, "unexpected status 401 Unauthorized: Incorrect API key provided"),
        ("codex-model", Failure.MODEL, "The model `nope` does not exist or you do not have access to it."),
        ("codex-rate", Failure.RATE, "exceeded retry limit, last status: 429 Too Many Requests"),
        ("codex-limit", Failure.LIMIT, "You\u2019ve hit your usage limit. Upgrade to Pro"),
        ("codex-credit", Failure.CREDIT, "Quota exceeded. Check your plan and billing details."),
        ("codex-overloaded", Failure.OVERLOADED, "Selected model is at capacity. Please try a different model."),
        ("codex-error", Failure.OVERLOADED, "We\u2019re currently experiencing high demand"),
        ("codex-network", Failure.NETWORK, "Reconnecting... waiting for network"),
        ("codex-session", Failure.SESSION, "Error: thread/resume: thread/resume failed: no rollout found for thread"),
        ("codex-option", Failure.OPTION, "error: unexpected argument '--full-auto' found"),
        ("claude-option", Failure.OPTION, "error: unknown option '--frobnicate'"),
    ],
)  # fmt: skip
def test_a_recorded_failure_is_told_by_its_kind_and_in_the_clis_words(name: str, kind: Failure, text: str) -> None:
    fault = heard(name).fault(1)

    assert fault is not None
    assert fault.kind is kind
    assert fault.text.startswith(text)
    assert (fault.until is not None) == (kind is Failure.LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "error: invalid value 'nonsense' for '--sandbox <SANDBOX_MODE>'\n  [possible values: read-only]",
        "error: a value is required for '--cd <DIR>' but none was supplied",
        "error: option '--output-format <format>' argument 'nonsense' is invalid. Allowed choices are text, json.",
    ],
)
def test_an_option_that_is_not_taken_is_told_by_its_own_line(text: str) -> None:
    made = listener("codex")
    made.feed(f"WARNING: odd\n{text}\n\nFor more information, try '--help'.\n".encode())

    assert made.fault(2) == Fault(Failure.OPTION, text.splitlines()[0])


def test_words_of_an_agent_that_has_begun_are_no_refused_option() -> None:
    made = listener("codex")
    made.feed(b'{"type":"thread.started","thread_id":"1"}\nerror: unknown option --fast\n')

    assert made.fault(1) == Fault(Failure.AGENT, "error: unknown option --fast")


def test_a_limit_tells_when_it_ends() -> None:
    for name in ("claude-limit", "codex-limit"):
        fault = heard(name).fault(1)
        assert fault is not None
        assert fault.until is not None
        assert fault.until > NOW


def test_a_claude_run_tells_its_session_its_use_and_what_it_did() -> None:
    made = listener("claude")
    told = []
    for line in (DATA / "claude-done.jsonl").read_bytes().splitlines(keepends=True):
        if made.feed(line):
            told.append(made.report.activity)

    assert told == ["Bash: echo hi from claude", "All done."]
    assert made.fault(0) is None
    assert made.report.plain() == {
        "model": "claude-sonnet-5-5",
        "session": "f3f415b2-86c6-431d-9708-4e7d67b4be29",
        "usage": {
            "input_tokens": 300,
            "cached_tokens": 60,
            "output_tokens": 50,
            "cost_usd": 0.000986,
            "turns": 2,
        },
        "denials": [],
        "retries": 0,
    }


def test_a_codex_run_tells_its_session_and_use_and_no_cost() -> None:
    made = listener("codex")
    told = []
    for line in (DATA / "codex-done.jsonl").read_bytes().splitlines(keepends=True):
        if made.feed(line):
            told.append(made.report.activity)

    assert told == ["$ echo hi from codex", "All done."]
    assert made.fault(0) is None  # though it told of errors on its way
    assert made.report.usage == Usage(input_tokens=400, cached_tokens=100, output_tokens=80)
    assert made.report.session is not None
    assert made.report.retries > 0


def test_what_claude_was_denied_is_told() -> None:
    assert heard("claude-denied").report.denials == ("Bash: touch new.txt && rm -rf old",)


def test_retries_of_claude_are_counted() -> None:
    report = heard("claude-retries").report

    assert (report.retries, report.last_retry) == (2, "retry 2 of 2: overloaded")


# As Cursor's manual shows them; no recording.
CURSOR = [
    {"type": "system", "subtype": "init", "session_id": "c6b6", "model": "Composer", "cwd": "/x"},
    {"type": "assistant", "message": {"role": "assistant", "content": [{"type": "text", "text": "I'll look."}]}},
    {
        "type": "tool_call",
        "subtype": "started",
        "tool_call": {"readToolCall": {"args": {"path": "README.md"}}, "toolCallId": "t"},
    },
    {"type": "tool_call", "subtype": "completed", "tool_call": {"readToolCall": {"args": {"path": "README.md"}}}},
    {"type": "result", "subtype": "success", "is_error": False, "result": "Done", "session_id": "c6b6"},
]


def test_a_cursor_run_tells_its_session_and_what_it_did() -> None:
    made = listener("cursor")
    told = [made.report.activity for line in CURSOR if made.feed(json.dumps(line).encode() + b"\n")]

    assert told == ["I'll look.", "read: README.md"]
    assert (made.report.session, made.report.model) == ("c6b6", "Composer")
    assert made.fault(0) is None


def test_a_cli_that_a_shell_did_not_find_is_missing() -> None:
    assert heard("claude-missing").fault(127) == Fault(Failure.MISSING, "env: 'claude': No such file or directory")


def test_what_claude_used_up_to_a_cap_has_the_request_that_broke_it() -> None:
    usage = heard("claude-cost").report.usage

    assert usage == Usage(input_tokens=900030, cached_tokens=30, output_tokens=25, cost_usd=3.600506, turns=1)


@pytest.mark.parametrize(
    ("kind", "code", "output", "failure"),
    [
        ("cursor", 1, b"Error: Not logged in.\nPlease run agent login\n", Failure.AUTH),
        ("codex", 3, b"", Failure.AGENT),
        ("codex", 0, b"429 Too Many Requests\n", None),
        ("shell", 1, b"test failed: 401 Unauthorized\n", Failure.AGENT),
        ("shell", 127, b"", Failure.MISSING),
    ],
)
def test_without_a_told_failure_the_last_words_count(
    kind: str, code: int, output: bytes, failure: Failure | None
) -> None:
    made = listener(kind)
    made.feed(output)

    fault = made.fault(code)

    assert (fault and fault.kind) == failure
    if fault and output:
        assert fault.text == output.decode().splitlines()[-1]


def test_a_silent_end_is_told_by_its_status() -> None:
    assert listener("codex").fault(3) == Fault(Failure.AGENT, "exit status 3")


def test_a_cli_that_did_not_end_by_itself_failed_only_if_it_said_so() -> None:
    made = listener("codex")
    made.feed(b"error: something went on\n")
    assert made.fault(None) is None
    assert heard("claude-auth-key").fault(None) is not None


@given(st.lists(st.integers(1, 400)))
def test_output_is_heard_alike_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    data = (DATA / "claude-denied.jsonl").read_bytes()
    made = listener("claude")
    at = 0
    for size in [*sizes, len(data)]:
        made.feed(data[at : at + size])
        at += size

    assert made.report == heard("claude-denied").report


@pytest.mark.parametrize(
    ("kind", "output", "words"),
    [
        ("shell", b'{"type": "result", "is_error": true, "result": "No such session"}\n', "No such session"),
        ("shell", b'{"type": "error", "error": {"message": "Bad request"}}\n', "Bad request"),
        ("shell", b'{"type": "end"}\n', ""),
        ("shell", b'{"error": true, "message": {"text": "Oh"}}\n', "Oh"),
        ("shell", b"{not json\n", "{not json"),
        ("codex", b"error: unexpected argument '-z' found\nFor more information, try '--help'.\n", "error: unexpected"),
        ("cursor", json.dumps(CURSOR[1]).encode() + b"\n", "I'll look."),
    ],
)
def test_the_last_words_of_an_agent_are_words_and_no_json(kind: str, output: bytes, words: str) -> None:
    made = listener(kind)
    made.feed(output)

    assert made.last_words().startswith(words)
    assert '"type"' not in made.last_words()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"error": {"message": "Bad request", "code": null}}', "Bad request"),
        ('API Error: 400 {"type": "error", "error": {"message": "Bad request"}}', "API Error: 400 Bad request"),
        ("unexpected status 404 Not Found: {}, url: ws://x", "unexpected status 404 Not Found: {}, url: ws://x"),
        ('{"code": 7}', '{"code": 7}'),
    ],
)
def test_a_failure_that_a_provider_tells_as_json_is_told_in_words(message: str, words: str) -> None:
    made = listener("codex")
    made.feed(json.dumps({"type": "turn.failed", "error": {"message": message}}).encode() + b"\n")

    assert made.report.fault == Fault(Failure.AGENT, words)


def test_json_without_a_message_fails_with_the_exit_status() -> None:
    made = listener("shell")
    made.feed(b'{"type": "end"}\n')

    assert made.fault(3) == Fault(Failure.AGENT, "exit status 3")


@pytest.mark.parametrize("field", ["permission_denials", "session_id", "subtype", "usage", "modelUsage", "num_turns"])
def test_a_limit_is_known_without_a_field_that_tells_of_other_things(field: str) -> None:
    made = listener("claude")
    for line in (DATA / "claude-limit.jsonl").read_text().splitlines():
        value = json.loads(line)
        if value["type"] == "result":
            del value[field]
        made.feed(json.dumps(value).encode() + b"\n")

    assert made.fault(1) == heard("claude-limit").fault(1)


def test_tokens_of_codex_are_known_without_the_cached_ones() -> None:
    made = listener("codex")
    made.feed(b'{"type": "turn.completed", "usage": {"input_tokens": 5, "output_tokens": 2}}\n')

    assert made.report.usage == Usage(input_tokens=5, output_tokens=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", ["claude", "codex", "cursor"])
@given(data=st.data())
def test_a_line_of_another_shape_is_passed_over(kind: str, data: st.DataObject) -> None:
    made = listener(kind)
    lines = [
        json.loads(line) for name in sorted(DATA.glob(f"{kind}-*.jsonl")) for line in name.read_text().splitlines()
    ]
    line = dict(data.draw(st.sampled_from([*lines, *CURSOR])))
    line[data.draw(st.sampled_from(sorted(line)))] = data.draw(JSON)

    made.feed(json.dumps(line).encode() + b"\n")
    made.fault(1)

    assert isinstance(made.report.activity, str)


def test_binary_and_endless_lines_are_passed_over() -> None:
    made = listener("claude")
    made.feed(b"\xff\x00{\n" + b"[" * 100_000 + b"\n{" + b'"a":' * 50_000 + b"\n")
    for _ in range(3):
        made.feed(b"x" * MAX_LINE_BYTES)
    made.feed(b"\n" + (DATA / "claude-done.jsonl").read_bytes())

    assert made.report.activity == "All done."


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("You've hit your limit · resets 4:11pm (UTC)", "2026-11-23T16:11"),
        ("You've hit your limit · resets 9am (UTC)", "2026-11-24T09:00"),
        ("or try again at 1:30 PM (UTC).", "2026-11-23T13:31"),
        ("or try again at 1:29 PM (UTC).", "2026-11-24T13:29"),
        ("resets 12am (UTC)", "2026-11-24T00:00"),
        ("resets 12:05pm (UTC)", "2026-11-24T12:05"),
        ("resets 3:24pm (America/New_York)", "2026-11-23T20:24"),
        ("resets Nov 25, 10am (UTC)", "2026-11-25T10:00"),
        ("resets Jan 2 at 10am (UTC)", "2027-01-02T10:00"),
        ("or try again at Nov 25th, 2026 3:20 PM (UTC).", "2026-11-25T15:20"),
        ("try again in 2 hours 5 minutes.", "2026-11-23T15:35"),
        ("try again in 1 day and 3 hours", "2026-11-24T16:30"),
        ("resets 25:99pm (UTC)", None),
        ("resets Feb 31, 10am (UTC)", None),
        ("resets 3pm (Nowhere/Land)", None),
        ("try again in 99999999999999 days", None),
        ("try again at Dec 31st, 9999 11:59 PM (America/New_York)", None),
        ("try again later", None),
    ],
)
def test_the_end_of_a_limit_is_read_from_a_sentence(text: str, until: str | None) -> None:
    at = resets_at(text, NOW)

    assert (at and at.strftime("%Y-%m-%dT%H:%M")) == until


def test_an_unknown_sentence_is_the_agents_failure() -> None:
    assert kind_of("something else") is Failure.AGENT


def test_a_line_is_short_and_printable() -> None:
    assert in_one_line("\n\x1b[31m a\tb\x07\nsecond") == "[31m a b"
    assert in_one_line("x" * 500) == "x" * 119 + "…"
    assert in_one_line(" \n") == ""


def test_what_is_heard_is_masked_as_it_is_told() -> None:
    made = Listener(KINDS["codex"].read, Stopped(), lambda text: text.replace("s3cr3t", "[KEY]"))
    for line in (
        b'{"type":"error","message":"no: s\\u0033cr3t"}',
        b'{"type":"item.started","item":{"type":"command_execution","command":"bash -lc \'s3cr\'3t"}}',
        b'{"type":"turn.failed","error":{"message":"{\\"message\\":\\"s\\\\u0033cr3t is no key\\"}"}}',
    ):
        made.feed(line + b"\n")

    assert made.report.last_retry == "no: [KEY]"
    assert made.report.activity == "$ [KEY]"
    assert made.last_words() == "[KEY] is no key"
    assert made.fault(1) == Fault(Failure.AGENT, "[KEY] is no key")
