"""demo: a real task from submit to result, with a question that is answered, on the shell backend."""

import os
import shutil
from pathlib import Path

import click

from dispatch_queue import overview, producer
from dispatch_queue.cli import follow, render
from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import DispatchError, Exit
from dispatch_queue.producer import Request

NAME = "demo"
QUESTION = "Which files should the report count: all, or only the text files?"
ANSWER = "only the text files"

# Plain sh and what every system has; it runs in the checkout, and changes nothing in it.
ITEMS = (
    "Say where we are: `pwd; ls | head -20`",
    "Count what is here: `find . -type f -not -path './.*' | wc -l | tee \"$DISPATCH_TASK_DIR/context.md\"`",
    f"ask: {QUESTION}",
    "List the largest: `find . -type f -not -path './.*' -exec wc -c {} + | sort -rn | head -6`",
    (
        "Write the report: `{ echo '# What is in this folder'; echo; "
        "echo \"Files: $(find . -type f -not -path './.*' | wc -l)\"; "
        'echo "Answer to the question: $(cat "$DISPATCH_TASK_DIR/ipc/"*.answer | tail -1)"; '
        "echo; echo 'The largest:'; find . -type f -not -path './.*' -exec wc -c {} + | sort -rn | head -6; } "
        '> "$DISPATCH_TASK_DIR/output.md"`'
    ),
)


def _say(text: str) -> None:
    click.secho(f"$ {text}", bold=True)


@click.command()
@click.option("--keep", is_flag=True, help="Keep the task's record when done.")
def demo(keep: bool) -> int:
    """Dispatch a small task here on the shell backend, answer its question, show the result. No account needed."""
    here = Here()
    request = Request(items=ITEMS, title="Demo: what is in this folder", model="shell", backend="shell", attempts=2)
    _say('dispatch submit --model shell --title "Demo: what is in this folder" --item … (5 items)')
    sent = producer.record_locally(request, here.project, home=here.home)
    store = here.store()
    from dispatch_queue.mirror import enroll, push

    enroll(store, sent.home, sent.task.ref, sent.home.standing())
    click.echo(f"Dispatched `{sent.task.id}` using shell. It runs in the background.\n")
    _say(f"dispatch watch {sent.task.id}")
    end = follow.run(here, [sent.home], quiet=False, as_json=False)
    if end is Exit.QUESTION:
        number = overview.look(sent.home).standing.questions[0]
        click.echo()
        _say(f'dispatch answer {sent.task.id} {number} "{ANSWER}"')
        producer.answer(sent.home, number, ANSWER)
        push(store, sent.home, sent.task.ref)
        click.echo(f"Answered question {number}; the same agent goes on.\n")
        _say(f"dispatch watch {sent.task.id}")
        end = follow.run(here, [sent.home], quiet=False, as_json=False)
    click.echo()
    _say(f"cat {os.path.relpath(sent.home.path / 'plan.md')}")
    click.echo(render.plain((sent.home.path / "plan.md").read_text()))
    if end is not Exit.DONE:
        click.echo(f"The demo's task did not end well. Its transcript: dispatch logs {sent.task.id}", err=True)
        return Exit.FAILED
    _say(f"cat {os.path.relpath(sent.home.path / 'output.md')}")
    click.echo(render.plain(overview.output(sent.home) or ""))
    _try_next(here, sent.home.path, keep)
    return Exit.DONE


def _try_next(here: Here, path: Path, keep: bool) -> None:
    click.secho("What to try next", bold=True)
    click.echo('  dispatch submit "what you want done"     an agent plans and does it (claude, codex, cursor)')
    click.echo("  dispatch submit -m shell -i 'Run the tests: `make test`' --worktree")
    click.echo("  dispatch ls · dispatch questions · dispatch watch")
    click.echo("  dispatch flower                          the monitoring pages")
    click.echo("  dispatch down                            stop the background server and worker")
    if keep:
        click.echo(f"\nThe record of this demo: {path}")
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise DispatchError(f"the demo's record stays: {error}", hint=f"rm -r {path}") from error
