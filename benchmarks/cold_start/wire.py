"""Loopback HTTP servers without delay. A response is one write, so no packet waits for an acknowledgement."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    body: bytes
    headers: Mapping[str, str]
    status: int = 200


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    return Response(
        json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}, status
    )


class Server(ThreadingHTTPServer):
    """An HTTP server that responds with a function and counts its connections."""

    daemon_threads = True
    block_on_close = False  # an ended process may leave a request open

    def __init__(self, respond: Callable[[Request], Response], tls: SSLContext | None = None) -> None:
        """Listen on a free loopback port, with TLS if `tls` is set."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.connections = 0
        self._tls = tls

    @property
    def host(self) -> str:
        """Address and port of the server."""
        return f"127.0.0.1:{self.server_port}"

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]  # a TLS socket is a socket
        """Accept and count a connection."""
        self.connections += 1
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        # The thread of the connection does the handshake.
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        # An ended process does not close its connection.
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        response = self.server.respond(Request(self.command, self.path, dict(self.headers), body))
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving(respond: Callable[[Request], Response], tls: SSLContext | None = None) -> Iterator[Server]:
    """Serve while the block runs."""
    with Server(respond, tls) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
