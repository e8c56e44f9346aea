"""Which model runs a task, and whether it wants a worktree: read from the words of its prompt. Pure."""

import dataclasses
import enum
import re
from collections.abc import Collection, Sequence

from dispatch_queue.config.mention import FAMILIES, around, as_id, asked_for, is_meant, is_model_id, mentions
from dispatch_queue.config.schema import SHELL, Config
from dispatch_queue.errors import BadInput

_CLAUDE = re.compile(r"opus|sonnet|haiku", re.IGNORECASE)
_OPENAI = re.compile(r"gpt|codex|(?<![a-z0-9])(?:o1|o3|o4-mini)(?![a-z0-9])", re.IGNORECASE)

_WORKTREE = re.compile(
    r"""
      \b (?:in|inside|into|within|on|using|use|with) \s+
         (?:(?:a|an|its|own|their|separate|isolated|dedicated|new|fresh|git) \s+)+ worktrees? (?![\w/-]|\.\w)
    | ^ \W* worktree \s* (?:[:,;—\u2013] | -\s)         # worktree: fix the login
    | (?:[,;:.(\[—\u2013] | \s-) \s* (?:use \s+)? worktree [\s.!)\]]* $  # fix the login (worktree)
    | (?:^|\s) --worktree \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|no|without|avoid)|n['\u2019]t)(?:\s+\w+){0,2}\s*$|\bhow\s+to\s*$",
    re.IGNORECASE,
)


_ADVICE = "run `agent models` to see what's available, or check your Cursor/Claude/OpenAI subscription"


class UnknownModel(BadInput):
    """A model was named that the configuration does not have; `near` are models that it has."""

    def __init__(self, model: str, *, near: Sequence[str] = (), hint: str = _ADVICE) -> None:
        self.model, self.near = model, tuple(near)
        meant = f"did you mean {' or '.join(f'`{one}`' for one in near)}? If not, " if near else ""
        super().__init__(f"model `{model}` isn't available", hint=meant + hint)


class Source(enum.Enum):
    """How a model came to be chosen."""

    FLAG = "--model"
    PROMPT = "named in the prompt"
    ANSWER = "your answer"
    DEFAULT = "your default"
    BEST = "no default is configured"
    NOTHING = "no agent CLI is configured"


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The model for a task. `name` is the model or alias that led to it.

    `others` are those that the prompt names besides, and `phrase` is where it names this one, if that is perhaps not
    meant as a name.
    """

    model: str
    backend: str
    prompt_addition: str
    source: Source
    name: str
    others: tuple[str, ...] = ()
    phrase: str = ""

    @property
    def why(self) -> str:
        alias = f"{self.name} → {self.model}, " if self.name != self.model else ""
        last_of = f", the last of {', '.join((*self.others, self.name))}" if self.others else ""
        return f"{alias}{self.source.value}{last_of}"


def choose(config: Config, prompt: str, flag: str | None) -> Choice:
    """The model named by `flag` (`--model`), else the last one that `prompt` names, else the default.

    Raises UnknownModel where `flag`, or the prompt in plain words, asks for one that the configuration lacks.
    """
    if flag is not None:
        return _choice(config, _configured(config, flag), Source.FLAG, said=flag)
    found = mentions(prompt, [*config.models, *config.aliases])
    asked = asked_for(prompt)
    if asked is not None:
        others = [mention for mention in found if not asked.start <= mention.start < asked.end]
        found = sorted([*others, asked], key=lambda mention: mention.end)
    if found:
        last = found[-1]
        before = dict.fromkeys(mention.name for mention in found if mention.name != last.name)
        chosen = _choice(config, _configured(config, last.name), Source.PROMPT, said=last.name)
        phrase = "" if is_meant(prompt, last) else around(prompt, last)
        return dataclasses.replace(chosen, others=tuple(before), phrase=phrase)
    if config.default is not None:
        return _choice(config, config.default, Source.DEFAULT)
    best = best_model(config.models)
    return _choice(config, best, Source.BEST) if best is not None else _choice(config, SHELL, Source.NOTHING)


def wants_worktree(prompt: str) -> bool:
    """Whether the prompt asks for a worktree of its own.

    It does with "in a worktree", "use a worktree" and their like, with `worktree` set off by punctuation at its
    beginning or end, and with `--worktree`; not where that is denied ("don't use a worktree"), nor where a
    worktree is only spoken of ("explain what a worktree is", "explain how to use a worktree").
    """
    return any(not _DENIED.search(prompt[: found.start()]) for found in _WORKTREE.finditer(prompt))


def backend_for(model_id: str, found: Collection[str]) -> str | None:
    """The one of the backends `found` that runs a model of this id; None where none of them is known to.

    Claude's models go to claude and OpenAI's to codex, where these are found; cursor runs anything.
    """
    if _CLAUDE.search(model_id) and "claude" in found:
        return "claude"
    if not _CLAUDE.search(model_id) and _OPENAI.search(model_id) and "codex" in found:
        return "codex"
    return "cursor" if "cursor" in found else None


def provider_of(model_id: str) -> str:
    """Whose model it is, as a heading."""
    for heading, pattern in _PROVIDERS:
        if pattern.search(model_id):
            return heading
    return "Other"


_PROVIDERS = (
    ("Claude", _CLAUDE),
    ("OpenAI", _OPENAI),
    ("Gemini", re.compile("gemini", re.IGNORECASE)),
    ("Grok", re.compile("grok", re.IGNORECASE)),
    ("Cursor", re.compile("composer|cursor|^auto$", re.IGNORECASE)),
)
PROVIDERS = (*(heading for heading, _ in _PROVIDERS), "Other")


def best_model(models: Collection[str]) -> str | None:
    """The model to take when nobody chose: opus, else the first of OpenAI, else the first of all."""
    first_of_openai = next((model for model in models if provider_of(model) == "OpenAI"), None)
    opus = next((model for model in ("opus", *models) if "opus" in model and model in models), None)
    return opus or first_of_openai or next(iter(models), None)


def _configured(config: Config, name: str) -> str:
    """The model or alias of that name, whatever its case, or the only model of that family. Raises UnknownModel."""
    known = [*config.models, *config.aliases, SHELL]
    if name in known:
        return name
    for each in known:
        if each.casefold() == name.casefold():
            return each
    if is_model_id(name) and as_id(name) != name.casefold():
        return _configured(config, as_id(name))
    family = members(name, config.models)
    if len(family) == 1:
        return family[0]
    import difflib  # only here: it is not needed to submit

    raise UnknownModel(name, near=family or difflib.get_close_matches(name, known, n=2))


def members(family: str, models: Collection[str]) -> list[str]:
    """The models whose ids begin with the name of a family; none for any other name."""
    prefix = f"{family.casefold()}-"
    return [model for model in models if model.casefold().startswith(prefix)] if prefix[:-1] in FAMILIES else []


def _choice(config: Config, name: str, source: Source, said: str = "") -> Choice:
    alias = config.aliases.get(name)
    model = alias.model if alias else name
    return Choice(
        model=model,
        backend=config.backend_of(model) or SHELL,
        prompt_addition=alias.prompt if alias else "",
        source=source,
        name=said if said in FAMILIES else name,
    )
