"""The reference agent, which runs the commands in a plan and needs no account."""

from worker.backends import shell_agent
from worker.backends.base import Kind, Order, Recipe


def build(order: Order) -> Recipe:
    return Recipe(order.words)


SHELL = Kind(name="shell", command=shell_agent.command(), build=build)
