"""What is wished of the configuration: what the parts of a sentence come to, and how sure we may be. Pure; see `words`.

Sure is counted in points: up to two for what a sentence says it is about ("my config" 2; "dispatch", "the config",
"alias" 1), up to two for its names (a model there is 2, what only looks like one 1). Three are sure, two are unsure,
fewer are a task.
"""

import dataclasses
import enum
import re
import shlex
from collections.abc import Iterable, Mapping

from dispatch_queue.config.choose import best_model
from dispatch_queue.config.edit import AddAlias, AddModel, Edit, Migrate, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.mention import as_id, has_digit_and_letter, is_model_id
from dispatch_queue.config.schema import KNOWN_BACKENDS, SHELL, Config

_SURE, _UNSURE = 3, 2


class Look(enum.StrEnum):
    """A request that changes nothing; the value is the `dispatch config` command."""

    SHOW = "show"
    CHECK = "check"
    PATH = "path"


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """The edits asked for; not `sure` where the same words can as well be a task."""

    edits: tuple[Edit, ...]
    sure: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Unclear:
    """About the configuration, and no more is understood. `command` is the nearest that there is.

    `reason`: what is wrong with it, where that can be told.
    """

    command: str
    reason: str = ""


Wish = Look | Changes | Unclear


_NO_NAMES = frozenset(
    "a an the my our your this that it to in into from of for as and or on by with via using be is use uses named"
    " called another model models agent agents alias aliases default config configuration backend new all any up out"
    " dispatch".split()
)

_OF_CODE = frozenset(
    "api app button cache caches card cards checkpoint checkpoints choice class code column columns config"
    " dashboard docs documentation dropdown endpoint endpoints factory feature features field fields file files"
    " filter form function git handling header headers helper history icon id ids import input interface label"
    " layer layers link list loader loading logging logs lookup loop map mapping memory menu metrics migration"
    " mode module name names option options orchestration output page pages panel parser path picker registry"
    " resolver role roles routes schema section selector server settings shell state status support table test"
    " tests tool tools training type types ui user users validation view weights".split()
)

_BACKENDS = {"agent": "cursor", "claude-code": "claude", "anthropic": "claude", "openai": "codex"}


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A sentence of one of the forms: its named parts, and the prompt that it gives."""

    config: Config
    parts: Mapping[str, str | None]
    prompt: str | None

    def all_are_names(self) -> bool:
        alias = self.parts.get("alias")
        names = [*self.names(), *([alias] if alias else [])]
        return not any(name.casefold() in _NO_NAMES for name in names)

    def names(self) -> list[str]:
        found = self.parts.get("names") or self.parts.get("model") or ""
        return [self.known(name) for name in re.split(r",? and |, ?| & ", found) if name]

    def known(self, name: str) -> str:
        """As the config writes it; an id that it lacks in lower case, as ids are."""
        spoken = as_id(name) if is_model_id(name) else name
        for said in (name, spoken):
            for each in (*self.config.models, *self.config.aliases, SHELL):
                if each.casefold() == said.casefold():
                    return each
        return spoken

    def alias(self) -> str:
        return self.known(self.parts["alias"] or "")

    def has(self, name: str) -> bool:
        return name in self.config.models or name == SHELL

    def backend(self) -> str | None:
        """The back end named, if it is one."""
        return known_backend(self.parts.get("backend") or "", self.config)

    def about(self) -> int:
        if self.parts.get("ours"):
            return 2
        return 1 if self.parts.get("place") or self.parts.get("kind") else 0

    def points(self, names: Iterable[str]) -> int:
        return min(_points(name, self.config) for name in names)


def _points(name: str, config: Config) -> int:
    if name in config.models or name in config.aliases or is_model_id(name):
        return 2
    looks_like_an_id = has_digit_and_letter(name) and "/" not in name
    return 1 if looks_like_an_id or _is_near(name, _known(config)) else 0


def _known(config: Config) -> list[str]:
    return [*config.models, *config.aliases, *KNOWN_BACKENDS]


def _is_near(name: str, known: Iterable[str]) -> bool:
    """Whether a name is one of those known, or nearly one."""
    import difflib

    return bool(difflib.get_close_matches(name.casefold(), list(known), 1, cutoff=0.75))


def known_backend(said: str, config: Config) -> str | None:
    """The back end that somebody calls so, if there is one."""
    name = _BACKENDS.get(said.casefold(), said.casefold())
    return name if name in {*config.backends, *KNOWN_BACKENDS} else None


def may_name_an_agent(name: str) -> bool:
    """Whether "add agent NAME" may name one; else it speaks of a program that has agents in it."""
    return name.casefold() not in _NO_NAMES | _OF_CODE


def _may_be_ours(name: str) -> bool:
    """Whether "the alias NAME", of which nothing is known, may be one of a configuration, and not of a program."""
    return name == name.casefold() and may_name_an_agent(name)


def which_agent(name: str) -> Unclear:
    """The commands for an agent of whom no more than the name is known."""
    name = shlex.quote(name)
    return Unclear(f"dispatch config add-agent {name} COMMAND  # or: dispatch config alias {name} MODEL")


def uses_prompt(wish: Wish) -> bool:
    """Whether there is an alias in it that a prompt can be given to."""
    return isinstance(wish, Changes) and any(isinstance(edit, AddAlias) for edit in wish.edits)


def _weighed(points: int, *edits: Edit | None) -> Changes | None:
    made = tuple(edit for edit in edits if edit is not None)
    return Changes(made, sure=points >= _SURE) if points >= _UNSURE else None


# -- What the forms mean ----------------------------------------------------------------------------------------------


def add(heard: Heard) -> Wish | None:
    names, backend = heard.names(), heard.backend()
    if any(name in heard.config.aliases for name in names):
        return None
    if (heard.parts.get("kind") or "").startswith("agent") and backend is None and not heard.points(names[:1]):
        is_ours = heard.parts.get("ours") or (heard.parts.get("place") or "").casefold() in ("dispatch", "my agents")
        return which_agent(names[0]) if is_ours and may_name_an_agent(names[0]) else None
    if backend is None and (heard.parts.get("backend") or not heard.points(names)):
        command = f"dispatch config add-model {shlex.quote(names[0])} --backend NAME"
        return Unclear(command) if heard.about() > 1 else None
    points = heard.about() + heard.points(names) + (backend is not None)
    # A CLI's own name stands for whichever model it takes by itself.
    own = {name: name for name in names if name in KNOWN_BACKENDS}
    return _weighed(points, *(AddModel(name, backend or own.get(name)) for name in names))


def alias(heard: Heard) -> Wish | None:
    wish = _alias(heard, about=1 + heard.about())
    if wish is None and heard.parts.get("uses") and not heard.parts.get("backend"):
        (model,) = heard.names()
        return Unclear(f"dispatch config alias {shlex.quote(heard.alias())} MODEL", f"unknown model `{model}`")
    return wish


def agent_alias(heard: Heard) -> Wish | None:
    (model,) = heard.names()
    if not may_name_an_agent(heard.alias()) or is_model_id(heard.alias()) or heard.points([model]) < _UNSURE:
        return None
    return _alias(heard, about=heard.about() + bool(heard.parts.get("here")))


def own_backend(heard: Heard) -> Wish:
    return Unclear(f"dispatch config add-agent {shlex.quote(heard.alias())} COMMAND")


def _alias(heard: Heard, about: int) -> Wish | None:
    name, (model,), backend = heard.alias(), heard.names(), heard.backend()
    if heard.parts.get("backend") and backend is None:
        return None
    target = heard.config.aliases[model].model if model in heard.config.aliases else model
    missing = None if heard.has(target) and backend in (None, heard.config.backend_of(target)) else target
    added = AddModel(missing, backend) if missing else None
    return _weighed(about + heard.points([model]), added, AddAlias(name, target, heard.prompt or ""))


def change_alias(heard: Heard) -> Wish | None:
    name = heard.alias()
    present = heard.config.aliases.get(name)
    model = heard.names()[0] if heard.parts.get("model") else present.model if present else ""
    if present is None:
        sounds_known = _points(model, heard.config) > 1 or (heard.prompt and _may_be_ours(name))
        command = f"dispatch config alias {shlex.quote(name)} {shlex.quote(model) if model else 'MODEL --prompt TEXT'}"
        return Unclear(command, _no_alias(name)) if heard.parts.get("kind") and sounds_known else None
    if heard.prompt is None and heard.parts.get("model") is None:
        return None
    aliases = dict(heard.config.aliases)
    target = aliases[model].model if model in aliases else model
    missing = None if heard.has(target) else AddModel(target)
    del aliases[name]  # that a name is like the alias's own tells nothing: "let docs use mkdocs"
    if not (points := _points(target, dataclasses.replace(heard.config, aliases=aliases))):
        is_plain = heard.parts.get("kind") or heard.parts.get("stated")
        command = f"dispatch config alias {shlex.quote(name)} MODEL"
        return Unclear(command, f"unknown model `{target}`") if is_plain else None
    points += 1 + bool(heard.parts.get("kind"))
    return _weighed(points, missing, AddAlias(name, target, heard.prompt or ""))


def rename_alias(heard: Heard) -> Wish | None:
    name, (new,) = heard.alias(), heard.names()
    present = heard.config.aliases.get(name)
    if present is None:
        return _no_such_alias(heard, f"dispatch config alias {shlex.quote(new)} MODEL")
    if new in heard.config.aliases:
        command = f"dispatch config alias {shlex.quote(new)} --remove  # first, if it may go; else take another name"
        return Unclear(command, f"there is an alias `{new}` already")
    default = SetDefault(new) if heard.config.default == name else None
    added = AddAlias(new, present.model, present.prompt)
    return _weighed(_UNSURE + bool(heard.parts.get("kind")), added, default, RemoveAlias(name))


def remove_prompt(heard: Heard) -> Wish | None:
    name = heard.alias()
    present = heard.config.aliases.get(name)
    if present is None:
        return _no_such_alias(heard, "dispatch config show")
    if not present.prompt:
        return Unclear("dispatch config show", f"the alias `{name}` has no prompt")
    return Changes((RemoveAlias(name), AddAlias(name, present.model)), sure=True)


def _no_such_alias(heard: Heard, command: str) -> Unclear | None:
    """The refusal of a sentence about "the alias NAME", where one of ours may be meant."""
    is_plain = (heard.parts.get("kind") or "").startswith("alias") and _may_be_ours(heard.alias())
    return Unclear(command, _no_alias(heard.alias())) if is_plain else None


def _no_alias(name: str) -> str:
    return f"there is no alias `{name}`"


def remove(heard: Heard) -> Wish | None:
    names = heard.names()
    plainly_models = all(name in heard.config.models and is_model_id(name) for name in names)
    points = heard.about() + heard.points(names) + plainly_models
    kind, aliases = heard.parts.get("kind") or "", heard.config.aliases
    as_alias, is_agent = kind.startswith("alias"), kind.startswith("agent")
    if points < _UNSURE and heard.parts.get("stated") and not is_agent and all(_may_be_ours(name) for name in names):
        unknown = next(name for name in names if not heard.has(name) and name not in aliases)
        if as_alias:
            return Unclear("dispatch config alias NAME --remove", _no_alias(unknown))
        return Unclear("dispatch config remove-model MODEL", f"there is no model `{unknown}`")
    return _weighed(points, *(RemoveAlias(n) if as_alias or n in aliases else RemoveModel(n) for n in names))


def _default(heard: Heard, about: int) -> Wish | None:
    (name,), backend = heard.names(), heard.backend()
    if name in heard.config.backends and not heard.has(name) and name not in heard.config.aliases:
        of_it = best_model([model for model, entry in heard.config.models.items() if entry.backend == name])
        return Unclear(f"dispatch config default {of_it or 'MODEL'}")
    if heard.parts.get("backend") and backend is None:
        return None
    there = heard.has(name) or name in heard.config.aliases or not is_model_id(name)
    points = _points(name, heard.config)
    if points < _UNSURE and not _is_near(name, _known(heard.config)):
        return Unclear("dispatch config default MODEL", f"unknown model `{name}`") if about > 1 else None
    return _weighed(about + points, None if there else AddModel(name, backend), SetDefault(name))


def default_to(heard: Heard) -> Wish | None:
    return _default(heard, about=2)


def as_default(heard: Heard) -> Wish | None:
    return _default(heard, about=2 if heard.parts.get("ours") else 1)


def model_to(heard: Heard) -> Wish | None:
    return _default(heard, about=0 if heard.parts.get("the") else 1)


def backend(heard: Heard) -> Wish | None:
    (name,), backend = heard.names(), heard.backend()
    if backend is None or name in heard.config.aliases:
        return None
    return _weighed(1 + _points(name, heard.config), AddModel(name, backend))


def migrate(heard: Heard) -> Wish | None:
    return Changes((Migrate(),), sure=bool(heard.parts.get("ours") or heard.parts.get("new")))


def show(_: Heard) -> Wish:
    return Look.SHOW


def path(_: Heard) -> Wish:
    return Look.PATH


def check(_: Heard) -> Wish:
    return Look.CHECK
