"""HTTP calls to one host: one attempt per call, and errors that show whether the call may have been carried out.

A reused connection may already be closed by the server. A POST or DELETE on it would fail without showing whether it
was received, so both always use a new connection. Only a GET is sent a second time.
"""

import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from weakref import finalize

import urllib3

from waterhook.deadline_connection import (
    CONNECTION_ERRORS,
    Connection,
    NotConnectedError,
    PlainConnection,
    TLSConnection,
    is_timeout,
    send_request,
    shared_ssl_context,
)
from waterhook.errors import PerhapsAcceptedError, UpstreamError, UpstreamUnavailableError
from waterhook.text import clip
from waterhook.upstream.key_redaction import KeyRedactor
from waterhook.upstream.request_headers import request_headers
from waterhook.upstream.responses import (
    MAX_RESPONSE_BYTES,
    BodyShortener,
    Response,
    encoding_fault,
    error_from_response,
    is_success,
    read_response,
    retry_after_s,
    unusable_response,
)

# Servers and networks drop idle connections after a minute or more, some of them without closing them.
MAX_IDLE_S = 55.0
_PIECE_BYTES = 16 * 1024


class KeySource(Protocol):
    """Provides the API key."""

    def get(self) -> str:
        """Return the key."""

    def refresh(self) -> bool:
        """Read the key again after a 401. Return whether it has changed."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One attempt. `ends_at` is on the monotonic clock, `limit_bytes` limits the body of the response.

    With `shorten`, a larger body is shortened, and a response that breaks off is returned with the bytes before.
    """

    method: str
    path: str
    body: bytes | None
    key: str
    ends_at: float
    limit_bytes: int
    shorten: BodyShortener | None

    @property
    def may_repeat(self) -> bool:
        """Whether the request changes nothing upstream. Only such a request uses a kept connection."""
        return self.method == "GET"

    @property
    def headers(self) -> dict[str, str]:
        headers = request_headers(self.key, "application/json")
        if self.body is not None:
            headers |= {"Content-Type": "application/json"}
        if not self.may_repeat:
            headers |= {"Connection": "close"}
        return headers


class _ClosedWhileIdleError(Exception):
    """A kept connection broke before a byte of the response arrived."""


class Transport:
    """Calls to one host, and streams from it. One instance can be used for the life of a container.

    A connection is kept for the next call only if no byte of a response can be left on it: the response was final, was
    read to its end, and could be used.
    """

    def __init__(
        self, base_url: str, key: KeySource, *, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        """Open no connection yet. The key is sent only to the host of `base_url`; redirects are not followed."""
        self._base_url = base_url
        self._key = key
        self._redactor = KeyRedactor()
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._kept: list[tuple[Connection, float]] = []
        finalize(self, _close_all, self._kept)

    def call[T](
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        read: Callable[[Response], T],
        budget_s: float,
        limit_bytes: int = MAX_RESPONSE_BYTES,
        shorten: BodyShortener | None = None,
    ) -> T:
        """Return the result of `read` for a successful response. Only a rotated key causes a second attempt.

        Reads at most `limit_bytes` of the response and ends within `budget_s`. With `shorten`, `read` may get a
        response that broke off, see `read_response`. Raises UpstreamError for a response that is no success; `read`
        raises it for an unusable success. The connection is then closed.
        """
        ends_at = time.monotonic() + budget_s
        is_second = False
        while True:
            key = self._key.get()
            self._redactor.add_key(key)
            request = _Request(method, path, body, key, ends_at, limit_bytes, shorten)
            with self._exchange(request) as response:
                if response.is_success:
                    try:
                        if response.fault is not None:
                            raise unusable_response(response.status, response.fault)
                        return read(response)
                    except UpstreamError as error:
                        error.retry_after_s = retry_after_s(response)
                        raise
            if response.status != HTTPStatus.UNAUTHORIZED or is_second or not self._key.refresh():
                raise error_from_response(response)
            if time.monotonic() >= ends_at:
                message = "HTTP 401; the key in the secret has changed, but there was no time to use it"
                raise UpstreamUnavailableError("unavailable", message, status=response.status)
            is_second = True

    def open_stream(
        self, path: str, media_type: str, *, ends_at: float, idle_timeout_s: float, limit_bytes: int
    ) -> "ByteStream":
        """Return a stream with an open connection. Its request is not sent yet.

        Raises UpstreamUnavailableError if no connection is established.
        """
        key = self._key.get()
        self._redactor.add_key(key)
        connection = self._connect(ends_at)
        connection.timeout = idle_timeout_s
        headers = request_headers(key, media_type) | {"Cache-Control": "no-cache"}
        return ByteStream(connection, path, headers, self._redactor, media_type, ends_at, limit_bytes)

    @contextmanager
    def _exchange(self, request: _Request) -> Iterator[Response]:
        """Yield the response. Keep the connection if it can be reused and the block raises nothing."""
        connection, response = self._attempt(request)
        is_kept = False
        try:
            yield response
            is_kept = (
                request.may_repeat and response.is_whole and connection.opened.is_drained and not self._kept
            )
        finally:
            if is_kept:
                self._kept.append((connection, time.monotonic()))
            else:
                connection.close()

    def _attempt(self, request: _Request) -> tuple[Connection, Response]:
        """Return the response and its connection: the kept one, or a new one.

        A GET is repeated on a new connection if the kept one turns out to be closed. POST and DELETE are not: the
        response to a second DELETE would not show whether the first one cancelled the job.
        """
        if request.may_repeat and (kept := self._take_kept()) is not None:
            try:
                response = self._send(kept, request, is_kept=True)
            except _ClosedWhileIdleError as error:
                first_error: UpstreamError = no_answer(error.__cause__)
            else:
                if response.status != HTTPStatus.REQUEST_TIMEOUT:
                    return kept, response
                # Some servers send 408 on a connection that was idle for too long, instead of closing it.
                kept.close()
                first_error = error_from_response(response)
            if time.monotonic() >= request.ends_at:
                raise first_error
        connection = self._connect(request.ends_at)
        return connection, self._send(connection, request)

    def _send(self, connection: Connection, request: _Request, *, is_kept: bool = False) -> Response:
        """Send one request and read its response. Close the connection if it breaks."""
        status = None
        connection.timeout = self._read_timeout_s
        connection.opened.begin_call(request.ends_at)
        try:
            send_request(connection, request.method, request.path, request.body, request.headers)
            with closing(connection.getresponse()) as response:
                status = response.status
                limit_bytes, shorten = request.limit_bytes, request.shorten
                if not is_success(status):
                    limit_bytes, shorten = MAX_RESPONSE_BYTES, None
                connection.opened.allow(limit_bytes)
                return read_response(response, limit_bytes, self._redactor, shorten)
        except CONNECTION_ERRORS as error:
            received_bytes = connection.opened.received_bytes
            connection.close()
            if is_kept and not received_bytes and not isinstance(error, TimeoutError):
                raise _ClosedWhileIdleError from error
            raise no_answer(error, status) from error
        except BaseException:
            connection.close()
            raise

    def _take_kept(self) -> Connection | None:
        with suppress(IndexError):
            connection, since = self._kept.pop()
            # `is_connected` is false if the server has closed the connection or has sent unexpected bytes.
            if time.monotonic() - since < MAX_IDLE_S and connection.is_connected:
                return connection
            connection.close()
        return None

    def _connect(self, ends_at: float) -> Connection:
        connection = _connection_to(self._base_url, self._connect_timeout_s)
        connection.ends_at = ends_at
        try:
            connection.connect()
        except NotConnectedError as error:
            why = clip(self._redactor.redact_text(str(error)), 300)
            raise UpstreamUnavailableError("unreachable", f"no connection: {why}") from error
        return connection


class ByteStream:
    """The body of one GET as it arrives. One thread reads it, and another thread may shut it down."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        headers: dict[str, str],
        redactor: KeyRedactor,
        media_type: str,
        ends_at: float,
        limit_bytes: int,
    ) -> None:
        """Use an open connection. `ends_at` is on the monotonic clock."""
        self._connection = connection
        self._socket = connection.opened
        # http.client closes the socket at the end of the response. This file keeps the descriptor open, because
        # `shut_down` could otherwise shut down another socket that got the same descriptor.
        self._open_file = connection.opened.open_file()
        self._path = path
        self._headers = headers
        self.redactor = redactor
        """To be applied to decoded events, because a piece may end within the key."""
        self._media_type = media_type
        self.ends_at = ends_at
        self._limit_bytes = limit_bytes
        self.status: int | None = None
        """The status of the response, once the response is known to be a stream."""
        self.is_idle = False
        """The stream ended because no byte arrived within the idle timeout."""

    def pieces(self) -> Generator[bytes]:
        """Send the request and yield the decoded body, until the server or the deadline ends it.

        Raises UpstreamError for a response that is no success, has another media type, breaks off, is idle for too
        long, or exceeds the limit.
        """
        self._socket.begin_call(self.ends_at)
        status = None
        try:
            send_request(self._connection, "GET", self._path, None, self._headers)
            with closing(self._connection.getresponse()) as response:
                status = response.status
                self._socket.allow(self._limit_bytes)
                self._check(response)
                self.status = status
                size_bytes = 0
                while piece := response.read1(_PIECE_BYTES, decode_content=True):
                    size_bytes += len(piece)
                    if size_bytes > self._limit_bytes:
                        raise unusable_response(status, f"the stream has more than {self._limit_bytes} bytes")
                    yield piece
        except urllib3.exceptions.DecodeError as error:
            raise unusable_response(status or 0, "the content encoding is broken") from error
        except CONNECTION_ERRORS as error:
            if time.monotonic() < self.ends_at:
                self.is_idle = is_timeout(error)
                raise no_answer(error, status) from error

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        if not is_success(response.status):
            raise error_from_response(read_response(response, MAX_RESPONSE_BYTES, self.redactor))
        if (fault := encoding_fault(response, self.redactor)) is not None:
            raise unusable_response(response.status, fault)
        if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != self._media_type:
            raise unusable_response(response.status, f"the Content-Type is not {self._media_type}")

    def shut_down(self) -> None:
        """Shut the connection down in both directions. A thread that waits in `pieces` wakes up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. No thread may be in `pieces`."""
        self._connection.close()
        self._open_file.close()


def no_answer(error: BaseException | None, status: int | None = None) -> PerhapsAcceptedError:
    """Return the error for a missing response, or for one that broke off after its headers."""
    what = "no answer" if status is None else "the answer broke off"
    return PerhapsAcceptedError("no_answer", f"{what}: {type(error).__name__}", status=status)


def _connection_to(base_url: str, timeout_s: float) -> Connection:
    """Return an unopened connection to the host of `base_url`. `timeout_s` limits the time to connect."""
    url = urllib3.util.parse_url(base_url)
    host = (url.host or "").strip("[]")
    if url.scheme == "https":
        return TLSConnection(host, url.port, timeout=timeout_s, ssl_context=shared_ssl_context())
    return PlainConnection(host, url.port, timeout=timeout_s)


def _close_all(kept: list[tuple[Connection, float]]) -> None:
    for connection, _ in kept:
        connection.close()
