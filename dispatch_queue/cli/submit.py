"""submit: the front door. Writes a plan, sends a ticket, says what was dispatched, and returns."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dispatch_queue import plan, producer, schedule, waiting
from dispatch_queue.caps import LARGEST_COST_USD, Caps, can_cap
from dispatch_queue.caps import check as check_caps
from dispatch_queue.cli import render, unserved
from dispatch_queue.cli.model import Models, first_run_if_new, is_to_be_confirmed, say_doubt, startable
from dispatch_queue.cli.standing import Here
from dispatch_queue.config.choose import Choice, wants_worktree
from dispatch_queue.config.mention import is_likely_about_config
from dispatch_queue.config.schema import SHELL
from dispatch_queue.errors import BadConfig, BadInput, DispatchError, Exit
from dispatch_queue.producer import PRIORITIES, Request, Submitted
from dispatch_queue.record import Isolation
from dispatch_queue.states import State

_SHOWN_ITEMS = 12
_WARM_UP = ("dispatch", "/dispatch")  # said alone
_OF_ANY_REQUEST = ("words", "yes", "as_json", "dry_run")  # what may be given with a request about the configuration
SUBMIT_SEQ = 1  # of a journal's first entry


def read_plan(name: str) -> bytes:
    """The bytes of a plan file, or of standard input for `-`. Raises BadInput, for what is no plan too."""
    try:
        with open(name, "rb") if name != "-" else contextlib.nullcontext(sys.stdin.buffer) as stream:
            data = stream.read(plan.LIMIT_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"--plan {name}: {error.strerror}", hint="name a file with a checklist: lines `- [ ] step`"
        ) from error
    plan.parse(data, name="standard input" if name == "-" else name)
    return data


def isolation(worktree: bool, shared: bool, prompt: str) -> Isolation:
    if worktree and shared:
        raise BadInput("--worktree and --shared were both given", hint="leave one out")
    return Isolation.WORKTREE if worktree or (not shared and wants_worktree(prompt)) else Isolation.SHARED


def read_names(names: tuple[str, ...], base: Path, folder: Path) -> tuple[str, ...]:
    """Files to read as the agent finds them: relative to the project where they stand in it. Raises BadInput.

    Names are looked up in `folder`.
    """
    found = []
    for name in names:
        path = folder / name
        if not path.exists():
            raise BadInput(f"--read {name}: no such file", hint=f"looked at {path}")
        path = path.resolve()
        found.append(str(path.relative_to(base)) if path.is_relative_to(base) else str(path))
    return tuple(found)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="[PROMPT]")
@click.option(
    "-i", "--item", "items", multiple=True, metavar="TEXT", help="A step of the plan, taken verbatim; repeat it."
)
@click.option("--plan", "plan_name", metavar="FILE", help="A checklist file, taken verbatim; - is standard input.")
@click.option("-f", "file_name", metavar="FILE", help="Many tasks at once, from a YAML file; all or none.")
@click.option("--title", default="", help="The plan's title; the task id is made from it.")
@click.option("--name", default="", metavar="ID", help="The task's id. The same content twice is dispatched once.")
@click.option("-m", "--model", help="A model or alias of the config.")
@click.option("--worktree", is_flag=True, help="Run in a git worktree, on branch dispatch/ID.")
@click.option("--shared", is_flag=True, help="Run in this checkout (the default).")
@click.option("--context", default="", metavar="TEXT", help="What the agent should know besides.")
@click.option("--read", "read", multiple=True, metavar="FILE", help="A file the agent should read first; repeat it.")
@click.option("--after", multiple=True, metavar="ID", help="Start when this task is done; repeat it, or A,B.")
@click.option("--after-any", is_flag=True, help="With --after: however they end.")
@click.option("--at", default="", metavar="TIME", help="Start then: 16:30, or 2026-11-24T16:30.")
@click.option("--delay", default="", metavar="TIME", help="Start after that: 90s, 10m, 2h, 1d.")
@click.option("--hold", is_flag=True, help="Start when it is released: dispatch release ID.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=7200,
    show_default=True,
    metavar="SECONDS",
    help="Of an attempt; one that takes longer is ended, and the task fails.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Before the task fails. After a --timeout there is none, after the first failed --verify always one more.",
)
@click.option(
    "--question-timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="How long an agent waits for an answer before it is parked.",
)
@click.option("--question-default", default="", metavar="TEXT", help="The answer when nobody gave one in that time.")
@click.option("--verify", default="", metavar="CMD", help="Done only if `sh -c CMD` exits 0 in the end.")
@click.option("--max-turns", type=click.IntRange(min=1), metavar="N", help="Of the model, over all attempts.")
@click.option(
    "--max-cost", type=click.FloatRange(0, LARGEST_COST_USD, min_open=True), metavar="USD", help="Over all attempts."
)
@click.option("--priority", type=click.Choice(list(PRIORITIES)), default="normal", show_default=True)
@click.option("--wait", is_flag=True, help="Wait for the end: exit 0 done, 1 failed, 3 a question waits.")
@click.option("--follow", is_flag=True, help="Like --wait, and print what happens.")
@click.option("--dry-run", is_flag=True, help="Show what would be dispatched; write nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def submit(words: tuple[str, ...], items: tuple[str, ...], plan_name: str | None, **options: Any) -> int:
    """Dispatch a task to a background agent and return at once.

    PROMPT alone: the agent makes the plan. --item or --plan: the plan is yours.
    """
    here = Here()
    prompt = " ".join(words)
    if options["file_name"] is not None:
        from dispatch_queue.cli.batch import submit_file

        return submit_file(here, options["file_name"], options)
    if not (items or plan_name or options["title"] or options["name"]) and (not words or prompt in _WARM_UP):
        return _warm_up(here, options["as_json"])
    asked = options["model"] != SHELL and first_run_if_new(here, dry_run=options["dry_run"])
    if is_likely_about_config(prompt, [*here.config.models, *here.config.aliases]) and not _is_surely_a_task():
        from dispatch_queue.cli.in_words import carry_out

        status = carry_out(here, prompt, as_json=options["as_json"], dry_run=options["dry_run"])
        if status is not None:
            return status
    models = Models(here)
    choice = _choose(models, prompt, options, is_new=asked)
    caps = Caps(options["max_turns"] or 0, options["max_cost"] or 0.0)
    choice, others = startable(here, choice, fallback(here, choice.model, caps))
    check_caps(here.config, choice.backend, caps, list(here.config.models))
    base = here.project.path
    request = Request(
        prompt=prompt,
        items=items,
        plan=read_plan(plan_name) if plan_name else None,
        title=options["title"],
        name=options["name"],
        model=choice.model,
        backend=choice.backend,
        preamble=choice.prompt_addition,
        isolation=isolation(options["worktree"], options["shared"], prompt),
        context=options["context"],
        read=read_names(options["read"], base, Path.cwd()),
        pool=here.config.worker.pool,
        priority=PRIORITIES[options["priority"]],
        attempts=options["attempts"],
        timeout=options["timeout"],
        question_default=options["question_default"],
        verify=options["verify"],
        max_turns=caps.turns,
        max_cost_usd=caps.cost_usd,
        fallback=others,
        question_timeout=options["question_timeout"] or int(here.config.worker.question_timeout),
        after=_after(here, options["after"], options["name"], any_end=options["after_any"]),
        after_any=options["after_any"],
        not_before=schedule.not_before(options["at"], options["delay"]),
        hold=options["hold"],
    )
    if choice.backend == SHELL and request.plan is None and not items:
        producer.draft(request, project_id="unwritten")  # what is wrong with the prompt itself comes first
        raise BadConfig(
            f"`{choice.model}` runs commands, and cannot work on a prompt ({choice.why})",
            hint="install an agent CLI (`dispatch doctor`), name one with --model, or give commands: -i 'Test: `make`'",
        )
    if request.isolation is Isolation.WORKTREE:
        from dispatch_queue.project import check_worktree

        check_worktree(base)
    if options["dry_run"]:
        return _dry_run(here, request, choice, options["as_json"])
    models.keep()
    sent = producer.record_locally(request, here.project, home=here.home)
    parsed = sent.home.plan() if sent.created else None  # before an agent may touch it
    unreachable = _send(here, sent) if sent.created else None
    waits = options["wait"] or options["follow"]
    _report(here, sent, parsed, choice, unreachable, as_json=options["as_json"], more_follows=waits)
    if unreachable is not None:
        return Exit.UNREACHABLE
    unserved.say(here, [sent] if sent.created else [])
    if waits:
        from dispatch_queue.cli.recover import follow_through

        # From the submit on: an agent may have ticked an item by now.
        since = SUBMIT_SEQ if sent.created else None
        return follow_through(here, sent.home, quiet=not options["follow"], as_json=options["as_json"], since=since)
    return Exit.FAILED if _failed_at_once(sent) else Exit.DONE


def fallback(here: Here, model: str, caps: Caps) -> tuple[str, ...]:
    """What may take over from `model`: with caps, only what keeps them."""
    found = here.config.fallback_of(model)
    kept = tuple(other for other in found if not caps or can_cap(here.config, other.partition("/")[0]))
    passed = [other.partition("/")[2] for other in found if other not in kept]
    if passed:
        click.echo(f"note: {', '.join(passed)} cannot take over: a cap would not be kept", err=True)
    return kept


def _choose(models: Models, prompt: str, options: dict[str, Any], *, is_new: bool) -> Choice:
    """The model for the task, confirmed where somebody can be asked; a default that `is_new` was just asked for."""
    choice = models.choose(prompt, options["model"])
    if is_to_be_confirmed(choice, options, is_new=is_new):
        return models.confirmed(choice)
    say_doubt(choice)
    return choice


def _is_surely_a_task() -> bool:
    """Whether an option is given that only a task can have."""
    context = click.get_current_context()
    return any(
        context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for name in context.params
        if name not in _OF_ANY_REQUEST
    )


def _after(here: Here, given: tuple[str, ...], name: str, *, any_end: bool) -> tuple[str, ...]:
    """The tasks of the project that `--after` names. Raises BadInput."""
    names = schedule.names_in(given)
    if any_end and not names:
        raise BadInput("--after-any says how tasks may end, and --after names none", hint="--after TASK --after-any")
    if name and name in names:
        raise BadInput(f"task `{name}` cannot wait for itself", hint="take it out of --after")
    return tuple(dict.fromkeys(here.task(one).id for one in names))


def _failed_at_once(sent: Submitted) -> bool:
    """Whether a task cannot run because one that it was to wait for has failed."""
    return sent.created and bool(sent.task.after) and sent.home.standing().state is State.FAILED


def _warm_up(here: Here, as_json: bool) -> int:
    first_run_if_new(here)
    default = Models(here).choose("", None).model
    if as_json:
        from dispatch_queue.cli.look import print_json

        print_json({"ready": True, "default": default, "models": sorted(here.config.models)})
    else:
        click.echo(f"Config loaded; the default model is {default}. What would you like me to dispatch?")
        click.echo('  dispatch submit "what to do"', err=True)
    return Exit.DONE


def _dry_run(here: Here, request: Request, choice: Choice, as_json: bool) -> int:
    from dispatch_queue import taskdir

    project_id = here.project.id or "new"
    taken = taskdir.known_names(here.project.path)
    drafted = producer.draft(request, project_id=project_id, taken=() if request.name else taken)
    if as_json:
        import dataclasses

        from dispatch_queue.cli.look import print_json

        print_json({"dry_run": True, "task": dataclasses.asdict(drafted.task), "plan": drafted.plan.decode()})
        return Exit.DONE
    click.echo(
        f"Would dispatch `{drafted.task.id}` using {choice.model} ({choice.why}), {request.isolation}.", nl=False
    )
    waits = waiting.facts(drafted.task)
    click.echo(f" It waits: {waits['reason']}. Plan:" if waits else " Plan:")
    click.echo(drafted.plan.decode(), nl=False)
    return Exit.DONE


def _send(here: Here, sent: Submitted) -> DispatchError | None:
    """Tell Redis of the task, and of what an earlier command could not send; what went wrong, if it did not answer."""
    try:
        store = here.store()
        from dispatch_queue.mirror import enroll, sync

        standing = sent.home.standing()
        enroll(store, sent.home, sent.task.ref, standing)
        if standing.state is State.WAITING:
            sync(store, sent.home, sent.task.ref)  # what it waits for may be over
    except DispatchError as error:
        here.mark_unsent()
        return error
    here.reconcile(sent.home.id, told=True)
    return None


def sent_there(error: DispatchError) -> str:
    """Who tells a Redis of what is kept in files, where another Redis than this command's has the tasks; else ""."""
    from dispatch_queue.binding import OtherRedis

    return f"what uses {error.url} sends it there" if isinstance(error, OtherRedis) else ""


def _report(
    here: Here,
    sent: Submitted,
    parsed: plan.Plan | None,
    choice: Choice,
    unreachable: DispatchError | None,
    *,
    as_json: bool,
    more_follows: bool,
) -> None:
    task = sent.task
    if as_json:
        import json

        from dispatch_queue import overview

        facts = {"dispatched": sent.created, "sent": unreachable is None, "why": choice.why}
        shown = render.as_json(overview.look(sent.home)) | facts
        click.echo(render.plain_json(json.dumps(shown, ensure_ascii=False, indent=None if more_follows else 2)))
    elif parsed is None:
        click.echo(f"`{task.id}` was already dispatched with the same content; nothing was sent.")
        click.echo(f"  dispatch show {task.id}", err=True)
        return
    else:
        click.echo(f"Dispatched `{task.id}` using {task.model} ({choice.why}). Plan:")
        for item in parsed.items[:_SHOWN_ITEMS]:
            click.echo(f"  {item.number}. {render.line(item.text)}")
        if len(parsed.items) > _SHOWN_ITEMS:
            click.echo(f"  … and {len(parsed.items) - _SHOWN_ITEMS} more")
        standing = sent.home.standing() if waiting.facts(task) else None
        if standing is not None and standing.state is State.WAITING:
            click.echo(f"It waits: {render.line(standing.reason)}")
        elif standing is not None and standing.state is State.FAILED:
            click.echo(f"It failed at once: {render.line(standing.reason)}")
    if unreachable is not None:
        click.echo(f"error: {unreachable.message}", err=True)
        click.echo(f"The task `{task.id}` is kept in {sent.home.path};", err=True)
        own = "`dispatch up` sends it" if here.config.redis.url is None else ""
        then = sent_there(unreachable) or own or "the next `dispatch` command here sends it when Redis answers"
        click.echo(f"{then}.", err=True)
        if unreachable.hint:
            click.echo(f"\nhint: {unreachable.hint}", err=True)
