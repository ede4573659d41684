"""HTTP connections on top of urllib3. Each socket operation ends at the deadline of its call."""

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

# urllib3 logs headers that it can't parse, with the path. They may contain the API key, and the path a token.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

# Limit for the status line and headers of a response, with its interim responses. Usual responses have 1 to 2 KB.
MAX_HEAD_BYTES = 128 * 1024
MAX_INTERIM_ANSWERS = 20
# Bytes that are sent between two checks of the deadline. Also the size of the largest TLS record.
_PIECE_BYTES = 16 * 1024


# Exceptions of urllib3, of http.client and of sockets.
CONNECTION_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class NotConnectedError(Exception):
    """No connection was established, so nothing was sent."""


class DeadlineSocket:
    """A connected socket, plain or TLS, with a deadline and a limit of received bytes for each call.

    The timeout of a plain socket restarts with every byte. Here each operation waits for the timeout or for the
    remaining time of the call, whichever is shorter, and raises TimeoutError.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Use a connected socket."""
        self._sock = sock
        self._timeout_s = sock.gettimeout()
        self._ends_at = math.inf
        self._bytes_left = MAX_HEAD_BYTES
        self.received_bytes = 0
        """Bytes received in the current call."""
        self.has_leftover = False
        """Bytes arrived that belong to no response."""

    def begin_call(self, ends_at: float) -> None:
        """Begin a request. `ends_at` is the deadline of the request and its response, on the monotonic clock."""
        self._ends_at = ends_at
        self._bytes_left = MAX_HEAD_BYTES
        self.received_bytes = 0

    def allow(self, body_bytes: int) -> None:
        """Limit the bytes after the headers: the body with its chunk sizes and trailers."""
        # A body in chunks of one byte has six times its size.
        self._bytes_left = MAX_HEAD_BYTES + 8 * body_bytes

    @property
    def is_drained(self) -> bool:
        """Whether no byte is left, including decrypted bytes, which do not make the socket readable."""
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return not self.has_leftover and not pending

    def sendall(self, data: Buffer) -> None:
        """Send `data` in pieces, each within the remaining time."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            self._limit_wait()
            self._sock.sendall(view[start : start + _PIECE_BYTES])

    def receive_into(self, raw: io.RawIOBase, buffer: Buffer) -> int | None:
        """Read once from `raw`, the unbuffered file of this socket, within the remaining time."""
        if self._bytes_left <= 0:
            message = "the response is larger than its limit"
            raise http.client.HTTPException(message)
        self._limit_wait()
        count: int | None = raw.readinto(buffer)
        self._bytes_left -= count or 0
        self.received_bytes += count or 0
        return count

    def _limit_wait(self) -> None:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            message = "the call reached its deadline"
            raise TimeoutError(message)
        timeout_s = left_s if self._timeout_s is None else min(self._timeout_s, left_s)
        self._sock.settimeout(None if timeout_s == math.inf else timeout_s)

    # The methods of a socket that http.client and urllib3 use.

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file to read the response from."""
        return _ResponseFile(_ResponseBytes(self, self.open_file()))

    def open_file(self) -> io.RawIOBase:
        """Return an unbuffered file. Until it is closed the descriptor stays open, even after `close`."""
        file: io.RawIOBase = self._sock.makefile("rb", buffering=0)
        return file

    def settimeout(self, timeout_s: float | None) -> None:
        """Set the maximum wait for one byte, in seconds."""
        self._timeout_s = timeout_s

    def fileno(self) -> int:
        """Return the descriptor, for `poll`."""
        return self._sock.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection, so that a thread that waits for it wakes up."""
        # SSLSocket.shutdown drops the TLS state first, and the waiting thread would then read encrypted bytes as text.
        socket.socket.shutdown(self._sock, how)

    def close(self) -> None:
        """Close the socket once its files are closed."""
        self._sock.close()


class _ResponseBytes(io.RawIOBase):
    """The bytes of one response as they arrive."""

    def __init__(self, sock: DeadlineSocket, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._has_ended = False
        self.socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        return 0 if self._has_ended else self.socket.receive_into(self._raw, buffer)

    def end(self) -> None:
        """Return the end of the file from now on."""
        self._has_ended = True

    def close(self) -> None:
        self._raw.close()
        super().close()


class _ResponseFile(io.BufferedReader):
    """Buffered reader, as http.client expects it. It records whether bytes follow the end of the response."""

    raw: _ResponseBytes

    def close(self) -> None:
        # http.client closes this file after the last byte of the body.
        if not self.closed:
            self.raw.end()
            if self.peek(1):
                self.raw.socket.has_leftover = True
        super().close()


class _FinalResponse(http.client.HTTPResponse):
    """Skips every interim response. http.client itself skips only 100."""

    def begin(self) -> None:
        super().begin()
        for _ in range(MAX_INTERIM_ANSWERS):
            if not 100 <= self.status < 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:  # noqa: PLR2004
                return
            self.headers = None  # type: ignore[assignment]  # `begin` then reads the next response
            super().begin()
        message = f"more than {MAX_INTERIM_ANSWERS} interim responses"
        raise http.client.HTTPException(message)


class _DeadlineMixin:
    """Adds the deadline to both of urllib3's connection classes. `connect` raises only NotConnectedError."""

    response_class: Any = _FinalResponse
    host: str
    port: int
    socket_options: Any
    sock: Any
    timeout: Any
    ends_at = math.inf
    """Deadline for `connect`, on the monotonic clock."""
    opened: DeadlineSocket
    """The socket. `sock` is None as soon as a response ends the connection (`Connection: close`)."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # defined by urllib3's class
            self._left_s()
        except Exception as error:
            self.close()
            raise NotConnectedError(str(error)) from error
        self.sock = self.opened = DeadlineSocket(self.sock)

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # defined by urllib3's class

    def _new_conn(self) -> socket.socket:
        # urllib3's SOCKS connection overrides this method too. The original gives each address of the host the whole
        # timeout, so a host with eight addresses could take eight times as long.
        failure: Exception = OSError("the host has no address")
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                sock = urllib3.util.connection.create_connection(
                    (str(address[0]), int(address[1])), self._left_s(), socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
            else:
                sock.settimeout(self._left_s())  # for the TLS handshake
                return sock
        raise failure

    def _left_s(self) -> float:
        left_s = self.ends_at - time.monotonic()
        if left_s <= 0:
            message = "the deadline passed before a connection was established"
            raise TimeoutError(message)
        return min(float(self.timeout), left_s)


class PlainConnection(_DeadlineMixin, HTTPConnection):
    """Connection without TLS."""


class TLSConnection(_DeadlineMixin, HTTPSConnection):
    """Connection with TLS."""


type Connection = PlainConnection | TLSConnection


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the SSL context of this process. Reading the CA file takes longer than a TLS handshake."""
    return ssl.create_default_context()


def send_request(
    connection: Connection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    """Send a request. Return early if the server has answered or closed before all of it was sent."""
    try:
        connection.request(method, path, body, headers, preload_content=False)
    except (BrokenPipeError, ConnectionResetError):
        # The server may have answered before it closed the connection, so the caller reads the response.
        pass
    except TimeoutError:
        # The server stopped reading. It may have sent a refusal, for example because the body is too large.
        if connection.is_connected:
            raise


def is_timeout(error: BaseException) -> bool:
    """Return whether no byte arrived within the timeout, or the time of the call was over."""
    return isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))
