"""Which Redis has the tasks of this host: one at a time, for two would each run all of them."""

from pathlib import Path

from dispatch_queue import files
from dispatch_queue.errors import DispatchError, UntrustedPath
from dispatch_queue.home import run_folder
from dispatch_queue.locks import MIRROR, is_held
from dispatch_queue.store import Store

NOTE = "mirror.redis"  # in the run folder: the Redis of the process that holds the lock MIRROR
_NOTE_LIMIT_BYTES = 8192


class OtherRedis(DispatchError):
    """The tasks of this host are in another Redis now."""

    def __init__(self, url: str) -> None:
        self.url = url
        hint = "end what runs there (`dispatch down`, or its workers), or set DISPATCH_HOME to another folder here"
        super().__init__(f"a worker or a command of this DISPATCH_HOME uses another Redis now, {url}", hint=hint)


def bind(home: Path, store: Store, generation: str) -> None:
    """Note that the home copies of this host go by `store`. The caller holds the lock MIRROR. Raises OSError."""
    files.write(run_folder(home), NOTE, f"{generation} {store.shown}".encode(), mode=0o600)


def check(home: Path, store: Store) -> None:
    """Raises OtherRedis if the home copies of this host go by another Redis now, StoreDown."""
    if not (home / "run").is_dir() or not is_held(home, MIRROR):
        return
    try:
        noted = files.read(home / "run", NOTE, limit_bytes=_NOTE_LIMIT_BYTES).decode(errors="replace")
    except (FileNotFoundError, UntrustedPath):
        return
    generation, _, url = noted.partition(" ")
    if url != store.shown and generation != store.generation():  # one server has many names
        raise OtherRedis(url)
