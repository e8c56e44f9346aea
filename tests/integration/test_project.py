"""Finding a project, giving it an id, and keeping its record out of git's sight."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_queue import project as projects
from dispatch_queue.errors import BadInput
from dispatch_queue.project import Project, check_worktree, ensure, find
from tests.support.repository import Repository, made_by


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return made_by(tmp_path / "My Repo")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    folder.mkdir()
    return folder


# --- find ---


def test_a_folder_without_git_is_its_own_project(plain: Path) -> None:
    assert find(plain) == Project(plain, None)


def test_the_git_top_level_is_the_project(repo: Repository) -> None:
    below = repo.path / "a" / "b"
    below.mkdir(parents=True)
    assert find(below) == Project(repo.path, None)


def test_the_nearest_record_wins_over_the_git_top_level(repo: Repository) -> None:
    part = repo.path / "packages" / "one"
    (part / "src").mkdir(parents=True)
    made = ensure(Project(part, None))
    assert find(part / "src") == made
    assert find(repo.path).path == repo.path


def test_a_project_reached_through_a_link_is_the_same_project(repo: Repository, tmp_path: Path) -> None:
    made = ensure(find(repo.path))
    (tmp_path / "link").symlink_to(repo.path)
    assert find(tmp_path / "link") == made


def test_a_folder_called_git_that_is_no_repository_is_passed_over(repo: Repository) -> None:
    below = repo.path / "below"
    (below / ".git").mkdir(parents=True)
    assert find(below).path == repo.path


def test_a_submodule_is_a_project(repo: Repository, tmp_path: Path) -> None:
    part = made_by(tmp_path / "part")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(part.path), "part")
    assert find(repo.path / "part").path == repo.path / "part"


def test_a_project_does_not_capture_the_repositories_below_it(plain: Path) -> None:
    made = ensure(find(plain))
    repo = made_by(plain / "code" / "repo")
    (repo.path / "src").mkdir()
    assert find(repo.path / "src") == Project(repo.path, None)
    assert find(plain / "code") == made


def test_the_configuration_in_home_is_no_project(own_home: Path) -> None:
    (own_home / ".dispatch").mkdir()
    (own_home / ".dispatch" / "config.yaml").touch()
    below = own_home / "code"
    below.mkdir()
    assert find(below) == Project(below, None)
    assert find(own_home) == Project(own_home, None)


def test_tasks_submitted_from_home_do_not_capture_the_repositories_in_it(own_home: Path) -> None:
    made = ensure(find(own_home))
    repo = made_by(own_home / "code" / "repo")
    (own_home / "notes").mkdir()
    assert find(repo.path).path == repo.path
    assert find(own_home / "notes") == made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_a_record_that_a_stranger_put_above_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".dispatch" / "tasks").mkdir(parents=True)
    os.chown(tmp_path / ".dispatch", 65534, 65534)
    mine = tmp_path / "mine"
    mine.mkdir()
    assert find(mine) == Project(mine, None)


def test_a_record_that_is_a_link_is_passed_over(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "tasks").mkdir(parents=True)
    (plain / ".dispatch").symlink_to(tmp_path / "elsewhere")
    below = plain / "below"
    below.mkdir()
    assert find(below) == Project(below, None)


# --- the id ---


@pytest.mark.parametrize("text", ["id: shop-1a2b3c\n", "# ours\nid: shop-1a2b3c # as before\n", "id: 'shop-1a2b3c'\n"])
def test_an_id_written_by_hand_is_read(plain: Path, text: str) -> None:
    ensure(Project(plain, None))
    (plain / ".dispatch" / "project.yaml").write_text(text)
    assert projects.read_id(plain) == "shop-1a2b3c"


@pytest.mark.parametrize(
    "data", [b"", b"id: ../../x\n", b"id: UPPER\n", b"id: " + b"a" * 65, b"\xff\xfe", b"id: a\nid: b\n", b"x" * 9999]
)
def test_a_bad_id_is_told_and_left_alone(plain: Path, data: bytes) -> None:
    ensure(Project(plain, None))
    file = plain / ".dispatch" / "project.yaml"
    file.write_bytes(data)
    assert projects.read_id(plain) is None
    with pytest.raises(BadInput, match=r"project\.yaml") as raised:
        ensure(find(plain))
    assert raised.value.hint is not None
    assert file.read_bytes() == data


@pytest.mark.parametrize(
    ("name", "start"), [("My Repo!", "my-repo-"), ("Ünïcode", "unicode-"), ("日本", "task-"), ("x" * 200, "x" * 50)]
)
def test_a_new_id_tells_the_folder_and_fits(name: str, start: str) -> None:
    made = projects.new_id(Path("/somewhere") / name)
    assert made.startswith(start)
    assert len(made) <= 64
    assert made != projects.new_id(Path("/somewhere") / name)


# --- ensure ---


def test_ensure_makes_the_record_and_keeps_its_id(repo: Repository) -> None:
    made = ensure(find(repo.path))
    assert made.id is not None
    assert made.id.startswith("my-repo-")
    assert (repo.path / ".dispatch" / "tasks").is_dir()
    assert ensure(made) == made == find(repo.path)


def test_git_does_not_see_the_record_and_gitignore_is_left_alone(repo: Repository) -> None:
    (repo.path / ".gitignore").write_text("*.log\n")
    repo.git("add", ".gitignore")
    before = repo.git("status", "--porcelain")
    ensure(find(repo.path))
    assert repo.git("status", "--porcelain") == before
    assert (repo.path / ".gitignore").read_text() == "*.log\n"


def test_the_exclude_file_keeps_its_bytes_and_gets_one_line(repo: Repository) -> None:
    exclude = repo.path / ".git" / "info" / "exclude"
    exclude.write_bytes(b"# mine \xff\n*.tmp")
    for _ in range(3):
        ensure(find(repo.path))
    assert exclude.read_bytes() == b"# mine \xff\n*.tmp\n.dispatch/\n"


def test_an_exclude_file_is_made_where_there_is_none(repo: Repository) -> None:
    exclude = repo.path / ".git" / "info" / "exclude"
    exclude.unlink(missing_ok=True)
    exclude.parent.rmdir()
    ensure(find(repo.path))
    assert exclude.read_bytes() == b".dispatch/\n"


def test_an_exclude_file_that_is_a_link_is_not_written_through(repo: Repository, tmp_path: Path) -> None:
    exclude = repo.path / ".git" / "info" / "exclude"
    exclude.unlink()
    (tmp_path / "dotfile").write_text("keep\n")
    exclude.symlink_to(tmp_path / "dotfile")
    with pytest.raises(BadInput) as raised:
        ensure(find(repo.path))
    assert raised.value.hint is not None
    assert ".dispatch/" in raised.value.hint
    assert (tmp_path / "dotfile").read_text() == "keep\n"
    assert not (repo.path / ".dispatch").exists()
    (tmp_path / "dotfile").write_text(".dispatch/\n")
    assert ensure(find(repo.path)).id


def exclude_of(folder: Path) -> Path:
    said = subprocess.check_output(["git", "rev-parse", "--git-path", "info/exclude"], cwd=folder, text=True)
    return (folder / said.strip()).resolve()


def test_a_linked_worktree_hides_the_record_in_the_common_exclude_file(repo: Repository, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    repo.git("worktree", "add", "--quiet", str(linked))
    ensure(find(linked))
    assert b".dispatch/" in exclude_of(linked).read_bytes()
    assert exclude_of(linked) == exclude_of(repo.path)
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=linked) == b""


def test_a_submodule_hides_the_record_in_its_own_exclude_file(repo: Repository, tmp_path: Path) -> None:
    part = made_by(tmp_path / "part")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(part.path), "part")
    repo.git("commit", "--quiet", "-m", "part")
    ensure(find(repo.path / "part"))
    assert b".dispatch/" in exclude_of(repo.path / "part").read_bytes()
    assert repo.git("status", "--porcelain") == ""


def test_a_folder_above_a_hidden_bare_repository_is_a_project(tmp_path: Path) -> None:
    repo = made_by(tmp_path / "first")
    home = tmp_path / "home"
    home.mkdir()
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(home / ".bare"))
    (home / ".git").write_text("gitdir: ./.bare\n")
    made = ensure(find(home))
    assert made.path == home
    assert b".dispatch/" in (home / ".bare" / "info" / "exclude").read_bytes()
    check_worktree(home)


def test_two_at_once_agree_on_one_id(repo: Repository) -> None:
    found: list[str | None] = []
    barrier = threading.Barrier(8)

    def one() -> None:
        start = find(repo.path)
        barrier.wait()
        found.append(ensure(start).id)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert exclude_of(repo.path).read_text().count(".dispatch/") == 1
    assert sorted(path.name for path in (repo.path / ".dispatch").iterdir()) == ["project.yaml", "tasks"]


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's right to write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["project", "record", "exclude"])
def test_a_project_that_cannot_be_written_is_told_and_nothing_is_made(tmp_path: Path, what: str) -> None:
    repo = made_by(tmp_path / "repo")
    if what == "record":
        (repo.path / ".dispatch").mkdir()
        (repo.path / ".dispatch").chmod(0o555)
    elif what == "exclude":
        (repo.path / ".git" / "info").chmod(0o555)
        (repo.path / ".git" / "info" / "exclude").unlink()
    else:
        repo.path.chmod(0o555)
    for folder in tmp_path.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        for path in (repo.path, *repo.path.rglob("*")):
            os.chown(path, 65534, 65534)
    before = sorted(repo.path.rglob("*"))
    with as_somebody_else(), pytest.raises(BadInput, match="Permission denied") as raised:
        ensure(find(repo.path))
    assert str(repo.path) in raised.value.message
    assert raised.value.hint
    assert sorted(repo.path.rglob("*")) == before


def test_a_record_that_is_a_file_is_told(plain: Path) -> None:
    (plain / ".dispatch").write_text("mine\n")
    with pytest.raises(BadInput, match="cannot keep tasks"):
        ensure(find(plain))
    assert (plain / ".dispatch").read_text() == "mine\n"


# --- check_worktree ---


def test_a_repository_with_a_commit_can_have_worktrees(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo.path / "sub").mkdir()
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    check_worktree(repo.path)
    check_worktree(repo.path / "sub")


def test_without_git_a_worktree_is_refused(plain: Path) -> None:
    with pytest.raises(BadInput, match="is none") as raised:
        check_worktree(plain)
    assert raised.value.hint is not None
    assert "init" in raised.value.hint
    assert "--shared" in raised.value.hint


def test_without_a_commit_a_worktree_is_refused(plain: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=plain, check=True)
    with pytest.raises(BadInput, match="needs a commit"):
        check_worktree(plain)


def test_without_a_git_program_a_worktree_is_refused(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadInput, match="not installed"):
        check_worktree(repo.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's repository")
def test_a_repository_that_git_distrusts_is_refused_with_gits_own_advice(repo: Repository) -> None:
    for path in (repo.path, repo.path / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(BadInput, match="dubious ownership") as raised:
        check_worktree(repo.path)
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("git config --global --add safe.directory")


def test_finding_and_ensuring_start_no_process(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert ensure(find(repo.path)).id
