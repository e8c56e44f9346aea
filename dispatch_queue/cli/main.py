"""The entry points, the table of commands, and the one place where errors are printed."""

import contextlib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from dispatch_queue import __version__
from dispatch_queue.errors import DispatchError, Exit

# word → module under dispatch_queue.cli and the command's name in it; a module is imported when its word is used.
COMMANDS: dict[str, tuple[str, str]] = {
    "submit": ("submit", "Dispatch a task to a background agent."),
    "ls": ("look", "List tasks, what needs you first."),
    "status": ("look", "Say where one task, or all, stand."),
    "show": ("look", "Show a task: plan, questions, attempts, result."),
    "questions": ("look", "List the questions that wait for you."),
    "watch": ("follow", "Follow tasks; ends with 3 at a question, 0 or 1 at the end."),
    "wait": ("follow", "Wait quietly for tasks to end."),
    "logs": ("logs", "Print what an agent says and does."),
    "diff": ("logs", "Show what a worktree task changed."),
    "answer": ("act", "Answer an agent's question."),
    "note": ("act", "Add a note to a running task's plan."),
    "cancel": ("act", "Cancel tasks and end their agents."),
    "retry": ("again", "Queue a finished task again, from its first unchecked item."),
    "requeue": ("again", "Dispatch the unchecked items of a finished task as a new one."),
    "hold": ("schedule", "Keep queued tasks from starting."),
    "release": ("schedule", "Let held tasks go."),
    "up": ("serve", "Start the own server and worker."),
    "down": ("serve", "Stop them; queued tasks stay."),
    "worker": ("serve", "Run a worker in the foreground."),
    "flower": ("serve", "Run the monitoring pages."),
    "rebuild": ("rebuild", "Tell Redis again of all tasks, from their files."),
    "gc": ("gc", "Remove what is proven to be elsewhere, or ended long ago."),
    "config": ("config", "Show, check and change the configuration."),
    "doctor": ("doctor", "Check this machine and say what to fix."),
    "demo": ("demo", "Show all of it on a small task, no account needed."),
}


class Commands(click.Group):
    """The group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dispatch_queue.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f"dispatch {near[0]}" if near else f'dispatch submit "{args[0][:40]}"'
            raise click.UsageError(f"no such command: {args[0][:40]!r}. Did you mean: {meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dispatch")
@click.option("-C", "--project", "folder", metavar="DIR", help="Work in the project of this folder.")
@click.pass_context
def root(ctx: click.Context, folder: str | None) -> None:
    """Dispatch AI coding agents in the background: plan, watch, answer, get the result."""
    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise click.UsageError(f"-C {folder}: {error.strerror}") from error


def _run(command: click.Command, name: str) -> NoReturn:
    """Run a command and leave with its exit status; every error is printed here and nowhere else."""
    _open_streams()
    try:
        colour = False if os.environ.get("NO_COLOR") else None
        status: Any = command.main(prog_name=name, standalone_mode=False, color=colour)
        _leave(int(status or 0))
    except click.exceptions.Exit as leaving:
        _leave(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        _leave(Exit.USAGE)
    except (KeyboardInterrupt, click.Abort):
        _leave(Exit.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(Exit.DONE)
    except DispatchError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"\nhint: {error.hint}", err=True)
        _leave(error.exit_status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}\n\nhint: dispatch doctor", err=True)
        _leave(Exit.FAILED)


def _open_streams() -> None:
    """Put /dev/null where the caller closed a standard stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the end


def _leave(status: int) -> NoReturn:
    """Leave at once: to take down the interpreter costs a command up to 100 ms, and nothing waits for it."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(status))


def dispatch() -> NoReturn:
    """The `dispatch` command."""
    _run(root, "dispatch")


def dispatch_submit() -> NoReturn:
    """The `dispatch-submit` command: `dispatch submit`."""
    from dispatch_queue.cli.submit import submit

    _run(submit, "dispatch-submit")


if __name__ == "__main__":
    dispatch()
