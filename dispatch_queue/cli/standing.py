"""Where a command stands: its home, its project, its tasks, its way to Redis."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dispatch_queue import files, ids, registry, taskdir
from dispatch_queue.errors import BadInput, StoreDown
from dispatch_queue.home import dispatch_home
from dispatch_queue.locks import MIRROR, is_held
from dispatch_queue.overview import look
from dispatch_queue.project import Project, find
from dispatch_queue.record import Ref
from dispatch_queue.taskdir import TaskDir

if TYPE_CHECKING:
    from dispatch_queue.config.schema import Config
    from dispatch_queue.store import Store


_UNSENT = f"{taskdir.TASKS}/.unsent"  # is there while some tasks of a project could not be sent


class Here:
    """The place a command was called in. Nothing is read before it is asked for."""

    def __init__(self) -> None:
        self.home: Path = dispatch_home()
        self._project: Project | None = None
        self._config: Config | None = None
        self._store: Store | None = None

    @property
    def project(self) -> Project:
        if self._project is None:
            self._project = find(Path.cwd())
        return self._project

    @property
    def config(self) -> "Config":
        if self._config is None:
            from dispatch_queue.config.load import load

            loaded = load(self.home)
            for notice in loaded.notices:
                click.echo(f"note: {notice}", err=True)
            self._config = loaded.config
        return self._config

    def suppose(self, config: "Config") -> None:
        """Go by a configuration that stands in no file; its Redis is the real one."""
        self._config = dataclasses.replace(config, redis=self.config.redis)

    def store(self, *, start: bool = True, worker: bool = True) -> "Store":
        """The store; with no Redis configured our own server and worker are started if need be.

        Raises StoreDown, OtherRedis.
        """
        if self._store is None:
            from dispatch_queue import embedded

            url = self.config.redis.url
            if url is None:
                if start:
                    embedded.up(self.home, worker=worker, slots=self.config.worker.slots)
                elif not embedded.is_up(self.home):
                    raise StoreDown("dispatch's own server is not running", hint="dispatch up")
                url = embedded.server_url(self.home)
            from dispatch_queue import binding
            from dispatch_queue.store import Store

            made = Store(url)
            binding.check(self.home, made)
            self._store = made
        return self._store

    @property
    def connected(self) -> "Store | None":
        """The store, if something has needed it."""
        return self._store

    def task(self, given: str) -> TaskDir:
        """The task of this project that `given` names: an id, or a unique prefix. Raises BadInput."""
        known = taskdir.known_ids(self.project.path)
        if not known:
            raise BadInput(f"no tasks in {self.project.path}", hint='dispatch submit "what to do"')
        return TaskDir(self.project.path, ids.resolve(given, known))

    def ref(self, home: TaskDir) -> Ref:
        project_id = self.project.id
        if project_id is None:
            raise BadInput(f"{self.project.path} has tasks but no .dispatch/project.yaml", hint="restore that file")
        if not registry.is_ours(self.home, project_id, self.project.path):
            raise BadInput(
                f"the `.dispatch` in {self.project.path} was not made by you on this machine",
                hint="its tasks can be read, and are not run; submit your own",
            )
        return Ref(project_id, home.id)

    def mark_unsent(self) -> None:
        """Remember that Redis does not know all tasks of the project."""
        with contextlib.suppress(OSError):
            files.write(self.project.path, _UNSENT, b"")

    def reconcile(self, only: str | None = None, *, told: bool = False) -> None:
        """Bring the project up to date, unless a worker here keeps it so. Without Redis the files must do.

        Of one task `only`, unless there are some that could not be sent; `told` if Redis knows that one already.
        """
        unsent = (self.project.path / _UNSENT).exists()
        if told and not unsent:
            return
        if unsent:
            only = None
        if self.project.id is None or not (self.project.path / taskdir.TASKS).is_dir():
            return
        if not registry.is_ours(self.home, self.project.id, self.project.path):
            return
        if (self.home / "run").is_dir() and is_held(self.home, MIRROR):
            return
        from dispatch_queue import embedded

        if self.config.redis.url is None:
            if not embedded.is_up(self.home):
                if embedded.broke_off(self.home) and self._has_unfinished():
                    _warn("dispatch's own server does not run any more, so no task goes on")
                return
            if not embedded.worker_lives(self.home):
                log = self.home / "run/worker.log"
                _warn(f"the local worker does not run; its last words are in {log}")
        from dispatch_queue.mirror import reconcile

        try:
            reconcile(self.store(start=False), self.project.path, self.project.id, only)
            if unsent:
                files.remove(self.project.path, _UNSENT)
        except StoreDown as error:
            click.echo(f"warning: {error.message}; this is what the files say", err=True)

    def _has_unfinished(self) -> bool:
        base = self.project.path
        return any(not look(TaskDir(base, task_id)).standing.final for task_id in taskdir.known_ids(base))

    def bases(self, everywhere: bool) -> Sequence[Path]:
        """The project's folder; with `everywhere` those of all projects of this host."""
        if everywhere:
            return sorted({*registry.projects(self.home).values()})
        return [self.project.path]


def _warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)
    click.echo("\nhint: dispatch up", err=True)
