"""Any command that takes a prompt: as the word `{prompt}`, else on stdin. `{model}` stands for the model's id."""

import re

from worker.backends.base import Kind, Order, Recipe

# Only a word of its own, or the value of an option: inside other text the prompt could become part of a script.
_PROMPT = re.compile(r"(-[\w-]+=)?\{prompt\}")


def build(order: Order) -> Recipe:
    words = [word.replace("{model}", order.model or order.backend) for word in order.words]
    takes = [_PROMPT.fullmatch(word) for word in words]
    if not any(takes):
        return Recipe(tuple(words), stdin=order.prompt.encode())
    return Recipe(
        tuple(f"{found[1] or ''}{order.prompt}" if found else word for word, found in zip(words, takes, strict=True))
    )


CUSTOM = Kind(name="custom", command=(), build=build)
