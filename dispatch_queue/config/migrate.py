"""From the old `agents:` to backends, models and aliases, so that each name starts the same command as before. Pure.

An agent whose command is that of a known CLI becomes a model of that CLI's backend, and an alias where its name is
not the model's. An agent of any other command, or one that would then start another command, becomes a backend and
a model of its own name, which is what it meant.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dispatch_queue.config import document, marks, splice
from dispatch_queue.config.choose import best_model
from dispatch_queue.config.clis import CLAUDE, CLIS, cli_of
from dispatch_queue.config.commands import has_option, words_of
from dispatch_queue.config.emit import Value
from dispatch_queue.config.grouping import add_model, grouped, headings
from dispatch_queue.config.machine import CLAUDE_MODELS, Machine
from dispatch_queue.config.rules import MODEL_ID

_MODEL_OPTIONS = {"claude": ("--model",), "codex": ("--model", "-m"), "cursor": ("--model", "-m")}


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """A command of a known CLI: its backend, itself without the model, and the model (None: the CLI's own choice)."""

    backend: str
    bare: str
    model: str | None

    @property
    def id(self) -> str:
        return self.model or self.backend


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What agents become: backends with commands, models with backends, aliases with models."""

    backends: dict[str, str]
    models: dict[str, str]
    aliases: dict[str, str]


def planned(agents: Mapping[str, str], taken: Mapping[str, Any], pinned: Collection[str]) -> Plan:
    """What each of the agents becomes; `taken` are the other sections of the file.

    The `pinned` are named elsewhere as backends or models, and keep their names as such.
    """
    pinned = {*pinned, *_backends_of_models(taken).values()}
    names = Counter(map(str.casefold, [*agents, *(taken.get("models") or {}), *(taken.get("aliases") or {})]))
    known = {name: each for name, command in agents.items() if (each := _recognised(command)) is not None}
    free = {name: each for name, each in known.items() if name not in pinned and names[name.casefold()] == 1}
    shared = _shared(agents, free, taken)
    plan = Plan({}, {}, {})
    # Those named as a CLI's backend first: where such a one keeps its name as its own, nobody else can have it.
    for name in sorted(agents, key=lambda name: name not in shared):
        one = free.get(name)
        if one is None or shared.get(one.backend) != one.bare or _clashes(one, agents, free, taken, plan):
            plan.backends[name] = agents[name]
            plan.models[name] = name
            shared.pop(name, None)
            continue
        plan.backends[one.backend] = one.bare
        plan.models[one.id] = one.backend
        if name != one.id:
            plan.aliases[name] = one.id
    return plan


def _recognised(command: str) -> _Known | None:
    """The CLI that a command is of; None where it is of none, or its model cannot be given in another way."""
    words = list(words_of(command))
    cli = cli_of("", words)
    if cli is None:
        return None
    options = _MODEL_OPTIONS[cli.backend]
    if not has_option(words, *options):
        return _Known(cli.backend, command, None)
    at = next(at for at, word in enumerate(words) if word.partition("=")[0] in options)
    option, joined, model = words[at].partition("=")
    rest = words[:at] + words[at + 1 :]
    if not joined:
        model, rest = (rest[at], rest[:at] + rest[at + 1 :]) if at < len(rest) else ("", rest)
    pattern = rf"\s{re.escape(option)}(?:=|\s+)(['\"]?){re.escape(model)}\1(?!\S)"
    bare, count = re.subn(pattern, "", command)
    if count != 1 or list(words_of(bare)) != rest or has_option(rest, *options):
        return None
    if not MODEL_ID.fullmatch(model) or model == cli.backend or (cli is CLAUDE and model not in CLAUDE_MODELS):
        return None  # of a backend's own name, and claude's versions by their family's name, another would be started
    return _Known(cli.backend, bare, model)


def _shared(agents: Mapping[str, str], free: Mapping[str, _Known], taken: Mapping[str, Any]) -> dict[str, str]:
    """The command of each CLI's backend: the configured one, else that of the agent named so, else the commonest."""
    shared: dict[str, str] = {}
    for cli in CLIS:
        configured = (taken.get("backends") or {}).get(cli.backend)
        commands = Counter(each.bare for each in free.values() if each.backend == cli.backend)
        if configured is not None:
            shared[cli.backend] = configured.get("command") or ""
        elif cli.backend in _backends_of_models(taken).values():
            continue  # what these run is not to change
        elif cli.backend in agents:
            own = free.get(cli.backend)
            if own is not None and own.backend == cli.backend:
                shared[cli.backend] = own.bare
        elif commands:
            shared[cli.backend] = commands.most_common(1)[0][0]
    return shared


def _backends_of_models(taken: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["backend"] for name, entry in (taken.get("models") or {}).items()}


def _clashes(
    one: _Known, agents: Mapping[str, str], free: Mapping[str, _Known], taken: Mapping[str, Any], plan: Plan
) -> bool:
    """Whether the name of its model means something else, in whatever case."""
    folded = one.id.casefold()
    if any(each.casefold() == folded and (each != one.id or free.get(each) != one) for each in agents):
        return True
    models = _backends_of_models(taken) | plan.models
    if any(each.casefold() == folded and (each, backend) != (one.id, one.backend) for each, backend in models.items()):
        return True
    return any(each.casefold() == folded for each in taken.get("aliases") or {})


def migrated(text: str, machine: Machine) -> tuple[str, list[str]]:
    """`text`, which has no errors, in the new format, and what was done, as sentences.

    The comments of each agent go with its name. Raises Unchangeable.
    """
    plain = document.read(text).plain or {}
    entries = plain.get("agents")
    if not entries:
        return text, ["There is nothing to migrate: the file has no `agents:`."]
    agents = {name: entry["command"] for name, entry in entries.items()}
    pinned = document.words_in(
        [plain.get("fallback"), plain.get("limits"), (plain.get("worker") or {}).get("backends")]
    )
    plan = planned(agents, plain, pinned)
    found = _found(machine, plan, plain)
    notes = {name: marks.comments_of(text, ("agents", name)) for name in agents}
    new = text
    for section, values in _sections(plan, found):
        new = _put_section(new, section, values, {} if section == "backends" else notes)
    if plain.get("default") is None:
        before = best_model([*(plain.get("models") or {}), *agents])
        new = splice.put(new, ("default",), before or next(iter(agents)))
    new = splice.drop(new, ("agents",))
    return new, [*(_said(name, plan) for name in agents), *_said_of_found(found), *_said_of_tasks(agents, plan)]


def _found(machine: Machine, plan: Plan, plain: Mapping[str, Any]) -> Plan:
    """The models of this machine that the file has no name for yet, and the backends they need."""
    names = [*plan.models, *plan.aliases, *(plain.get("models") or {}), *(plain.get("aliases") or {})]
    folded = {name.casefold() for name in names}
    commands = {name: entry.get("command") for name, entry in (plain.get("backends") or {}).items()} | plan.backends
    found = Plan({}, {}, {})
    for model, backend in machine.models().items():
        command = commands.get(backend)
        cli = cli_of(backend, words_of(command) if command else None)
        if model.casefold() in folded or cli is None or cli.backend != backend:
            continue
        found.models[model] = backend
        if backend not in commands and backend not in _backends_of_models(plain).values():
            found.backends[backend] = cli.command
    return found


def _sections(plan: Plan, found: Plan) -> Iterator[tuple[str, dict[str, Value]]]:
    """The new entries of each section, in the order of a new file."""
    yield "backends", {name: {"command": command} for name, command in (plan.backends | found.backends).items()}
    yield "models", {name: {"backend": backend} for name, backend in grouped(plan.models | found.models).items()}
    yield "aliases", {name: {"model": model} for name, model in plan.aliases.items()}


def _put_section(text: str, section: str, entries: Mapping[str, Value], notes: Mapping[str, list[str]]) -> str:
    """Put entries into a section, which is made where the file has none."""
    present = (document.read(text).plain or {}).get(section) or {}
    entries = {name: entry for name, entry in entries.items() if name not in present}
    if not present and entries:
        groups = headings(entries) if section == "models" else {}
        above = {name: [*groups.get(name, ()), *notes.get(name, ())] for name in entries}
        return splice.put(text, (section,), entries, notes=above)
    for name, entry in entries.items():
        if section == "models":
            assert isinstance(entry, Mapping)
            text = add_model(text, name, str(entry["backend"]), notes.get(name, ()))
        else:
            text = splice.put(text, (section, name), entry, notes=notes)
    return text


def _said(name: str, plan: Plan) -> str:
    model = plan.aliases.get(name, name)
    backend = plan.models[model]
    if name in plan.aliases:
        return f"`{name}` is now an alias for `{model}`, which runs with {backend}."
    if any(cli.backend == name for cli in CLIS):
        return f"`{name}` is now a model: what {name} takes by itself."
    return f"`{name}` is now a model, which runs with {'a backend of its own' if backend == name else backend}."


def _said_of_found(found: Plan) -> list[str]:
    count = len(found.models)
    return (
        [f"Added {count} model{'s' * (count != 1)} found on this machine: {', '.join(found.models)}."] if count else []
    )


def _said_of_tasks(agents: Collection[str], plan: Plan) -> list[str]:
    gone = [name for name in agents if name not in plan.backends]
    return [f"A task that was dispatched before as `{name}`: dispatch retry ID --model {name}" for name in gone]
