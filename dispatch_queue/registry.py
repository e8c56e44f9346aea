"""Which projects this host has: DISPATCH_HOME/projects/<project-id> holds the path of each.

A project's path never comes out of Redis: a worker looks it up here, and only what a user here submitted is here.
"""

from pathlib import Path

from dispatch_queue import files, ids
from dispatch_queue.errors import UntrustedPath
from dispatch_queue.project import read_id

_FOLDER = "projects"
_LIMIT_BYTES = 8192


def register(home: Path, project_id: str, path: Path) -> None:
    """Remember where a project is; written only when it is new or has moved. Raises OSError."""
    if registered_path(home, project_id) != path:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(home, f"{_FOLDER}/{project_id}", str(path).encode(errors="surrogateescape"))


def registered_path(home: Path, project_id: str) -> Path | None:
    """Where the project is, as last registered; None if unknown."""
    if not ids.is_id(project_id):
        return None
    try:
        data = files.read(home, f"{_FOLDER}/{project_id}", limit_bytes=_LIMIT_BYTES)
    except (OSError, UntrustedPath):
        return None
    return Path(data.decode(errors="surrogateescape"))


def is_ours(home: Path, project_id: str, path: Path) -> bool:
    """Whether a project was made, or first submitted from, by us: a cloned or copied `.dispatch` is not.

    One that was moved is found again: it is not where it was registered any more. Raises OSError.
    """
    known = registered_path(home, project_id)
    if known is None or known == path:
        return known == path
    if read_id(known) == project_id:
        return False
    register(home, project_id, path)
    return True


def path_of(home: Path, project_id: str) -> Path | None:
    """Where the project is, if its folder is still there and still says that it is this project."""
    path = registered_path(home, project_id)
    return path if path is not None and read_id(path) == project_id else None


def projects(home: Path) -> dict[str, Path]:
    """Every project of this host that is still in its place."""
    found = {}
    for name in files.names(home, _FOLDER):
        path = path_of(home, name)
        if path is not None:
            found[name] = path
    return found
