"""Where it is measured: a project, a home, dispatch's own server and worker, all in a folder that goes away."""

import contextlib
import os
import random
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dispatch_queue import embedded, overview, producer
from dispatch_queue.mirror import enroll
from dispatch_queue.producer import Request, Submitted
from dispatch_queue.project import find
from dispatch_queue.record import Isolation, Ref
from dispatch_queue.server import socket_of
from dispatch_queue.store import Store
from dispatch_queue.taskdir import TaskDir
from tests.bench.clocked import FirstActs
from tests.support.sandbox import BIN, Sandbox
from tests.support.waiting import wait_for

SLOTS = 8
READY_WITHIN_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = (0.05, 0.15)  # between two samples; random, so that no sample is in step with another's polling
SEED: Final = 20261123

# dash and the like need 1 ms to get to the first line. As an agent of dispatch it goes on to end its task well.
_NOOP: Final = """\
#!/bin/sh
echo "${{DISPATCH_TASK_ID:-$1}}" > {pipe}
[ -n "${{DISPATCH_TASK_DIR:-}}" ] || exit 0
cd "$DISPATCH_TASK_DIR" || exit 1
printf '# Nothing\\n\\n- [x] nothing\\n' > plan.tmp
mv plan.tmp plan.md
: > ipc/.done
"""

_IDLE: Final = """\
#!/bin/sh
echo "${{DISPATCH_TASK_ID:-$1}}" > {pipe}
exec sleep 3600
"""

# It asks and leaves: its task is parked.
_ASKS: Final = """\
#!/bin/sh
echo "${{DISPATCH_TASK_ID:-$1}}" > {pipe}
cd "$DISPATCH_TASK_DIR" || exit 1
echo 'Which one?' > question.tmp
mv question.tmp ipc/001.question
echo 'What I know so far.' > context.md
printf '# Nothing\\n\\n- [?] nothing\\n' > plan.tmp
mv plan.tmp plan.md
"""

_CONFIG: Final = """\
default: noop
backends:
  noop: {{command: {noop}}}
  idle: {{command: {idle}}}
  asks: {{command: {asks}}}
models:
  noop: {{backend: noop}}
  idle: {{backend: idle}}
  asks: {{backend: asks}}
worker: {{slots: {slots}, drain: 0, question_timeout: 3600}}
"""


class Stage:
    """A running dispatch of its own. `noop`, `idle` and `asks` are agents: one ends at once, one never, one parks."""

    def __init__(self, box: Sandbox, *, slots: int) -> None:
        self.box, self.env = box, box.env
        self.noop, self.idle, asks = (box.folder / name for name in ("noop", "idle", "asks"))
        pipe = box.folder / "first-acts"
        self.first_acts = FirstActs(pipe)
        for path, text in ((self.noop, _NOOP), (self.idle, _IDLE), (asks, _ASKS)):
            path.write_text(text.format(pipe=shlex.quote(str(pipe))))
            path.chmod(0o755)
        box.home.mkdir(mode=0o700)
        config = _CONFIG.format(noop=self.noop, idle=self.idle, asks=asks, slots=slots)
        (box.home / "config.yaml").write_text(config)
        box.make_repository({f"folder-{n % 10}/file-{n}.txt": f"{n}\n" * 50 for n in range(100)})
        os.environ["DISPATCH_HOME"] = str(box.home)
        box.run("up")
        self.url, self.socket = embedded.server_url(box.home), socket_of(box.home / "run")
        self.store = Store(self.url)
        try:
            wait_for(self.store.workers, "the worker to be ready", READY_WITHIN_SECONDS)
        except AssertionError as error:
            log = embedded.status(box.home).worker.log.read_text(errors="replace")
            raise AssertionError(f"{error}\n{log[-2000:]}") from None
        self.random = random.Random(SEED)
        self._number = 0

    def rest(self) -> None:
        """Let what the last sample started come to its end."""
        time.sleep(self.random.uniform(*PAUSE_SECONDS))

    def new_name(self) -> str:
        """A task's id that was not used before."""
        self._number += 1
        return f"t{self._number}"

    def command(self, *words: str) -> list[str]:
        return [str(BIN / "dispatch"), *words]

    def submit(
        self,
        model: str,
        isolation: Isolation = Isolation.SHARED,
        items: tuple[str, ...] = ("nothing",),
        project: Path | None = None,
    ) -> Submitted:
        """Submit a task as a program does: in this process, which has done it before."""
        name = self.new_name()
        request = Request(
            items=items, name=name, model=model, backend=model, isolation=isolation, attempts=1, question_timeout=3600
        )
        sent = producer.record_locally(request, find(project or self.box.project), home=self.box.home)
        enroll(self.store, sent.home, sent.task.ref, sent.home.standing())
        return sent

    def wait_until_done(self, home: TaskDir) -> None:
        wait_for(lambda: home.standing().final, f"{home.id} to end")
        standing = home.standing()
        assert standing.state == "done", f"{home.id} is {standing.state}: {standing.reason}"

    @contextlib.contextmanager
    def running(self, isolation: Isolation, items: int = 1) -> Iterator[tuple[TaskDir, TaskDir]]:
        """A task whose agent does nothing, as home copy and live copy; this process writes in the agent's stead."""
        sent = self.submit("idle", isolation, tuple(f"step {number}" for number in range(1, items + 1)))
        self.first_acts.of(sent.task.id)
        place = wait_for(lambda: overview.workspace(sent.home), "the attempt to be in the journal")
        assert place is not None
        try:
            self.rest()
            yield sent.home, TaskDir(place, sent.task.id)
        finally:
            producer.cancel(self.store, Ref(sent.task.project, sent.task.id))


@contextlib.contextmanager
def opened(folder: Path, *, slots: int = SLOTS) -> Iterator[Stage]:
    """A stage in `folder`, which is made; at the end everything of it is stopped."""
    folder.mkdir(mode=0o700)
    box = Sandbox(folder)
    try:
        yield Stage(box, slots=slots)
    finally:
        box.close()
