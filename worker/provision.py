"""What a new worktree gets besides the commit: the files of `.worktreeinclude`, and what `.dispatch/setup` does."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from logging import getLogger
from pathlib import Path
from select import POLLIN, poll
from typing import Final

from dispatch_queue.errors import DispatchError
from dispatch_queue.project import RECORD
from worker import git, process
from worker.masking import MaskedStream, Masker

INCLUDE: Final = ".worktreeinclude"
SETUP: Final = f"{RECORD}/setup"
ASK_EVERY_SECONDS = 0.5  # whether the attempt is over
SETUP_TIMEOUT: Final = timedelta(minutes=15)  # time to install what a project depends on
TAIL_BYTES: Final = 4096
TAIL_LINES: Final = 5

log = getLogger(__name__)


class SetupFailed(DispatchError):
    """The project's own `.dispatch/setup` failed; the workspace stays for a look at it."""


def include(source: Path, target: Path, *, part: Path) -> None:
    """Copy what `.worktreeinclude` lists of the files that git does not have; what is there already stays.

    The file stands in the checkout's top folder or in the project's, `part` of it, and is read like a .gitignore.
    """
    if not any((folder / INCLUDE).is_file() for folder in (source, source / part)):
        return
    words = ["ls-files", "-z", "--others", "--ignored", f"--exclude-per-directory={INCLUDE}"]
    for name in git.names(git.run(words, source)):
        parts = set(Path(name).parts)
        if name.endswith("/") or parts & {".git", RECORD} or not _copy(source, target, name):
            log.warning("%s lists `%s`, which is not copied", INCLUDE, name, extra={"action": "include"})


def _copy(source: Path, target: Path, name: str) -> bool:
    """Copy a file, or a link that stays within; False for anything else, and where a link leads out on the way."""
    old, new = source / name, target / name
    if old.parent.resolve() != source.resolve() / Path(name).parent:
        return False
    if new.parent.resolve() != target.resolve() / Path(name).parent:
        return False
    if os.path.lexists(new):
        return True
    if old.is_symlink():
        aim = Path(os.path.normpath(Path(name).parent / os.readlink(old)))
        if aim.is_absolute() or aim.parts[:1] == (os.pardir,):
            return False
    elif not old.is_file():
        return False
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(old, new, follow_symlinks=False)
    return True


def set_up(
    project: Path,
    workspace: Path,
    *,
    environ: Mapping[str, str],
    output: Path,
    masker: Masker,
    over: Callable[[], bool] = lambda: False,
    timeout: timedelta = SETUP_TIMEOUT,
) -> bool:
    """Run the project's executable `.dispatch/setup` in the workspace, what it prints into `output`; False: none there.

    Raises SetupFailed, also after `timeout` and when `over` says so, and process.StartFailed. Nothing that it started
    runs on.
    """
    script = project.resolve() / SETUP
    if script.is_symlink() or not script.is_file() or not os.access(script, os.X_OK):
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout.total_seconds()
    command = process.Command(argv=(str(script),), cwd=workspace, env=environ)
    agent = process.spawn(command)
    try:
        ended = _copy_output(agent, output, masker, deadline, over)
    finally:
        agent.close()
    if ended is not None and ended.ok:
        return True
    if over():
        raise SetupFailed(f"{SETUP} was ended: the task is not this worker's any more")
    outcome = f"did not end within {timeout.total_seconds():g} s" if ended is None else _outcome(ended)
    last = output.read_bytes()[-TAIL_BYTES:].decode(errors="replace").splitlines()[-TAIL_LINES:]
    raise SetupFailed(": ".join([f"{SETUP} {outcome}", *(["\n".join(last)] if last else [])]), hint=f"less {output}")


def _outcome(ended: process.ProcessExit) -> str:
    if ended.error:
        return f"failed: {ended.error}"
    return f"was ended by signal {ended.signal}" if ended.signal else f"exited {ended.code}"


def _copy_output(
    agent: process.AgentProcess, output: Path, masker: Masker, deadline: float, over: Callable[[], bool]
) -> process.ProcessExit | None:
    """Write what the agent prints to a file until it ends; None when the deadline comes first, or it is over."""
    ready = poll()
    ready.register(agent.status, POLLIN)
    ready.register(agent.output, POLLIN)
    is_open = True
    masked = MaskedStream(masker)
    with output.open("wb", buffering=0) as stream, contextlib.ExitStack() as end:
        end.callback(lambda: stream.write(masked.rest()))
        ask_at = time.monotonic() + ASK_EVERY_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if time.monotonic() >= ask_at:
                if over():
                    return None
                ask_at = time.monotonic() + ASK_EVERY_SECONDS
            ended = agent.read_status()
            data = agent.read_output() if is_open else None
            if data:
                stream.write(masked.feed(data))
                continue
            if ended is not None:
                return ended
            if data is None and is_open:
                ready.unregister(agent.output)
                is_open = False
            ready.poll(min(left, ASK_EVERY_SECONDS) * 1000)
    return None
