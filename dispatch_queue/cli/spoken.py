"""What a line of an agent CLI's own JSON tells a person: claude's and Cursor's stream-json, codex's --json. Pure.

Texts are as the agent wrote them, not yet fit for a terminal. What is not known is told in short.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, NamedTuple

from dispatch_queue import when
from dispatch_queue.oneline import in_one_line, of_call, of_command
from dispatch_queue.usage import Usage, of_claude

RESULT_LINES = 3
_SAID_LINES, _SAID_CHARS = 40, 4000
_RESULT_CHARS = 200
_IN_PIECES = ("stream_event", "thinking", "item.updated", "item.plan.delta")  # what they add up to comes whole

Event = Mapping[str, Any]


class Told(NamedTuple):
    """One thing that happened. `kind` is a word for it, "" for a line that is no event; `text` may have many lines."""

    kind: str
    text: str


def is_event(value: Any) -> bool:
    """Whether a JSON value can be a line of one of these CLIs, before anything else is known of its output."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    return isinstance(value.get("session_id"), str) or value["type"].startswith(("thread.", "turn.", "item."))


def told(event: Event) -> list[Told]:
    """What an event tells, in order; nothing for one that only frames others."""
    try:
        found = _codex(event) if "." in event["type"] or event["type"] == "error" else _stream_json(event)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, OSError):
        return [_in_short(event)]
    return [Told(kind, f"» {text}") for kind, text in found] if event.get("parent_tool_use_id") else found


def _in_short(event: Event) -> Told:
    words = [str(event[key]) for key in ("type", "subtype") if key in event]
    words += [str(event[key]) for key in ("message", "text", "error") if isinstance(event.get(key), str)]
    return Told("event", in_one_line(" ".join(words)))


def _stream_json(event: Event) -> list[Told]:
    match event["type"], event.get("subtype"):
        case "system", "init":
            return [Told("begin", f"{event['model']}, session {event['session_id']}")]
        case "system", "api_retry":
            return [Told("retry", f"retry {event['attempt']} of {event['max_retries']}: {event['error']}")]
        case "system", "permission_denied":
            return [Told("denied", f"{event['tool_name']}: {_first(event['message'])}")]
        case "assistant" | "user" as who, _:
            content = event["message"]["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            failed = event.get("is_api_error_message") is True
            return [one for part in parts for one in _part(who, part, failed=failed)]
        case "tool_call", "started":
            return [Told("tool", of_call(*_cursor_call(event["tool_call"])[:2]))]
        case "tool_call", _:
            return [_cursor_result(_cursor_call(event["tool_call"])[2])]
        case "rate_limit_event", _:
            return _limit(event["rate_limit_info"])
        case "result", _:
            return _stream_end(event)
        case kind, _ if kind in _IN_PIECES:
            return []
    return [_in_short(event)]


def _part(who: str, part: Event, *, failed: bool) -> list[Told]:
    match part["type"]:
        case "text" if who == "user":
            return [Told("prompt", _cut(part["text"], RESULT_LINES))]
        case "text":
            return [Told("error" if failed else "said", _said(part["text"]))]
        case "thinking":
            return [Told("thinks", _first(part["thinking"]))] if part["thinking"].strip() else []
        case "redacted_thinking":
            return []
        case "tool_use" | "server_tool_use":
            return [Told("tool", of_call(part["name"], part["input"]))]
        case "tool_result":
            return [_result(_text_of(part.get("content") or ""), failed=part.get("is_error") is True)]
    return [_in_short(part)]


def _text_of(content: str | Sequence[Event]) -> str:
    """The text of a tool's result, with a word for each picture and the like in it."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part["type"] == "text" else f"({part['type']})" for part in content)


def _limit(info: Event) -> list[Told]:
    if info["status"] != "rejected":
        return []
    until = datetime.fromtimestamp(info["resetsAt"], UTC)
    return [Told("limit", f"{str(info.get('rateLimitType', '')).replace('_', ' ')} limit until {when.local(until)}")]


def _stream_end(event: Event) -> list[Told]:
    denied = [
        Told("denied", of_call(one["tool_name"], one["tool_input"])) for one in event.get("permission_denials", ())
    ]
    usage = of_claude(event)
    if not event["is_error"]:
        return [*denied, Told("end", f"done: {usage.words()}")]
    status = event.get("api_error_status")
    said = event.get("result") or "\n".join(event.get("errors") or ())
    why = [Told("error", _said(said))] if said else []
    how = f" ({status})" if status else "" if why else f" ({event['subtype']})"
    return [*denied, *why, Told("end", f"failed{how}: {usage.words()}")]


def _cursor_call(call: Event) -> tuple[str, Event, Event]:
    """The name of a tool that Cursor calls, its arguments, its result."""
    if "function" in call:
        return call["function"]["name"], {}, call["function"]
    [name, *_] = [key for key in call if key.endswith("ToolCall")]  # facts of the call stand beside it
    return name.removesuffix("ToolCall"), call[name].get("args") or {}, call[name].get("result") or {}


def _cursor_result(result: Event) -> Told:
    outcome, facts = next(iter(result.items()), ("", {}))
    failed = outcome not in ("success", "")
    if not isinstance(facts, dict):
        return _result(str(facts), failed=failed)
    code = facts.get("exitCode")
    said = [facts[key] for key in ("stdout", "stderr", "output", "content", "message", "reason") if facts.get(key)]
    return _result("\n".join(map(str, said)), failed=failed, code=code if isinstance(code, int) else None)


def _codex(event: Event) -> list[Told]:
    match event["type"]:
        case "thread.started":
            return [Told("begin", f"session {event['thread_id']}")]
        case "turn.started":
            return []
        case "item.started" | "item.completed" as step:
            return _item(event["item"], begins=step == "item.started")
        case "turn.completed":
            used = event["usage"]
            facts = {name: used[key] for name, key in zip(_TOKENS, _CODEX_TOKENS, strict=True)}
            return [Told("end", f"done: {Usage.read(facts).words()}")]
        case "turn.failed":
            return [Told("error", _said(event["error"]["message"])), Told("end", "failed")]
        case "error":  # also in runs that succeed
            again = event["message"].startswith("Reconnecting")
            return [Told("retry", _first(event["message"])) if again else Told("error", _said(event["message"]))]
        case kind if kind in _IN_PIECES:
            return []
    return [_in_short(event)]


_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")
_CODEX_TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens")


def _item(item: Event, *, begins: bool) -> list[Told]:
    match item["type"]:
        case "command_execution" if begins:
            return [Told("tool", of_command(item["command"]))]
        case "command_execution" if item.get("status") == "declined":
            return [Told("denied", of_command(item["command"]))]
        case "command_execution":
            return [_result(item["aggregated_output"], code=item["exit_code"])]
        case "mcp_tool_call" if begins:
            return [Told("tool", of_call(f"{item['server']}: {item['tool']}", item.get("arguments") or {}))]
        case "mcp_tool_call":
            error = item.get("error")
            text = error["message"] if error else _text_of((item.get("result") or {}).get("content") or "")
            return [_result(text, failed=bool(error))]
        case "todo_list":
            done = sum(one["completed"] for one in item["items"])
            return [Told("todo", f"{done} of {len(item['items'])} done")]
        case _ if begins:
            return []
        case "agent_message" | "plan":
            return [Told("said", _said(item["text"]))]
        case "reasoning":
            return [Told("thinks", _first(item["text"]))]
        case "file_change":
            names = ", ".join(f"{change['kind']} {PurePath(change['path']).name}" for change in item["changes"])
            return [Told("edit", f"{'failed: ' if item.get('status') == 'failed' else ''}{_first(names)}")]
        case "web_search":
            return [Told("tool", in_one_line(f"search: {item['query']}"))]
        case "error":  # one that ends nothing
            return [Told("warning", _first(item["message"]))]
    return [_in_short(item)]


def _first(text: str) -> str:
    return in_one_line(text, _RESULT_CHARS)


def _said(text: str) -> str:
    return _cut(text[:_SAID_CHARS] + ("…" if len(text) > _SAID_CHARS else ""), _SAID_LINES)


def _result(text: str, *, failed: bool = False, code: int | None = None) -> Told:
    """A tool's result: its first lines, and how much there was."""
    how = f"exit status {code}: " if code else "failed: " if failed else ""
    return Told("result", how + (_cut(text, RESULT_LINES, _RESULT_CHARS) or "(nothing)"))


def _cut(text: str, most: int, chars: int = _SAID_CHARS) -> str:
    """The first lines of a text, and what was left out."""
    lines = text.strip().splitlines()
    shown = [line if len(line) <= chars else f"{line[: chars - 1]}…" for line in lines[:most]]
    if shown != lines:
        left = len(lines) - most
        more = f"{left} more line{'s' * (left > 1)}, " if left > 0 else ""
        shown.append(f"({more}{len(text)} characters in all)")
    return "\n".join(shown)
