"""Claude Code. It reads the prompt on stdin and reports as lines of JSON."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dispatch_queue.config import clis
from dispatch_queue.config.commands import has_option
from dispatch_queue.oneline import in_one_line, of_call
from dispatch_queue.usage import of_claude
from worker.backends import account
from worker.backends.base import Kind, Order, Recipe
from worker.backends.failures import Failure, Fault, fault_of
from worker.backends.listener import Heard, Line

FAMILIES = ("opus", "sonnet", "haiku")  # names that the CLI resolves to their newest version
_TOOL_LIMIT_SECONDS = 600  # the most a shell command may take, unless it is told otherwise
_MARGIN_SECONDS = 60  # what a command does before and after its question is answered


def stable(model: str) -> str:
    """The name to give for `model`: its family's, as a versioned one may not be open to every account."""
    return next((family for family in FAMILIES if family in model.lower()), model)


def build(order: Order) -> Recipe:
    argv = list(order.words)
    if not has_option(argv, "-p", "--print"):
        argv.append("-p")
    if not has_option(argv, "--output-format"):
        argv += ["--output-format", "stream-json", "--verbose"]
    if order.model is not None and not has_option(argv, "--model"):
        argv += ["--model", stable(order.model)]
    if order.caps.turns:
        argv += ["--max-turns", str(order.caps.turns)]
    if order.caps.cost_usd:
        argv += ["--max-budget-usd", f"{order.caps.cost_usd:g}"]
    if order.session is not None:
        argv += ["--resume", order.session]
    env = {"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1"}  # else a command at its limit goes on unseen
    if order.root and has_option(argv, "--dangerously-skip-permissions"):
        env["IS_SANDBOX"] = "1"  # without it the option is refused for root
    return Recipe(tuple(argv), stdin=order.prompt.encode(), env=env)


def _waiting(seconds: float) -> Mapping[str, str]:
    enough = int(seconds) + _MARGIN_SECONDS
    return {
        "BASH_DEFAULT_TIMEOUT_MS": str(enough * 1000),
        "BASH_MAX_TIMEOUT_MS": str(max(enough, _TOOL_LIMIT_SECONDS) * 1000),
    }


_FAULTS = {
    400: Failure.AGENT,
    401: Failure.AUTH,
    403: Failure.AUTH,
    404: Failure.MODEL,
    429: Failure.RATE,
    500: Failure.OVERLOADED,
    529: Failure.OVERLOADED,
}
_BUDGETS = {"error_max_turns": "its turns are used up", "error_max_budget_usd": "what it may cost is used up"}


def read(line: Line, now: datetime) -> Heard | None:
    """One line of `--output-format stream-json`. Raises KeyError, TypeError, … for one of another shape."""
    match line["type"], line.get("subtype"):
        case "system", "init":
            return Heard(model=line["model"], session=line["session_id"])
        case "system", "api_retry":
            return Heard(retry=f"retry {line['attempt']} of {line['max_retries']}: {line['error']}")
        case "assistant", _:
            return Heard(activity=_activity(line["message"]["content"]))
        case "rate_limit_event", _ if line["rate_limit_info"]["status"] == "rejected":
            return Heard(until=datetime.fromtimestamp(line["rate_limit_info"]["resetsAt"], UTC))
        case "result", _:
            return Heard(
                session=line.get("session_id"),
                usage=of_claude(line),
                denials=tuple(
                    of_call(denied["tool_name"], denied["tool_input"])
                    for denied in line.get("permission_denials") or ()
                ),
                fault=_fault(line, now) if line.get("is_error") else None,
            )
    return None


def _activity(content: list[Mapping[str, Any]]) -> str | None:
    said = None
    for part in content:
        if part["type"] == "tool_use":
            said = of_call(part["name"], part["input"])
        elif part["type"] == "text":
            said = in_one_line(part["text"])
    return said


def _fault(line: Line, now: datetime) -> Fault:
    """The fault that a result tells. Its `subtype` says "success" for most of them."""
    how = line.get("subtype")
    if how in _BUDGETS:
        return Fault(Failure.BUDGET, _BUDGETS[how])
    told = fault_of(str(line.get("result") or "; ".join(line.get("errors") or ()) or how or "no reason was told"), now)
    if line.get("api_error") == "usage_limit_reached":
        return dataclasses.replace(told, kind=Failure.LIMIT)
    if line.get("api_error") == "connection_failed":
        return dataclasses.replace(told, kind=Failure.NETWORK)
    if told.kind in (Failure.LIMIT, Failure.CREDIT):  # theirs are statuses of other failures too
        return told
    return dataclasses.replace(told, kind=_FAULTS.get(line.get("api_error_status") or 0, told.kind))


CLAUDE = Kind(
    name="claude",
    command=("claude", "-p", "--dangerously-skip-permissions"),
    build=build,
    cli=clis.CLAUDE,
    waiting=_waiting,
    read=read,
    account=account.claude,
)
