"""up, down, worker, flower: the processes."""

import os
import sys
from datetime import timedelta

import click

from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import DispatchError, Exit
from dispatch_queue.home import run_folder

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


@click.command()
@click.option("--slots", type=click.IntRange(1, 1000), help="Tasks at once.")
def up(slots: int | None) -> int:
    """Start dispatch's own server and one local worker, unless they run. With a Redis configured: only the worker."""
    from dispatch_queue import embedded

    here = Here()
    if here.config.redis.url is not None:
        click.echo(
            f"Redis is configured in {here.home / 'config.yaml'} or DISPATCH_REDIS_URL; start workers with:", err=True
        )
        click.echo("  dispatch worker", err=True)
        return Exit.DONE
    started = embedded.up(here.home, slots=slots or here.config.worker.slots)
    if embedded.going_down(here.home):
        raise DispatchError(
            "`dispatch down` is under way: server and worker end", hint="dispatch up  # when it has ended"
        )
    here.reconcile()
    click.echo(f"server: {'started' if started.server else 'was running'}")
    click.echo(f"worker: {'started' if started.worker else 'was running'}")
    return Exit.DONE


@click.command()
@click.option(
    "--drain", type=click.FloatRange(min=0), default=5.0, show_default=True, metavar="SECONDS", help="For agents."
)
def down(drain: float) -> int:
    """Stop the local worker and dispatch's own server. Running tasks are given back; all go on after `dispatch up`."""
    from dispatch_queue import embedded

    ended = embedded.down(Here().home, drain=timedelta(seconds=drain))
    click.echo(f"worker: {ended.worker}")
    click.echo(f"server: {ended.server}")
    return Exit.DONE


def _celery(here: Here, words: list[str]) -> int:
    """Become Celery, in a folder of ours: it imports what `-A` names from the current folder first."""
    sys.stdout.flush()
    os.chdir(run_folder(here.home))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "celery", "-A", "worker", *words])


@click.command(context_settings=_PASS_ON)
@click.option("--slots", type=click.IntRange(1, 1000), help="Tasks at once.")
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="What agents get to end when the worker is stopped.",
)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def worker(slots: int | None, drain: float | None, rest: tuple[str, ...]) -> int:
    """Run a worker in the foreground. What is not known here is passed on to `celery worker`."""
    here = Here()
    here.store(worker=False)
    if drain is not None:
        os.environ["DISPATCH_DRAIN"] = str(drain)
    quick = ["--without-mingle", "--without-gossip", "--loglevel", "INFO", "-n", f"dispatch-{os.getpid()}@%h"]
    return _celery(here, ["worker", *quick, *(["--concurrency", str(slots)] if slots else []), *rest])


@click.command(context_settings=_PASS_ON)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def flower(rest: tuple[str, ...]) -> int:
    """Run Flower, the monitoring pages, on http://localhost:5555. Options are passed on to `celery flower`."""
    here = Here()
    here.store(worker=False)
    own = here.home / "flowerconfig.py"
    # Without --conf Flower would execute a `flowerconfig.py` of the current folder, which may be a cloned repository.
    return _celery(here, ["flower", f"--conf={own if own.is_file() else os.devnull}", *rest])
