"""Names of models in a prompt: where they stand, and whether they are meant. Pure.

Every command that dispatches imports this, so no pattern is compiled before a prompt calls for it.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

# A name counts where no word, path, file name or longer name goes on around it: `opus`, `"opus"`, `opus.` and
# `opus, please` do; `my-sonnet`, `sonnet-4.65` for `sonnet-4.6`, `opus.py` and `src/opus` do not.
_BEFORE = r"(?<![\w/\\-])(?<!\w[.:@+])"
_AFTER = r"(?![\w/\\-])(?![.:@+]\w)"

# Ids that tell by themselves what they are, and words for whichever model of a family there is.
_VERSION = r"(?:-(?:\d(?:[\w.]*\w)?|thinking|latest|max|high|medium|low|fast))*"
_IDS = (
    rf"(?:claude-)?(?:opus|sonnet|haiku)(?:\d(?:\.\d)*)?{_VERSION}|claude-(?:[\w.-]*\w)?\d(?:[\w.-]*\w)?"
    r"|gpt-?\d(?:[\w.]*\w)?(?:-\w+)*|codex(?:-[\w.]*\w)+|o[1-9](?:-(?:mini|pro|preview|high|medium|low))*"
    r"|(?:gemini|grok|composer|kimi|deepseek|llama|qwen|mistral|devstral|glm)(?:-[\w.]*\w)+"
)
FAMILIES = ("claude", "codex", "gemini", "gpt", "grok")
_IN_IDS = ("opus", "sonnet", "haiku", "composer", "kimi", "deepseek", "llama", "qwen", "stral-", "glm-", *FAMILIES)

# "have NAME review it", "dispatch NAME to", "the model NAME"
_ASKED = (
    r"(?:(?:^|[.;:,!?(\n\u2013\u2014-]\s*|\b(?:and|then|please|dispatch)\s+)(?:have|let|ask|tell|get)"
    r"|\b(?:dispatch|model|alias))\s+[\"'`]*$"
)
# "use NAME to", "with NAME."
_USED = r"\b(?:use|using|with|via|through)\s+(?:the\s+)?[\"'`]*$"
_ENDS = r"[\"'`]*\s*(?:$|[.,;:!?)\]\n\u2013\u2014]|-\s"
_AFTER_USED = rf"{_ENDS}|(?:to|for|and|then|please|as|in\s+(?:a|its)|on\s+(?:this|it))\b)"
# "…, NAME", "NAME: …", "(NAME)"
_SET_OFF = r"(?:^|[.;:,!?(\[\n\u2013\u2014]|\s-)\s*[\"'`@]*$|@$"
_AFTER_SET_OFF = rf"{_ENDS}|(?:to|should|shall|must|please|in\s+(?:a|its)\s+(?:\w+\s+)?worktree)\b)"

# The name of a CLI that is an everyday word of programs: it counts only in these forms of asking.
CURSOR = "cursor"
_CLAUSE = r"(?:^|[.;,!?(\n\u2013\u2014]\s*|\b(?:and|then|please)\s+)"
_CURSOR_ASKED = (
    rf"(?:{_CLAUSE}(?:use|using|have|ask|tell)|\bdispatch)\s+({CURSOR})(?=(?:\s+(?:agent|cli))?\s+to\b)"
    rf"|^\s*(?:dispatch\s+)?(?:with|using)\s+({CURSOR})(?=(?:\s+(?:agent|cli))?\s*:\s)"
    rf"|{_CLAUSE}(?:use|using)\s+the\s+({CURSOR})(?=\s+(?:agent|cli)\b)"
    rf"|{_CLAUSE}use\s+({CURSOR})(?=(?:\s+(?:agent|cli))?\s*(?:[.!]\s|[.!]?$))"
)

# Ids that are spoken as words: `gpt 5.2`, `gpt-5.3 codex`, `sonnet 5 to`; not `gpt 5 minutes`.
_KINDS = "pro|flash|mini|codex|spark|thinking|max"
_SPOKEN = (
    r"\b(?:gpt|codex|gemini|grok|composer|claude|(?:claude )?(?:opus|sonnet|haiku))"
    rf"[ -](?:\d+(?:\.\d+)+|\d+(?= (?:{_KINDS}|to|in|into|from|for|via|using|with|as|and|my|the)\b|[.,;:!?)]|$))"
    rf"(?: (?:{_KINDS}))*\b"
)
_SPOKEN_FIRST = ("gpt", "codex", "gemini", "grok", "composer", "claude", "opus", "sonnet", "haiku")


class Mention(NamedTuple):
    """A name in a prompt, and where it stands there."""

    name: str
    start: int
    end: int


def mentions(prompt: str, names: Iterable[str]) -> list[Mention]:
    """Where `names` stand in `prompt` as whole words, in its order; of two at one place, the longer.

    `cursor` counts only where it is asked for.
    """
    known = {name.casefold(): name for name in names}
    if not known:
        return []
    longest_first = sorted(known, key=len, reverse=True)
    pattern = f"{_BEFORE}(?:{'|'.join(map(re.escape, longest_first))}){_AFTER}"
    found = [(known.get(each[0].casefold()), each.span()) for each in re.finditer(pattern, prompt, re.IGNORECASE)]
    asked = [mention[1:] for mention in _cursor_asked_for(prompt)] if CURSOR in known else []
    return [Mention(name, *at) for name, at in found if name and (name.casefold() != CURSOR or at in asked)]


def asked_for(prompt: str) -> Mention | None:
    """The last id, or word for a family of models, that `prompt` plainly asks for, known here or not."""
    prompt = with_whole_ids(prompt)
    lower = prompt.casefold()
    if not any(part in lower for part in (*_IN_IDS, CURSOR)) and not re.search(r"\bo[1-9]\b", lower):
        return None
    pattern = f"{_BEFORE}(?:{_IDS}|{'|'.join(FAMILIES)}){_AFTER}"
    found = [Mention(each[0].casefold(), *each.span()) for each in re.finditer(pattern, prompt, re.IGNORECASE)]
    meant = [*(mention for mention in found if _is_asked_for(prompt, mention)), *_cursor_asked_for(prompt)]
    return max(meant, key=lambda mention: mention.end, default=None)


def _cursor_asked_for(prompt: str) -> list[Mention]:
    if CURSOR not in prompt.casefold():
        return []
    found = re.finditer(_CURSOR_ASKED, prompt, re.IGNORECASE)
    return [Mention(CURSOR, *each.span(each.lastindex or 0)) for each in found]


def with_whole_ids(text: str) -> str:
    """`text`, with ids that are spoken as words (`gpt 5.2`) as ids; every other letter stays at its place."""
    lower = text.casefold()
    if not any(first in lower for first in _SPOKEN_FIRST):
        return text
    return re.sub(_SPOKEN, lambda found: found[0].replace(" ", "-"), text, flags=re.IGNORECASE)


def is_meant(prompt: str, mention: Mention) -> bool:
    """Whether a name is meant as one: because it is no ordinary word, or by where it stands."""
    if mention.name.casefold() == CURSOR:
        return False
    return not mention.name.isalpha() or _is_asked_for(prompt, mention)


def _is_asked_for(prompt: str, mention: Mention) -> bool:
    """Whether a name stands where it is said who shall do the task."""
    before, after = prompt[: mention.start], prompt[mention.end :]
    if re.search(_ASKED, before, re.IGNORECASE):
        return True
    if re.search(_USED, before, re.IGNORECASE):
        return re.match(_AFTER_USED, after, re.IGNORECASE) is not None
    return bool(re.search(_SET_OFF, before) and re.match(_AFTER_SET_OFF, after, re.IGNORECASE))


def is_model_id(name: str) -> bool:
    """Whether a name is written as the known providers write ids; no such model need exist."""
    return re.fullmatch(_IDS, name, re.IGNORECASE) is not None


def as_id(name: str) -> str:
    """An id as its provider writes it: `gpt-5.3-codex` for `codex-5.3`, `sonnet-4.5` for `Sonnet4.5`."""
    name = re.sub(r"^codex-(\d[\d.]*)", r"gpt-\1-codex", name.casefold())
    return re.sub(r"^(opus|sonnet|haiku)(?=\d)", r"\1-", name)


def around(prompt: str, mention: Mention) -> str:
    """A name with two words on each side, in one line."""
    before = re.search(r"(?:\S+\s+){0,2}\S*$", prompt[: mention.start])
    after = re.match(r"\S*(?:\s+\S+){0,2}", prompt[mention.end :])
    assert before is not None
    assert after is not None
    return " ".join(f"{before[0]}{prompt[mention.start : mention.end]}{after[0]}".split())


# -- Requests about the configuration: see words.py -------------------------------------------------------------------

_FEW_WORDS, _LOOKED_AT_CHARS = 6, 200
_TELLING = tuple("config default alias unalias dispatch model agent backend prompt migrate fallback".split())
_OWNERS = frozenset(("my", "our", "dispatch", "agent", "alias", "command", "claude", "codex", "cursor"))


def is_likely_about_config(text: str, names: Collection[str]) -> bool:
    """Whether `text` may be a request about a configuration with the models and aliases `names`.

    Of most tasks this says at once that they are none, so that nothing more is imported for them.
    """
    said = text[:_LOOKED_AT_CHARS].casefold().replace("\u2019", "'")
    words = [word.strip("`\"'.,:;!?/~").removesuffix("'s") for word in said.split()]
    known = {name.casefold() for name in names}
    telling = any(word.startswith(_TELLING) for word in words)
    names_in_it = sum(word in known for word in words)
    named = names_in_it or any(map(has_digit_and_letter, words))
    if len(words) <= _FEW_WORDS or names_in_it > 1:
        return bool(telling or named)
    return telling and bool(named or not _OWNERS.isdisjoint(words))


def has_digit_and_letter(word: str) -> bool:
    return any(char.isdigit() for char in word) and any(char.isalpha() for char in word)
