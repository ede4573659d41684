"""Loopback servers that answer at once: an answer is one write, so that no packet waits for another's receipt."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is answered with."""

    body: bytes
    headers: Mapping[str, str]
    status: int = 200


def json_answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a document as an answer."""
    return Answer(
        json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}, status
    )


class Server(ThreadingHTTPServer):
    """Answers with what a function says, and counts who connects."""

    daemon_threads = True
    block_on_close = False  # a child that is ended may leave its question open

    def __init__(self, answer: Callable[[Asked], Answer], tls: SSLContext | None = None) -> None:
        """Listen on a free loopback port, behind TLS if there is a context."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.connections = 0
        self._tls = tls

    @property
    def host(self) -> str:
        """Where it listens: address and port."""
        return f"127.0.0.1:{self.server_port}"

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]  # a TLS socket is a socket
        """Count a connection."""
        self.connections += 1
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        # The handshake is left to the connection's own thread.
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        # Those we end don't say goodbye.
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.answer(Asked(self.command, self.path, dict(self.headers), body))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer: Callable[[Asked], Answer], tls: SSLContext | None = None) -> Iterator[Server]:
    """Serve inside the block."""
    with Server(answer, tls) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
