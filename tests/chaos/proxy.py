"""A link to a server that can become half-open: it stays connected, and nothing comes through any more."""

import contextlib
import selectors
import socket
import threading
from pathlib import Path

READ_BYTES = 65536


class Proxy:
    """Listens at `path` and forwards to `server`, both Unix sockets."""

    def __init__(self, path: Path, server: Path) -> None:
        self.url = f"unix://{path}?db=0"
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(100)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._dead: list[socket.socket] = []
        self._lock = threading.Lock()
        self._refuses_new = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self, *, new_ones: bool = False) -> None:
        """Forward nothing more of the links there are; with `new_ones`, nor of those to come, until `heal`."""
        with self._lock:
            self._refuses_new = new_ones
            for link in self._other:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(link)
                self._dead.append(link)
            self._other.clear()

    def heal(self) -> None:
        """Let new links through. Those that were cut stay as they are."""
        with self._lock:
            self._refuses_new = False

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for link in [*self._other, *self._dead, self._listener]:
            link.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._other:
                        self._forward(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._refuses_new:
            self._dead.append(client)
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._server))
        except OSError:
            server.close()
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            self._other[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, link: socket.socket) -> None:
        other = self._other[link]
        try:
            data = link.recv(READ_BYTES)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for one in (link, other):
            self._selector.unregister(one)
            del self._other[one]
            one.close()
