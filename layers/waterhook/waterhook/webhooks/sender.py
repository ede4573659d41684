"""One attempt to deliver a webhook: checks the receiver, sends the request and classifies the answer."""

import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

import urllib3

from waterhook.deadline_connection import (
    CONNECTION_ERRORS,
    Connection,
    NotConnectedError,
    TLSConnection,
    is_timeout,
    send_request,
    shared_ssl_context,
)
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.errors import DependencyUnavailableError, InvalidWebhookUrlError, ReceiverError
from waterhook.timestamps import read_retry_after
from waterhook.webhooks import resolver

# Time for everything: DNS, connection, TLS, request and answer.
TIMEOUT_S = 15.0
# Each address is checked, but only the first ones are tried.
MAX_TRIED_ADDRESSES = 4
# The body of an answer is read up to these limits, so that the receiver can close the connection in the usual way. It
# is not used: only the status counts.
MAX_BODY_BYTES = 16 * 1024
MAX_BODY_S = 1.0

type Address = IPv4Address | IPv6Address
type Connect = Callable[[tuple[str, int], float], socket.socket]


class AttemptError(StrEnum):
    """Why an attempt failed."""

    HTTP_STATUS = "http_status"
    """The status is neither 2xx nor 3xx."""
    REDIRECT = "redirect"
    """The status is 3xx. Redirects are not followed."""
    TIMEOUT = "timeout"
    """The time of the attempt was over."""
    NO_CONNECTION = "no_connection"
    """The connection was refused, or ended before the request was sent."""
    TLS = "tls"
    """The TLS handshake failed: the certificate is not trusted, expired or for another name, or there is no TLS."""
    UNRESOLVED = "unresolved"
    """DNS has no address of the host, or did not answer in time."""
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    """At least one address of the host is not allowed."""
    HOST_NOT_ALLOWED = "host_not_allowed"
    """The URL or its host is not allowed now, though it was when the request was accepted."""
    BAD_ANSWER = "bad_answer"
    """The connection ended without an answer, or the answer is not valid HTTP."""
    NO_RESULT = "no_result"
    """The function ended before it wrote a result. The sender does not return this."""


# Other errors and statuses show that the host works: a wrong path or a large body concerns one of many customers.
_HOST_ERRORS = frozenset(AttemptError) - {
    AttemptError.HTTP_STATUS,
    AttemptError.REDIRECT,
    AttemptError.HOST_NOT_ALLOWED,
}
_HOST_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one request."""

    code: int | None = None
    """The status of the answer, or None without one."""
    error: str | None = None
    """A code of AttemptError, or None if the answer was 2xx."""
    retry_after_s: float | None = None
    """Seconds of the Retry-After header."""
    latency_ms: float = 0.0
    """Time until the head of the answer was read, or until the attempt failed."""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted the event."""
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more attempts for this event (410)."""
        return self.code == HTTPStatus.GONE

    @property
    def host_failed(self) -> bool:
        """Whether requests for other webhooks of this host would probably fail too."""
        code = self.code or 0
        return (
            self.error in _HOST_ERRORS or code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _HOST_STATUSES
        )


class Resolve(Protocol):
    """Returns all addresses of a host. Raises ReceiverError."""

    def __call__(self, host: str, port: int, *, timeout_s: float) -> Sequence[Address]:
        """`timeout_s` limits the time to answer."""


def connect_socket(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """Return a socket that is connected to an IP address and a port."""
    return urllib3.util.connection.create_connection(
        address, timeout_s, socket_options=TLSConnection.default_socket_options
    )


class WebhookSender:
    """Sends webhooks. One instance can be used for the life of a container.

    Redirects are not followed, proxies are not used, and each request has a connection of its own.
    """

    def __init__(
        self,
        rules: WebhookRules,
        *,
        ca_pem: Callable[[], str] = lambda: "",
        resolve: Resolve = resolver.resolve,
        connect: Connect = connect_socket,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ca_pem` returns PEM certificates that are trusted in addition to the system's. `clock` measures latency."""
        self._rules = rules
        self._ca_pem = ca_pem
        self._resolve = resolve
        self._connect = connect
        self._timeout_s = timeout_s
        self._clock = clock
        self._bundle: tuple[str, ssl.SSLContext] | None = None

    def prepare(self) -> None:
        """Read the CA bundle. Raises DependencyUnavailableError if it can't be read or used."""
        self._ssl_context()

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """Send one POST and return its result.

        Never raises for what a receiver does. Raises DependencyUnavailableError if the CA bundle can't be used.
        """
        try:
            target = WebhookUrl.parse(url)
        except InvalidWebhookUrlError:
            return Attempt(error=AttemptError.HOST_NOT_ALLOWED)
        if self._rules.host_problem(target) is not None:
            return Attempt(error=AttemptError.HOST_NOT_ALLOWED)
        context = self._ssl_context()
        ends_at = time.monotonic() + self._timeout_s
        began = self._clock()

        def elapsed_ms() -> float:
            return (self._clock() - began) * 1000

        try:
            with closing(self._open(target, context, ends_at)) as connection:
                connection.timeout = self._timeout_s
                all_headers = {**headers, "Host": target.authority}
                return exchange(connection, target.target, body, all_headers, ends_at, elapsed_ms)
        except ReceiverError as error:
            return Attempt(error=error.code, latency_ms=elapsed_ms())

    def _open(self, url: WebhookUrl, context: ssl.SSLContext, ends_at: float) -> "_ReceiverConnection":
        """Return a connection to the first address that accepts one. Raises ReceiverError."""
        addresses = self._allowed_addresses(url, ends_at)[:MAX_TRIED_ADDRESSES]
        failure: BaseException | None = None
        for untried, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            connection = _ReceiverConnection(str(address), url, context, self._connect)
            connection.ends_at = ends_at
            # An address that does not answer leaves time for the others.
            connection.timeout = (ends_at - time.monotonic()) / untried
            try:
                connection.connect()
            except NotConnectedError as error:
                failure = error.__cause__
                if is_tls_error(failure):
                    break  # the other addresses would answer with the same certificate
            else:
                return connection
        if is_tls_error(failure):
            raise ReceiverError(AttemptError.TLS)
        is_slow = isinstance(failure, TimeoutError)
        raise ReceiverError(AttemptError.TIMEOUT if is_slow else AttemptError.NO_CONNECTION)

    def _allowed_addresses(self, url: WebhookUrl, ends_at: float) -> Sequence[Address]:
        """Return the addresses of the host. One that is not allowed refuses all: DNS may be under hostile control."""
        if url.address is not None:
            addresses: Sequence[Address] = [url.address]
        else:
            addresses = self._resolve(url.host, url.port, timeout_s=ends_at - time.monotonic())
        if any(self._rules.address_problem(address) is not None for address in addresses):
            raise ReceiverError(AttemptError.ADDRESS_NOT_ALLOWED)
        return addresses

    def _ssl_context(self) -> ssl.SSLContext:
        """Return the context with the system's authorities and those of the bundle."""
        pem = self._ca_pem()
        if not pem:
            return shared_ssl_context()
        if self._bundle is None or self._bundle[0] != pem:
            context = ssl.create_default_context()
            try:
                context.load_verify_locations(cadata=pem)
            except (ssl.SSLError, ValueError, TypeError) as error:
                message = "the secret of WebhookCaBundle contains no valid PEM certificates"
                raise DependencyUnavailableError(message) from error
            self._bundle = (pem, context)
        return self._bundle[1]


def exchange(
    connection: Connection,
    target: str,
    body: bytes,
    headers: Mapping[str, str],
    ends_at: float,
    elapsed_ms: Callable[[], float],
) -> Attempt:
    """Send one POST on an open connection and return the result of its answer. Raises ReceiverError if there is none.

    `target` is path and query. `headers` include `Host`. `ends_at` is the deadline on the monotonic clock.
    """
    connection.opened.begin_call(ends_at)
    all_headers = {"User-Agent": "Waterhook", **headers, "Connection": "close"}
    try:
        send_request(connection, "POST", target, body, all_headers)
        with closing(connection.getresponse()) as response:
            attempt = _attempt(response, elapsed_ms())
            _skip_body(connection, response, ends_at)
            return attempt
    except CONNECTION_ERRORS as error:
        if is_timeout(error):
            code = AttemptError.TIMEOUT
        elif is_tls_error(error):
            code = AttemptError.TLS  # with TLS 1.3 a receiver refuses the client after the handshake
        else:
            code = AttemptError.BAD_ANSWER
        raise ReceiverError(code) from error


class _ReceiverConnection(TLSConnection):
    """Connection to one address, which was checked. It resolves no name, so DNS can't change the address later.

    The certificate is verified for the host of the URL by OpenSSL, during the handshake. `assert_hostname` is not set,
    because urllib3 would then switch that check off in the context, which other connections share.
    """

    def __init__(self, address: str, url: WebhookUrl, context: ssl.SSLContext, connect: Connect) -> None:
        super().__init__(address, url.port, ssl_context=context, server_hostname=url.host)
        self._connect_socket = connect

    def _new_conn(self) -> socket.socket:
        sock = self._connect_socket((self.host, self.port), self._left_s())
        try:
            sock.settimeout(self._left_s())  # for the TLS handshake
        except TimeoutError:
            sock.close()
            raise
        return sock


def _attempt(response: urllib3.BaseHTTPResponse, latency_ms: float) -> Attempt:
    code = response.status
    if code < HTTPStatus.OK:
        error: AttemptError | None = AttemptError.BAD_ANSWER  # a switch of protocols
    elif code < HTTPStatus.MULTIPLE_CHOICES:
        error = None
    elif code < HTTPStatus.BAD_REQUEST:
        error = AttemptError.REDIRECT
    else:
        error = AttemptError.HTTP_STATUS
    retry_after_s = read_retry_after(response.headers.get("Retry-After"), time.time())
    return Attempt(code, error, retry_after_s, latency_ms)


def _skip_body(connection: Connection, response: urllib3.BaseHTTPResponse, ends_at: float) -> None:
    """Read the start of the body, so that the receiver usually can send it all. A failure here changes nothing."""
    connection.opened.begin_call(min(ends_at, time.monotonic() + MAX_BODY_S))
    with suppress(*CONNECTION_ERRORS):
        response.read(MAX_BODY_BYTES, decode_content=False)


def is_tls_error(error: BaseException | None) -> bool:
    """Return whether a connection failed because of TLS."""
    return isinstance(error, (ssl.SSLError, urllib3.exceptions.SSLError))
