"""An attempt as its result.json tells it, and in words. An agent can have written there, so nothing is trusted."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from dispatch_queue import when
from dispatch_queue.caps import NO_CAPS, Caps, can_cap
from dispatch_queue.cli.render import PAGE, age, line
from dispatch_queue.config.clis import cli_of
from dispatch_queue.config.schema import SHELL, Config
from dispatch_queue.states import Event
from dispatch_queue.usage import Usage

_TEXTS = (
    *("started", "ended", "end", "reason", "stopped"),
    *("backend", "model", "session", "host", "check", "commit", "kept"),
)
_MOST_CHARS = 4000  # of a text
_MOST_TEXTS = 100
_SHOWN = 5  # of a list, in words
_OFFERED = 3  # models instead of one that failed
_KEY_OF_ENVIRONMENT = "external API key"  # so claude calls that of a variable, which no log-in makes valid


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why the CLI failed: `text` is its own sentence, `until` when a limit ends, as clock.stamp writes it."""

    kind: str
    text: str
    until: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of an attempt; None where it is not. `end` None: it is under way, or left no result."""

    attempt: int
    started: str | None = None
    ended: str | None = None
    end: str | None = None
    reason: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    stopped: str | None = None
    backend: str | None = None
    model: str | None = None  # that really ran
    session: str | None = None
    resumed: bool = False
    usage: Usage = dataclasses.field(default_factory=Usage)
    denials: tuple[str, ...] = ()
    retries: int = 0
    failure: Failure | None = None
    host: str | None = None
    check: str | None = None
    commit: str | None = None
    kept: str | None = None
    left: tuple[str, ...] = ()

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "Attempt":
        """What of `facts` has the type it should have; `attempt` must."""
        return cls(
            attempt=facts["attempt"],
            **{name: _text(facts.get(name)) for name in _TEXTS},
            exit_status=_number(facts.get("exit_status")),
            signal=_number(facts.get("signal")),
            resumed=facts.get("resumed") is True,
            usage=Usage.read(facts.get("usage")),
            denials=_texts(facts.get("denials")),
            retries=_number(facts.get("retries")) or 0,
            failure=_failure(facts.get("failure")),
            left=_texts(facts.get("left")),
        )


def _text(value: Any) -> str | None:
    return value[:_MOST_CHARS] or None if isinstance(value, str) else None


def _texts(value: Any) -> tuple[str, ...]:
    found = [text for one in value[:_MOST_TEXTS] if (text := _text(one))] if isinstance(value, list) else []
    return tuple(found)


def _number(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 2**31 else None


def _failure(value: Any) -> Failure | None:
    kind = _text(value.get("kind")) if isinstance(value, dict) else None
    return Failure(kind, _text(value.get("text")) or "", _text(value.get("until"))) if kind else None


def alone(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts, each with what it has used itself: a CLI tells what its session has used so far."""
    found = []
    so_far: dict[str, Usage] = {}
    for attempt in attempts:
        if attempt.session is not None:
            before = so_far.get(attempt.session, Usage())
            so_far[attempt.session] = before.most(attempt.usage)
            attempt = dataclasses.replace(attempt, usage=attempt.usage.since(before))
        found.append(attempt)
    return found


# What a kind of failure means; how to get over it, see `cures`.
MEANING: Mapping[str, str] = MappingProxyType(
    {
        "auth": "the CLI is not logged in, or its account may not do that",
        "limit": "the account's allowance is used up",
        "rate": "too many requests at that moment",
        "overloaded": "the provider had trouble",
        "model": "there is no such model, or not for this account",
        "credit": "the account has nothing left to pay with",
        "network": "the provider could not be reached",
        "missing": "the CLI is not there",
        "root": "the CLI refuses to work as root",
        "option": "the CLI does not take an option of its command",
        "budget": "a cap on turns or cost was reached",
        "session": "the CLI no longer had the session that was to go on",
        "agent": "the CLI ended with an error of its own",
    }
)
_OF_THE_MODEL = frozenset({"limit", "credit", "overloaded", "model"})  # another one may do better
_OF_THE_CLI = frozenset({"auth", "missing", "root", "option"})  # one of another CLI may


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """The models that may do better than the one that failed, best first. `gone`: it will not come back by itself.

    `lifted` are the options that take the task's caps away, where none of these models can keep them.
    """

    failed: str
    models: tuple[str, ...] = ()
    lifted: str = ""
    gone: bool = False
    was_default: bool = False


def offer(config: Config, attempt: Attempt, model: str, before: Collection[str] = (), *, caps: Caps = NO_CAPS) -> Offer:
    """What there is instead of `model`, which failed, as those of `before` did, or is at its limit.

    Models of other CLIs come first, unless only the model is gone. Those that cannot keep `caps` are a last resort.
    """
    kind = attempt.failure.kind if attempt.failure else "limit" if attempt.end == Event.LIMIT else ""
    failed = (model, *before)
    backends = {name: one.backend for name, one in config.models.items() if name not in failed and one.backend != SHELL}
    foreign = [name for name, backend in backends.items() if backend != attempt.backend]
    same = [name for name, backend in backends.items() if backend == attempt.backend]
    alias = config.aliases.get(config.default or "")
    models = _ordered(kind, same, foreign)
    able = [name for name in models if not caps or can_cap(config, backends[name])]
    return Offer(
        failed=model,
        models=tuple(able or models),
        lifted="" if able else caps.lifted,
        gone=kind == "model" and model in config.models,
        was_default=model in (config.default, alias.model if alias else None),
    )


def _ordered(kind: str, same: list[str], foreign: list[str]) -> list[str]:
    if kind == "model":
        return [*same, *foreign]
    return [*foreign, *same] if kind in _OF_THE_MODEL else foreign if kind in _OF_THE_CLI else []


def cures(attempt: Attempt, retry: str, offer: Offer | None) -> list[str]:
    """The commands that get over an attempt's failure. `retry` queues its task again."""
    kind = attempt.failure.kind if attempt.failure else ""
    cli = cli_of(attempt.backend or "", None)
    step = {"auth": cli.login, "missing": cli.install}.get(kind) if cli else None
    if cli and attempt.failure and kind == "auth" and _KEY_OF_ENVIRONMENT in attempt.failure.text:
        step = f"unset {cli.keys[0]}; dispatch down && dispatch up  # or first set one that is valid"
    if step is None and kind in (*_OF_THE_CLI, "network"):
        step = "dispatch doctor"
    where = f"  (on {line(attempt.host)})" if attempt.host else ""
    steps = [f"{step}{where}"] if step else []
    if kind == "budget":
        steps += [f"{retry} --max-cost USD", f"{retry} --max-turns N"]
    elif kind != "model":
        steps.append(retry)
    if offer is not None:
        more = " --make-default" if offer.was_default else ""
        steps += [f"{step}{more}" for step in switches(retry, offer)]
    return steps


def switches(retry: str, offer: Offer) -> list[str]:
    """The commands that go on with another model."""
    return [f"{retry} --model {model} {offer.lifted}".rstrip() for model in offer.models[:_OFFERED]]


def words(attempt: Attempt, now: datetime, *, running: bool = False) -> list[str]:
    """An attempt as lines: how it ended, what it used, why it failed, what it was denied."""
    number = f"{attempt.attempt}. "
    on = f" on {line(attempt.host)}" if attempt.host else ""
    if attempt.end is None:
        state = "running" if running else line(attempt.reason or "no result was left", PAGE)
        return [f"{number}{state}"]
    reason = f": {line(attempt.reason, PAGE)}" if attempt.reason else ""
    lines = [f"{number}{line(attempt.end)}{reason} ({age(attempt.ended or '', now)} ago{on})"]
    if attempt.backend not in (None, SHELL):
        session = [f"session {line(attempt.session)}"] if attempt.session else []
        lines.append(", ".join([line(attempt.model or "model unknown"), *session, attempt.usage.words()]))
    if attempt.failure:
        lines.append(_why(attempt.failure, told=attempt.reason or ""))
    if attempt.retries:
        lines.append(f"{attempt.retries} {'retry' if attempt.retries == 1 else 'retries'} by the CLI itself")
    lines += _listed("denied", attempt.denials) + _listed("left behind", attempt.left)
    if attempt.kept:
        lines.append(f"the work is in {line(attempt.kept)}")
    return lines


def _why(failure: Failure, *, told: str) -> str:
    meaning = f"{line(failure.kind)}: {MEANING.get(failure.kind, 'a failure of the CLI')}"
    until = f" until {line(when.shown(failure.until))}" if failure.until else ""
    text = f": {line(failure.text, PAGE)}" if failure.text and failure.text not in told else ""
    return f"{meaning}{until}{text}"


def _listed(name: str, texts: Sequence[str]) -> list[str]:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return [f"{name}: {line(', '.join(texts[:_SHOWN]))}{more}"] if texts else []
