"""Anthropic's Messages API, as claude uses it: a request read as a conversation, a turn as a stream of events."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from tests.agents.script import Conversation, Message, Prompt, Ran, Run, Said, Say

PATH = "/v1/messages"
USED = {"input_tokens": 120, "output_tokens": 1, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0}
OUTPUT_TOKENS = 25


def read(request: Mapping[str, Any], headers: Mapping[str, str]) -> Conversation:
    return Conversation(
        api="anthropic",
        model=request["model"],
        session=headers.get("x-claude-code-session-id", ""),
        key=headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer "),
        messages=tuple(_messages(request["messages"])),
    )


def _messages(sent: list[Mapping[str, Any]]) -> list[Message]:
    parts = [(message["role"], part) for message in sent for part in _parts(message["content"])]
    outputs = {part["tool_use_id"]: _text(part["content"]) for _, part in parts if part["type"] == "tool_result"}
    found: list[Message] = []
    for role, part in parts:
        match role, part["type"]:
            case "user", "text":
                found.append(Prompt(part["text"]))
            case "assistant", "text":
                found.append(Said(part["text"]))
            case "assistant", "tool_use":
                found.append(Ran(part["input"]["command"], outputs.get(part["id"], "")))
    return found


def _text(content: str | list[Mapping[str, Any]]) -> str:
    return "".join(part["text"] for part in _parts(content) if part["type"] == "text")


def _parts(content: str | list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def events(turn: Run | Say, sent: Conversation) -> bytes:
    """The answer to `sent` as server-sent events."""
    name = uuid.uuid4().hex
    message = {"id": f"msg_{name}", "type": "message", "role": "assistant", "model": sent.model, "content": []}
    block: dict[str, object]
    match turn:
        case Run(command):
            block = {"type": "tool_use", "id": f"toolu_{name}", "name": "Bash", "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps({"command": command})}
            reason = "tool_use"
        case Say(text):
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": text}
            reason = "end_turn"
    told: list[dict[str, object]] = [
        {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None, "usage": USED}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told).encode()
