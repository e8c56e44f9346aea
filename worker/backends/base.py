"""What the back ends share: an order, the recipe that one makes of it, words of commands, the environment."""

import dataclasses
import fnmatch
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dispatch_queue.errors import BadConfig
from worker.backends.listener import Read

BIN = Path(__file__).parents[1] / "bin"  # `dispatch-ask` and what else agents find on their PATH
MAX_ARGUMENT_BYTES = 120_000  # Linux takes 128 KiB for one argument, with its end

# What an agent sees of the worker's environment, besides what its back end and the config name. Of git's own
# variables only those about who and how: GIT_DIR and its like would turn it to another repository.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TMPDIR", "TZ", "XDG_*", "SSH_AUTH_SOCK",
    "GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_CONFIG_*", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_TERMINAL_PROMPT",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip

_HERE = re.compile(r"""(-[\w-]+=)?(?:\$\(pwd\)|\$\{PWD\}|\$PWD)(/.*)?""", re.DOTALL)
_HOME = re.compile(r"(-[\w-]+=)?(?:~|\$\{HOME\}|\$HOME)(/.*)?", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What an attempt wants run: the words of a command, and what its back end has to add to them.

    `model` None is the CLI's own choice. `session` is that of an earlier attempt, to be carried on. `root`: as user 0.
    """

    backend: str
    words: tuple[str, ...]
    model: str | None
    prompt: str
    session: str | None
    workspace: Path
    root: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a back end runs an order. `stdin` None: at its end at once. `notices` tell what was not run as written."""

    argv: tuple[str, ...]
    stdin: bytes | None = None
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of back ends.

    `command` is what runs when none is configured, empty where there is no such thing. `programs` are the executables
    that tell it from a configured command, `variables` what its CLI may see of the environment but for `hidden`;
    `waiting` gives the variables that let its tools wait for so many seconds, `read` hears a line of
    its output, where that is JSON.
    """

    name: str
    command: tuple[str, ...]
    programs: frozenset[str]
    build: Callable[[Order], Recipe]
    variables: tuple[str, ...] = ()
    hidden: frozenset[str] = frozenset()
    waiting: Callable[[float], Mapping[str, str]] = lambda seconds: {}
    read: Read | None = None


def words_of(command: str) -> tuple[str, ...]:
    """The words of a configured command, as a shell would split it. Raises BadConfig."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise BadConfig(f"unclosed quote in the command `{command}`", hint="mend it in config.yaml") from error
    if not words:
        raise BadConfig("a command is empty", hint="mend it in config.yaml")
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


def environment(
    base: Mapping[str, str],
    kind: Kind,
    recipe: Recipe,
    values: Mapping[str, str],
    *,
    passed: Sequence[str],
    question_timeout: float,
) -> dict[str, str]:
    """What an agent sees of `base`, with the task's `values`, and `BIN` at the head of its PATH.

    `passed` are names or patterns that the configuration adds; its tools may wait `question_timeout` seconds.
    """
    patterns = (*PASSED, *kind.variables, *passed)
    seen = {
        name: value
        for name, value in base.items()
        if name not in kind.hidden and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    seen["PATH"] = f"{BIN}:{base.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    return {**seen, "TERM": "dumb", **kind.waiting(math.ceil(question_timeout)), **recipe.env, **values}
