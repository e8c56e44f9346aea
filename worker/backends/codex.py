"""Codex. It reads the prompt on stdin, which must end, and reports as lines of JSON."""

from worker.backends.base import Kind, Order, Recipe, has_option

_SANDBOXED = ("--sandbox", "workspace-write")

FULL_AUTO_GONE = (
    "codex no longer knows `--full-auto`, so it ran with `--sandbox workspace-write`, which means the same; put that,"
    " or `--dangerously-bypass-approvals-and-sandbox` for an agent that may commit, into `backends.codex.command`"
)


def build(order: Order) -> Recipe:
    argv = list(order.words)
    notices: tuple[str, ...] = ()
    if "--full-auto" in argv:
        at = argv.index("--full-auto")
        chosen = has_option(argv, "-s", "--sandbox", "--dangerously-bypass-approvals-and-sandbox")
        argv[at : at + 1] = () if chosen else _SANDBOXED
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


CODEX = Kind(
    name="codex",
    command=("codex", "exec", "--dangerously-bypass-approvals-and-sandbox"),
    programs=frozenset({"codex"}),
    build=build,
    variables=("OPENAI_*", "CODEX_*"),
)
