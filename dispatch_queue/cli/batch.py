"""submit -f: many tasks at once, from one file."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dispatch_queue import batch, producer, schedule, taskdir, waiting
from dispatch_queue.batch import Asked, Node
from dispatch_queue.caps import Caps
from dispatch_queue.caps import check as check_caps
from dispatch_queue.cli import render, unserved
from dispatch_queue.cli.model import (
    UNNAMED,
    Models,
    first_run_if_new,
    is_to_be_confirmed,
    say_doubt,
    startable,
)
from dispatch_queue.cli.standing import Here
from dispatch_queue.cli.submit import SUBMIT_SEQ, fallback, isolation, read_names, read_plan, sent_there
from dispatch_queue.config.choose import Choice, Source
from dispatch_queue.config.schema import SHELL
from dispatch_queue.errors import BadInput, DispatchError, Exit
from dispatch_queue.producer import Request, Submitted
from dispatch_queue.record import Isolation
from dispatch_queue.states import State

# What the command line may say beside the file: for the tasks that don't say it themselves, or of the command itself.
_BESIDE = {"file_name", "model", "worktree", "shared", "wait", "follow", "dry_run", "yes", "as_json"}


def submit_file(here: Here, name: str, options: dict[str, Any]) -> int:
    """Dispatch the tasks of a file, all or none. Raises BadBatch, BadInput."""
    _check_options()
    shown = "standard input" if name == "-" else name
    asked = batch.parse(_read(name), shown)
    is_new = False
    if any(one.text("model") != SHELL for one in asked) and options["model"] != SHELL:
        is_new = first_run_if_new(here, dry_run=options["dry_run"])
    choices = _Choices(Models(here), options["model"])
    folder = Path.cwd() if name == "-" else (Path.cwd() / name).parent

    def gathered() -> list[Request]:
        choices.made.clear()
        return batch.gather(asked, lambda one: _request(here, one, choices, folder, options), shown)

    requests = gathered()
    if choices.confirmed(options, is_new=is_new):
        requests = gathered()
    for choice in choices.made:
        say_doubt(choice)
    if options["dry_run"]:
        return _dry_run(here, asked, requests, shown, choices, as_json=options["as_json"])
    choices.models.keep()
    sent = batch.record_locally(asked, requests, here.project, shown, home=here.home)
    unreachable = _send(here, [one for one in sent if one.created])
    follows = options["wait"] or options["follow"]
    _report(sent, shown, choices, unreachable, as_json=options["as_json"], one_line=follows)
    if unreachable is not None:
        if not options["as_json"]:
            click.echo(f"error: {unreachable.message}", err=True)
            then = sent_there(unreachable) or "`dispatch rebuild` sends them"
            click.echo(f"The tasks are kept in their files; {then}.", err=True)
        return Exit.UNREACHABLE
    unserved.say(here, [one for one in sent if one.created])
    if follows:
        from dispatch_queue.cli.follow import run

        homes = [one.home for one in sent]
        return run(here, homes, quiet=not options["follow"], as_json=options["as_json"], since=SUBMIT_SEQ)
    failed = any(one.task.after and one.home.standing().state is State.FAILED for one in sent if one.created)
    return Exit.FAILED if failed else Exit.DONE


class _Choices:
    """The models of the tasks of a file. `made` are in the file's order."""

    def __init__(self, models: Models, flag: str | None) -> None:
        self.models = models
        self.made: list[Choice] = []
        self._flag = flag
        self._answer: Choice | None = None  # for the tasks that name no model

    def choose(self, one: Asked) -> Choice:
        """The model for a task. Raises NotAvailable."""
        choice = self.models.choose(one.text("prompt"), one.text("model") or self._flag)
        if self._answer is not None and choice.source in UNNAMED:
            choice = self._answer
        self.made.append(choice)
        return choice

    def confirmed(self, options: dict[str, Any], *, is_new: bool) -> bool:
        """Ask once for all tasks that name no model; whether it is another one now. Raises click.Abort for a no."""
        unnamed = [choice for choice in self.made if choice.source in UNNAMED]
        if not unnamed or not is_to_be_confirmed(unnamed[0], options, is_new=is_new):
            return False
        answer = self.models.confirmed(unnamed[0], what=f"{len(unnamed)} of {len(self.made)} tasks")
        self._answer = answer if answer != unnamed[0] else None
        return self._answer is not None

    def told(self) -> list[str]:
        """Which models the tasks use that name none as their `model`, and why, as sentences."""
        counts = Counter((one.model, one.why) for one in self.made if one.source is not Source.FLAG)
        return [
            f"{count} task{' uses' if count == 1 else 's use'} {render.line(model)} ({render.line(why)})."
            for (model, why), count in counts.items()
        ]


def _check_options() -> None:
    """Raises BadInput for an option that each task of the file must say itself."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in _BESIDE:
            named = parameter.opts[-1] if isinstance(parameter, click.Option) else "a prompt"
            raise BadInput(f"-f and {named} were both given", hint="write it into the file, at each task")


def _read(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(batch.LIMIT_BYTES + 1)
        else:
            with open(name, "rb") as stream:
                data = stream.read(batch.LIMIT_BYTES + 1)
    except OSError as error:
        raise BadInput(f"-f {name}: {error.strerror}", hint="name a YAML file with a list of tasks") from error
    if len(data) > batch.LIMIT_BYTES:
        raise BadInput(f"-f {name}: has more than {batch.LIMIT_BYTES // 1024} KiB", hint="split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{name}:{line}: not UTF-8: byte {data[error.start]:#04x}", hint="save the file as UTF-8"
        ) from error


def _request(here: Here, one: Asked, choices: _Choices, folder: Path, options: dict[str, Any]) -> Request:
    """What a task of the file asks for; files it names stand beside the file. Raises DispatchError, Faulty."""
    prompt, values = one.text("prompt"), one.values
    choice, placed, plan_bytes, not_before = None, Isolation.SHARED, None, ""  # where these are at fault
    read: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    caps = Caps(values.get("max_turns", 0), values.get("max_cost", 0.0))
    if not (prompt or values.get("items") or values.get("plan") or one.faults):
        raise BadInput("the task says nothing to do", hint="give it a `prompt:`, `items:` or a `plan:`")
    with one.blaming("model"):
        choice = choices.choose(one)
        choice, others = startable(here, choice, fallback(here, choice.model, caps))
    with one.blaming("isolation" if "isolation" in values else "worktree"):
        placed = _isolation(one, options, prompt)
        if placed is Isolation.WORKTREE:
            from dispatch_queue.project import check_worktree

            check_worktree(here.project.path)
    with one.blaming("read"):
        read = read_names(one.texts("read"), here.project.path, folder)
    with one.blaming("plan"):
        text = one.text("plan")
        plan_bytes = text.encode() if "\n" in text else read_plan(str(folder / text)) if text else None
    with one.blaming("delay" if "delay" in values else "at"):
        not_before = schedule.not_before(one.text("at"), one.text("delay"))
    with one.blaming("max_cost" if caps.cost_usd else "max_turns"):
        if choice is not None:
            check_caps(here.config, choice.backend, caps, list(here.config.models))
    one.check()
    assert choice is not None
    worker = here.config.worker
    return Request(
        prompt=prompt,
        items=one.texts("items"),
        plan=plan_bytes,
        title=one.text("title"),
        name=one.text("name"),
        model=choice.model,
        backend=choice.backend,
        preamble=choice.prompt_addition,
        isolation=placed,
        context=one.text("context"),
        read=read,
        pool=worker.pool,
        priority=producer.PRIORITIES[one.text("priority") or "normal"],
        question_timeout=values.get("question_timeout", int(worker.question_timeout)),
        question_default=one.text("question_default"),
        verify=one.text("verify"),
        max_turns=caps.turns,
        max_cost_usd=caps.cost_usd,
        fallback=others,
        after_any=bool(values.get("after_any")),
        not_before=not_before,
        hold=bool(values.get("hold")),
        **{key: values[key] for key in ("attempts", "timeout") if key in values},
    )


def _isolation(one: Asked, options: dict[str, Any], prompt: str) -> Isolation:
    said, worktree = one.text("isolation"), one.values.get("worktree")
    if said and worktree is not None and (said == Isolation.WORKTREE) != worktree:
        raise BadInput(
            f"`isolation: {said}` and `worktree: {str(worktree).lower()}` contradict each other", hint="leave one out"
        )
    if said or worktree is not None:
        return Isolation(said) if said else Isolation.WORKTREE if worktree else Isolation.SHARED
    return isolation(options["worktree"], options["shared"], prompt)


def _send(here: Here, made: Sequence[Submitted]) -> DispatchError | None:
    """Tell Redis of the tasks, those waited for first; what went wrong, if it did not answer."""
    try:
        store = here.store()
        from dispatch_queue.mirror import enroll, sync

        for one in made:
            enroll(store, one.home, one.task.ref, one.home.standing())
        for one in made:
            if waiting.facts(one.task):
                sync(store, one.home, one.task.ref)  # what it waits for may be over
    except DispatchError as error:
        here.mark_unsent()
        return error
    here.reconcile(told=True)
    return None


def _report(
    sent: Sequence[Submitted],
    shown: str,
    choices: _Choices,
    unreachable: DispatchError | None,
    *,
    as_json: bool,
    one_line: bool,
) -> None:
    from dispatch_queue import overview

    cards = [overview.look(one.home) for one in sent]
    if as_json:
        import json

        facts = [{"dispatched": one.created, "sent": unreachable is None} for one in sent]
        listed = [render.as_json(card) | fact for card, fact in zip(cards, facts, strict=True)]
        click.echo(render.plain_json(json.dumps(listed, ensure_ascii=False, indent=None if one_line else 2)))
        return
    created = sum(one.created for one in sent)
    click.echo(f"Dispatched {created} task{'' if created == 1 else 's'} of {render.line(shown)}:")
    width = max(len(card.id) for card in cards)
    for one, card in zip(sent, cards, strict=True):
        standing = card.standing
        said = f", {render.line(standing.reason)}" if standing.state in (State.WAITING, State.FAILED) else ""
        state = f"{standing.state}{said}" if one.created else "was dispatched before with the same content"
        click.echo(f"  {card.id.ljust(width)}  {one.task.model}  {state}")
    for sentence in choices.told():
        click.echo(sentence)


def _dry_run(
    here: Here, asked: Sequence[Asked], requests: Sequence[Request], shown: str, choices: _Choices, *, as_json: bool
) -> int:
    base = here.project.path
    names, known = taskdir.known_names(base), taskdir.known_ids(base)
    nodes: list[Node] = batch.arrange(asked, requests, shown, names=names, known=known)
    drafts = batch.draft(nodes, project_id=here.project.id or "new")
    if as_json:
        from dispatch_queue.cli.look import print_json

        tasks = [{"task": dataclasses.asdict(one.task), "plan": one.plan.decode()} for one in drafts]
        print_json({"dry_run": True, "tasks": tasks})
        return Exit.DONE
    for one in drafts:
        waits = waiting.facts(one.task)
        said = f" It waits: {waits['reason']}." if waits else ""
        click.echo(f"Would dispatch `{one.task.id}` using {one.task.model}, {one.task.isolation}.{said} Plan:")
        click.echo("".join(f"  {line}\n" for line in one.plan.decode().splitlines() if line.strip()), nl=False)
    for sentence in choices.told():
        click.echo(sentence)
    return Exit.DONE
