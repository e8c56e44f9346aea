"""OpenAI's Responses API, as far as codex uses it: a request read as a conversation, a turn as a stream of events.

codex gives its models a shell in one of two ways. Older ones get the tool `exec_command`, which waits for a while and
then names a session, in which `write_stdin` with nothing to write waits on. GPT-6 gets the tool `exec`, for JavaScript
that calls these two; it waits for a while too, and then names a cell, for which `wait` waits on. Here one turn of a
script is all of that: `waits_for` tells that a command still runs, and `events` goes on waiting.
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
CODE = """\
// @exec: {{"yield_time_ms": {first}}}
const command = {command};
let step = await tools.exec_command({{cmd: command, yield_time_ms: {first}}});
let said = step.output;
while (step.session_id !== undefined) {{
  step = await tools.write_stdin({{session_id: step.session_id, yield_time_ms: {next}}});
  said += step.output;
}}
text(said);
"""

_IN_CODE = re.compile(r"^const command = (.*);$", re.MULTILINE)
_RUNNING = re.compile(r"^(?:Process running with session|Script running with cell) ID (\w+)$", re.MULTILINE)


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
            case {"type": "custom_tool_call", "input": code}:
                called[item["call_id"]] = len(found)
                found.append(Ran(json.loads(_IN_CODE.findall(code)[0]), ""))
            case {"type": "function_call", "name": "exec_command"}:
                called[item["call_id"]] = len(found)
                found.append(Ran(json.loads(item["arguments"])["cmd"], ""))
            case {"type": "function_call", "name": "write_stdin" | "wait"}:
                called[item["call_id"]] = max(at for at, one in enumerate(found) if isinstance(one, Ran))
            case {"type": "function_call_output" | "custom_tool_call_output", "output": output}:
                before = found[called[item["call_id"]]]
                assert isinstance(before, Ran)
                found[called[item["call_id"]]] = _gone_on(before, output)
    return found


def _gone_on(command: Ran, output: str | list[Mapping[str, Any]]) -> Ran:
    told = output if isinstance(output, str) else "".join(part["text"] for part in output)
    head, _, printed = told.partition("\nOutput:\n")
    running = _RUNNING.search(head)
    return Ran(command.command, command.output + printed, running[1] if running else None)


def waits_for(sent: Conversation) -> str | None:
    """The session or cell in which the newest command still runs."""
    last = sent.turns[-1] if sent.turns else None
    return last.session if isinstance(last, Ran) else None


def events(turn: Run | Say | None, sent: Conversation, request: Mapping[str, Any]) -> bytes:
    """The answer to `sent`, which came as `request`, as server-sent events; `turn` None waits on."""
    in_code = any(item["type"] == "additional_tools" for item in request["input"])
    item: dict[str, object]
    match turn:
        case Run(command) if in_code:
            code = CODE.format(command=json.dumps(command), first=FIRST_WAIT_MS, next=NEXT_WAIT_MS)
            item = {"type": "custom_tool_call", "call_id": _id("call"), "name": "exec", "input": code}
        case Run(command):
            item = _call("exec_command", {"cmd": command, "yield_time_ms": FIRST_WAIT_MS})
        case Say(text):
            content = [{"type": "output_text", "text": text}]
            item = {"type": "message", "role": "assistant", "id": _id("msg"), "content": content}
        case None if in_code:
            item = _call("wait", {"cell_id": waits_for(sent), "yield_time_ms": NEXT_WAIT_MS})
        case None:
            item = _call("write_stdin", {"session_id": int(waits_for(sent) or 0), "yield_time_ms": NEXT_WAIT_MS})
    response = _id("resp")
    told: list[dict[str, object]] = [
        {"type": "response.created", "response": {"id": response}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": response, "usage": USED}},
    ]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told).encode()


def _call(name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    return {"type": "function_call", "call_id": _id("call"), "name": name, "arguments": json.dumps(arguments)}


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
