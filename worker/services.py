"""What runs beside the attempts in a worker process: store, heartbeat, file watch, news, home mirror."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue import keys, served
from dispatch_queue.clock import SYSTEM, Clock
from dispatch_queue.errors import StoreDown
from dispatch_queue.homemirror import LISTEN_SECONDS, RETRY_SECONDS, HomeMirror
from dispatch_queue.record import Ref
from dispatch_queue.states import State
from dispatch_queue.store import Store
from dispatch_queue.watching import Watch
from worker.heartbeat import Heartbeat
from worker.janitor import Janitor
from worker.reaper import Reaper
from worker.saver import Saver
from worker.settings import Settings
from worker.supervisor import Mailbox

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A claim this worker holds."""

    ref: Ref
    token: int
    slot: int
    mailbox: Mailbox


class Services:
    """Started when the worker is, closed when its last attempt has ended."""

    def __init__(
        self, settings: Settings, *, queues: list[str], slots: int | None = None, clock: Clock = SYSTEM
    ) -> None:
        self.settings, self.clock = settings, clock
        self.name = settings.name()
        self.store = Store(settings.redis_url)
        self.stopping = threading.Event()
        self._drain_until = float("inf")  # on the clock's monotonic time
        self.slots = slots or settings.slots
        self.queues = queues  # that are consumed
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._held: dict[Ref, Held] = {}
        self._watched: dict[Path, Mailbox] = {}
        self._reminded: set[Mailbox] = set()
        self._watch = Watch(self._files_changed, name="live-watch")
        self._mirror = HomeMirror(self.store, settings.home, host=settings.host)
        self._heartbeat = Heartbeat(
            self.store,
            self.name,
            claims=self.claims,
            facts=self._facts,
            lost=lambda ref: self._tell(ref, "news"),
            beaten=self._beaten,
        )
        self._reaper = Reaper(self.store, settings.home, host=settings.host, claims=self.claims, clock=clock)
        self.saver = Saver(clock)
        self._janitor = Janitor(self.store, settings, clock=clock)
        self._news = threading.Thread(target=self._listen, name="live-news", daemon=True)

    def start(self) -> None:
        self._news.start()
        self._mirror.start()
        self._heartbeat.start()
        self._reaper.start()
        self.saver.start()
        self._janitor.start()

    def renew(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        self.settings = self._janitor.settings = settings

    def stop(self, *, now: bool = False, drain_seconds: float | None = None) -> None:
        """No more claims; running agents get their time to end (`now`: none) and are given back.

        Called in a signal handler.
        """
        given = self.settings.drain_seconds if drain_seconds is None else drain_seconds
        self._drain_until = min(self._drain_until, self.clock.monotonic() + (0.0 if now else given))
        self.stopping.set()
        self._heartbeat.changed()
        with self._lock:
            held = list(self._held.values())
        for one in held:
            one.mailbox.tell("drain-now" if now else "drain")

    def drain_left(self) -> float:
        """The seconds that what runs here has until it is given back; infinite while the worker does not stop."""
        return max(0.0, self._drain_until - self.clock.monotonic())

    def close(self) -> None:
        """End the threads. What attempts published last is brought home first."""
        self.stopping.set()
        self._janitor.close()
        self._reaper.close()
        self.saver.close()
        self._heartbeat.close()
        self._closed.set()
        self._mirror.close()
        self._news.join(timeout=LISTEN_SECONDS * 3)
        self._watch.close()
        with contextlib.suppress(StoreDown):
            self.store.leave(self.name)
        self.store.close()

    def put_back(self, ref: Ref) -> None:
        """Send a ticket again that came while this worker is stopping."""
        record = self.store.record(ref)
        if record is not None and record.state is State.QUEUED:
            self.store.resend(ref, record.sent)

    def claims(self) -> dict[Ref, int]:
        """The claims held now: ref → token."""
        with self._lock:
            return {ref: held.token for ref, held in self._held.items()}

    @contextlib.contextmanager
    def holding(self, ref: Ref, token: int) -> Iterator[Held]:
        """A claim, for the time of its attempt: it gets a slot, a heartbeat and a mailbox."""
        with self._lock:
            used = {held.slot for held in self._held.values()}
            slot = next(number for number in range(len(used) + 1) if number not in used)
            held = self._held[ref] = Held(ref, token, slot, Mailbox())
        if self.stopping.is_set():
            held.mailbox.tell("drain")
        try:
            yield held
        finally:
            with self._lock:
                if self._held.get(ref) is held:  # else the next attempt is here already
                    del self._held[ref]
                self._reminded.discard(held.mailbox)
            held.mailbox.close()

    @contextlib.contextmanager
    def watching(self, mailbox: Mailbox, *folders: Path) -> Iterator[None]:
        """Tell `mailbox` of changes in these folders."""
        with self._lock:
            self._watched.update(dict.fromkeys(folders, mailbox))
            self._watch.set(self._watched)
        try:
            yield
        finally:
            with self._lock:
                for folder in folders:
                    if self._watched.get(folder) is mailbox:
                        del self._watched[folder]
                self._watch.set(self._watched)

    def remind(self, mailbox: Mailbox) -> None:
        """Wake this mailbox again when Redis answers."""
        with self._lock:
            self._reminded.add(mailbox)

    def wait_for_store(self) -> bool:
        """Wait a moment for Redis; False when the worker is to end first."""
        return not self._closed.wait(RETRY_SECONDS) and not (self.stopping.is_set() and not self._answers())

    def _answers(self) -> bool:
        try:
            self.store.ping()
        except StoreDown:
            return False
        return True

    def _facts(self) -> dict[str, str]:
        return {
            "host": self.settings.host,
            "queues": " ".join(self.queues),
            "slots": str(self.slots),
            "running": str(len(self.claims())),
            **({served.STOPPING: "1"} if self.stopping.is_set() else {}),
        }

    def _beaten(self) -> None:
        with self._lock:
            reminded, self._reminded = self._reminded, set()
        for mailbox in reminded:
            mailbox.tell("news")

    def _files_changed(self, folders: set[Path]) -> None:
        with self._lock:
            mailboxes = {self._watched[folder] for folder in folders if folder in self._watched}
        for mailbox in mailboxes:
            mailbox.tell("files")

    def _tell(self, ref: Ref, word: str) -> None:
        with self._lock:
            held = self._held.get(ref)
        if held is not None:
            held.mailbox.tell(word)

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                listener = self.store.listen(keys.live_channel(self.name), timeout_seconds=LISTEN_SECONDS)
                try:
                    for ref in self.claims():
                        self._tell(ref, "news")
                    while not self._closed.is_set():
                        said = listener.next()
                        if said is not None:
                            self._tell(Ref.parse(said), "news")
                finally:
                    listener.close()
            except (StoreDown, ValueError) as error:
                log.warning("news pauses: %s", error, extra={"action": "news_pause"})
                self._closed.wait(RETRY_SECONDS)
            except Exception:  # without news, no running agent would hear of an answer
                log.exception("news goes on after an error of ours", extra={"action": "news_error"})
                self._closed.wait(RETRY_SECONDS)
