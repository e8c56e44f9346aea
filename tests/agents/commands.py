"""What scripted models have their CLIs do: the commands of the worker's prompt, as a model would write them."""

import re
from collections.abc import Callable

from tests.agents.script import Conversation, Run, Say
from tests.support.tasks import Gate

TICK = Run("""sed -i '0,/\\[ \\]/s//[x]/' "$DISPATCH_TASK_DIR/plan.md" """.strip())
FINISH = Run('touch "$DISPATCH_TASK_DIR/ipc/.done"')
BLOCK = Run("""sed -i '0,/\\[ \\]/s//[?]/' "$DISPATCH_TASK_DIR/plan.md" """.strip())
END = Say("All done.")


def through(gate: Gate) -> Run:
    """Something that takes until the gate is opened."""
    return Run(f"until [ -e '{gate.path}' ]; do sleep 0.05; done")


def ask(question: str) -> Callable[[Conversation], Run]:
    """A question to the dispatcher. codex runs commands in a login shell, whose /etc/profile may set PATH anew."""

    def command(sent: Conversation) -> Run:
        in_full = re.search(r"`([^`]*/dispatch-ask)`", sent.prompts[-1])
        assert in_full is not None, "the prompt does not say where dispatch-ask is"
        return Run(f'{"dispatch-ask" if sent.api == "anthropic" else in_full[1]} "{question}"')

    return command
