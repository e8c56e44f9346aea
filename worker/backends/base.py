"""What the back ends share: an order, the recipe that one makes of it, the environment."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dispatch_queue.caps import NO_CAPS, Caps
from dispatch_queue.config.clis import Cli, visible
from worker.backends.account import Account
from worker.backends.listener import Read

BIN = Path(__file__).parents[1] / "bin"  # `dispatch-ask` and what else agents find on their PATH
MAX_ARGUMENT_BYTES = 120_000  # Linux takes 128 KiB for one argument, with its end


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What an attempt wants run: the words of a command, and what its back end has to add to them.

    `model` None is the CLI's own choice. `session` is that of an earlier attempt, to be carried on. `root`: as user 0.
    `caps`: where it is to stop.
    """

    backend: str
    words: tuple[str, ...]
    model: str | None
    prompt: str
    session: str | None
    workspace: Path
    root: bool
    caps: Caps = NO_CAPS


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a back end runs an order. `stdin` None: at its end at once. `notices` tell what was not run as written."""

    argv: tuple[str, ...]
    stdin: bytes | None = None
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of back ends.

    `command` is what runs when none is configured, empty where there is no such thing; `cli` is the CLI that it drives,
    where that is a known one. `waiting` gives the variables that let its tools wait for so many seconds, `read` hears
    a line of its output, where that is JSON, `account` tells whose allowance it uses under some variables.
    """

    name: str
    command: tuple[str, ...]
    build: Callable[[Order], Recipe]
    cli: Cli | None = None
    waiting: Callable[[float], Mapping[str, str]] = lambda seconds: {}
    read: Read | None = None
    account: Account = lambda environ: None


def environment(
    base: Mapping[str, str],
    kind: Kind,
    recipe: Recipe,
    values: Mapping[str, str],
    *,
    passed: Sequence[str],
    question_timeout: float,
) -> dict[str, str]:
    """What an agent sees of `base`, with the task's `values`, and `BIN` at the head of its PATH.

    `passed` are names or patterns that the configuration adds; its tools may wait `question_timeout` seconds.
    """
    seen = visible(base, kind.cli, passed)
    seen["PATH"] = f"{BIN}:{base.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    return {**seen, "TERM": "dumb", **kind.waiting(math.ceil(question_timeout)), **recipe.env, **values}
