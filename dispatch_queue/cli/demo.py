"""demo: a real task from submit to result, with a question that is answered, on the shell backend."""

import os

import click

from dispatch_queue import overview, producer
from dispatch_queue.cli import follow, render
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.schema import SHELL
from dispatch_queue.errors import Exit
from dispatch_queue.producer import Request

TITLE = "Demo"
QUESTION = "How many of the largest files should the report name?"
ANSWER = "3"

# Plain sh, with what every system has. It runs in the current folder and writes nothing but its report.
_FILES = "find . -maxdepth 4 -type f -not -path '*/.*'"
_REPORT = '"$DISPATCH_TASK_DIR/output.md"'
_ANSWERED = '"$(cat "$DISPATCH_TASK_DIR/ipc/001.answer")"'
ITEMS = (
    f'Count the files: `echo "Files here: $({_FILES} | wc -l)" > {_REPORT}`',
    f"ask: {QUESTION}",
    f"Name the largest: `{_FILES} -exec ls -S {{}} + | head -n {_ANSWERED} >> {_REPORT}`",
)


def _say(text: str) -> None:
    click.secho(f"$ {text}", bold=True)


@click.command()
def demo() -> int:
    """Dispatch a small task here on the shell backend, answer its question, show the result. No account needed."""
    here = Here()
    request = Request(items=ITEMS, title=TITLE, model=SHELL, backend=SHELL)
    _say(f"dispatch submit --model {SHELL} --title {TITLE} --item … --item … --item …")
    sent = producer.record_locally(request, here.project, home=here.home)
    seen = sent.home.standing().seq
    store = here.store()
    from dispatch_queue.mirror import enroll, push

    enroll(store, sent.home, sent.task.ref, sent.home.standing())
    click.echo(f"Dispatched `{sent.task.id}` using shell. It runs in the background.\n")
    _say(f"dispatch watch {sent.task.id}")
    end = follow.run(here, [sent.home], quiet=False, as_json=False, since=seen)
    if end is Exit.QUESTION:
        standing = overview.look(sent.home).standing
        number = standing.questions[0]
        click.echo()
        _say(f'dispatch answer {sent.task.id} {number} "{ANSWER}"')
        producer.answer(sent.home, number, ANSWER)
        push(store, sent.home, sent.task.ref)
        click.echo(f"Answered question {number}; the same agent goes on.\n")
        _say(f"dispatch watch {sent.task.id}")
        end = follow.run(here, [sent.home], quiet=False, as_json=False, since=standing.seq)
    click.echo()
    _say(f"cat {os.path.relpath(sent.home.path / 'plan.md')}")
    click.echo(render.plain((sent.home.path / "plan.md").read_text()))
    if end is not Exit.DONE:
        click.echo(f"The demo's task did not end well. Its transcript: dispatch logs {sent.task.id}", err=True)
        return Exit.FAILED
    _say(f"cat {os.path.relpath(sent.home.path / 'output.md')}")
    click.echo(render.plain(overview.output(sent.home) or ""))
    _try_next(sent.task.id)
    return Exit.DONE


def _try_next(task_id: str) -> None:
    click.secho("What to try next", bold=True)
    for command, what in (
        (f"dispatch show {task_id}", "all there is to know of this task"),
        ('dispatch submit "what you want done"', "an agent plans and does it: claude, codex or cursor"),
        ("dispatch submit -m shell --worktree -i 'Test: `make test`'", "in a git worktree, on a branch of its own"),
        ("dispatch ls", "every task, what needs you first"),
        ("dispatch flower", "the monitoring pages"),
        ("dispatch down", "stop the background server and worker"),
    ):
        click.echo(f"  {command.ljust(59)} {what}")
