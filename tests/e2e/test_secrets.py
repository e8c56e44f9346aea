"""Secrets of a worker's environment, which an agent has and tells everybody."""

import json
from pathlib import Path

import pytest
import redis

from dispatch_queue.embedded import server_url
from dispatch_queue.states import State
from tests.support import sandbox as sandboxes
from tests.support import standins
from tests.support.sandbox import Sandbox
from tests.support.tasks import await_state, configure, copy_of, do, submit, transcript

VALUE = "sk-leaky-0123456789abcdef"
NAME = "LEAKY_API_KEY"


def files_with(secret: str, *folders: Path) -> list[str]:
    """The files below the folders that hold the secret."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                found.append(str(path))
    return found


def values_with(secret: str, client: redis.Redis) -> list[str]:
    """The keys of Redis whose values hold the secret."""
    return [
        key.decode()
        for key in client.scan_iter()
        if secret.encode() in (client.dump(key) or b"") or _says(secret, client, key)
    ]


def _says(secret: str, client: redis.Redis, key: bytes) -> bool:
    """Whether a value holds the secret; a dump may be packed."""
    readers = {
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
        b"set": lambda: client.smembers(key),
        b"string": lambda: client.get(key),
    }
    reader = readers.get(client.type(key))
    return reader is not None and secret in repr(reader())


@pytest.mark.parametrize("isolation", ["--shared", "--worktree"])
def test_a_secret_reaches_no_file_no_journal_no_redis_and_no_command(
    tmp_path: Path, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandboxes.opened(tmp_path / "s") as box:
        box.env[NAME] = VALUE
        box.make_repository()
        _configure(box)
        box.run("up")
        task = submit(box, isolation, "--item", "Tell", model="leaks")
        await_state(box, task, State.ASKING)

        shown = [box.run("questions").stdout, box.run("show", task).stdout, box.run("ls").stdout]
        box.run("answer", task, "yes")
        await_state(box, task, State.FAILED)
        for words in (["show", task], ["show", task, "--json"], ["ls"], ["logs", task], ["logs", task, "--raw"]):
            shown.append(box.run(*words, check=False).stdout)

        assert f"is [{NAME}] the key?" in shown[0]
        assert f"the key is [{NAME}], surely" in transcript(box, task)
        assert copy_of(box, task).standing().reason == f"item: 1 'Tell': [{NAME}] is refused"
        assert (box.task(task) / "output.md").read_text() == f"key: [{NAME}]\n"
        assert not [text for text in shown if VALUE in text]
        assert files_with(VALUE, box.project, box.home) == []
        with redis.Redis.from_url(server_url(box.home)) as client:
            assert values_with(VALUE, client) == []


def test_a_command_of_a_person_that_holds_a_value_like_a_secret_is_run_as_it_was_typed(sandbox: Sandbox) -> None:
    sandbox.env |= {"POSTGRES_PASSWORD": "postgres"}
    sandbox.run("up")

    task = do(sandbox, "-i", "Start: `true`", "-i", "Write: `echo postgres > out`", model="shell")

    assert (sandbox.project / "out").read_text() == "postgres\n"
    assert "Write: `echo postgres > out`" in (sandbox.task(task) / "plan.md").read_text()


def test_a_secret_whose_characters_an_agents_json_escapes_reaches_nobody(sandbox: Sandbox) -> None:
    value = "abc+defgh12345/xx=="
    sandbox.env["B64_TOKEN"] = value
    denied = {"tool_name": "Bash", "tool_input": {"command": f"echo {value}"}}
    says = {"type": "assistant", "message": {"content": [{"type": "text", "text": f"now {value}"}]}}
    ends = {"type": "result", "session_id": "s", "is_error": True, "result": f"last {value}"}
    lines = (says, ends | {"permission_denials": [denied]})
    program = sandbox.folder / "claude"
    said = "".join(f"{json.dumps(line)}\n" for line in lines).replace("+", "\\u002B").replace("==", "\\u003d=")
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\nexit 1\n")
    program.chmod(0o755)
    configure(sandbox, {"claude": f"{program} -p"})

    task = submit(sandbox, "--item", "Tell", model="claude")
    await_state(sandbox, task, State.FAILED)

    commands = (["show", task], ["show", task, "--json"], ["ls"], ["logs", task], ["logs", task, "--raw"])
    shown = "".join(sandbox.run(*words, check=False).stdout for words in commands)
    for told in ("now [B64_TOKEN]", "last [B64_TOKEN]", "denied: Bash: echo [B64_TOKEN]"):
        assert told in shown
    assert value not in shown
    assert files_with(value, sandbox.task(task)) == []
    with redis.Redis.from_url(server_url(sandbox.home)) as client:
        assert values_with(value, client) == []


def _configure(box: Sandbox) -> None:
    config = {
        "default": "leaks",
        "backends": {"leaks": {"command": standins.command("leaks"), "env": [NAME]}},
        "models": {"leaks": {"backend": "leaks"}},
    }
    box.home.mkdir(mode=0o700, exist_ok=True)
    (box.home / "config.yaml").write_text(json.dumps(config))
