"""gc: remove what is proven to be elsewhere, or ended long ago; report what is not."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import click

from dispatch_queue.cli import render
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.schema import KEEP_DAYS
from dispatch_queue.errors import DispatchError, Exit

_LINE = 4096  # characters of a path or reason: it is there to be copied


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed; change nothing.")
@click.option(
    "--keep-days",
    type=click.IntRange(0, 36500),
    metavar="N",
    help=f"Remove records of tasks that ended N days ago. Default: worker.keep_days of the config, or {KEEP_DAYS}.",
)
@click.option("--all", "everywhere", is_flag=True, help="In all projects of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(dry_run: bool, keep_days: int | None, everywhere: bool, as_json: bool) -> int:
    """Remove worktrees whose work is on a branch, and records of tasks that ended long ago. Branches always stay."""
    here = Here()
    here.store(start=not dry_run, worker=False).ping()
    if not dry_run:
        here.reconcile()
    everywhere = everywhere or here.project.id is None
    scope = ["--all"] if everywhere else ["--project", str(here.project.id)]
    if keep_days is None:
        configured = here.config.worker.keep_days
        keep_days = KEEP_DAYS if configured is None else configured
    words = [*scope, "--keep-days", str(keep_days), *(["--dry-run"] if dry_run else [])]
    items = _clean(here, words)
    if as_json:
        from dispatch_queue.cli.look import print_json

        print_json({"dry_run": dry_run, "items": items})
        return Exit.DONE
    for text in lines(items, dry_run=dry_run):
        click.echo(text)
    click.echo(summary(items, dry_run=dry_run), err=True)
    return Exit.DONE


def _clean(here: Here, words: Sequence[str]) -> list[dict[str, Any]]:
    """Let the worker package do it, which knows git. Raises DispatchError with what stood in its way."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "worker.janitor", *words],
        env={**os.environ, "DISPATCH_HOME": str(here.home)},
        cwd=here.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise DispatchError(f"the clean-up ended with status {done.returncode}", hint="dispatch doctor") from error
    if "error" in answer:
        raise CleanUpFailed(answer["error"], hint=answer["hint"], status=answer["status"])
    items: list[dict[str, Any]] = answer["items"]
    return items


class CleanUpFailed(DispatchError):
    """The clean-up gave up; what it had removed until then is removed."""

    def __init__(self, message: str, *, hint: str | None, status: int) -> None:
        self.exit_status = status  # type: ignore[misc]
        super().__init__(message, hint=hint)


def lines(items: Sequence[dict[str, Any]], *, dry_run: bool) -> list[str]:
    """What was found, a line each, and under what is kept the command that looks at it."""
    gone = "would remove" if dry_run else "removed"
    shown = []
    for item in items:
        verb = gone if item["removed"] else "kept"
        reason = f": {item['reason']}" if item["reason"] else ""
        name = render.line(item["name"], _LINE)
        shown.append(f"{verb.ljust(len(gone))}  {item['kind'].ljust(8)}  {name}{render.line(reason, _LINE)}")
        if item["look"]:
            shown.append(f"{' ' * (len(gone) + 2)}{render.line(item['look'], _LINE)}")
    return shown


def summary(items: Sequence[dict[str, Any]], *, dry_run: bool) -> str:
    """How many of each: `2 worktrees and 1 record removed, 1 kept`."""
    kinds: dict[str, int] = {}
    for item in items:
        if item["removed"]:
            kinds[item["kind"]] = kinds.get(item["kind"], 0) + 1
    kept = sum(not item["removed"] for item in items)
    counted = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    verb = "would be removed" if dry_run else "removed"
    return f"{counted or 'nothing'} {verb}" + (f", {kept} kept" if kept else "")
