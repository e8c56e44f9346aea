"""How `dispatch logs` shows an agent's transcript; tests/data/agents holds recorded ones."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import when
from dispatch_queue.cli.spoken import Told, told
from dispatch_queue.cli.transcript import MAX_LINE_BYTES, Reader, doing, lines
from dispatch_queue.taskdir import TaskDir

DATA = Path(__file__).parents[1] / "data" / "agents"
RECORDED = sorted(path.stem for path in DATA.glob("*.jsonl"))
SESSION = {"session_id": "s-1"}


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.jsonl").read_bytes()


def jsonl(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def shown(data: bytes, sizes: Iterable[int] = ()) -> str:
    """What is printed of a transcript that comes in pieces of these sizes, the rest at once."""
    reader, at, found = Reader(), 0, list[Told]()
    for size in sizes:
        found += reader.feed(data[at : at + size])
        at += size
    found += [*reader.feed(data[at:]), *reader.end()]
    return "\n".join(line for one in found for line in lines(one))


def test_a_run_of_claude() -> None:
    assert (
        shown(recorded("claude-done"))
        == """\
begin   claude-sonnet-5-5, session f3f415b2-86c6-431d-9708-4e7d67b4be29
tool    Bash: echo hi from claude
result  hi from claude
said    All done.
end     done: 2 turns, 300 tokens in (60 cached), 50 out, $0.0010"""
    )


def test_a_denial_is_told_when_it_happens_and_not_again_at_the_end() -> None:
    assert (
        shown(recorded("claude-denied"))
        == """\
begin   claude-opus-5-5, session 63cc50ea-876d-41f0-9743-ce7e240b4926
tool    Bash: touch new.txt && rm -rf old
denied  Bash: This Bash command contains multiple operations. The following parts require approval: touch new.txt, rm -rf old
result  failed: This Bash command contains multiple operations. The following parts require approval: touch new.txt, rm -rf old
said    All done.
end     done: 2 turns, 300 tokens in (60 cached), 50 out, $0.0020"""  # noqa: E501
    )


def test_denials_that_only_the_end_tells_are_told_there() -> None:
    result = json.loads(recorded("claude-denied").splitlines()[-1])
    result["permission_denials"] *= 2

    assert [one.kind for one in Reader().feed(jsonl(result))] == ["denied", "denied", "end"]


def test_a_failure_of_claude_is_told_once_with_its_retries() -> None:
    assert (
        shown(recorded("claude-retries"))
        == """\
begin   claude-opus-5-5, session 5889dbe7-9468-4fdf-9db8-79ba1afbf247
retry   retry 1 of 2: overloaded
retry   retry 2 of 2: overloaded
error   API Error: 529 Overloaded. This is a server-side issue, usually temporary — try again in a moment. If it persists, check your inference gateway (127.0.0.1:8099).
end     failed (529): 1 turn, 0 tokens in, 0 out, $0.0000"""  # noqa: E501
    )


def test_a_limit_tells_its_end() -> None:
    until = when.local(datetime.fromtimestamp(1795447450, UTC))

    assert (
        shown(recorded("claude-limit"))
        == f"""\
begin   claude-opus-5-5, session dd1d40f0-2a25-42f3-abdd-c50dac86f013
limit   five hour limit until {until}
error   You've hit your 5-hour limit · resets 3:24pm (UTC)
end     failed (429): 1 turn, 0 tokens in, 0 out, $0.0000"""
    )


def test_a_run_of_codex() -> None:
    first, *rest = shown(recorded("codex-done")).splitlines()

    assert first == "begin   session 01a20898-dbe2-7d10-ba61-e22be077f518"
    assert [line.split()[0] for line in rest[:6]] == ["warning", *["retry"] * 4, "warning"]
    assert rest[6:] == [
        "tool    $ echo hi from codex",
        "result  hi from codex",
        "said    All done.",
        "end     done: 400 tokens in (100 cached), 80 out, cost unknown",
    ]


def test_a_failure_of_codex_is_told_once() -> None:
    *_, error, end = shown(recorded("codex-limit")).splitlines()

    assert error.startswith("error   You\u2019ve hit your usage limit. Upgrade to Pro")
    assert end == "end     failed"
    assert shown(recorded("codex-limit")).count("usage limit") == 1


def test_a_retry_that_lasts_for_hours_is_told_once() -> None:
    assert shown(recorded("codex-network")).count("waiting for network") == 1


CODEX_ITEMS = [
    ("started", {"type": "command_execution", "command": "/bin/bash -lc 'make test'"}, "tool    $ make test"),
    (
        "started",
        {"type": "command_execution", "command": "bash -lc \"echo '1'\"' \"$A\"'"},
        "tool    $ echo '1' \"$A\"",
    ),
    ("started", {"type": "command_execution", "command": "sh -c 'a"}, "tool    $ sh -c 'a"),
    ("started", {"type": "command_execution", "command": "sh -c a b"}, "tool    $ sh -c a b"),
    ("started", {"type": "command_execution", "command": "/bin/sh -c"}, "tool    $ /bin/sh -c"),
    (
        "completed",
        {"type": "command_execution", "command": "make", "aggregated_output": "no rule\n", "exit_code": 2},
        "result  exit status 2: no rule",
    ),
    (
        "completed",
        {"type": "command_execution", "command": "rm -rf /", "status": "declined"},
        "denied  $ rm -rf /",
    ),
    (
        "completed",
        {
            "type": "file_change",
            "changes": [{"path": "/x/a.py", "kind": "add"}, {"path": "b.py", "kind": "update"}],
            "status": "completed",
        },
        "edit    add a.py, update b.py",
    ),
    ("completed", {"type": "reasoning", "text": "**Looking**\n\nat it"}, "thinks  **Looking**"),
    (
        "started",
        {"type": "mcp_tool_call", "server": "docs", "tool": "find", "arguments": {"query": "plans"}},
        "tool    docs: find: plans",
    ),
    (
        "completed",
        {"type": "mcp_tool_call", "server": "docs", "tool": "find", "error": {"message": "gone"}},
        "result  failed: gone",
    ),
    (
        "completed",
        {"type": "mcp_tool_call", "server": "d", "tool": "f", "result": {"content": [{"type": "text", "text": "3"}]}},
        "result  3",
    ),
    (
        "started",
        {"type": "todo_list", "items": [{"text": "a", "completed": True}, {"text": "b", "completed": False}]},
        "todo    1 of 2 done",
    ),
    ("completed", {"type": "web_search", "query": "valkey"}, "tool    search: valkey"),
    ("started", {"type": "agent_message", "text": ""}, ""),
    ("completed", {"type": "collab_tool_call", "tool": "wait"}, "event   collab_tool_call"),
]


@pytest.mark.parametrize(("step", "item", "line"), CODEX_ITEMS, ids=[item[2] for item in CODEX_ITEMS])
def test_an_item_of_codex_in_a_line(step: str, item: dict[str, Any], line: str) -> None:
    assert shown(jsonl({"type": f"item.{step}", "item": item})) == line


# As Cursor's manual, and who watched it, show them; no recording.
CURSOR: list[dict[str, Any]] = [
    event | SESSION
    for event in (
        {"type": "system", "subtype": "init", "model": "Composer", "cwd": "/x"},
        {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": "1\n2\n3\n4"}]}},
        {"type": "thinking", "subtype": "delta", "text": "Hm"},
        {"type": "assistant", "message": {"role": "assistant", "content": [{"type": "text", "text": "I'll look."}]}},
        {"type": "tool_call", "subtype": "started", "tool_call": {"readToolCall": {"args": {"path": "README.md"}}}},
        {
            "type": "tool_call",
            "subtype": "completed",
            "tool_call": {
                "readToolCall": {"args": {"path": "README.md"}, "result": {"success": {"content": "# A\nb\n"}}}
            },
        },
        {
            "type": "tool_call",
            "subtype": "started",
            "tool_call": {"toolCallId": "t", "shellToolCall": {"args": {"command": "false"}}, "startedAtMs": "1"},
        },
        {
            "type": "tool_call",
            "subtype": "completed",
            "tool_call": {
                "shellToolCall": {"args": {"command": "false"}, "result": {"failure": {"exitCode": 1, "stderr": "no"}}}
            },
        },
        {"type": "tool_call", "subtype": "started", "tool_call": {"function": {"name": "think", "arguments": "{}"}}},
        {"type": "result", "subtype": "success", "is_error": False, "result": "I'll look."},
    )
]


def test_a_run_of_cursor() -> None:
    assert (
        shown(jsonl(*CURSOR))
        == """\
begin   Composer, session s-1
prompt  1
        2
        3
        (1 more line, 7 characters in all)
said    I'll look.
tool    read: README.md
result  # A
        b
tool    shell: false
result  exit status 1: no
tool    think
end     done: tokens unknown, cost unknown"""
    )


def claude(who: str, *content: Any, **more: Any) -> dict[str, Any]:
    return (
        {"type": who, "message": {"content": content[0] if isinstance(content[0], str) else content}} | SESSION | more
    )


def result_of(content: Any, **more: Any) -> dict[str, Any]:
    return claude("user", {"type": "tool_result", "content": content} | more)


CLAUDE_PARTS = [
    (claude("assistant", {"type": "thinking", "thinking": "First\nsecond"}), "thinks  First"),
    (claude("assistant", {"type": "thinking", "thinking": ""}), ""),
    (claude("assistant", {"type": "redacted_thinking", "data": "x"}), ""),
    (claude("assistant", {"type": "text", "text": "One.\n\nTwo."}), "said    One.\n        \n        Two."),
    (claude("assistant", {"type": "text", "text": "Hi"}, parent_tool_use_id="t"), "said    » Hi"),
    (claude("user", "[Request interrupted]"), "prompt  [Request interrupted]"),
    (result_of("a\nb\nc\nd\ne\n"), "result  a\n        b\n        c\n        (2 more lines, 10 characters in all)"),
    (result_of("x" * 300), f"result  {'x' * 199}…\n        (300 characters in all)"),
    (result_of(""), "result  (nothing)"),
    (result_of("no such file", is_error=True), "result  failed: no such file"),
    (result_of([{"type": "text", "text": "seen"}, {"type": "image", "source": {}}]), "result  seen\n        (image)"),
    ({"type": "stream_event", "event": {}} | SESSION, ""),
    ({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}} | SESSION, ""),
    ({"type": "system", "subtype": "hook_started", "hook": 1} | SESSION, "event   system hook_started"),
    ({"type": "later", "message": "More\nof it"} | SESSION, "event   later More"),
    ({"type": "assistant"} | SESSION, "event   assistant"),
    ({"type": "result", "is_error": "x", "usage": 7} | SESSION, "event   result"),
]


@pytest.mark.parametrize(("event", "text"), CLAUDE_PARTS, ids=range(len(CLAUDE_PARTS)))
def test_a_line_of_claude_in_words(event: dict[str, Any], text: str) -> None:
    assert shown(jsonl(event)) == text


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_line_is_known(name: str) -> None:
    found = list(Reader().feed(recorded(name)))

    assert [one for one in found if one.kind in ("", "event")] == []
    assert found[0].kind == ("begin" if name != "claude-session" else "error")  # with nothing to carry on


def test_what_is_no_event_is_shown_as_it_is() -> None:
    data = b'item 1/2: look\r\n\n{"type":"test","ok":true}\n{"broken\nlast'

    assert shown(data) == 'item 1/2: look\n\n{"type":"test","ok":true}\n{"broken\nlast'


def test_words_between_events_are_shown_as_they_are() -> None:
    data = jsonl(CURSOR[0]) + b"\nnode: warning\n{\n" + jsonl({"type": "error", "message": "Oh"})

    assert shown(data).splitlines()[1:] == ["node: warning", "{", "error   Oh"]


def test_what_a_terminal_would_obey_and_bad_utf8_never_reach_it() -> None:
    hostile = "\x1b[2J\x07\u202e"
    data = jsonl(CURSOR[0] | {"model": hostile}, claude("assistant", {"type": "text", "text": hostile}))
    data += b"\xff\xfe\x1b[31m\n" + jsonl({"type": hostile}, {"type": "error", "message": [hostile]})

    text = shown(data)

    assert all(line.isprintable() for line in text.split("\n"))
    assert "\ufffd\ufffd\\x1b[31m" in text


def test_a_line_waits_for_its_end() -> None:
    reader = Reader()
    first, second = jsonl(CURSOR[0]), jsonl(CURSOR[3])

    assert list(reader.feed(first + second[:20])) == [Told("begin", "Composer, session s-1")]
    assert list(reader.feed(second[20:-1])) == []
    assert list(reader.feed(b"\n")) == [Told("said", "I'll look.")]


def test_a_line_of_10_mib_is_cut_with_a_note_and_never_held() -> None:
    reader, piece = Reader(), b"x" * 65536
    found: list[Told] = []
    held = 0
    for _number in range(160):
        found += reader.feed(piece)
        held = max(held, len(reader._line))
    found += reader.feed(b"\nnext\n")

    assert held <= MAX_LINE_BYTES
    assert [one.text for one in found] == [
        f"{'x' * 200}… (a line of {160 * 65536} bytes; --raw prints all of it)",
        "next",
    ]


@given(st.lists(st.integers(1, 400)))
def test_a_transcript_is_shown_alike_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    data = recorded("claude-denied") + b"some words\n"

    assert shown(data, sizes) == shown(data)


KEYS = "type subtype message content text item tool_call usage input name result args".split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
TYPES = ["system", "assistant", "user", "tool_call", "result", "rate_limit_event", "error", "item.completed", "turn.x"]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), JSON))
def test_no_event_of_another_shape_makes_it_fail(kind: str, facts: dict[str, Any]) -> None:
    for one in told({**facts, "type": kind}):
        assert all(line.isprintable() or "\t" in line for line in lines(one))


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    shown(jsonl(CURSOR[0]) + data)


# -- what an agent does now -------------------------------------------------------------------------------------------


def does(tmp_path: Path, data: bytes) -> str | None:
    home = TaskDir(tmp_path, "one")
    log = home.path / "attempts/1/agent.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(data)
    found = doing(home, 1)
    return found.text if found else None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (recorded("claude-done"), "All done."),
        (recorded("claude-done").rpartition(b'{"type":"assistant"')[0], "Bash: echo hi from claude"),
        (recorded("claude-retries").rpartition(b'{"type":"assistant"')[0], "retry 2 of 2: overloaded"),
        (recorded("codex-network"), "Reconnecting... waiting for network (Connection failed: error sending request)"),
        (b"one\ntwo\n\nthr", "two"),
        (jsonl(CURSOR[4]) + b"a warning\n", "read: README.md"),
        (jsonl(CURSOR[4], *[result_of("x" * 30000)] * 3), "read: README.md"),
        (jsonl(CURSOR[0]), None),
        (b"", None),
    ],
    ids="ended,tool,retry,no network,words,words between,large results,begun,empty".split(","),
)
def test_what_an_agent_does_is_the_last_that_its_transcript_tells(
    tmp_path: Path, data: bytes, text: str | None
) -> None:
    assert does(tmp_path, data) == text


def test_without_a_transcript_nothing_is_known_of_what_an_agent_does(tmp_path: Path) -> None:
    assert doing(TaskDir(tmp_path, "one"), 1) is None


def test_a_transcript_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    home = TaskDir(tmp_path, "one")
    (home.path / "attempts/1").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret\n")
    (home.path / "attempts/1/agent.log").symlink_to(tmp_path / "secret")

    assert doing(home, 1) is None
