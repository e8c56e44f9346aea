"""What a configuration must hold to beyond its shape: names, and that what is named exists. Pure."""

import difflib
import math
import re
import shlex
from collections.abc import Iterable, Iterator

from dispatch_queue.config.document import Place, seen
from dispatch_queue.config.schema import (
    KNOWN_BACKENDS,
    MODEL_ID_PATTERN,
    REDIS_HINT,
    REDIS_SCHEMES,
    SHELL,
    Config,
)

MODEL_ID = re.compile(MODEL_ID_PATTERN)
ALIAS_NAME = re.compile(r"\w[\w.:/@+-]{0,99}")
QUEUE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # backends and pools: they name queues
NAME_HINT = "use letters, digits and `.`, `_`, `-`"
MODEL_ID_HINT = f"{NAME_HINT}, `:`, `/`, `@`, `+`"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")

_OPERATOR = re.compile(r"[|&;<>]+|[0-9]?>&?[0-9]?")
_OPTION_WITH_PROMPT = re.compile(r"(-[\w-]+=)?\{prompt\}")

Broken = tuple[Place, str, str]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` is probably meant to be."""
    names = list(known)
    lower = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), list(lower), n=1)
    return lower[close[0]] if close else None


def broken(config: Config) -> Iterator[Broken]:
    """Each broken rule: its place, what is wrong, as seen, and the fix."""
    yield from _backends(config)
    yield from _models(config)
    yield from _aliases(config)
    yield from _default(config)
    yield from _worker(config)
    yield from _limits(config)
    yield from _fallback(config)
    if config.redis.url is not None and not config.redis.url.startswith(REDIS_SCHEMES):
        # The value may hold a password, so it is not shown.
        yield ("redis", "url"), "not the address of a Redis", REDIS_HINT


def _backends(config: Config) -> Iterator[Broken]:
    for name, backend in config.backends.items():
        place: Place = ("backends", name)
        if name == SHELL:
            yield place, "is built in and cannot be configured", "give your backend another name"
            continue
        if not QUEUE_WORD.fullmatch(name):
            yield place, f"not a name for a backend: {seen(name)}", NAME_HINT
        if backend.command is not None:
            for what, hint in command_faults(backend.command):
                yield (*place, "command"), what, hint
        elif name not in KNOWN_BACKENDS:
            yield place, "has no `command`", f"add a line `command: …` under `{name}:`"
        for number, variable in enumerate(backend.env):
            if not VARIABLE.fullmatch(variable):
                yield (*place, "env", number), f"not the name of a variable: {seen(variable)}", "write names only"


def _models(config: Config) -> Iterator[Broken]:
    backends = [*config.backends, *KNOWN_BACKENDS]
    for name, model in config.models.items():
        place: Place = ("models", name)
        if not MODEL_ID.fullmatch(name):
            yield place, f"not a model id: {seen(name)}", MODEL_ID_HINT
        if name == SHELL and model.backend != SHELL:
            yield place, "is built in and cannot be configured", "give your model another name"
        elif model.backend not in backends:
            yield (
                (*place, "backend"),
                f"unknown backend {seen(model.backend)}",
                instead(model.backend, backends, "add it under `backends:`"),
            )


def _aliases(config: Config) -> Iterator[Broken]:
    models = {each.casefold(): each for each in [*config.models, SHELL]}
    for name, alias in config.aliases.items():
        place: Place = ("aliases", name)
        if not ALIAS_NAME.fullmatch(name):
            yield place, f"not a name for an alias: {seen(name)}", NAME_HINT
        if name.casefold() in models:
            fix = f"give it another name, or: dispatch config alias {shlex.quote(name)} --remove"
            yield place, f"is the name of the model `{models[name.casefold()]}`", fix
        elif alias.model in config.aliases:
            target, quoted = config.aliases[alias.model].model, shlex.quote(name)
            known = target in (*config.models, SHELL)
            fix = f"dispatch config alias {quoted} {shlex.quote(target) if known else '--remove'}"
            yield (*place, "model"), f"{seen(alias.model)} is an alias, not a model", fix
        elif alias.model not in config.models and alias.model != SHELL:
            fix = adding(alias.model)
            yield (*place, "model"), f"unknown model {seen(alias.model)}", instead(alias.model, config.models, fix)


def _default(config: Config) -> Iterator[Broken]:
    known = [*config.models, *config.aliases, SHELL]
    if config.default is not None and config.default not in known:
        fix = "dispatch config default NAME"
        yield ("default",), f"unknown model {seen(config.default)}", instead(config.default, known, fix)


def _worker(config: Config) -> Iterator[Broken]:
    worker = config.worker
    if worker.slots is not None and worker.slots < 1:
        yield ("worker", "slots"), f"must be 1 or more, not `{worker.slots}`", "leave it out for one per core"
    if not (math.isfinite(worker.question_timeout) and worker.question_timeout > 0):
        yield ("worker", "question_timeout"), f"must be seconds, not `{worker.question_timeout}`", "the default is 180"
    if not (math.isfinite(worker.drain) and worker.drain >= 0):
        yield ("worker", "drain"), f"must be seconds, not `{worker.drain}`", "the default is 5"
    for name, least in (("keep_days", worker.keep_days), ("min_free_mib", worker.min_free_mib)):
        if least is not None and least < 0:
            yield ("worker", name), f"must be 0 or more, not `{least}`", "leave it out for the default"
    if not QUEUE_WORD.fullmatch(worker.pool) or worker.pool == "host":
        yield ("worker", "pool"), f"not a name for a pool: {seen(worker.pool)}", NAME_HINT
    known = [*config.backends, *KNOWN_BACKENDS]
    for number, name in enumerate(worker.backends or ()):
        if name not in known:
            fix = "add it under `backends:`"
            yield ("worker", "backends", number), f"unknown backend {seen(name)}", instead(name, known, fix)


def _limits(config: Config) -> Iterator[Broken]:
    named = {"models": [*config.models, SHELL], "backends": [*config.backends, *KNOWN_BACKENDS], "hosts": None}
    for section, known in named.items():
        for name, most in getattr(config.limits, section).items():
            place: Place = ("limits", section, name)
            if most < 1:
                yield place, f"must be 1 or more, not `{most}`", "leave it out for no limit"
            if known is not None and name not in known:
                yield place, f"unknown {section[:-1]} {seen(name)}", instead(name, known, f"see `{section}:`")


def _fallback(config: Config) -> Iterator[Broken]:
    known = [*config.models, SHELL]
    for name, others in config.fallback.items():
        place: Place = ("fallback", name)
        if name in config.aliases:
            yield place, f"{seen(name)} is an alias, not a model", f"write its model, `{config.aliases[name].model}`"
        elif name not in known:
            yield place, f"unknown model {seen(name)}", instead(name, known, adding(name))
        for number, other in enumerate(others):
            if other == name:
                yield (*place, number), f"{seen(name)} cannot take over from itself", "take it out of the list"
            elif other in config.aliases:
                fix = f"write its model, `{config.aliases[other].model}`"
                yield (*place, number), f"{seen(other)} is an alias, not a model", fix
            elif other not in known:
                fix = instead(other, known, adding(other))
                yield (*place, number), f"unknown model {seen(other)}", fix


def command_faults(command: str) -> Iterator[tuple[str, str]]:
    """What keeps a command line from being run as its words, without a shell: what is wrong, and the fix."""
    try:
        words = shlex.split(command)
    except ValueError:
        yield f"unclosed quote in {seen(command)}", "close it"
        return
    if not words:
        yield "is empty", "write the command that starts the agent"
    for word in words:
        if _OPERATOR.fullmatch(word) or (word.startswith(("`", "$(")) and not word.startswith("$(pwd)")):
            yield f"{seen(word)} needs a shell, and none runs it", "put the line in a script, and name that here"
        elif "{prompt}" in word and not _OPTION_WITH_PROMPT.fullmatch(word):
            yield f"{seen(word)} puts the prompt inside other text", "let `{prompt}` be a word of its own"


def instead(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix for a name that is not known."""
    near = nearest(name, known)
    return f"did you mean `{near}`? If not: {otherwise}" if near else otherwise


def adding(model: str) -> str:
    """The command that adds a model, if it can be one."""
    return f"dispatch config add-model {model}" if MODEL_ID.fullmatch(model) else "name a model of the file"
