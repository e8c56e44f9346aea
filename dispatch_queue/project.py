"""Projects: the checkout a task is submitted from, its id, and how `.dispatch/` is kept out of git's sight.

Everything here reads files itself, so that a command costs no process; only `check_worktree` asks git.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatch_queue import files, ids
from dispatch_queue.errors import BadInput, DispatchError, UntrustedPath
from dispatch_queue.home import dispatch_home

RECORD: Final = ".dispatch"
IGNORED: Final = f"{RECORD}/"
_PROJECT: Final = f"{RECORD}/project.yaml"
_TASKS: Final = f"{RECORD}/tasks"
_LIMIT_BYTES: Final = 4096
_ID_LINE: Final = re.compile(r"""id:\s+["']?([a-z0-9-]{1,64})["']?\s*(#.*)?""")
_SUFFIX_BYTES: Final = 3  # of a new id, so that two checkouts named alike differ

# What git's own variables may say to a child of ours: whose configuration, which programs, who commits. All others
# (GIT_DIR, GIT_INDEX_FILE, … in a hook or an agent) would lead it to another repository.
_GIT_VARIABLES: Final = re.compile(
    r"GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|EXEC_PATH|SSH\w*|SSL_\w+|PROXY_\w+"
    r"|(AUTHOR|COMMITTER)_(NAME|EMAIL)|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM)"
)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's folder and its id; None until the first task is submitted from it."""

    path: Path
    id: str | None


def find(start: Path) -> Project:
    """The project of a folder: the nearest one upwards with `.dispatch/`, else the git top level, else `start`.

    A repository belongs to no project above it: its worktrees and branches would be those of another one. Passed over
    is a `.dispatch/` of somebody else's, and DISPATCH_HOME, which is the user's configuration, unless tasks were
    submitted from the folder above it.
    """
    start = start.resolve()
    home = dispatch_home().resolve()
    for folder in (start, *start.parents):
        if _is_ours(folder) and (folder / RECORD != home or _has_tasks(folder)):
            return Project(folder, read_id(folder))
        if git_folder(folder) is not None:
            return Project(folder, None)
    return Project(start, None)


def _is_ours(folder: Path) -> bool:
    """Whether `folder` has a real `.dispatch/` made by this user or by the folder's owner.

    In a folder that all may write to, like /tmp, anybody could put one above other people's work.
    """
    try:
        found = os.lstat(folder / RECORD)
        return stat.S_ISDIR(found.st_mode) and found.st_uid in (os.geteuid(), folder.stat().st_uid)
    except OSError:
        return False


def _has_tasks(folder: Path) -> bool:
    return os.path.lexists(folder / _PROJECT) or os.path.lexists(folder / _TASKS)


def read_id(path: Path) -> str | None:
    """The id in a project's `project.yaml`; None where there is no such file or no valid id in it."""
    try:
        text = files.read(path, _PROJECT, limit_bytes=_LIMIT_BYTES).decode()
    except (OSError, UntrustedPath, UnicodeDecodeError):
        return None
    found = [match[1] for line in text.splitlines() if (match := _ID_LINE.fullmatch(line))]
    return found[0] if len(found) == 1 and ids.is_id(found[0]) else None


def new_id(path: Path) -> str:
    """A new id for a project: its folder's name in kebab case and six hex digits."""
    suffix = f"-{secrets.token_hex(_SUFFIX_BYTES)}"
    return ids.from_title(path.name)[: ids.LIMIT - len(suffix)].rstrip("-") + suffix


def owner_of(path: Path) -> Path | None:
    """The DISPATCH_HOME that a project's id was made for; None where its file does not say."""
    try:
        text = files.read(path, _PROJECT, limit_bytes=_LIMIT_BYTES).decode()
    except (OSError, UntrustedPath, UnicodeDecodeError):
        return None
    found = [line.removeprefix("home: ") for line in text.splitlines() if line.startswith("home: /")]
    return Path(found[0]) if found else None


def _content(project_id: str, home: Path | None) -> bytes:
    owner = f"home: {home}\n" if home is not None and str(home).isprintable() else ""
    return f"id: {project_id}\n{owner}".encode()


def renew(project: Project, home: Path) -> Project:
    """Give a project another id, made for the DISPATCH_HOME `home`. Raises OSError."""
    project_id = new_id(project.path)
    files.write(project.path, _PROJECT, _content(project_id, home))
    return Project(project.path, project_id)


def ensure(project: Project, home: Path | None = None) -> Project:
    """Make the project's `.dispatch/tasks`, give it an id, and hide `.dispatch/` from git. May be called again.

    Two at once agree on one id. Raises BadInput, with nothing made, where the project cannot be written to, and
    DispatchError where the disk is full.
    """
    path = project.path
    made = [path / name for name in (_TASKS, RECORD) if not os.path.lexists(path / name)]
    try:
        files.make_folder(path, _TASKS)
        _hide(path)
        project_id = read_id(path)
        if project_id is None:
            with contextlib.suppress(FileExistsError):
                files.write(path, _PROJECT, _content(new_id(path), home), replace=False)
            project_id = read_id(path)
    except (OSError, UntrustedPath, BadInput) as error:
        for folder in made:
            with contextlib.suppress(OSError):  # another command has put something there
                folder.rmdir()
        if isinstance(error, BadInput):
            raise
        raise _unusable(path, error) from error
    if project_id is None:
        raise BadInput(
            f"{path / _PROJECT}: no valid project id",
            hint=f"write one line into it, `id: {new_id(path)}`, or remove the file and its tasks begin anew",
        )
    return Project(path, project_id)


def put_back(path: Path, project_id: str) -> None:
    """Write a project's id again if its file is gone, as after a `git clean -fdx`. Raises UntrustedPath, OSError."""
    with contextlib.suppress(FileExistsError):
        files.write(path, _PROJECT, f"id: {project_id}\n".encode(), replace=False)


def _unusable(path: Path, error: OSError | UntrustedPath) -> DispatchError:
    if isinstance(error, UntrustedPath):
        return BadInput(
            f"cannot keep tasks in {path}: {error}", hint=f"move {path / error.name} away; it must be a real folder"
        )
    where = error.filename2 or error.filename
    what = f" ({where})" if isinstance(where, str) else ""
    said = f"cannot keep tasks in {path}: {error.strerror or error}{what}"
    if error.errno in files.FULL:
        return DispatchError(said, hint="free some space, and submit again; nothing was kept")
    return BadInput(
        said,
        hint=f"make {path} writable for this user, or submit from a checkout that is: `git clone {path} …`",
    )


def git_folder(path: Path) -> Path | None:
    """The git directory of a checkout's top folder, as its `.git` says; None where `path` is no such folder."""
    entry = path / ".git"
    try:
        if not entry.is_dir():
            words = entry.read_bytes()[:_LIMIT_BYTES]
            if not words.startswith(b"gitdir: "):
                return None
            entry = path / os.fsdecode(words[len(b"gitdir: ") :].rstrip(b"\r\n"))
        return entry if os.path.lexists(entry / "HEAD") else None
    except (OSError, ValueError):
        return None


def _common_folder(git: Path) -> Path:
    """Where what all worktrees of a repository share is kept."""
    try:
        return git / os.fsdecode((git / "commondir").read_bytes().rstrip(b"\r\n"))
    except FileNotFoundError:
        return git


def _hide(path: Path) -> None:
    """Add `.dispatch/` to the exclude file of the repository around `path`, if there is one; its bytes stay."""
    git = next((found for folder in (path, *path.parents) if (found := git_folder(folder)) is not None), None)
    if git is None:
        return
    common = _common_folder(git)
    exclude = common / "info" / "exclude"
    if _hides(exclude):
        return
    (common / "info").mkdir(exist_ok=True)
    line = f"{IGNORED}\n".encode()
    try:
        with _alone_in(common / "info"):
            if _hides(exclude):
                return
            if not os.path.lexists(exclude):
                files.write(common, "info/exclude", line)
                return
            old = exclude.read_bytes()
            files.append(common, "info/exclude", line if not old or old.endswith(b"\n") else b"\n" + line)
    except (OSError, UntrustedPath) as error:
        raise BadInput(
            f"cannot write {exclude}: {error}",
            hint=f"add the line `{IGNORED}` to it by hand",
        ) from error


def _hides(exclude: Path) -> bool:
    try:
        lines = exclude.read_bytes().split(b"\n")
    except FileNotFoundError:
        return False
    return any(line.rstrip() in (b".dispatch/", b".dispatch") for line in lines)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; twice the line does no harm
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a git child: messages in English, no questions, and nothing that names another repository."""
    kept = {name: value for name, value in environ.items() if name[:4] != "GIT_" or _GIT_VARIABLES.fullmatch(name)}
    return kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}


def check_worktree(project: Path) -> None:
    """Raise BadInput where a task could not get a worktree: no git, not a repository, or no commit in it yet."""
    import shlex
    import subprocess

    git = f"git -C {shlex.quote(str(project))}"
    hint = f"{git} init && {git} add --all && {git} commit -m Start, or use --shared"
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "HEAD^{commit}"],
            cwd=project,
            env=git_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError as error:
        raise BadInput("--worktree needs git, which is not installed", hint="install git, or use --shared") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"--worktree needs git, which did not answer in {project}: {error}", hint=hint) from error
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip()
    if not said:
        raise BadInput(f"--worktree needs a commit, and {project} has none yet", hint=hint)
    if "not a git repository" in said:
        raise BadInput(f"--worktree needs a git repository, and {project} is none", hint=hint)
    command = next((line.strip() for line in said.splitlines() if line.strip().startswith("git config")), None)
    raise BadInput(f"--worktree: git cannot use {project}: {said.splitlines()[0]}", hint=command or "use --shared")
