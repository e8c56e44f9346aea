"""OpenAI's Responses API, as far as codex uses it: a request read as a conversation, a turn as a stream of events.

codex's shell is two tools: `exec_command` waits for a while, then names a session, in which `write_stdin` with nothing
to write waits on. Here one turn of a script is all of it: `events` goes on waiting by itself.
"""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from tests.agents.script import Conversation, Message, Prompt, Ran, Run, Said, Say

PATH = "/v1/responses"
USED = {
    "input_tokens": 200,
    "input_tokens_details": {"cached_tokens": 50},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 240,
}
FIRST_WAIT_MS, NEXT_WAIT_MS = 1_000, 300_000  # codex takes 30 s and 5 min at most

_RUNNING = re.compile(r"^Process running with session ID (\d+)$", re.MULTILINE)


def read(request: Mapping[str, Any], headers: Mapping[str, str]) -> Conversation:
    return Conversation(
        api="openai",
        model=request["model"],
        session=headers.get("session-id", ""),
        key=headers.get("authorization", "").removeprefix("Bearer "),
        messages=tuple(_messages(request["input"])),
    )


def _messages(items: list[Mapping[str, Any]]) -> list[Message]:
    found: list[Message] = []
    called: dict[str, int] = {}  # where in `found` the command of that call is
    for item in items:
        match item:
            case {"type": "message", "role": "user"}:
                found += [Prompt(part["text"]) for part in item["content"] if part["type"] == "input_text"]
            case {"type": "message", "role": "assistant"}:
                found += [Said(part["text"]) for part in item["content"] if part["type"] == "output_text"]
            case {"type": "function_call", "name": "exec_command"}:
                called[item["call_id"]] = len(found)
                found.append(Ran(json.loads(item["arguments"])["cmd"], ""))
            case {"type": "function_call", "name": "write_stdin"}:
                session = json.loads(item["arguments"])["session_id"]
                called[item["call_id"]] = next(
                    at for at, one in enumerate(found) if isinstance(one, Ran) and one.session == session
                )
            case {"type": "function_call_output"}:
                at = called[item["call_id"]]
                before, (told, _, output) = found[at], item["output"].partition("\nOutput:\n")
                running = _RUNNING.search(told)
                assert isinstance(before, Ran)
                found[at] = Ran(before.command, before.output + output, int(running[1]) if running else None)
    return found


def waits_for(sent: Conversation) -> int | None:
    """The session of a shell whose command still runs, and is waited for before the next turn."""
    last = sent.turns[-1] if sent.turns else None
    return last.session if isinstance(last, Ran) else None


def events(turn: Run | Say | None, sent: Conversation) -> bytes:
    """The answer to `sent` as server-sent events; `turn` None waits on for what `waits_for` names."""
    item: dict[str, object]
    match turn:
        case Run(command):
            item = _call("exec_command", {"cmd": command, "yield_time_ms": FIRST_WAIT_MS})
        case Say(text):
            content = [{"type": "output_text", "text": text}]
            item = {"type": "message", "role": "assistant", "id": f"msg_{uuid.uuid4().hex}", "content": content}
        case None:
            item = _call("write_stdin", {"session_id": waits_for(sent), "yield_time_ms": NEXT_WAIT_MS})
    response = f"resp_{uuid.uuid4().hex}"
    told: list[dict[str, object]] = [
        {"type": "response.created", "response": {"id": response}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": response, "usage": USED}},
    ]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told).encode()


def _call(name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    call = f"call_{uuid.uuid4().hex}"
    return {"type": "function_call", "call_id": call, "name": name, "arguments": json.dumps(arguments)}
