"""Codex. It reads the prompt on stdin, which must end, and reports as lines of JSON."""

from datetime import datetime
from pathlib import PurePath

from dispatch_queue.config import clis
from dispatch_queue.config.commands import has_option
from dispatch_queue.oneline import in_one_line, of_command
from dispatch_queue.usage import Usage
from worker.backends import account
from worker.backends.base import Kind, Order, Recipe
from worker.backends.failures import fault_of
from worker.backends.listener import Heard, Line

FULL_AUTO_GONE = (
    "codex no longer knows `--full-auto`, so it ran with `--sandbox workspace-write`, which means the same; put that,"
    " or `--dangerously-bypass-approvals-and-sandbox` for an agent that may commit, into `backends.codex.command`"
)


def build(order: Order) -> Recipe:
    argv = list(order.words)
    notices: tuple[str, ...] = ()
    if clis.FULL_AUTO in argv:
        at = argv.index(clis.FULL_AUTO)
        argv[at : at + 1] = clis.for_full_auto(argv)
        notices = (FULL_AUTO_GONE,)
    argv += [option for option in ("--json", "--skip-git-repo-check") if not has_option(argv, option)]
    if not has_option(argv, "-C", "--cd"):
        argv += ["-C", str(order.workspace)]
    if order.model is not None and not has_option(argv, "-m", "--model"):
        argv += ["-m", order.model]
    if order.session is not None:
        argv += ["resume", order.session]
    argv.append("-")
    return Recipe(tuple(argv), stdin=order.prompt.encode(), notices=notices)


def read(line: Line, now: datetime) -> Heard | None:
    """One line of `--json`. Raises KeyError, TypeError, … for one of another shape."""
    match line["type"]:
        case "thread.started":
            return Heard(session=line["thread_id"])
        case "item.started" | "item.completed":
            return Heard(activity=_activity(line["item"]))
        case "turn.completed":
            used = line["usage"]
            return Heard(usage=Usage.read({**used, "cached_tokens": used.get("cached_input_tokens")}))
        case "turn.failed":
            return Heard(fault=fault_of(line["error"]["message"], now))
        case "error":  # also in runs that succeed
            return Heard(retry=in_one_line(line["message"]))
    return None


def _activity(item: Line) -> str | None:
    match item["type"]:
        case "command_execution":
            return of_command(item["command"])
        case "agent_message":
            return in_one_line(item["text"])
        case "file_change":
            return in_one_line(f"edit: {', '.join(PurePath(change['path']).name for change in item['changes'])}")
        case "mcp_tool_call":
            return in_one_line(f"{item['server']}: {item['tool']}")
        case "web_search":
            return in_one_line(f"search: {item['query']}")
    return None


CODEX = Kind(
    name="codex",
    command=("codex", "exec", "--dangerously-bypass-approvals-and-sandbox"),
    build=build,
    cli=clis.CODEX,
    read=read,
    account=account.codex,
)
