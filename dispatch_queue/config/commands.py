"""A configured command as words: where its program stands, which options it has. Pure."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from dispatch_queue.errors import BadConfig

_HERE = re.compile(r"""(-[\w-]+=)?(?:\$\(pwd\)|\$\{PWD\}|\$PWD)(/.*)?""", re.DOTALL)
_HOME = re.compile(r"(-[\w-]+=)?(?:~|\$\{HOME\}|\$HOME)(/.*)?", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def words_of(command: str) -> tuple[str, ...]:
    """The words of a configured command, as a shell would split it. Raises BadConfig."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise BadConfig(
            f"unclosed quote in the command `{command}`", hint="mend it in config.yaml; then: dispatch config check"
        ) from error
    if not words:
        raise BadConfig("a command is empty", hint="mend it in config.yaml; then: dispatch config check")
    return words


def program_at(words: Sequence[str]) -> int:
    """Where the program stands in a command that may begin with `env` and its options; may be `len(words)`."""
    if Path(words[0]).name != "env":
        return 0
    at = 1
    while at < len(words):
        word = words[at]
        if word in ("-u", "--unset", "-C", "--chdir"):
            at += 2
        elif word.startswith("-") or _ASSIGNMENT.match(word):
            at += 1
        else:
            break
    return at


def placed(words: Sequence[str], workspace: Path, home: str) -> tuple[str, ...]:
    """`words` with `$(pwd)` and `$PWD` as the workspace and `~` and `$HOME` as `home`, where these begin a word.

    Inside other text they stay: that is a script of the user's for a shell, which starts in the workspace.
    """

    def put(word: str) -> str:
        for pattern, value in ((_HERE, str(workspace)), (_HOME, home)):
            if found := pattern.fullmatch(word):
                return f"{found[1] or ''}{value}{found[2] or ''}"
        return word

    return tuple(put(word) for word in words)


def has_option(words: Sequence[str], *names: str) -> bool:
    """Whether a command's program is given one of the options `names`, also as `--name=value`."""
    given = words[program_at(words) + 1 :]
    return any(word == name or word.startswith(f"--{name.lstrip('-')}=") for word in given for name in names)
