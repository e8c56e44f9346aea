"""The HTTP server behind which a scripted model sits, on loopback; it speaks the APIs of both CLIs."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents import anthropic_api, openai_api
from tests.agents.script import Model, Refuse

EVENTS, JSON = "text/event-stream", "application/json"


class Server(ThreadingHTTPServer):
    """Listens on a port of its own from the start."""

    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        # codex tries a WebSocket first; told that there is none, it takes plain requests at once.
        self._answer(426 if self.headers.get("upgrade") else 404, {})

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        match self.path.partition("?")[0]:
            case anthropic_api.PATH:
                self._anthropic(request, headers)
            case openai_api.PATH:
                self._openai(request, headers)
            case _:
                self._answer(404, {"error": {"message": f"no {self.path} here"}})

    def _anthropic(self, request: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        sent = anthropic_api.read(request, headers)
        turn = self.server.model.turn(sent)
        if isinstance(turn, Refuse):
            self._answer(turn.status, turn.body, turn.headers)
        else:
            self._answer(200, anthropic_api.events(turn, sent))

    def _openai(self, request: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        sent = openai_api.read(request, headers)
        turn = None if openai_api.waits_for(sent) is not None else self.server.model.turn(sent)
        if isinstance(turn, Refuse):
            self._answer(turn.status, turn.body, turn.headers)
        else:
            self._answer(200, openai_api.events(turn, sent, request))

    def _answer(
        self, status: int, body: bytes | Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", EVENTS if isinstance(body, bytes) else JSON)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a CLI that was ended meanwhile
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(model: Model) -> Iterator[str]:
    """The URL of a server for `model`."""
    server = Server(model)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="model-api", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
