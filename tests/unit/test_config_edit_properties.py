"""Random files, random edits: the outcome means what was asked for, and no line that an edit is not about changes."""

import dataclasses
from collections.abc import Iterable, Mapping

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch_queue.config.edit import AddAlias, AddModel, Edit, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.editing import edited
from dispatch_queue.config.machine import Machine
from dispatch_queue.config.parse import parse
from dispatch_queue.config.schema import Alias, Backend, Config, Model
from dispatch_queue.errors import BadConfig, BadInput

MODELS = ["opus", "sonnet", "gpt-5.2", "o3", "auto", "5.10", "on", "grok:4", "a:"]
ALIASES = ["quick", "deep", "null", "Über", "off"]
BACKENDS = ["mine", "claude", "other.one"]
PROMPTS = ["", "Be quick.", "Look: for #1, then\nstop", "'x' \"y\"", "- a\n\n  b"]

Owner = tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class File:
    """A file as its lines, each with the entry that it is of: None for comments, blank lines and what else stays."""

    lines: list[tuple[Owner, str]]
    eol: str
    ends: bool

    @property
    def text(self) -> str:
        return self.eol.join(line for _, line in self.lines) + self.eol * self.ends


comments = st.lists(st.sampled_from(["", "# Claude", "# OpenAI", "# note: {a: b}", "#x", "   # indented"]), max_size=2)
trailing = st.sampled_from(["", "", "  # why", " # 'quoted'"])


def quoted(draw: st.DrawFn, name: str) -> str:
    plain = yaml.safe_dump([name], default_flow_style=True, allow_unicode=True)[1:-2]
    return str(draw(st.sampled_from([plain, f'"{name}"'])))


def entry(draw: st.DrawFn, place: tuple[str, ...], fields: Mapping[str, str]) -> list[tuple[Owner, str]]:
    """An entry of a section in one of the styles in which people write it."""
    name = quoted(draw, place[-1])
    shown = {key: quoted(draw, value) for key, value in fields.items()}
    style = draw(st.sampled_from(["flow", "tight", "block", "folded"]))
    if style in ("flow", "tight"):
        inner = ", ".join(f"{key}: {value}" for key, value in shown.items())
        braces = f"{{ {inner} }}" if style == "flow" else f"{{{inner}}}"
        return [(place, f"  {name}:{' ' * draw(st.integers(1, 4))}{braces}{draw(trailing)}")]
    lines = [f"  {name}:{draw(trailing)}"]
    for key, value in fields.items():
        if style == "folded" and value:
            lines += [f"    {key}: >", f"      {value}"]
        else:
            lines.append(f"    {key}: {shown[key]}{draw(trailing)}")
    return [(place, line) for line in lines]


@st.composite
def files(draw: st.DrawFn) -> File:
    models = draw(st.lists(st.sampled_from(MODELS), unique=True))
    aliases = draw(st.lists(st.sampled_from(ALIASES), unique=True)) if models else []
    backends = draw(st.lists(st.sampled_from(BACKENDS), unique=True, min_size=1))
    sections: list[list[tuple[Owner, str]]] = []
    for section, names in (("backends", backends), ("models", models), ("aliases", aliases)):
        lines: list[tuple[Owner, str]] = []
        for name in names:
            fields = {
                "backends": {"command": "agent -p --force"},
                "models": {"backend": draw(st.sampled_from(backends))},
                "aliases": {"model": draw(st.sampled_from(models)) if models else ""},
            }[section]
            if section == "aliases" and draw(st.booleans()):
                fields["prompt"] = "Be kind: always."
            lines += [(None, f"  {comment}") for comment in draw(comments)]
            lines += entry(draw, (section, name), fields)
        empty = draw(st.sampled_from([None, "", " {}", " ~"]))
        if lines:
            sections.append([(None, f"{section}:{draw(trailing)}"), *lines])
        elif empty is not None:
            sections.append([((section,), f"{section}:{empty}")])
    has_default = draw(st.sampled_from([False, bool(models)]))
    if has_default:
        name = quoted(draw, draw(st.sampled_from([*models, *aliases])))
        sections.append([(("default",), f"default: {name}{draw(trailing)}")])
    sections.append([(None, "worker: {slots: 3}")])
    lines = [(None, comment) for comment in draw(comments)]
    for part in draw(st.permutations(sections)):
        lines += [*part, *((None, comment) for comment in draw(comments))]
    return File(lines, draw(st.sampled_from(["\n", "\n", "\r\n"])), draw(st.booleans()))


edits = st.one_of(
    st.builds(AddModel, st.sampled_from(MODELS), st.sampled_from(BACKENDS)),
    st.builds(RemoveModel, st.sampled_from(MODELS)),
    st.builds(SetDefault, st.sampled_from([*MODELS, *ALIASES])),
    st.builds(AddAlias, st.sampled_from(ALIASES), st.sampled_from(MODELS), st.sampled_from(PROMPTS)),
    st.builds(RemoveAlias, st.sampled_from(ALIASES)),
)


def meant(config: Config, edit: Edit) -> Config:
    """What the file should mean after an edit."""
    models, aliases, backends = dict(config.models), dict(config.aliases), dict(config.backends)
    match edit:
        case AddModel(model, backend):
            models[model] = Model(str(backend))
            if backend == "claude" and backend not in backends:
                command = "env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions"
                backends[backend] = Backend(command)
        case RemoveModel(model):
            del models[model]
        case SetDefault(name):
            return dataclasses.replace(config, default=name)
        case AddAlias(name, model, prompt):
            aliases[name] = Alias(model, prompt or (aliases[name].prompt if name in aliases else ""))
        case RemoveAlias(name):
            del aliases[name]
    return dataclasses.replace(config, models=models, aliases=aliases, backends=backends)


def touched(edit: Edit) -> set[tuple[str, ...]]:
    match edit:
        case AddModel(model, _) | RemoveModel(model):
            return {("models", model), ("models",), ("backends",)}
        case AddAlias(name, _, _) | RemoveAlias(name):
            return {("aliases", name), ("aliases",)}
    return {("default",)}


def stand_in_order(lines: Iterable[str], among: Iterable[str]) -> bool:
    rest = iter(among)
    return all(any(line == each for each in rest) for line in lines)


@settings(max_examples=80)
@given(file=files(), changes=st.lists(edits, min_size=1, max_size=3))
def test_an_edit_does_what_it_says_and_nothing_else(file: File, changes: list[Edit]) -> None:
    before = parse(file.text, "")
    assert before.problems == []
    try:
        after = edited(file.text, changes, Machine(""), "config.yaml")[0]
    except (BadInput, BadConfig):
        return  # whether it should be is the next test's

    expected = before.config
    for change in changes:
        expected = meant(expected, change)
    outcome = parse(after, "")
    assert outcome.problems == []
    assert outcome.config == expected
    assert yaml.safe_load(after) is not None  # plain YAML for any other reader
    changed = set().union(*map(touched, changes))
    kept = [line for owner, line in file.lines if owner not in changed]
    assert stand_in_order(kept, after.split(file.eol))
    assert file.eol == "\n" or file.text.count("\n") == 0 or "\n" not in after.replace("\r\n", "")


@settings(max_examples=30)
@given(file=files(), change=edits)
def test_what_can_be_done_is_not_refused(file: File, change: Edit) -> None:
    config = parse(file.text, "").config
    named = {config.default, *(alias.model for alias in config.aliases.values())}
    match change:
        case AddModel(_, backend):
            possible = backend in {*config.backends, "claude"}
        case RemoveModel(model):
            possible = model in config.models and model not in named
        case SetDefault(name):
            possible = name in {*config.models, *config.aliases}
        case AddAlias(_, model, _):
            possible = model in config.models
        case RemoveAlias(name):
            possible = name in config.aliases and name != config.default
    assert is_made(file.text, change) == possible


def is_made(text: str, change: Edit) -> bool:
    try:
        edited(text, [change], Machine(""), "config.yaml")
    except (BadInput, BadConfig):
        return False
    return True
