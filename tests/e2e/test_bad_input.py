"""Bad input gets a clear error: what is wrong, what to do, an exit status; nothing half-written, nothing lost."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch_queue import keys, taskdir
from dispatch_queue.project import read_id
from dispatch_queue.record import Ref
from dispatch_queue.states import State
from dispatch_queue.store import Store
from tests.support import sandbox as sandboxes
from tests.support import standins
from tests.support.sandbox import Completed, Sandbox
from tests.support.server import start_server
from tests.support.tasks import Gate, Project, await_state, configure, copy_of, do, journal, state_of, states_of, submit
from tests.support.waiting import wait_for

S = State
MIB = 1024 * 1024
SHELL = ("submit", "-m", "shell")


def refused(done: Completed, code: int, *texts: str) -> None:
    """A command that printed an error with these texts, and nothing else."""
    printed = done.stdout + done.stderr
    assert done.code == code, printed
    assert done.stdout == ""
    assert "Traceback" not in printed
    for text in texts:
        assert text in done.stderr, printed


@contextlib.contextmanager
def mounted(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A small file system of its own in `folder`. Skips the test where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use up the last byte of a small file system; the file that does it."""
    path = folder / "filler"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- what is to be dispatched -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(own_folder: Path) -> Iterator[Sandbox]:
    """A project in which nothing was dispatched, and nothing will be: these tests share it."""
    with sandboxes.opened(Path(tempfile.mkdtemp(prefix="bare", dir=own_folder))) as bare:
        configure(bare, {"missing": "no-such-agent --go", "gone": "/nowhere/agent"})
        yield bare
        assert tree(bare.project) == []
        assert not (bare.home / "redis").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", ": is empty", id="empty"),
        pytest.param(b"\n\n \n", ": is empty", id="blank"),
        pytest.param(b"# A title\n\nand text\n", "no items", id="without items"),
        pytest.param(bytes(range(256)) * 100, "UTF-8", id="binary"),
        pytest.param(b"- [ ] step\xff\n", "UTF-8", id="not UTF-8"),
        pytest.param(b"- [ ] step\x00\n", "NUL", id="with NUL"),
        pytest.param(b"- [ ] step\n" * MIB, "the limit is 1048576", id="11 MB"),
        pytest.param(b"- [ ] step\n- [X ] other\n", ":2: unknown mark", id="with an unknown mark"),
    ],
)
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_plan_that_is_none_is_refused_with_its_line(bare: Sandbox, content: bytes, text: str, way: str) -> None:
    plan = bare.folder / "given.md"
    plan.write_bytes(content)

    if way == "file":
        done = bare.run(*SHELL, "--plan", plan, check=False)
    else:
        done = bare.run(*SHELL, "--plan", "-", input=content, check=False)

    refused(done, 2, text, "hint: ", f"error: {plan if way == 'file' else 'standard input'}:")
    assert tree(bare.project) == []


@pytest.mark.parametrize(("name", "text"), [("no-such.md", "No such file"), (".", "Is a directory")])
def test_a_plan_that_cannot_be_read_is_named(bare: Sandbox, name: str, text: str) -> None:
    refused(bare.run(*SHELL, "--plan", name, check=False), 2, f"--plan {name}: {text}", "hint: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("..", "`..`"),
        ("../../etc/x", "`..`"),
        ("a/b", "slash"),
        ("/etc/passwd", "slash"),
        ("two words", "white space"),
        ("Upper-Case", "upper-case"),
        ("a" * 300, "300 characters, the limit is 64"),
        ("-dash", ""),
        (".hidden", "'.'"),
        ("tab\there", "white space"),
        ("new\nline", "white space"),
        ("escape\x1b[2J", "'\\x1b'"),
        ("ünïcode", "'ü'"),
    ],
)
def test_a_bad_task_id_is_refused_with_one_that_would_do(bare: Sandbox, name: str, text: str) -> None:
    done = bare.run(*SHELL, f"--name={name}", "-i", "Work: `true`", check=False)

    refused(done, 2, text, "hint: use lower-case letters, digits and single dashes, such as `")
    assert "\x1b" not in done.stderr
    assert tree(bare.project) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param((*SHELL, "--no-such-flag", "x"), "No such option '--no-such-flag'", id="unknown flag"),
        pytest.param(("ls", "--no-such-flag"), "No such option '--no-such-flag'", id="unknown flag of ls"),
        pytest.param(("lss",), "Did you mean: dispatch ls", id="unknown command"),
        pytest.param(("submit", "-m", "gpt-99", "x"), "Model `gpt-99` isn't available", id="unknown model"),
        pytest.param(("submit", "-m", "shel", "x"), "did you mean `shell`?", id="nearly a model"),
        pytest.param((*SHELL, "-i", " "), "the text of an item is empty", id="empty item"),
        pytest.param((*SHELL, "-i", "a\nb"), "has several lines", id="item of two lines"),
        pytest.param((*SHELL, "  "), "nothing to dispatch", id="blank prompt"),
        pytest.param((*SHELL, "\udcff\udcfe"), "not valid text", id="prompt that is no text"),
        pytest.param((*SHELL, "--title", "x"), "nothing to dispatch", id="title only"),
        pytest.param((*SHELL, "-i", "x", "--read", "no-such-file"), "--read no-such-file: no such file", id="read"),
        pytest.param((*SHELL, "-i", "x", "--timeout", "0"), "--timeout", id="time out of range"),
        pytest.param((*SHELL, "-i", "x", "--timeout", "soon"), "--timeout", id="time that is none"),
        pytest.param((*SHELL, "-i", "x", "--worktree", "--shared"), "both given", id="both isolations"),
        pytest.param((*SHELL, "-i", "x", "--worktree"), "--worktree needs a git repository", id="no repository"),
        pytest.param(("-C", "/no/such/folder", "ls"), "/no/such/folder", id="no such folder"),
    ],
)
def test_a_bad_request_is_refused_and_leaves_nothing(bare: Sandbox, words: tuple[str, ...], text: str) -> None:
    refused(bare.run(*words, check=False), 2, text)
    assert tree(bare.project) == []


@pytest.mark.parametrize(("model", "program"), [("missing", "no-such-agent"), ("gone", "/nowhere/agent")])
@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--json",)])
def test_an_agent_command_that_is_not_there_is_named_with_the_fix(
    bare: Sandbox, model: str, program: str, more: tuple[str, ...]
) -> None:
    done = bare.run("submit", "-m", model, "-i", "Work", *more, check=False)

    refused(done, 4, f"backend `{model}` cannot run: `{program}` is not on PATH", f"hint: install `{program}`")
    assert "config.yaml" in done.stderr
    assert tree(bare.project) == []


def test_where_an_agent_command_is_not_there_its_fallback_is_taken_and_else_other_models_are_named(
    sandbox: Sandbox,
) -> None:
    sandbox.home.mkdir(mode=0o700, exist_ok=True)
    config = sandbox.home / "config.yaml"
    config.write_text(
        "default: opus\nbackends:\n  claude: {command: no-such-claude -p}\n  mine: {command: cat}\n"
        "models:\n  opus: {backend: claude}\n  sonnet: {backend: claude}\n  fine: {backend: mine}\n"
    )
    refused(sandbox.run("submit", "-i", "Work", check=False), 4, "or take another --model: fine\n")

    config.write_text(f"{config.read_text()}fallback: {{opus: [sonnet, fine]}}\n")
    taken = sandbox.run("submit", "-i", "Work", "--dry-run")

    assert "using fine (opus → fine, your default)" in f"{taken.stdout}{taken.stderr}"
    assert "note: fine takes over from opus: backend `claude` cannot run: `no-such-claude` is not" in taken.stderr


def test_a_repository_without_a_commit_has_no_worktree(sandbox: Sandbox) -> None:
    sandbox.git("init", "--quiet")

    done = sandbox.run(*SHELL, "--worktree", "-i", "Work", check=False)

    refused(done, 2, "--worktree needs a commit", "hint: git -C")
    assert not (sandbox.project / ".dispatch").exists()


def test_a_command_that_vanishes_later_fails_the_task_at_its_start(sandbox: Sandbox) -> None:
    agent = sandbox.folder / "agent"
    agent.write_text(f"#!/bin/sh\nexec {standins.command('ticks_one')}\n")
    agent.chmod(0o755)
    configure(sandbox, {"mine": str(agent)})
    task = do(sandbox, "--item", "Work", model="mine")
    agent.unlink()

    sandbox.run("retry", task, "--from-start")

    await_state(sandbox, task, S.FAILED)
    reason = copy_of(sandbox, task).standing().reason
    assert reason.startswith(f"start: cannot start `{agent}`: No such file or directory")
    assert f"install `{agent}`" in reason


# -- where it is kept -------------------------------------------------------------------------------------------------


def test_an_unwritable_project_is_named_and_left_as_it_is(bare: Sandbox, tmp_path: Path) -> None:
    with mounted(tmp_path / "locked") as project:
        (project / "README.md").write_text("# Mine\n")
        subprocess.run(["mount", "-o", "remount,ro", str(project)], check=True)

        done = bare.run(*SHELL, "-i", "Work: `true`", cwd=project, check=False)

        refused(done, 2, f"cannot keep tasks in {project}: Read-only file system", "hint: make", "writable")
        assert tree(project) == ["README.md"]


def test_a_full_disk_is_told_and_nothing_is_left_of_the_task(bare: Sandbox, tmp_path: Path) -> None:
    with mounted(tmp_path / "full") as project:
        filler = fill(project)

        done = bare.run(*SHELL, "--name", "work", "-i", "Work: `true`", cwd=project, check=False)

        refused(done, 1, "No space left on device", "hint: free some space")
        assert [name for name in tree(project) if "work" in name or name.endswith((".tmp", ".making"))] == []
        filler.unlink()


def test_a_disk_that_fills_up_while_a_plan_is_written_keeps_no_half_of_it(tmp_path: Path) -> None:
    with sandboxes.opened(tmp_path / "full") as sandbox, mounted(sandbox.project):
        env = {"DISPATCH_REDIS_URL": f"unix://{tmp_path}/none.sock"}
        plan = tmp_path / "plan.md"
        plan.write_text("".join(f"- [ ] step {number} {'x' * 1000}\n" for number in range(300)))
        sandbox.run(*SHELL, "--name", "first", "-i", "Work", env=env, check=False)
        (sandbox.project / "most").write_bytes(b"x" * (MIB - 200_000))

        done = sandbox.run(*SHELL, "--name", "second", "--plan", plan, env=env, check=False)

        refused(done, 1, "No space left on device", "hint: free some space")
        assert sorted(path.name for path in (sandbox.project / ".dispatch/tasks").iterdir() if path.is_dir()) == [
            "first"
        ]
        (sandbox.project / "most").unlink()
        again = sandbox.run(*SHELL, "--name", "second", "--plan", plan, env=env, check=False)
        assert again.code == 69
        assert copy_of(sandbox, "second").plan().items[299].text.startswith("step 299")


def test_a_disk_that_was_full_for_a_while_costs_no_news(tmp_path: Path, gate: Gate) -> None:
    with sandboxes.opened(tmp_path / "small") as sandbox, mounted(sandbox.project):
        configure(sandbox, worker={"min_free_mib": 0})
        full = tmp_path / "is-full"
        waits = f"until [ -e '{gate.path}' ]; do sleep 0.02; done"
        fills = f"Fill: `cat /dev/zero > filler 2>/dev/null; touch '{full}'; {waits}; rm filler`"
        task = submit(sandbox, items=(fills, "Work: `true`"))
        wait_for(full.exists, "the disk to be full")

        sandbox.run("note", task, "x" * 5000, check=False)  # more than a page of the journal
        gate.open()

        await_state(sandbox, task, S.DONE)
        wait_for(lambda: [entry for entry in journal(sandbox, task) if entry.event == "note"], "the note at home")
        assert states_of(sandbox, task) == [S.QUEUED, S.RUNNING, S.DONE]
        sandbox.run("down")


def test_a_full_disk_under_the_home_folder_is_told_and_the_task_is_kept_or_refused_whole(tmp_path: Path) -> None:
    with mounted(tmp_path / "d"), sandboxes.opened(tmp_path) as sandbox:
        filler = fill(sandbox.home)

        done = sandbox.run(*SHELL, "-i", "Work: `true`", check=False)

        assert done.code in (1, 69)
        assert "No space left on device" in done.stderr
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
        filler.unlink()
        for task in taskdir.known_ids(sandbox.project):
            assert copy_of(sandbox, task).task().id == task
        sandbox.run("down")


# -- Redis unreachable ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent(path: Path) -> Iterator[None]:
    """A socket that is listened to by nobody who answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        yield
    path.unlink()


@pytest.fixture
def remote(sandbox: Sandbox) -> Sandbox:
    """A sandbox with a Redis of its own configured, in `sandbox.folder/redis`, which does not run yet."""
    (sandbox.folder / "redis").mkdir(mode=0o700)
    configure(sandbox)
    sandbox.env["DISPATCH_REDIS_URL"] = f"unix://{sandbox.folder}/redis/redis.sock?db=0"
    return sandbox


@pytest.mark.parametrize("how", ["nobody there", "nobody answers"])
def test_a_task_submitted_while_redis_is_away_is_sent_by_the_next_command(remote: Sandbox, how: str) -> None:
    away = silent(remote.folder / "redis/redis.sock") if how == "nobody answers" else contextlib.nullcontext()
    with away:
        done = remote.run(*SHELL, "--name", "kept", "-i", "Work: `true`", check=False)

    assert done.code == 69
    assert "Dispatched" not in done.stdout or "kept" in done.stderr
    assert f"error: Redis at unix://{remote.folder}/redis/redis.sock does not answer" in done.stderr
    assert f"`kept` is kept in {remote.task('kept')}" in done.stderr
    assert "the next `dispatch` command here sends it" in done.stderr
    assert states_of(remote, "kept") == [S.QUEUED]
    server = start_server(remote.folder / "redis")
    try:
        remote.run("show", "kept")
        store = Store(server.url)
        project = read_id(remote.project)
        assert project is not None
        record = store.record(Ref(project, "kept"))
        store.close()
        assert record is not None
        assert record.state is S.QUEUED
        assert server.command(f"LLEN {keys.queue(record.queue)}") == ":1"
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///no/such/socket"])
def test_an_address_where_nobody_listens_is_named_without_its_password(remote: Sandbox, url: str) -> None:
    with_password = url.replace("//127", "//user:hush-hush@127")

    done = remote.run(*SHELL, "-i", "Work", env={"DISPATCH_REDIS_URL": with_password}, check=False)

    assert done.code == 69
    assert f"Redis at {url.partition('?')[0]} does not answer" in done.stderr
    assert "hush-hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("note", "kept", "hello"), ("cancel", "kept"), ("retry", "kept")])
def test_what_needs_redis_says_so_and_changes_nothing(remote: Sandbox, words: tuple[str, ...]) -> None:
    remote.run(*SHELL, "--name", "kept", "-i", "Work", check=False)
    before = {path: path.read_bytes() for path in remote.task("kept").rglob("*") if path.is_file()}

    done = remote.run(*words, check=False)

    assert done.code == 69
    assert "does not answer" in done.stderr
    assert done.stdout == ""
    assert {path: path.read_bytes() for path in remote.task("kept").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", [("ls",), ("show", "kept"), ("status",), ("questions",), ("logs", "kept")])
def test_what_reads_files_works_without_redis_and_says_that_it_is_away(remote: Sandbox, words: tuple[str, ...]) -> None:
    remote.run(*SHELL, "--name", "kept", "-i", "Work", check=False)

    done = remote.run(*words, check=False)

    assert done.code == (2 if words[0] == "logs" else 0)
    assert "does not answer" in done.stderr


def test_an_answer_given_without_redis_is_kept_in_the_files(remote: Sandbox) -> None:
    remote.run(*SHELL, "--name", "kept", "-i", "Work", check=False)
    (remote.task("kept") / "ipc/001.question").write_text("Which?\n")

    done = remote.run("answer", "kept", "this one", check=False)

    assert done.code == 69
    assert "in its files only" in done.stderr
    assert (remote.task("kept") / "ipc/001.answer").read_text() == "this one\n"


def test_a_task_is_kept_when_the_own_server_cannot_start_and_sent_when_it_can(sandbox: Sandbox) -> None:
    configure(sandbox)
    (sandbox.home / "redis").write_text("in the way\n")

    done = sandbox.run(*SHELL, "--name", "kept", "-i", "Work: `true`", check=False)

    assert done.code == 69
    assert f"{sandbox.home}/redis" in done.stderr
    assert "`kept` is kept in" in done.stderr
    assert "`dispatch up` sends it" in done.stderr
    (sandbox.home / "redis").unlink()
    sandbox.run("up")
    await_state(sandbox, "kept", S.DONE)


# -- commands on tasks ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled(house: Sandbox, own_folder: Path) -> Iterator[Project]:
    """A project with a finished task `fix-one`, a cancelled one `fix-two`, and `asks`, parked on question 2."""
    project = Project(house, Path(tempfile.mkdtemp(prefix="settled", dir=own_folder)))
    try:
        do(project, "--name", "fix-one", items=("Work: `true`",))
        items = ("ask: First?", "ask: Second?")
        submit(project, "--name", "asks", "--question-timeout", "1", items=items)
        await_state(project, "asks", S.ASKING, S.PARKED)
        project.run("answer", "asks", "1", "one")

        def parked_on_the_second() -> bool:
            standing = copy_of(project, "asks").standing()
            return standing.state is S.PARKED and standing.questions == (2,)

        wait_for(parked_on_the_second, "`asks` to be parked on its second question")
        submit(project, "--name", "fix-two", items=("ask: Why?",))
        await_state(project, "fix-two", S.ASKING)
        project.run("cancel", "fix-two")
        yield project
    finally:
        project.close()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(("answer", "fix-one", "x"), 1, "`fix-one` is done; nobody waits", id="answer to a finished task"),
        pytest.param(("answer", "asks", "1", "x"), 1, "question 1 of task `asks` is answered already", id="second"),
        pytest.param(("answer", "asks", "7", "x"), 2, "task `asks` asked no question 7", id="to no question"),
        pytest.param(("answer", "asks", "0", "x"), 2, "no question can have the number 0", id="to question 0"),
        pytest.param(("answer", "asks", "1000", "x"), 2, "no question can have the number 1000", id="to question 1000"),
        pytest.param(("answer", "asks", " "), 2, "the answer is empty", id="blank answer"),
        pytest.param(("answer", "asks", "x" * 70_000), 2, "the limit is 65536", id="long answer"),
        pytest.param(("answer", "asks", "\udcff"), 2, "not valid text", id="answer that is no text"),
        pytest.param(("answer", "asks"), 2, "Missing argument", id="no answer"),
        pytest.param(("note", "fix-one", "x"), 1, "`fix-one` is done; a note would not be read", id="note to done"),
        pytest.param(("note", "fix-two", "x"), 1, "`fix-two` is cancelled", id="note to a cancelled task"),
        pytest.param(("note", "asks", " "), 2, "the note is empty", id="blank note"),
        pytest.param(("cancel", "fix-two"), 1, "`fix-two` is cancelled; nothing to cancel", id="cancel twice"),
        pytest.param(("cancel", "fix-one"), 1, "`fix-one` is done; nothing to cancel", id="cancel a finished task"),
        pytest.param(("cancel", "asks", "nope"), 2, "no task 'nope'", id="cancel one that is not there"),
        pytest.param(("retry", "asks"), 1, "`asks` is parked; only a finished one", id="retry an unfinished task"),
        pytest.param(("show", "fix"), 2, "ambiguous task id 'fix': `fix-one`, `fix-two`", id="ambiguous"),
        pytest.param(("show", ""), 2, "no task ''", id="empty id"),
        pytest.param(("show", "../../etc"), 2, "no task '../../etc'", id="path as id"),
        pytest.param(("show", "\x1b[2J"), 2, "no task '\\x1b[2J'", id="escape as id"),
        pytest.param(("show", "fix-on3"), 2, "did you mean `fix-one`", id="nearly an id"),
        pytest.param(("logs", "fix-one", "-n", "7"), 2, "has no attempt 7", id="logs of no attempt"),
        pytest.param(
            ("submit", "-m", "shell", "--after-any", "-i", "Do"), 2, "--after-any says how tasks may end",
            id="an end of no task",
        ),
        pytest.param(("diff", "fix-one"), 2, "works in your checkout itself", id="diff of a shared task"),
        pytest.param(
            ("submit", "-m", "shell", "--name", "fix-one", "-i", "Other"), 1, "dispatched before with other content",
            id="a name for something else",
        ),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_for_a_task_says_why_and_changes_nothing(
    settled: Project, words: tuple[str, ...], code: int, text: str
) -> None:
    before = [(task, copy_of(settled, task).standing()) for task in taskdir.known_ids(settled.project)]

    done = settled.run(*words, check=False)

    refused(done, code, text)
    assert [(task, copy_of(settled, task).standing()) for task in taskdir.known_ids(settled.project)] == before
    assert (settled.task("asks") / "ipc/001.answer").read_text() == "one\n"
    assert not (settled.task("asks") / "ipc/002.answer").exists()


@pytest.mark.parametrize(
    "word", ["show", "status", "logs", "diff", "answer", "note", "cancel", "retry", "watch", "wait"]
)
def test_every_command_knows_that_there_is_no_such_task(settled: Project, word: str) -> None:
    more = ["text"] if word in ("answer", "note") else []

    refused(settled.run(word, "nope", *more, check=False), 2, "no task 'nope'", "hint: ")


def test_where_no_task_is_an_id_leads_to_the_first_one(bare: Sandbox) -> None:
    refused(bare.run("show", "x", check=False), 2, f"no tasks in {bare.project}", "hint: dispatch submit")
    assert tree(bare.project) == []


def test_an_answer_of_a_file_that_is_too_large_is_not_read_whole(settled: Project) -> None:
    done = settled.run("answer", "asks", "-", input=b"x" * (2 * MIB), check=False)

    refused(done, 2, "more than 1048576 bytes")


def test_a_task_that_came_with_a_clone_is_not_run(house: Sandbox, tmp_path: Path) -> None:
    cloned = Project(house, tmp_path / "cloned")
    mine = submit(cloned, "--hold", items=("Own: `touch theirs`",))
    stranger = Project(house, tmp_path / "stranger")
    shutil.copytree(cloned.project / ".dispatch", stranger.project / ".dispatch")

    done = do(stranger, "--name", "other", items=("Work: `touch mine`",))

    assert stranger.run("release", mine, check=False).code != 0
    assert not (stranger.project / "theirs").exists()
    assert (stranger.project / "mine").exists()
    assert state_of(stranger, done) is State.DONE
    assert cloned.run("release", mine).code == 0
    await_state(cloned, mine, State.DONE)


def test_a_question_that_cannot_be_read_hides_no_other_one(box: Project) -> None:
    task = submit(box, "--question-timeout", "1", items=("ask: which?",))
    await_state(box, task, State.PARKED)
    forged = box.task(task) / "ipc/002.question"
    forged.write_text("x" * 70_000)

    for words in (["ls"], ["show", task], ["status", task], ["questions"]):
        told = box.run(*words).stdout
        assert "which?" in told, words
        assert f'dispatch answer {task} 1 "…"' in told, words
        assert "ipc/002.question cannot be read: it is larger than 65536 bytes" in told, words
        assert f"mv {forged} {forged}.rejected" in told, words
    refused = box.run("answer", task, "2", "that", check=False)
    assert (refused.code, f"mv {forged} {forged}.rejected" in refused.stderr) == (2, True)
    box.run("answer", task, "this")

    await_state(box, task, State.DONE)
    assert copy_of(box, task).ipc().unreadable == {}
    assert [path.stat().st_size for path in forged.parent.glob("002.question.rejected-*")] == [70_000]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda at: at.write_text("x" * 70_000), "is larger than 65536 bytes"),
        (Path.touch, "has no text"),
        (lambda at: at.symlink_to("nowhere"), "is a link, not a file"),
        (Path.mkdir, "is not a regular file"),
    ],
)
def test_an_answer_by_hand_that_is_none_is_told_with_the_way_out(
    box: Project, make: Callable[[Path], None], why: str
) -> None:
    task = submit(box, "--question-timeout", "1", items=("ask: which?",))
    await_state(box, task, State.PARKED)
    by_hand = box.task(task) / "ipc/001.answer"
    make(by_hand)

    way_out = f"mv {by_hand} {by_hand}.rejected && dispatch answer {task} 1"
    for words in (["ls"], ["show", task], ["status", task], ["questions"], ["wait", task]):
        told = box.run(*words, check=False).stdout
        assert f"its answer is not read: it {why}" in told, words
        assert f'{way_out} "…"' in told, words
    refused = box.run("answer", task, "this", check=False)
    assert f"an answer that is not read: it {why}" in refused.stderr
    assert f'{way_out} "…"' in refused.stderr
    by_hand.rename(f"{by_hand}.rejected")
    box.run("answer", task, "this")

    await_state(box, task, State.DONE)


def test_an_answer_by_hand_that_is_empty_at_first_is_taken_when_it_has_text(box: Project) -> None:
    task = submit(box, "--question-timeout", "1", items=("ask: which?",))
    await_state(box, task, State.PARKED)
    with (box.task(task) / "ipc/001.answer").open("w") as by_hand:
        assert "it has no text" in box.run("ls").stdout
        assert state_of(box, task) is State.PARKED
        by_hand.write("this\n")

    await_state(box, task, State.DONE)
    assert copy_of(box, task).ipc().answers == {1: "this"}


def test_an_answer_by_hand_that_is_too_large_does_not_fail_an_agent_that_works(box: Project, gate: Gate) -> None:
    task = submit(box, items=("ask: which?", gate.item))
    await_state(box, task, State.ASKING)
    (box.task(task) / "ipc/001.answer").write_text("x" * 70_000)
    gate.open()

    await_state(box, task, State.DONE)


def test_a_note_that_would_make_the_plan_too_large_is_refused(box: Project, gate: Gate) -> None:
    task = submit(box, items=(gate.item,))
    await_state(box, task, State.RUNNING)
    copy = copy_of(box, task)
    copy.write(taskdir.PLAN, copy.read(taskdir.PLAN) + b"x" * (1024 * 1024 - 1000))

    refused = box.run("note", task, "y" * 2000, check=False)

    assert "with this note the plan would have" in refused.stderr
    gate.open()
    await_state(box, task, State.DONE)


def test_the_tasks_of_a_project_stay_those_of_one_dispatch_home(box: Project, tmp_path: Path) -> None:
    task = submit(box, "--hold", items=("Work: `true`",))
    other = {"DISPATCH_HOME": str(tmp_path / "other")}

    refused = box.run("submit", "--hold", "-m", "shell", "-i", "More: `true`", env=other, check=False)

    assert refused.code == 2
    assert f"are those of another DISPATCH_HOME, {box.home}" in refused.stderr
    box.run("release", task)
    await_state(box, task, State.DONE)
