"""`python -m tests.agents.install`: make sure that the real agent CLIs are in a cache folder, and print where.

Exit status 77, with the reason on stderr, where they cannot be had.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Changes of these CLIs are what the tests here are to find: a new version is tried by putting its number here.
VERSIONS: Final = {"@anthropic-ai/claude-code": "2.1.330", "@openai/codex": "0.169.0"}
PROGRAMS: Final = {"claude": "@anthropic-ai/claude-code", "codex": "@openai/codex"}

NPM_OPTIONS: Final = (
    *("--no-save", "--no-audit", "--no-fund", "--loglevel=error"),
    *("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"),  # else two minutes
)
INSTALL_WITHIN_SECONDS: Final = 150.0  # 20 s, and 770 MB on the disk, with a good line
SKIPPED: Final = 77  # the exit status that automake, meson and others take for a test that was not run


class Unavailable(Exception):
    """The CLIs cannot be run on this machine; the message says why, and what would help."""


def main() -> int:
    try:
        print(installed(cache()))
    except Unavailable as error:
        print(f"agents: not run: {error}", file=sys.stderr)
        return SKIPPED
    return 0


def cache() -> Path:
    """The folder for all versions."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "dispatch-queue-agents"


def installed(cache: Path) -> Path:
    """The folder that holds `claude` and `codex`, which are installed there if they are not. Raises Unavailable."""
    folder = cache / "-".join(f"{package.rpartition('/')[2]}-{version}" for package, version in VERSIONS.items())
    programs = folder / "node_modules" / ".bin"
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise Unavailable("node and npm are not on PATH; on Debian and Ubuntu: apt install npm")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _alone_in(cache):
                if not folder.exists():
                    _install(npm, folder)
        except OSError as error:
            raise Unavailable(f"nothing can be installed into {cache}: {error.strerror}") from error
    return programs


@contextlib.contextmanager
def _alone_in(cache: Path) -> Iterator[None]:
    """Wait while another process installs."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(npm: str, folder: Path) -> None:
    """Install beside `folder`, look whether the programs run, and only then give it its name."""
    wanted = [f"{package}@{version}" for package, version in VERSIONS.items()]
    print(f"agents: installing {' and '.join(wanted)} into {folder.parent}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent, ignore_cleanup_errors=True) as making:
        _run([npm, "install", "--prefix", making, *NPM_OPTIONS, *wanted])
        for program, package in PROGRAMS.items():
            said = _run([f"{making}/node_modules/.bin/{program}", "--version"], cwd=making)
            if VERSIONS[package] not in said:
                raise Unavailable(f"`{program} --version` says {said.strip()!r}, not {VERSIONS[package]}")
        Path(making).rename(folder)
        Path(making).mkdir()  # for the end of the temporary folder


def _run(words: list[str], *, cwd: str | None = None) -> str:
    """What a command prints. Raises Unavailable with its first words if it fails, or does not end in time."""
    process = subprocess.Popen(
        words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=INSTALL_WITHIN_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Unavailable(f"`{words[0]}` did not end within {INSTALL_WITHIN_SECONDS:g} s") from error
        raise
    if process.returncode != 0:
        told = " · ".join(line.removeprefix("npm error ") for line in said.splitlines()[:4])
        raise Unavailable(f"`{' '.join(words[:2])}` exited {process.returncode}: {told}")
    return said


if __name__ == "__main__":
    sys.exit(main())
