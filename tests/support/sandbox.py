"""A project folder with a DISPATCH_HOME of its own, in which the installed commands are run as a user runs them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tests.support.processes import end_processes_of
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE_SECONDS, seconds_of, wait_for

BIN: Final = Path(sys.executable).parent
COMMAND_WITHIN_SECONDS: Final = 60.0
DOWN_WITHIN_SECONDS: Final = 60.0
STOP_WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Completed:
    """What a command printed and its exit status; minus the signal's number if a signal ended it."""

    stdout: str
    stderr: str
    code: int

    @property
    def json(self) -> Any:
        """Standard output as one JSON value. Fails with what was printed instead."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"not JSON ({error}):\n{self.stdout}\n{self.stderr}") from error


class Background:
    """A command that goes on while the test does; what it prints is collected line by line."""

    def __init__(self, words: list[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._words = words
        self._process = subprocess.Popen(
            words,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for_line(self, text: str, limit: timedelta | float = PATIENCE_SECONDS) -> str:
        """The first line, of either stream, that contains `text`."""

        def line() -> str | None:
            return next((line for line in [*self.out, *self.err] if text in line), None)

        try:
            return wait_for(line, f"{text!r} from `{self._name()}`", limit) or ""
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._printed()}") from None

    def wait(self, limit: timedelta | float = PATIENCE_SECONDS) -> Completed:
        """Wait for the command's own end. Fails with what it printed if it goes on."""
        try:
            code = self._process.wait(seconds_of(limit))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"`{self._name()}` still runs after {limit}\n{self._printed()}") from None
        for reader in self._readers:
            reader.join(seconds_of(limit))
        return Completed("\n".join(self.out) + "\n", "\n".join(self.err) + "\n", code)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """kill -9, of this process only."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and kill -9 if that is not obeyed. Nothing if the command has ended."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _name(self) -> str:
        return " ".join([Path(self._words[0]).name, *self._words[1:]])

    def _printed(self) -> str:
        return "\n".join(["stdout:", *self.out, "stderr:", *self.err])


@dataclass
class Sandbox:
    """`project` is where commands run, `home` is DISPATCH_HOME, `env` is the whole environment they get."""

    folder: Path
    project: Path = field(init=False)
    home: Path = field(init=False)
    env: dict[str, str] = field(init=False)
    _background: list[Background | Terminal] = field(init=False, default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.project, self.home = self.folder / "project", self.folder / "d"
        user, temporary = self.folder / "user", self.folder / "tmp"
        for folder in (self.project, user, temporary):
            folder.mkdir(parents=True)
        self.env = {
            **os.environ,
            "HOME": str(user),
            "TMPDIR": str(temporary),
            "DISPATCH_HOME": str(self.home),
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def make_repository(self, files: Mapping[str, str] | None = None) -> str:
        """Make the project a git repository with one commit of `files` (default: a README); its hash."""
        self.git("init", "--quiet")
        for name, text in (files if files is not None else {"README.md": "# A project\n"}).items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Start")
        return self.git("rev-parse", "HEAD")

    def git(self, *words: str) -> str:
        """What a git command in the project prints, without the last line end. Fails if git does."""
        return self._complete(["git", *words], check=True).stdout.rstrip("\n")

    def run(
        self,
        *words: str | Path,
        input: str | bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        limit: timedelta | float = COMMAND_WITHIN_SECONDS,
        program: str = "dispatch",
    ) -> Completed:
        """Run `dispatch WORDS…` to its end; with `check`, any exit status but 0 fails the test.

        `env` is put over the sandbox's own. Standard input is empty unless `input` is given, and never a terminal.
        """
        command = [str(BIN / program), *map(str, words)]
        return self._complete(command, input=input, check=check, env=env, cwd=cwd, limit=limit)

    def start(self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Background:
        """Start `dispatch WORDS…` and go on; ended with the sandbox."""
        command = [str(BIN / "dispatch"), *map(str, words)]
        background = Background(command, env={**self.env, **(env or {})}, cwd=cwd or self.project)
        self._background.append(background)
        return background

    def on_terminal(self, *words: str, env: Mapping[str, str] | None = None) -> Terminal:
        """Start `dispatch-submit WORDS…` on a terminal; ended with the sandbox."""
        terminal = Terminal([str(BIN / "dispatch-submit"), *words], env={**self.env, **(env or {})}, cwd=self.project)
        self._background.append(terminal)
        return terminal

    def task(self, task_id: str) -> Path:
        """The directory of a task's record."""
        return self.project / ".dispatch" / "tasks" / task_id

    def close(self) -> None:
        """`dispatch down`, then fail if a process of this sandbox is still there; it is killed all the same."""
        for background in self._background:
            background.stop()
        down = None
        if self.home.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                down = self.run("down", check=False, limit=DOWN_WITHIN_SECONDS)
        left = end_processes_of(self.folder)
        assert not left, "processes left by the sandbox:\n" + "\n".join(left) + f"\n`dispatch down`: {down}"

    def _complete(
        self,
        command: list[str],
        *,
        input: str | bytes | None = None,
        check: bool,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        limit: timedelta | float = COMMAND_WITHIN_SECONDS,
    ) -> Completed:
        done = subprocess.run(
            command,
            input=input.encode() if isinstance(input, str) else input or b"",
            capture_output=True,
            env={**self.env, **(env or {})},
            cwd=cwd or self.project,
            timeout=seconds_of(limit),
            check=False,
        )
        completed = Completed(
            done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode
        )
        if check and completed.code != 0:
            name = " ".join([Path(command[0]).name, *command[1:]])
            raise AssertionError(f"`{name}` exited {completed.code}\n{completed.stdout}\n{completed.stderr}")
        return completed


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Sandbox]:
    """A sandbox in `folder`, closed at the end, whether or not the test passed."""
    sandbox = Sandbox(folder)
    try:
        yield sandbox
    finally:
        sandbox.close()
