"""Git repositories for tests, and everything of one that must not change."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """A checkout; `git` runs in it."""

    path: Path

    def git(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, f"git {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, data in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)

    def commit(self, files: Mapping[str, str | bytes], message: str = "More") -> str:
        self.write(files)
        self.git("add", "--force", "--", *files)
        self.git("commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", message)
        return self.git("rev-parse", "HEAD")

    def picture(self) -> dict[str, object]:
        """What of the user's must stay: every file's bytes, the index, HEAD, stash, status and foreign branches."""
        own = (self.path / self.git("rev-parse", "--git-dir")).resolve()
        refs = self.git("for-each-ref").splitlines()
        return {
            "files": {str(path.relative_to(self.path)): fingerprint(path) for path in below(self.path)},
            "index": fingerprint(own / "index"),
            "head": (own / "HEAD").read_bytes(),
            "merge": fingerprint(own / "MERGE_HEAD"),
            "config": fingerprint(own / "config"),
            "status": self.git("--no-optional-locks", "status", "--porcelain=v2", "--branch"),
            "refs": [line for line in refs if "\trefs/heads/dispatch/" not in line and "\trefs/dispatch/" not in line],
            "stash": self.git("stash", "list"),
        }


def below(folder: Path) -> list[Path]:
    """Every path in a checkout but git's own and the task records."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".dispatch")]
        found += [Path(here) / name for name in (*folders, *files) if name != ".git"]
    return sorted(found)


def fingerprint(path: Path) -> str:
    """The kind, mode and content of a path; "" where there is nothing."""
    if not os.path.lexists(path):
        return ""
    mode = oct(path.lstat().st_mode)
    if path.is_symlink():
        return f"{mode} -> {os.readlink(path)}"
    return f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''}"


def made_by(path: Path, files: Mapping[str, str | bytes] | None = None) -> Repository:
    """A new repository with one commit."""
    path.mkdir(parents=True)
    repo = Repository(path)
    repo.git("init", "--quiet")
    repo.commit(files if files is not None else {"README.md": "# A project\n"}, "Start")
    return repo
