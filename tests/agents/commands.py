"""What scripted models have their CLIs do: the commands of the worker's prompt, as a model would write them."""

from tests.agents.script import Run, Say
from tests.support.tasks import Gate

TICK = Run("""sed -i '0,/\\[ \\]/s//[x]/' "$DISPATCH_TASK_DIR/plan.md" """.strip())
FINISH = Run('touch "$DISPATCH_TASK_DIR/ipc/.done"')
END = Say("All done.")


def through(gate: Gate) -> Run:
    """Something that takes until the gate is opened."""
    return Run(f"until [ -e '{gate.path}' ]; do sleep 0.05; done")


def ask(question: str) -> Run:
    return Run(f'dispatch-ask "{question}"')
