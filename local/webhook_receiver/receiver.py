"""The HTTPS server that receives webhooks. Each connection has a thread."""

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from local.local_aws.local_authority import LocalAuthority

from .answers import AnswerPlan, send
from .received import ReceivedWebhook, problem_of

MAX_BODY_BYTES = 10_000_000
_PORT_ATTEMPTS = 20
_END_POLL_S = 0.05


class WebhookReceiver:
    """Receives, verifies and stores webhooks while its block runs, and answers as `answers` plans.

    `secret` is that of the host (`whsec_…`). It can be replaced while the receiver runs. None: nothing is verified.
    """

    def __init__(
        self,
        authority: LocalAuthority,
        *,
        secret: str | None = None,
        host: str = "localhost",
        port: int = 0,
        certificate_name: str | None = None,
        tls: bool = True,
    ) -> None:
        """Prepare a receiver at `localhost` or at a loopback address. Port 0: a free port.

        Its certificate is for `certificate_name`, by default for the host and its addresses. Without `tls` it speaks
        HTTP. Raises ValueError for another host.
        """
        self._addresses = _addresses_of(host)
        self.host = host if host == "localhost" else self._addresses[0]
        self.port = port
        self.secret = secret
        self.answers = AnswerPlan()
        names = [certificate_name] if certificate_name else [self.host, *self._addresses]
        self._context = authority.server_context(*dict.fromkeys(names)) if tls else None
        self._servers: list[_Server] = []
        self._received: list[ReceivedWebhook] = []
        self._connections = 0
        self._arrived = threading.Condition()

    def __enter__(self) -> Self:
        """Start the server."""
        self._servers = self._bind()
        self.port = self._servers[0].port
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections, and wait until each thread has ended."""
        for server in self._servers:
            server.stop()
        self._servers.clear()

    @property
    def url(self) -> str:
        """The URL of the receiver, with the path `/`."""
        return self.url_of("/")

    def url_of(self, target: str) -> str:
        """Return the URL of a path with query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{target}"

    @property
    def requests(self) -> list[ReceivedWebhook]:
        """All received requests, oldest first."""
        with self._arrived:
            return list(self._received)

    @property
    def connections(self) -> int:
        """The number of accepted connections, also of those without a request."""
        with self._arrived:
            return self._connections

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[ReceivedWebhook]:
        """Wait until `count` requests have been received, and return all of them. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._received) >= count, timeout_s):
                raise TimeoutError(f"{len(self._received)} of {count} webhooks after {timeout_s:.0f} s")
            return list(self._received)

    def count_connection(self) -> None:
        """Count an accepted connection. Called by the server."""
        with self._arrived:
            self._connections += 1

    def receive(self, method: str, target: str, headers: dict[str, str], body: bytes) -> ReceivedWebhook:
        """Verify and store a request, and decide the answer. Called by the server."""
        problem = problem_of(method, headers, body, self.secret)
        answer = self.answers.take(target, headers.get("webhook-id", ""))
        webhook = ReceivedWebhook(time.time(), method, target, headers, body, problem, answer)
        with self._arrived:
            self._received.append(webhook)
            self._arrived.notify_all()
        return webhook

    def _bind(self) -> "list[_Server]":
        """Return a server for each address of the host, all with the same port."""
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            servers: list[_Server] = []
            try:
                for address in self._addresses:
                    port = servers[0].port if servers else self.port
                    servers.append(_Server(address, port, self, self._context))
            except OSError:
                for server in servers:
                    server.server_close()
                if self.port or attempt == _PORT_ATTEMPTS:
                    raise
            else:
                return servers
        raise AssertionError("unreachable")


class _Server(socketserver.ThreadingTCPServer):
    """Accepts connections at one address."""

    allow_reuse_address = True
    request_queue_size = 1024
    daemon_threads = False  # server_close waits for the threads

    def __init__(
        self, address: str, port: int, receiver: WebhookReceiver, context: ssl.SSLContext | None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.receiver = receiver
        self.stopping = threading.Event()
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((address, port), _Connection)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_END_POLL_S,), name="webhook receiver"
        )

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.stopping.set()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    # Ends a blocked read. The method of SSLSocket would also change its state, which its thread uses.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.receiver.count_connection()
        if self._context:
            # The handshake takes place in the thread of the connection.
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may reject the certificate, send anything, or close the connection at any time.
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    """Reads one request and answers it."""

    server: _Server
    connection: socket.socket

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def __getattr__(self, name: str) -> Any:
        """Handle every method of HTTP in the same way."""
        if name.startswith("do_"):
            return self._receive
        raise AttributeError(name)

    def _receive(self) -> None:
        self.close_connection = True
        size_bytes = int(self.headers.get("Content-Length", "0"))
        if not 0 <= size_bytes <= MAX_BODY_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(size_bytes)
        if len(body) < size_bytes:
            return
        webhook = self.server.receiver.receive(self.command, self.path, dict(self._joined_headers()), body)
        send(webhook.answer, self.connection, self.server.stopping)

    def _joined_headers(self) -> Iterator[tuple[str, str]]:
        for name in dict.fromkeys(name.lower() for name in self.headers):
            yield name, ", ".join(self.headers.get_all(name, []))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
        pass


def _addresses_of(host: str) -> list[str]:
    """Return the addresses of a loopback host. `localhost` has one of IPv4 and, if the machine has it, one of IPv6."""
    if host == "localhost":
        return ["127.0.0.1", "::1"] if _can_bind("::1") else ["127.0.0.1"]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ValueError(f"{host!r} is neither localhost nor a loopback address such as 127.0.0.2")
    return [str(address)]


def _can_bind(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
