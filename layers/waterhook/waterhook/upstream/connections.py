"""Connections to the upstream's host on which every socket operation ends by a deadline."""

import http.client
import io
import logging
import math
import socket
import ssl
import time
from collections.abc import Buffer
from functools import cache
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

# urllib3 logs headers that it can't parse, and an upstream may echo the key in one.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

# Status line and headers of an answer, its interim answers included. A usual answer has 1 to 2 KB of them.
MAX_HEAD_BYTES = 128 * 1024
MAX_INTERIM_ANSWERS = 20
# Bytes sent between two checks of the deadline; also the size of the largest TLS record.
_PIECE_BYTES = 16 * 1024


class NotConnectedError(Exception):
    """Raised when no connection comes about, so that nothing was sent."""


class DeadlineSocket:
    """A connected socket, plain or TLS, on which a call ends at a deadline and receives a limited number of bytes.

    A socket's own timeout starts anew with every byte. Here each operation waits for the timeout or for the rest of
    the call's time, whichever is shorter, and raises TimeoutError.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self._sock = sock
        self._timeout_s = sock.gettimeout()
        self._ends_at = math.inf
        self._bytes_left = MAX_HEAD_BYTES
        self.received_bytes = 0
        """Bytes of the current call's answer."""
        self.has_leftover = False
        """Whether bytes arrived that belong to no answer."""

    def begin_call(self, ends_at: float) -> None:
        """Set the deadline, on the monotonic clock, of the next request and its answer."""
        self._ends_at = ends_at
        self._bytes_left = MAX_HEAD_BYTES
        self.received_bytes = 0

    def allow(self, body_bytes: int) -> None:
        """Limit what may follow the head of the answer: its body, and chunk sizes and trailers around it."""
        # A body in chunks of one byte arrives as six times its size.
        self._bytes_left = MAX_HEAD_BYTES + 8 * body_bytes

    @property
    def is_drained(self) -> bool:
        """Whether no byte is left over, decrypted ones included: those never make the socket readable."""
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return not self.has_leftover and not pending

    def sendall(self, data: Buffer) -> None:
        """Send `data` in pieces, each within the time that is left."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            self._limit_wait()
            self._sock.sendall(view[start : start + _PIECE_BYTES])

    def receive_into(self, raw: io.RawIOBase, buffer: Buffer) -> int | None:
        """Read once from `raw`, the unbuffered file of this socket, within the time that is left."""
        if self._bytes_left <= 0:
            message = "the answer is larger than its limit"
            raise http.client.HTTPException(message)
        self._limit_wait()
        count: int | None = raw.readinto(buffer)
        self._bytes_left -= count or 0
        self.received_bytes += count or 0
        return count

    def _limit_wait(self) -> None:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            message = "the time of the call is over"
            raise TimeoutError(message)
        timeout_s = left_s if self._timeout_s is None else min(self._timeout_s, left_s)
        self._sock.settimeout(None if timeout_s == math.inf else timeout_s)

    # What http.client and urllib3 use of a socket.

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file to read the answer from."""
        return _AnswerFile(_AnswerBytes(self, self.hold()))

    def hold(self) -> io.RawIOBase:
        """Return an unbuffered file. The descriptor stays open until it is closed, even after `close`."""
        held: io.RawIOBase = self._sock.makefile("rb", buffering=0)
        return held

    def settimeout(self, timeout_s: float | None) -> None:
        """Set the longest wait for one byte."""
        self._timeout_s = timeout_s

    def fileno(self) -> int:
        """Return the descriptor, for `poll`."""
        return self._sock.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection, so that a thread that waits for it wakes. Of TLS, the socket underneath."""
        # SSLSocket's own method drops the TLS state first, and the waiting thread would read on in the clear.
        socket.socket.shutdown(self._sock, how)

    def close(self) -> None:
        """Close the socket once its files are closed."""
        self._sock.close()


class _AnswerBytes(io.RawIOBase):
    """The bytes of one answer as they arrive."""

    def __init__(self, sock: DeadlineSocket, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._has_ended = False
        self.socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        return 0 if self._has_ended else self.socket.receive_into(self._raw, buffer)

    def end(self) -> None:
        """Receive nothing more."""
        self._has_ended = True

    def close(self) -> None:
        self._raw.close()
        super().close()


class _AnswerFile(io.BufferedReader):
    """Reads ahead, as http.client expects it. It records whether it read beyond the end of the answer."""

    raw: _AnswerBytes

    def close(self) -> None:
        # http.client closes it after the last byte of the body.
        if not self.closed:
            self.raw.end()
            if self.peek(1):
                self.raw.socket.has_leftover = True
        super().close()


class _FinalAnswer(http.client.HTTPResponse):
    """Skips every interim answer; http.client itself skips only 100."""

    def begin(self) -> None:
        super().begin()
        for _ in range(MAX_INTERIM_ANSWERS):
            if not 100 <= self.status < 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:  # noqa: PLR2004
                return
            self.headers = None  # type: ignore[assignment]  # what `begin` takes for "not read yet"
            super().begin()
        message = f"more than {MAX_INTERIM_ANSWERS} interim answers"
        raise http.client.HTTPException(message)


class _WithDeadline:
    """Adds the deadline to either of urllib3's connections. Its `connect` raises NotConnectedError and nothing else."""

    response_class: Any = _FinalAnswer
    host: str
    port: int
    socket_options: Any
    sock: Any
    timeout: Any
    ends_at = math.inf
    """On the monotonic clock, for `connect`."""
    opened: DeadlineSocket
    """The socket. `sock` is None as soon as an answer ends the connection (`Connection: close`)."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # defined by the class behind the mixin
            self._left_s()
        except Exception as error:
            self.close()
            raise NotConnectedError(str(error)) from error
        self.sock = self.opened = DeadlineSocket(self.sock)

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # defined by the class behind the mixin

    def _new_conn(self) -> socket.socket:
        # urllib3's SOCKS connection replaces the same method. The original gives each address of the host the
        # whole timeout, so that a host with eight addresses may take eight times as long.
        failure: Exception = OSError("the host has no address")
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                sock = urllib3.util.connection.create_connection(
                    (str(address[0]), int(address[1])), self._left_s(), socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
            else:
                sock.settimeout(self._left_s())  # of the TLS handshake
                return sock
        raise failure

    def _left_s(self) -> float:
        left_s = self.ends_at - time.monotonic()
        if left_s <= 0:
            message = "no time was left to connect"
            raise TimeoutError(message)
        return min(float(self.timeout), left_s)


class _PlainConnection(_WithDeadline, HTTPConnection):
    pass


class _TLSConnection(_WithDeadline, HTTPSConnection):
    pass


type Connection = _PlainConnection | _TLSConnection


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the one context of this process: reading the CA file anew costs more than a handshake."""
    return ssl.create_default_context()


def connection_to(base_url: str, timeout_s: float) -> Connection:
    """Return a connection to the host of `base_url`, not opened yet. `timeout_s` is the time to connect."""
    url = urllib3.util.parse_url(base_url)
    host = (url.host or "").strip("[]")
    if url.scheme == "https":
        return _TLSConnection(host, url.port, timeout=timeout_s, ssl_context=shared_ssl_context())
    return _PlainConnection(host, url.port, timeout=timeout_s)
