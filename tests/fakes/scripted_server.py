"""HTTP server on the loopback interface with a script: one step for each request, which sends exact bytes."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """A request that the server received. Header names are lower case; `connection` counts from 1."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HangUpError(Exception):
    """Raised by a step to close the connection."""


type Step = Callable[[socket.socket], None]

EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def raw(content: bytes, *, close: bool = True) -> Step:
    """Send exactly these bytes."""

    def step(connection: socket.socket) -> None:
        connection.sendall(content)
        if close:
            raise HangUpError

    return step


def reply(
    status: int = 200,
    body: bytes | str | dict[str, Any] | list[Any] = b"{}",
    headers: dict[str, str] | None = None,
    *,
    length: int | None = None,
    close: bool = False,
) -> Step:
    """Send a complete response. `length` replaces the correct Content-Length."""
    content = (
        body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    all_headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})
    if length is not None:
        all_headers["Content-Length"] = str(length)
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Whatever"
    head = f"HTTP/1.1 {status} {phrase}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in all_headers.items()
    )
    return raw(head.encode() + b"\r\n" + content, close=close)


def chunked(*chunks: bytes, finish: bool = True) -> Step:
    """Send a JSON response in chunks, without the last one if it is not to `finish`."""
    content = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return raw(head + content + (b"0\r\n\r\n" if finish else b""), close=not finish)


def drip(content: bytes, delay_s: float, *, head: bytes = b"") -> Step:
    """Send `head`, then the content byte by byte with a delay after each."""

    def step(connection: socket.socket) -> None:
        connection.sendall(head)
        for value in content:
            connection.sendall(bytes([value]))
            time.sleep(delay_s)

    return step


def repeat(content: bytes, delay_s: float = 0.0) -> Step:
    """Send the content again and again until the client closes the connection."""

    def step(connection: socket.socket) -> None:
        while True:
            connection.sendall(content)
            time.sleep(delay_s)

    return step


def stall(seconds: float = 5.0) -> Step:
    """Send nothing until the client closes the connection, for `seconds` at most."""

    def step(connection: socket.socket) -> None:
        connection.settimeout(seconds)
        with suppress(OSError):
            while connection.recv(4096):
                pass
        raise HangUpError

    return step


def pause(seconds: float) -> Step:
    """Send nothing for a while."""
    return lambda _connection: time.sleep(seconds)


def sequence(*parts: bytes | Step, close: bool = True) -> Step:
    """Take several steps for one request. Bytes are sent as they are."""
    steps = [raw(part, close=False) if isinstance(part, bytes) else part for part in parts]

    def step(connection: socket.socket) -> None:
        for one in steps:
            one(connection)
        if close:
            raise HangUpError

    return step


def sse(*events: object) -> Step:
    """Send a comment and the events as an event stream, and end it."""
    return raw(EVENT_STREAM + b": ping\r\n\r\n" + b"".join(map(sse_event, events)))


def sse_event(event: object) -> bytes:
    """Return an event of an event stream with JSON as its data."""
    return f"data: {json.dumps(event)}\n\n".encode()


def hang_up(_connection: socket.socket) -> None:
    """Close the connection without a response."""
    raise HangUpError


def reset(connection: socket.socket) -> None:
    """Close the connection with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise HangUpError


@dataclass
class ScriptedServer:
    """Takes the next step of the script for each request; the last step is repeated."""

    steps: list[Step]
    streams: list[Step] | None = None
    """The script for requests of event streams, which may arrive between others."""
    before_reading: Step | None = None
    """The step for each new connection, before TLS and before its first request is read."""
    context: ssl.SSLContext | None = None
    """With a context the server speaks TLS."""
    route: Callable[[Request], list[Step]] | None = None
    """Returns the script for a request, instead of `steps` and `streams`."""
    port: int = 0
    """0 stands for any free port."""
    host: str = "127.0.0.1"
    """A loopback address, of IPv4 or IPv6."""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    """The number of connections that were accepted."""
    connection_closed: threading.Event = field(default_factory=threading.Event)
    """Set once a connection was closed by either side."""
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._server_socket = socket.create_server(
            (self.host, self.port), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET
        )
        self.port = self._server_socket.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.context else 'http'}://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread in accept() keeps the port open. The shutdown ends accept().
        with suppress(OSError):
            self._server_socket.shutdown(socket.SHUT_RDWR)
        self._server_socket.close()
        self._acceptor.join(5)
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server_socket.accept()
                with self._lock:
                    self.connections += 1
                    self._open.add(connection)
                    number = self.connections
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError, HangUpError, ValueError), connection:
            if self.before_reading:
                self.before_reading(connection)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while request := self._read(stream, number):
                    with self._lock:
                        self.requests.append(request)
                        steps = self._script_for(request)
                        step = steps.pop(0) if len(steps) > 1 else steps[0]
                    step(connection)
                    if request.headers.get("connection") == "close":
                        break
        self.connection_closed.set()

    def _script_for(self, request: Request) -> list[Step]:
        if self.route:
            return self.route(request)
        if self.streams and request.target.endswith("/stream"):
            return self.streams
        return self.steps

    @staticmethod
    def _read(stream: Any, number: int) -> Request | None:
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        method, target, version = line
        headers: dict[str, str] = {}
        while (header := stream.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        return Request(method, target, version, headers, body, number)


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a loopback port that refuses connections: it is bound, but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
