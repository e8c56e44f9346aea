"""Checks the text of a config file and says, with line and key, what is wrong with it. The slow way: see `load`."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pydantic

from dispatch_queue.config import document, rules
from dispatch_queue.config.document import Document, Place, Problem, seen
from dispatch_queue.config.schema import Alias, Backend, Config, LimitsSection, Model, RedisSection, WorkerSection

OLD_FORMAT = "`agents:` is the old format; it works as before; to upgrade: dispatch config migrate"

SECTIONS: Mapping[str, type] = {"redis": RedisSection, "worker": WorkerSection, "limits": LimitsSection}
ENTRIES: Mapping[str, type] = {"backends": Backend, "models": Model, "aliases": Alias}


class Parsed(NamedTuple):
    """`config` holds the defaults where `problems` is not empty; problems stand in the order of their lines."""

    config: Config
    notices: list[str]
    problems: list[Problem]


@dataclasses.dataclass(frozen=True, slots=True)
class Agent:
    """An entry of the old format."""

    command: str


def parse(text: str, shown: str) -> Parsed:
    """Check `text`; `shown` is the file's name for the notices."""
    read = document.read(text)
    notices: list[tuple[int, str]] = []
    config = Config()
    if not read.problems:
        plain = _shape(read, notices)
        old = _take_agents(read, plain)
        if old:
            notices.append((read.line_of(("agents",)), OLD_FORMAT))
        config = _typed(read, plain, old)
    return Parsed(
        config,
        [f"{shown}:{line}: {text}" for line, text in sorted(notices)],
        sorted(read.problems),
    )


def _shape(read: Document, notices: list[tuple[int, str]]) -> dict[str, Any]:
    """The file with only the keys that we know and that have a value; the others are noticed."""
    if read.plain is None:
        return {}
    if not isinstance(read.plain, dict):
        read.problem((), f"must be keys with values, not {_kind(read.plain)}", "begin with `models:`")
        return {}

    def known(plain: Any, names: Iterable[str], place: Place) -> Any:
        if not isinstance(plain, dict):
            return plain
        names = list(names)
        for name in plain.keys() - set(names):
            near = rules.nearest(name, names)
            key = ".".join(map(str, (*place, name)))
            meant = f"did you mean `{near}`?" if near else ""
            if place[:1] == ("limits",):  # one that is passed over would not hold
                read.problem((*place, name), "unknown key", meant or f"known are: {', '.join(names)}")
                continue
            said = f"unknown key {seen(key)} is ignored" + (f"; {meant}" if near else "")
            notices.append((read.line_of((*place, name)), said))
        return {name: value for name, value in plain.items() if name in names and value is not None}

    top = [field.name for field in dataclasses.fields(Config)]
    plain: dict[str, Any] = known(read.plain, [*top, "agents"], ())
    for section, kind in SECTIONS.items():
        if section in plain:
            plain[section] = known(plain[section], _fields(kind), (section,))
    for section, kind in {**ENTRIES, "agents": Agent}.items():
        entries = plain.get(section)
        if isinstance(entries, dict):
            plain[section] = {name: known(entry, _fields(kind), (section, name)) for name, entry in entries.items()}
    return plain


def _take_agents(read: Document, plain: dict[str, Any]) -> set[str]:
    """Turn the entries of the old format into a backend and a model of that name; the names of these."""
    agents = plain.pop("agents", None)
    if agents is None:
        return set()
    if not isinstance(agents, dict):
        read.problem(("agents",), f"must be names with a `command` each, not {_kind(agents)}", "see `models:`")
        return set()
    for section in ("backends", "models"):
        present = plain.setdefault(section, {})
        if not isinstance(present, dict):
            continue
        for name, entry in agents.items():
            if name in present:
                read.problem(("agents", name), f"is also under `{section}:`", "keep one of the two")
            present[name] = entry if section == "backends" else {"backend": name}
    for name, entry in agents.items():
        if isinstance(entry, dict) and "command" not in entry:
            read.problem(("agents", name), "has no `command`", f"add a line `command: …` under `{name}:`")
    return set(agents)


@functools.cache
def _adapter() -> pydantic.TypeAdapter[Config]:
    return pydantic.TypeAdapter(Config)


def _typed(read: Document, plain: dict[str, Any], old: set[str]) -> Config:
    def put(place: Place, what: str, hint: str) -> None:
        if place[0] in ("backends", "models") and len(place) > 1 and place[1] in old:
            place = ("agents", *place[1:])
        read.problem(place, what, hint)

    try:
        config = _adapter().validate_python(plain)
    except pydantic.ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            put(detail["loc"], *_said(detail["type"], detail["loc"], detail["input"]))
        return Config()
    for place, what, hint in rules.broken(config):
        put(place, what, hint)
    return Config() if read.problems else config


def _said(kind: str, place: Place, value: Any) -> tuple[str, str]:
    """What is wrong with a value that pydantic refused, and the fix."""
    key = place[-1]
    if kind == "missing":
        return "is missing", f"add a line `{key}: …`"
    if kind in ("dataclass_type", "dict_type", "mapping_type", "dataclass_exact_type"):
        inside = {"backends": "command", "models": "backend", "aliases": "model"}
        if place[0] in inside and len(place) == 2 and isinstance(value, str):
            return f"must be a mapping, not {seen(value)}", f"write `{key}: {{{inside[str(place[0])]}: {value}}}`"
        return f"must be a mapping, not {_kind(value)}", f"write `{key}:` and its keys below it, indented"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list, not {_kind(value)}", f"write `{key}: [{value}]`"
    if kind.startswith("int_"):
        return f"must be a whole number, not {_kind(value)}", "write digits only"
    if kind.startswith("float_"):
        return f"must be a number, not {_kind(value)}", "write a number of seconds"
    return f"must be text, not {_kind(value)}", f"write `{key}: TEXT`"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else seen(value)


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
