"""logs and diff: what an agent said, and what it changed."""

import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from dispatch_queue import files, overview
from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import BadInput, Exit
from dispatch_queue.record import Isolation
from dispatch_queue.states import HELD
from dispatch_queue.taskdir import TaskDir

_CHUNK_BYTES = 65536
_LOOK_AGAIN_SECONDS = 2.0


def _numbers(home: TaskDir) -> list[int]:
    return overview.attempt_numbers(home)


@click.command()
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the attempt ends.")
@click.option("-n", "--attempt", type=click.IntRange(min=1), help="Of this attempt; the last one by default.")
@click.option("--raw", is_flag=True, help="Print the file as it is: JSON, and what a terminal would obey.")
def logs(task: str, follow: bool, attempt: int | None, raw: bool) -> int:
    """Print what TASK's agent says and does: its transcript, with JSON put in words."""
    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    numbers = _numbers(home)
    if not numbers:
        _check_that_one_comes(home, follow=follow)
    if attempt is None:
        attempt = numbers[-1] if numbers else 1
    if attempt not in numbers and not follow:
        raise BadInput(
            f"task `{home.id}` has no attempt {attempt}", hint=f"it has: {', '.join(map(str, numbers)) or 'none'}"
        )
    _print(home, attempt, follow=follow, raw=raw)
    if not _numbers(home):
        _check_that_one_comes(home, follow=follow)  # it was cancelled meanwhile
    return Exit.DONE


def _check_that_one_comes(home: TaskDir, *, follow: bool) -> None:
    """Refuse the transcript of a task without an attempt, unless somebody waits for it. Raises BadInput."""
    standing = overview.look(home).standing
    if standing.final:
        why = "its transcripts are gone" if standing.attempt else "never ran"
        raise BadInput(f"task `{home.id}` is {standing.state}, and {why}", hint=f"dispatch show {home.id}")
    if not follow:
        raise BadInput(f"task `{home.id}` has no attempt yet", hint=f"dispatch logs {home.id} -f  waits for it")


def _print(home: TaskDir, attempt: int, *, follow: bool, raw: bool) -> None:
    from dispatch_queue.cli.spoken import Told
    from dispatch_queue.cli.transcript import COLOURS, Reader, lines

    reader = Reader()

    def show(found: Iterable[Told]) -> None:
        text = [click.style(line, fg=COLOURS.get(one.kind)) for one in found for line in lines(one)]
        if text:
            click.echo("\n".join(text))

    def put(data: bytes) -> None:
        if raw:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            show(reader.feed(data))

    _copy_until_over(home, attempt, put, follow=follow)
    show(reader.end())


def _copy_until_over(home: TaskDir, attempt: int, put: Callable[[bytes], None], *, follow: bool) -> None:
    """Put the transcript of an attempt as far as it is there; with `follow` all of it, until the attempt is over."""
    name = home.name(f"attempts/{attempt}/agent.log")
    path = home.base / name
    offset = _copy(home.base, name, 0, put)
    if not follow:
        return
    from dispatch_queue.watching import Watch

    changed = threading.Event()
    watch = Watch(lambda _: changed.set(), name="logs")
    watch.set({path.parent, home.path, home.path / "attempts"})
    try:
        while True:
            changed.clear()
            standing = overview.look(home).standing
            over = (
                standing.final
                or standing.attempt > attempt
                or (standing.attempt == attempt and standing.state not in HELD)
            )
            offset = _copy(home.base, name, offset, put)
            if over:
                return
            watch.set({path.parent, home.path, home.path / "attempts"})
            changed.wait(_LOOK_AGAIN_SECONDS)
    finally:
        watch.close()


def _copy(base: Path, name: str, offset: int, put: Callable[[bytes], None]) -> int:
    """Put what the file has from `offset` on; returns the new offset. A missing file has nothing.

    Raises UntrustedPath where the agent put something else there.
    """
    try:
        handle = files.open_read(base, name)
    except FileNotFoundError:
        return offset
    with open(handle, "rb") as stream:
        stream.seek(offset)
        while data := stream.read(_CHUNK_BYTES):
            put(data)
            offset += len(data)
    return offset


@click.command()
@click.argument("task")
@click.option("--stat", is_flag=True, help="Only which files, and how much.")
def diff(task: str, stat: bool) -> int:
    """Show what the worktree task TASK changed, against where it began. While it runs, its worktree as it is now."""
    here = Here()
    home = here.task(task)
    here.reconcile(home.id)
    card = overview.look(home)
    if card.isolation is Isolation.SHARED:
        raise BadInput(
            f"task `{home.id}` works in your checkout itself", hint=f"git -C {shlex.quote(str(home.base))} diff"
        )
    branch = card.standing.branch
    if not branch:
        raise BadInput(f"task `{home.id}` has no branch yet", hint=f"dispatch status {home.id}")
    git = shutil.which("git")
    if git is None:
        raise BadInput("git is not on PATH", hint="install git")
    place = overview.workspace(home) if card.standing.state in HELD else None
    base = f"refs/dispatch/{branch.removeprefix('dispatch/')}/base"
    arguments = ["diff", *(["--stat"] if stat else [])]
    if place is not None and place.is_dir():
        arguments = ["-C", str(place), *arguments, base]
    else:
        arguments = ["-C", str(home.base), *arguments, f"{base}..refs/heads/{branch}"]
    return subprocess.run([git, *arguments], check=False).returncode
