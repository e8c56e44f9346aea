"""Why an agent CLI failed, told from its own words. Pure."""

import contextlib
import dataclasses
import enum
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dispatch_queue.clock import stamp
from dispatch_queue.oneline import in_one_line

MAX_TEXT_CHARS = 300


class Failure(enum.StrEnum):
    """What has to change before another attempt can do better."""

    AUTH = "auth"  # not logged in, or not allowed
    LIMIT = "limit"  # the account's allowance is used up until a time
    RATE = "rate"  # too many requests at the moment
    OVERLOADED = "overloaded"  # the provider's trouble, for a while
    MODEL = "model"  # no such model, or not for this account
    CREDIT = "credit"  # nothing left to pay with
    NETWORK = "network"
    MISSING = "missing"  # the CLI is not there
    ROOT = "root"  # the CLI refuses to work as root
    OPTION = "option"  # the CLI does not take an option of its command
    BUDGET = "budget"  # a cap on turns or cost was reached
    SESSION = "session"  # the one to be carried on is gone
    AGENT = "agent"  # anything else


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Why a CLI failed: `text` is its own sentence, `until` when a limit ends, where it says so."""

    kind: Failure
    text: str
    until: datetime | None = None

    def through(self, mask: Callable[[str], str]) -> "Fault":
        return dataclasses.replace(self, text=mask(self.text))

    def plain(self) -> dict[str, str | None]:
        """For `result.json`."""
        return {"kind": self.kind, "text": self.text, "until": stamp(self.until) if self.until else None}


# What codex (clap) and claude (commander) say of a command line that they do not understand, in a line of its own.
_REFUSED_OPTION = re.compile(
    r"^error: (?:(?:unexpected|unknown|unrecognized) (?:argument|option|subcommand)|invalid value .* for '-"
    r"|a value is required for '-|the argument '.*' cannot be used|option '-).*",
    re.IGNORECASE | re.MULTILINE,
)

# In this order: a sentence on a model's limit may hold a status too.
_SIGNS = tuple(
    (kind, re.compile("|".join(signs), re.IGNORECASE))
    for kind, signs in (
        (Failure.SESSION, ["no conversation found with session id", "no rollout found for thread id"]),
        (Failure.ROOT, ["root/sudo privileges", "(?:used|run) (?:with|as) root"]),
        (Failure.CREDIT, ["credit balance", "quota exceeded", "insufficient_quota", "exceeded your current quota"]),
        (Failure.LIMIT, ["usage limit", r"hit your (?:\S+ )?limit", "usage_limit", "resource_exhausted"]),
        (Failure.RATE, [r"\b429\b", "rate.?limit", "too many requests"]),
        (
            Failure.MODEL,
            [
                r"model\b.{0,90}(?:does not exist|not found|may not exist|not available)",
                *("model_not_found", "cannot use this model"),
            ],
        ),
        (
            Failure.OVERLOADED,
            ["overloaded", "at capacity", "high demand", r"(?:status|error):? \(?(?:500|502|503|504|529)\b"],
        ),
        (
            Failure.AUTH,
            [
                *("not logged in", "please (?:run /?)?log ?in", "agent login", "missing environment variable"),
                *("unauthorized", "(?:invalid|incorrect) api key", "failed to authenticate", "authentication"),
                r"(?:status|error):? \(?40[13]\b",
            ],
        ),
        (
            Failure.NETWORK,
            [
                *("ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "ENETUNREACH", "ETIMEDOUT", "EAI_AGAIN", "unreachable"),
                *("lookup address", "connection (?:failed|refused|reset)", "waiting for network"),
                "error sending request",
            ],
        ),
    )
)


def in_words(text: str) -> str:
    """What a text says to a person: of JSON that it is, or ends with, the message; "" where that has none."""
    before, brace, rest = text.partition("{")
    parsed: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(brace + rest)
    if not isinstance(parsed, dict):
        return text
    for name in ("error", "message", "result", "text"):
        told = parsed.get(name) if isinstance(parsed, dict) else None
        if told and isinstance(told, str | dict):
            parsed = in_words(told) if isinstance(told, str) else told
    return (before + parsed if isinstance(parsed, str) else before).strip()


def refused_option(output: str) -> str | None:
    """The line in which a CLI tells that it does not take an option."""
    found = _REFUSED_OPTION.search(output)
    return found[0] if found else None


def kind_of(text: str) -> Failure:
    """The kind of failure that a CLI's sentence tells of."""
    return next((kind for kind, sign in _SIGNS if sign.search(text)), Failure.AGENT)


def fault_of(text: str, now: datetime) -> Fault:
    """The fault that a CLI's sentence tells of, with the time at which its limit ends."""
    kind = kind_of(text)
    said = in_one_line(in_words(text) or text, MAX_TEXT_CHARS)
    return Fault(kind, said, resets_at(text, now) if kind is Failure.LIMIT else None)


_MINUTE = timedelta(minutes=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_AT = re.compile(
    r"(?:resets|again)(?: at)? "
    r"(?:(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?,?(?: (?P<year>\d{4}),?)?(?: at)? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap]m)(?: \((?P<zone>[\w/+-]+)\))?",
    re.IGNORECASE,
)
_IN = re.compile(r"again in ((?:\d+ (?:day|hour|minute|second)s?,? ?(?:and )?)+)", re.IGNORECASE)
_PART = re.compile(r"(\d+) (day|hour|minute|second)", re.IGNORECASE)


def resets_at(text: str, now: datetime) -> datetime | None:
    """The time at which a limit ends as told in `text`, after `now`, in UTC; None where none is told.

    `resets 3:24pm (UTC)`, `try again at 3:20 PM` (this machine's time), `… at Nov 25th, 2026 3:20 PM`, `… in 2 hours`.
    """
    try:
        if found := _IN.search(text):
            parts = {f"{unit.lower()}s": float(count) for count, unit in _PART.findall(found[1])}
            return now + timedelta(**parts)
        found = _AT.search(text)
        return None if found is None else _at(found, now).astimezone(UTC)
    except (ValueError, LookupError, OverflowError):
        return None


def _at(found: re.Match[str], now: datetime) -> datetime:
    """The next time after `now` that `_AT` found. Raises ValueError, LookupError, OverflowError."""
    here = now.astimezone(ZoneInfo(found["zone"]) if found["zone"] else None)
    hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "pm" else 0)
    at = here.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
    if found["month"] is None:
        if at > here:
            return at
        # It is told to the minute, so it may be later in this one.
        return at + (_MINUTE if here - at < _MINUTE else timedelta(days=1))
    month = _MONTHS.index(found["month"].lower()) + 1
    at = at.replace(year=int(found["year"] or at.year), month=month, day=int(found["day"]))
    return at if at > here or found["year"] else at.replace(year=at.year + 1)
