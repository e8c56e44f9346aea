"""Cursor's CLI, `agent`. It takes the prompt as an argument, and adds what it reads on stdin."""

from datetime import datetime

from dispatch_queue.config import clis
from dispatch_queue.config.commands import has_option
from dispatch_queue.oneline import in_one_line, of_call
from worker.backends import account
from worker.backends.base import MAX_ARGUMENT_BYTES, Kind, Order, Recipe
from worker.backends.failures import fault_of
from worker.backends.listener import Heard, Line


def build(order: Order) -> Recipe:
    argv = list(order.words)
    if not has_option(argv, "-p", "--print"):
        argv.append("-p")
    if not has_option(argv, "--trust"):
        argv.append("--trust")
    if order.model is not None and not has_option(argv, "--model", "-m"):
        argv += ["--model", order.model]
    if not has_option(argv, "--output-format"):
        argv += ["--output-format", "stream-json"]
    prompt = order.prompt.encode()
    if len(prompt) > MAX_ARGUMENT_BYTES:
        return Recipe(tuple(argv), stdin=prompt)
    # A prompt that begins with a dash is not to be read as an option.
    argument = f"\n{order.prompt}" if order.prompt.startswith("-") else order.prompt
    return Recipe((*argv, argument))


def read(line: Line, now: datetime) -> Heard | None:
    """One line of `--output-format stream-json`. Raises KeyError, TypeError, … for one of another shape."""
    match line["type"], line.get("subtype"):
        case "system", "init":
            return Heard(model=line["model"], session=line["session_id"])
        case "assistant", _:
            return Heard(activity=in_one_line("".join(part.get("text", "") for part in line["message"]["content"])))
        case "tool_call", "started":
            call = line["tool_call"]
            [name, *_] = [key for key in call if key.endswith("ToolCall")]  # facts of the call stand beside it
            return Heard(activity=of_call(name.removesuffix("ToolCall"), call[name]["args"]))
        case "result", _:
            fault = fault_of(str(line.get("result", "")), now) if line.get("is_error") else None
            return Heard(session=line.get("session_id"), fault=fault)
    return None


CURSOR = Kind(
    name="cursor",
    command=("agent", "-p", "--force"),
    build=build,
    cli=clis.CURSOR,
    read=read,
    account=account.cursor,
)
