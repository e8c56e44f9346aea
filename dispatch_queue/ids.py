"""Task ids: short kebab-case names of a task, its folder and its branch."""

import re
import unicodedata
from collections.abc import Container, Iterable
from itertools import count

from dispatch_queue.errors import BadInput

LIMIT = 64  # characters; also a folder, a branch and a part of a Redis key
TITLE_LIMIT = 60  # leaves room for the suffix that `free` appends
PROMPT_WORDS = 5
FALLBACK = "task"

_ID = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
_READ = 2000  # characters of a prompt or title that can matter for its id
_SHOWN = 40
_NAMED = 8

# Letters that Unicode does not take apart into a base letter and an accent.
_FOLDED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h"})

# "use opus to …", "have a worker …": who is to do it, not what.
_ADDRESS = re.compile(
    r"\s*(?:(?:please|dispatch|use|using|have|let|ask|get|tell)\s+(?:an?\s+|the\s+)?[\w.:-]+\s+to\b"
    r"|dispatch\s+(?:an?\s+|the\s+)?(?:worker|agent)\b)",
    re.IGNORECASE,
)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ARTICLES = _listed("a an the this that these those my our your its their some any all")
_PLACES = _listed("in of on at from for with into under inside within about by through via over to as")
_CLAUSES = _listed("and then so because that which but when while where if using to until unless")
_FILLERS = _listed(
    """
    please kindly can could would will you i we me us it he she they is are was be do does did have has need needs
    want wants like just also now then there here really quick quickly simple new current whole entire
    project repo repository codebase worktree task thing things described mentioned should must let lets hey hi hello
    """
)


def _fold(text: str) -> str:
    """Lower-case ASCII of `text`, with what has no ASCII form left out."""
    lowered = text[:_READ].casefold().translate(_FOLDED)
    return unicodedata.normalize("NFKD", lowered).encode("ascii", "ignore").decode("ascii").lower()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", _fold(text).replace("'", ""))


def _join(words: Iterable[str], limit: int) -> str:
    """As many whole words as fit into `limit` characters; a first word that is too long is cut."""
    joined = ""
    for word in words:
        longer = f"{joined}-{word}" if joined else word[:limit]
        if len(longer) > limit:
            break
        joined = longer
    return joined or FALLBACK


def from_title(text: str) -> str:
    """The id that a title makes: all its words, as far as they fit."""
    return _join(_words(text.replace("\u2019", "'")), TITLE_LIMIT)


def from_prompt(text: str) -> str:
    """A short id from what a person asked for: at most `PROMPT_WORDS` words that say what, not how or where."""
    text = text[:_READ].strip().replace("\u2019", "'")
    bare = _ADDRESS.sub("", text, count=1) if _ADDRESS.match(text) else text
    kept = _telling(bare) or _telling(text) or _words(text)
    return _join(kept[:PROMPT_WORDS], TITLE_LIMIT)


def _telling(text: str) -> list[str]:
    kept: list[str] = []
    before = ""
    for token in re.findall(r"\S+", text):
        bare = token.strip("\"'`()[]{}<>*_,;:!?").rstrip(".")
        word = _fold(bare)
        enough = len(kept) >= 2
        if enough and word in _CLAUSES:
            break
        is_path = "/" in bare.strip("/") or re.search(r"[^\W\d]\.[^\W\d]\w{0,4}$", bare)
        if is_path:
            if not (enough and before in _PLACES):
                kept += _words(re.split(r"[/\\]", bare.rstrip("/"))[-1].rsplit(".", 1)[0])
        elif word not in _ARTICLES and word not in _PLACES and word not in _FILLERS:
            kept += _words(bare)
        if word:
            before = word
        if token[-1] in ".,;:!?" and len(kept) >= 2:
            break
    return kept


def check(task_id: str) -> str:
    """`task_id` itself when it can be one. Raises BadInput saying what is wrong with it."""
    wrong = _fault(task_id)
    if wrong is None:
        return task_id
    raise BadInput(
        f"bad task id {_shown(task_id)}: {wrong}",
        hint=f"use lower-case letters, digits and single dashes, such as `{from_title(task_id)}`",
    )


def is_id(text: str) -> bool:
    """Whether `text` can be a task id."""
    return _fault(text) is None


def _fault(task_id: str) -> str | None:
    if not task_id:
        return "it is empty"
    if len(task_id) > LIMIT:
        return f"it has {len(task_id)} characters, the limit is {LIMIT}"
    if _ID.fullmatch(task_id):
        return None
    if ".." in task_id:
        return "it contains `..`"
    if "/" in task_id or "\\" in task_id:
        return "it contains a slash"
    if any(letter.isspace() for letter in task_id):
        return "it contains white space"
    if task_id.lower() != task_id and _ID.fullmatch(task_id.lower()):
        return "it contains upper-case letters"
    if task_id.startswith("-"):
        return "it starts with a dash"
    if task_id.endswith("-"):
        return "it ends with a dash"
    if "--" in task_id:
        return "it contains two dashes in a row"
    odd = next(letter for letter in task_id if not re.fullmatch(r"[a-z0-9-]", letter))
    return f"it contains {odd!r}"


def _shown(task_id: str) -> str:
    return repr(task_id if len(task_id) <= _SHOWN else task_id[: _SHOWN - 1] + "…")


def free(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or with the first of -2, -3, … that is not taken; shortened so that the limit holds."""
    if wanted not in taken:
        return wanted
    for number in count(2):
        suffix = f"-{number}"
        candidate = wanted[: LIMIT - len(suffix)].rstrip("-") + suffix
        if candidate not in taken:
            return candidate
    raise AssertionError("unreachable: count() does not end")


def resolve(given: str, known: Iterable[str]) -> str:
    """The one task that `given` names: its id, or a prefix that no other id has. Raises BadInput."""
    ids = sorted(set(known))
    if given in ids:
        return given
    fits = [task_id for task_id in ids if given and task_id.startswith(given)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        listed = ", ".join(f"`{task_id}`" for task_id in fits[:_NAMED])
        more = f" and {len(fits) - _NAMED} more" if len(fits) > _NAMED else ""
        raise BadInput(f"ambiguous task id {_shown(given)}: {listed}{more}", hint="give more of the id")
    if not ids:
        raise BadInput(f"no task {_shown(given)}: there are none here", hint="see all projects: `dispatch ls --all`")
    near = _near(given, ids)
    hint = f"did you mean {near}?" if near else "see the tasks: `dispatch ls`"
    raise BadInput(f"no task {_shown(given)}", hint=hint)


def _near(given: str, ids: list[str]) -> str:
    from difflib import get_close_matches

    wanted = given[:LIMIT].lower()
    matches = get_close_matches(wanted, ids, n=3, cutoff=0.5)
    matches += [task_id for task_id in ids if wanted and wanted in task_id and task_id not in matches]
    return " or ".join(f"`{task_id}`" for task_id in matches[:3])
