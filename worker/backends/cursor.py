"""Cursor's CLI, `agent`. It takes the prompt as an argument, and adds what it reads on stdin."""

from worker.backends.base import MAX_ARGUMENT_BYTES, Kind, Order, Recipe, has_option


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


CURSOR = Kind(
    name="cursor",
    command=("agent", "-p", "--force"),
    programs=frozenset({"agent", "cursor-agent"}),
    build=build,
    variables=("CURSOR_*",),
)
