"""The agent CLIs that are known by name: their programs, what of the environment they may see, how to get them."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dispatch_queue.config.commands import has_option, program_at

# What an agent sees of the worker's environment, besides what its back end and the config name. Of git's own
# variables only those about who and how: GIT_DIR and its like would turn it to another repository.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TMPDIR", "TZ", "XDG_*", "SSH_AUTH_SOCK",
    "GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_CONFIG_*", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_TERMINAL_PROMPT",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip


class Cli(NamedTuple):
    """One CLI. Names of variables may be patterns."""

    backend: str
    programs: tuple[str, ...]  # that tell it from other commands; the first is the one to look for
    title: str
    command: str  # to be written for it
    install: str  # the command that installs it
    login: str  # the command that logs it in
    status: tuple[str, ...]  # words after the program that tell whether it is logged in, without a call of a model
    help: tuple[str, ...]  # words after the program that list the options of its command
    keys: tuple[str, ...]  # variables that log it in
    credentials: tuple[str, str, str] | None  # the file of a log-in: variable of its folder, else folder at home; name
    variables: tuple[str, ...]  # what it may see of the environment
    hidden: tuple[str, ...] = ()  # but for these
    capped: bool = False  # it can be told to stop at a number of turns or a cost, and says what it used

    @property
    def program(self) -> str:
        return self.programs[0]


CLAUDE = Cli(
    backend="claude",
    programs=("claude",),
    title="Claude Code",
    command="env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions",
    install="npm install -g @anthropic-ai/claude-code",
    login="claude auth login",
    status=("auth", "status"),
    help=("--help",),
    keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    credentials=("CLAUDE_CONFIG_DIR", ".claude", ".credentials.json"),
    variables=("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "MCP_*", "API_TIMEOUT_MS"),
    hidden=("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT"),  # else it takes itself for a part of another session
    capped=True,
)
CODEX = Cli(
    backend="codex",
    programs=("codex",),
    title="Codex",
    command='codex exec --dangerously-bypass-approvals-and-sandbox -C "$(pwd)"',
    install="npm install -g @openai/codex",
    login="codex login",
    status=("login", "status"),
    help=("exec", "--help"),
    keys=("CODEX_API_KEY",),  # OPENAI_API_KEY alone logs nobody in
    credentials=("CODEX_HOME", ".codex", "auth.json"),
    variables=("OPENAI_*", "CODEX_*"),
)
CURSOR = Cli(
    backend="cursor",
    programs=("agent", "cursor-agent"),
    title="Cursor CLI",
    command='agent -p --force --trust --workspace "$(pwd)"',
    install="see https://cursor.com/cli",
    login="agent login",
    status=("status",),
    help=("--help",),
    keys=("CURSOR_API_KEY",),
    credentials=None,
    variables=("CURSOR_*",),
)
CLIS = (CLAUDE, CODEX, CURSOR)

FULL_AUTO = "--full-auto"  # an option that codex had once
_ANYBODYS = "agent"  # a program's name that tells of no CLI
_SANDBOXES = ("-s", "--sandbox", "--dangerously-bypass-approvals-and-sandbox")


def for_full_auto(words: Sequence[str]) -> tuple[str, ...]:
    """What means the same today as `--full-auto` in a command of codex."""
    return () if has_option(words, *_SANDBOXES) else ("--sandbox", "workspace-write")


def cli_of(backend: str, words: Sequence[str] | None) -> Cli | None:
    """The CLI that a command's program is, else the one that its back end has the name of; None for neither.

    A program called `agent` may be anybody's: it is Cursor's where it is told to print, or the back end is `cursor`.
    """
    if words is not None:
        at = program_at(words)
        program = Path(words[at]).name if at < len(words) else ""
        for cli in CLIS:
            if program in cli.programs and (program != _ANYBODYS or has_option(words, "-p", "--print")):
                return cli
    return next((cli for cli in CLIS if cli.backend == backend), None)


def visible(base: Mapping[str, str], cli: Cli | None, passed: Sequence[str]) -> dict[str, str]:
    """What an agent sees of the environment `base`; `passed` are names or patterns that the configuration adds."""
    patterns = (*PASSED, *(cli.variables if cli else ()), *passed)
    hidden = cli.hidden if cli else ()
    return {
        name: value
        for name, value in base.items()
        if name not in hidden and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
