"""How the receiver answers: HTTP responses and faults, and which request gets which."""

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import assert_never

_BLOCK = b" " * 65_536


class AnswerKind(StrEnum):
    """What the receiver does after it has read and stored a request."""

    RESPONSE = "response"
    """Send an HTTP response without body."""
    SLOW = "slow"
    """Wait `seconds`, then send 200."""
    DRIP = "drip"
    """Send 200, one byte each `seconds`."""
    HANG = "hang"
    """Send nothing until the client closes the connection."""
    CLOSE = "close"
    """Close the connection."""
    RESET = "reset"
    """Close the connection with a TCP reset."""
    GARBAGE = "garbage"
    """Send bytes that are not HTTP, and close the connection."""
    HUGE = "huge"
    """Send 200 with a body of `size_bytes`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `code` and `headers` apply to RESPONSE only."""

    kind: AnswerKind
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    size_bytes: int = 0


OK = Answer(AnswerKind.RESPONSE)
GONE = Answer(AnswerKind.RESPONSE, 410)
HANG = Answer(AnswerKind.HANG)
CLOSE = Answer(AnswerKind.CLOSE)
RESET = Answer(AnswerKind.RESET)
GARBAGE = Answer(AnswerKind.GARBAGE)


def status(code: int, *, retry_after: str | int | None = None) -> Answer:
    """Return an HTTP response. `retry_after`: seconds or an HTTP date."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(AnswerKind.RESPONSE, code, headers)


def redirect(url: str, code: int = 307) -> Answer:
    """Return a redirect to `url`. With 307 and 308 a client would repeat the POST."""
    return Answer(AnswerKind.RESPONSE, code, {"Location": url})


def slow(seconds: float) -> Answer:
    """Return a 200 that is sent after `seconds`."""
    return Answer(AnswerKind.SLOW, seconds=seconds)


def drip(interval_s: float = 1.0) -> Answer:
    """Return a 200 that is sent one byte per `interval_s`."""
    return Answer(AnswerKind.DRIP, seconds=interval_s)


def huge(size_bytes: int = 100_000_000) -> Answer:
    """Return a 200 with a body of `size_bytes`."""
    return Answer(AnswerKind.HUGE, size_bytes=size_bytes)


class AnswerPlan:
    """Decides the answer to each request; 200 without a rule. Thread-safe.

    A rule for a webhook-id has precedence over one for a path, and both over the answers to the next requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: deque[Answer] = deque()
        self._by_path: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._by_webhook: defaultdict[str, deque[Answer]] = defaultdict(deque)

    def next(self, *answers: Answer) -> None:
        """Use each answer for one request. Later requests get a 200 again."""
        with self._lock:
            self._next.extend(answers)

    def for_path(self, path: str, *answers: Answer) -> None:
        """Use these answers for the next requests to a path, and the last one for all that follow.

        Replaces the rule of the path. Without an answer, the path has no rule. A query is not part of the path.
        """
        with self._lock:
            self._by_path[path] = deque(answers)

    def for_webhook(self, webhook_id: str, *answers: Answer) -> None:
        """Use these answers for the next requests with a webhook-id, and the last one for all that follow."""
        with self._lock:
            self._by_webhook[webhook_id] = deque(answers)

    def take(self, target: str, webhook_id: str) -> Answer:
        """Return the answer to a request, by its path with query and its webhook-id."""
        with self._lock:
            for rule in (self._by_webhook.get(webhook_id), self._by_path.get(target.partition("?")[0])):
                if rule:
                    return rule.popleft() if len(rule) > 1 else rule[0]
            return self._next.popleft() if self._next else OK


def send(answer: Answer, connection: socket.socket, stopping: threading.Event) -> None:
    """Answer on a connection, which the caller closes.

    Raises OSError if the connection is closed first. `stopping` ends the wait of a slow answer.
    """
    match answer.kind:
        case AnswerKind.RESPONSE:
            connection.sendall(_head(answer.code, answer.headers))
        case AnswerKind.SLOW:
            stopping.wait(answer.seconds)
            connection.sendall(_head(200))
        case AnswerKind.DRIP:
            _drip(connection, answer.seconds, stopping)
        case AnswerKind.HANG:
            _wait_for_close(connection)
        case AnswerKind.CLOSE:
            pass
        case AnswerKind.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case AnswerKind.GARBAGE:
            connection.sendall(b"\x00\xff\x16\x03 not HTTP\r\n\r\n" * 20)
        case AnswerKind.HUGE:
            _send_body(connection, answer.size_bytes)
        case _:
            assert_never(answer.kind)


def _drip(connection: socket.socket, interval_s: float, stopping: threading.Event) -> None:
    for byte in _head(200):
        connection.sendall(bytes([byte]))
        if stopping.wait(interval_s):
            return


def _wait_for_close(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


def _send_body(connection: socket.socket, size_bytes: int) -> None:
    connection.sendall(_head(200, size_bytes=size_bytes))
    for sent in range(0, size_bytes, len(_BLOCK)):
        connection.sendall(_BLOCK[: size_bytes - sent])


def _head(code: int, headers: Mapping[str, str] | None = None, size_bytes: int = 0) -> bytes:
    phrase = HTTPStatus(code).phrase if code in {entry.value for entry in HTTPStatus} else "Unassigned"
    lines = {**(headers or {}), "Content-Length": str(size_bytes), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {code} {phrase}\r\n{head}\r\n".encode("latin-1")
