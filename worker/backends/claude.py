"""Claude Code. It reads the prompt on stdin and reports as lines of JSON."""

from collections.abc import Mapping

from worker.backends.base import Kind, Order, Recipe, has_option

_FAMILIES = ("opus", "sonnet", "haiku")  # names that the CLI resolves to their newest version
_TOOL_LIMIT_SECONDS = 600  # the most a shell command may take, unless it is told otherwise
_MARGIN_SECONDS = 60  # what a command does before and after its question is answered


def stable(model: str) -> str:
    """The name to give for `model`: its family's, as a versioned one may not be open to every account."""
    return next((family for family in _FAMILIES if family in model.lower()), model)


def build(order: Order) -> Recipe:
    argv = list(order.words)
    if not has_option(argv, "-p", "--print"):
        argv.append("-p")
    if not has_option(argv, "--output-format"):
        argv += ["--output-format", "stream-json", "--verbose"]
    if order.model is not None and not has_option(argv, "--model"):
        argv += ["--model", stable(order.model)]
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


CLAUDE = Kind(
    name="claude",
    command=("claude", "-p", "--dangerously-skip-permissions"),
    programs=frozenset({"claude"}),
    build=build,
    variables=("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "MCP_*", "API_TIMEOUT_MS"),
    hidden=frozenset({"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT"}),  # else it takes itself for a part of another session
    waiting=_waiting,
)
