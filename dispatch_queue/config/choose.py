"""Which model runs a task, and whether it wants a worktree: read from the words of its prompt. Pure."""

import dataclasses
import re
from collections.abc import Collection, Iterable

from dispatch_queue.config.schema import SHELL, Config
from dispatch_queue.errors import BadInput

# A name counts where no word, path, file name or longer name goes on around it: `opus`, `"opus"`, `opus.` and
# `opus, please` do; `my-sonnet`, `sonnet-4.65` for `sonnet-4.6`, `opus.py` and `src/opus` do not.
_BEFORE = r"(?<![\w/\\-])(?<!\w[.:@+])"
_AFTER = r"(?![\w/\\-])(?![.:@+]\w)"

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


class UnknownModel(BadInput):
    """The name given with `--model` is neither a model nor an alias of the configuration."""

    def __init__(self, model: str, *, near: str | None) -> None:
        self.model = model
        meant = f"did you mean `{near}`? If not, " if near else ""
        super().__init__(
            f"unknown model `{model}`",
            hint=f"{meant}see `models:` in config.yaml, or add it there",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The model for a task. `matched` is the configured name that led to it, if one did; `why` says how."""

    model: str
    backend: str
    prompt_addition: str
    why: str
    matched: str | None


def choose(config: Config, prompt: str, flag: str | None) -> Choice:
    """The model named by `flag` (`--model`), else the last one that `prompt` names, else the default.

    Raises UnknownModel for a `flag` that the configuration does not have.
    """
    if flag is not None:
        return _choice(config, _configured(config, flag), "--model")
    mentioned = list(dict.fromkeys(reversed(mentions(prompt, [*config.models, *config.aliases]))))
    if mentioned:
        last_of = f", the last of {', '.join(reversed(mentioned))}" if len(mentioned) > 1 else ""
        return _choice(config, mentioned[0], f"named in the prompt{last_of}")
    if config.default is not None:
        return _choice(config, config.default, "your default")
    best = best_model(config.models)
    if best is not None:
        return dataclasses.replace(_choice(config, best, "no default is configured"), matched=None)
    return dataclasses.replace(_choice(config, SHELL, "no agent CLI is configured"), matched=None)


def mentions(prompt: str, names: Iterable[str]) -> list[str]:
    """The names that stand in `prompt` as whole words, in its order; of two at one place, the longer."""
    known = {name.casefold(): name for name in names}
    if not known:
        return []
    longest_first = sorted(known, key=len, reverse=True)
    pattern = f"{_BEFORE}(?:{'|'.join(map(re.escape, longest_first))}){_AFTER}"
    return [known[found.casefold()] for found in re.findall(pattern, prompt.casefold())]


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
    """The model or alias of that name, whatever its case. Raises UnknownModel."""
    known = [*config.models, *config.aliases, SHELL]
    if name in known:
        return name
    for each in known:
        if each.casefold() == name.casefold():
            return each
    import difflib  # only here: it is not needed to submit

    near = difflib.get_close_matches(name, known, n=1)
    raise UnknownModel(name, near=near[0] if near else None)


def _choice(config: Config, name: str, why: str) -> Choice:
    alias = config.aliases.get(name)
    model = alias.model if alias else name
    return Choice(
        model=model,
        backend=config.backend_of(model) or SHELL,
        prompt_addition=alias.prompt if alias else "",
        why=why,
        matched=name,
    )
