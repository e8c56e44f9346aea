"""RQ's job: starts the agent and waits for it."""

import subprocess

QUEUE = "bench"


def run(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)
