"""Whose allowance an agent CLI uses, as a word that tells accounts apart and nothing else of them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MAX_BYTES = 16 * 1024 * 1024  # of a CLI's own file; claude keeps its history in one

Account = Callable[[Mapping[str, str]], str | None]


def claude(environ: Mapping[str, str]) -> str | None:
    """The key or token that claude uses under these variables, else the account it is logged in to."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        if environ.get(name):
            return environ[name]
    folder = environ.get("CLAUDE_CONFIG_DIR") or environ.get("HOME", "")
    return _inside(Path(folder) / ".claude.json", "oauthAccount", "accountUuid")


def codex(environ: Mapping[str, str]) -> str | None:
    """The key that codex uses under these variables, else the account it is logged in to."""
    if environ.get("CODEX_API_KEY"):  # OPENAI_API_KEY is not read
        return environ["CODEX_API_KEY"]
    folder = environ.get("CODEX_HOME") or f"{environ.get('HOME', '')}/.codex"
    path = Path(folder) / "auth.json"
    return _inside(path, "tokens", "account_id") or _inside(path, "OPENAI_API_KEY")


def cursor(environ: Mapping[str, str]) -> str | None:
    """The key that Cursor's CLI uses under these variables; its log-in is not readable."""
    return environ.get("CURSOR_API_KEY")


def digest(secret: str) -> str:
    """A word for an account that cannot be turned back into its key."""
    return hashlib.sha256(f"dispatch account {secret}".encode()).hexdigest()[:16]


def _inside(path: Path, *names: str) -> str | None:
    """The text at `names` in a JSON file; None where there is none."""
    try:
        with path.open("rb") as stream:
            value: Any = json.loads(stream.read(_MAX_BYTES))
        for name in names:
            value = value[name]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) and value else None
