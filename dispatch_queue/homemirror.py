"""The process that keeps this host's home copies up to date: one thread in a worker, or in a command that waits."""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from dispatch_queue import ids, keys, registry, taskdir
from dispatch_queue.binding import bind
from dispatch_queue.clock import SYSTEM
from dispatch_queue.errors import DispatchError
from dispatch_queue.locks import MIRROR, trying
from dispatch_queue.mirror import both, push_answers, settled
from dispatch_queue.record import Ref
from dispatch_queue.store import Listener, Store
from dispatch_queue.taskdir import TaskDir
from dispatch_queue.watching import Watch

log = logging.getLogger(__name__)

LISTEN_SECONDS = 1.0  # how soon a stop is noticed
RETRY_SECONDS = 1.0  # after Redis was away
LOOKS_AT_ONCE = 20  # some 10 ms, for which news waits


def _told(listener: Listener, *, wait: bool, within_seconds: float = 0.0) -> list[Ref]:
    """The tasks of all news that is there or comes in that time, each once; with `wait` the listener's own time."""
    found: dict[Ref, None] = {}
    ready = wait or listener.is_ready(within_seconds=within_seconds)
    while ready:
        news = listener.next()
        if news is not None:
            found[Ref.parse(news)] = None
        ready = listener.is_ready()
    return list(found)


class HomeMirror:
    """Mirrors the home copies of this host: hears news from Redis, and sees answers written by hand.

    Only while it holds the host's lock; a second worker of the host waits for it.
    """

    def __init__(self, store: Store, home: Path, *, host: str) -> None:
        self._store, self._home, self._host = store, home, host
        self._stop = threading.Event()
        self._known: dict[str, set[str]] = {}  # project → names of its tasks that were looked at
        self._listed: dict[str, tuple[int, bool]] = {}  # project → its folder's time, and whether listed twice at it
        self._asking: dict[Path, Ref] = {}  # ipc folder → the task with an open question
        self._failed: set[Ref] = set()  # tried again: a disk may be full only for a while
        self._watch = Watch(self._seen, name="home-watch")
        self._thread = threading.Thread(target=self._run, name="home-mirror", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=LISTEN_SECONDS * 3)
        self._watch.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with trying(self._home, MIRROR) as ours:
                    if ours:
                        self._mirror()
            except (DispatchError, OSError) as error:
                log.warning("the home mirror pauses: %s", error, extra={"action": "mirror_pause"})
            except Exception:  # without a mirror, nothing would come home any more
                log.exception("the home mirror goes on after an error of ours", extra={"action": "mirror_error"})
            self._stop.wait(RETRY_SECONDS)

    def _mirror(self) -> None:
        while not self._stop.is_set():
            try:
                listener = self._store.listen(keys.home_channel(self._host), timeout_seconds=LISTEN_SECONDS)
                try:
                    self._listen(listener)
                finally:
                    listener.close()
            except (DispatchError, OSError, ValueError) as error:
                log.warning("the home mirror pauses: %s", error, extra={"action": "mirror_pause"})
                self._stop.wait(RETRY_SECONDS)

    def _listen(self, listener: Listener) -> None:
        """Look at each task that there is news of, and meanwhile, for half of the time at most, at all there are."""
        generation = self._store.generation()
        bind(self._home, self._store, generation)
        due, rest_seconds = deque(self._all()), 0.0
        while not self._stop.is_set():
            told = _told(listener, wait=not due, within_seconds=rest_seconds)
            for ref in told:
                self._look(ref)
            if due:
                begun = SYSTEM.monotonic()
                self._look_over([due.popleft() for _ in range(min(len(due), LOOKS_AT_ONCE))])
                rest_seconds = SYSTEM.monotonic() - begun
            elif not told:
                for ref in [*self._failed, *self._new()]:
                    self._look(ref)
                if self._store.generation() != generation:
                    log.warning("Redis lost its data; telling it again", extra={"action": "rebuild"})
                    generation = self._store.generation()
                    bind(self._home, self._store, generation)
                    due.extend(self._all())
        for ref in _told(listener, wait=False):  # what was told last is brought home
            self._look(ref)

    def _all(self) -> list[Ref]:
        self._known.clear()
        self._listed.clear()
        return self._new()

    def _new(self) -> list[Ref]:
        """Tasks not yet looked at: also those whose submit died before it told Redis."""
        new: list[Ref] = []
        for project_id, base in registry.projects(self._home).items():
            # A change in the moment of a listing may not change the folder's time again: so twice, a second apart.
            time, listed = taskdir.changed(base), self._listed.get(project_id, (0, False))
            if listed == (time, True):
                continue
            self._listed[project_id] = (time, time == listed[0])
            names, known = taskdir.known_names(base), self._known.get(project_id, set())
            new += [Ref(project_id, name) for name in names if name not in known and ids.is_id(name)]
            self._known[project_id] = {*names}
        return new

    def _look_over(self, refs: Iterable[Ref]) -> None:
        """Look at those of the tasks that have something to tell."""
        outlines = self._store.outlines([*refs])
        for ref in refs:
            home = self._home_of(ref)
            standing = settled(home, outlines.get(ref)) if home is not None else None
            if home is None or standing is None:
                self._look(ref)
            else:
                self._watch_for_answers(home, ref, asks=bool(standing.questions))

    def _look(self, ref: Ref) -> None:
        again = ref in self._failed
        self._failed.discard(ref)
        home = self._home_of(ref)
        if home is None or not home.exists():
            self._known.get(ref.project, set()).discard(ref.task)  # it may be in the making
            self._listed.pop(ref.project, None)
            return
        standing = both(self._store, home, ref, level=logging.DEBUG if again else logging.WARNING)
        if standing is None:
            self._failed.add(ref)
        self._watch_for_answers(home, ref, asks=standing is not None and bool(standing.questions))

    def _home_of(self, ref: Ref) -> TaskDir | None:
        base = registry.path_of(self._home, ref.project)
        return TaskDir(base, ref.task) if base is not None else None

    def _watch_for_answers(self, home: TaskDir, ref: Ref, *, asks: bool) -> None:
        folder = home.path / "ipc"
        if asks:
            self._asking[folder] = ref
            self._watch.add(folder)
        else:
            self._asking.pop(folder, None)
            self._watch.discard(folder)

    def _seen(self, folders: set[Path]) -> None:
        for folder in folders:
            ref = self._asking.get(folder)
            home = self._home_of(ref) if ref is not None else None
            if ref is not None and home is not None:
                try:
                    push_answers(self._store, home, ref, home.standing())
                except (DispatchError, OSError) as error:
                    log.warning("%s: no answers are sent: %s", ref, error, extra={"action": "push_failed"})
                    self._failed.add(ref)
