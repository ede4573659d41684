"""Forwards notifications to a server on this computer, as signed webhook requests."""

import json
import queue
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from waterhook.deadline_connection import Connection, NotConnectedError, PlainConnection, TLSConnection
from waterhook.domain.webhook_url import DEFAULT_PORT, WebhookUrl
from waterhook.errors import InvalidWebhookUrlError, ReceiverError
from waterhook.json_text import join_members, to_json
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.webhooks.sender import TIMEOUT_S, Attempt, AttemptError, exchange, is_tls_error
from waterhook_cli.notification import Notification

# The host whose key signs forwarded requests, whatever the spelling of the loopback address.
SIGNING_HOST = "localhost"
# As many requests at the same time as one host gets with the default of WebhookConcurrency.
WORKERS = 2
MAX_WAITING = 100
_HTTP_PORT = 80
_PLAIN, _TLS = "http://", "https://"
# The limits of Standard Webhooks for a secret.
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64
_SECRET_PREFIX = "whsec_"  # noqa: S105  # the beginning of each secret


@dataclass(frozen=True, slots=True)
class LoopbackUrl:
    """A URL on this computer. Its path and query may contain a token, so they are not part of the representation."""

    is_tls: bool
    host: str
    port: int
    target: str = field(repr=False)
    """Path and query."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL. Without a scheme it is http. Raises InvalidWebhookUrlError without the path and query."""
        url = text if "://" in text else _PLAIN + text
        is_tls = url.lower().startswith(_TLS)
        if not is_tls and not url.lower().startswith(_PLAIN):
            raise InvalidWebhookUrlError("expected http:// or https://")
        parts = WebhookUrl.parse(_TLS + url.partition("://")[2])
        if not _is_loopback(parts):
            raise InvalidWebhookUrlError(
                f"{parts.host} is not this computer: expected localhost, 127.0.0.1 or [::1], because notifications "
                "contain customer data"
            )
        has_port = urlsplit(url).port is not None
        return cls(is_tls, parts.host, parts.port if has_port or is_tls else _HTTP_PORT, parts.target)

    @property
    def authority(self) -> str:
        """Host and port, as in the header `Host`. The port is left out if it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (DEFAULT_PORT if self.is_tls else _HTTP_PORT) else f"{host}:{self.port}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to connect to. A name is not resolved, so no configuration can lead elsewhere."""
        return ("127.0.0.1", "::1") if _is_localhost(self.host) else (self.host,)


def _is_loopback(url: WebhookUrl) -> bool:
    return _is_localhost(url.host) if url.address is None else ip_address(url.host).is_loopback


def _is_localhost(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")  # RFC 6761


class LoopbackSender:
    """Sends webhook requests to one URL on this computer. It follows no redirect and uses no proxy.

    It accepts each certificate: the request does not leave the computer, and most certificates there are self-signed.
    """

    def __init__(self, url: LoopbackUrl, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def send(self, body: bytes, headers: dict[str, str]) -> Attempt:
        """Send one POST and return its result. Raises nothing for what the server does."""
        began_at = time.monotonic()

        def elapsed_ms() -> float:
            return (time.monotonic() - began_at) * 1000

        ends_at = began_at + self._timeout_s
        try:
            with closing(self._open(ends_at)) as connection:
                connection.timeout = self._timeout_s
                all_headers = {**headers, "Host": self._url.authority}
                return exchange(connection, self._url.target, body, all_headers, ends_at, elapsed_ms)
        except ReceiverError as error:
            return Attempt(error=error.code, latency_ms=elapsed_ms())

    def _open(self, ends_at: float) -> Connection:
        """Return a connection to the first address that accepts one. Raises ReceiverError."""
        code = AttemptError.NO_CONNECTION
        for address in self._url.addresses:
            connection = self._connection(address)
            connection.ends_at = ends_at
            connection.timeout = self._timeout_s
            try:
                connection.connect()
            except NotConnectedError as error:
                if is_tls_error(error.__cause__):
                    raise ReceiverError(AttemptError.TLS) from error
                if isinstance(error.__cause__, TimeoutError):
                    code = AttemptError.TIMEOUT
            else:
                return connection
        raise ReceiverError(code)

    def _connection(self, address: str) -> Connection:
        url = self._url
        if not url.is_tls:
            return PlainConnection(address, url.port)
        return TLSConnection(address, url.port, ssl_context=_unverified(), server_hostname=url.host)


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SessionKey:
    """The signing key of a stack without webhooks: one secret for each host."""

    def __init__(self, secret: str) -> None:
        """`secret` is `whsec_` and base64. Raises ValueError, whose message does not contain it."""
        try:
            key = b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not secret.startswith(_SECRET_PREFIX) or not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
            raise ValueError(
                f"expected {_SECRET_PREFIX} and {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes in base64"
            ) from None
        self._key = key

    def keys_for(self, host: str) -> list[bytes]:  # noqa: ARG002  # as SigningKeys
        """Return the key."""
        return [self._key]


def to_request(notification: Notification, bucket: str, presign: Callable[[str], str]) -> UnsignedRequest:
    """Return the webhook request for a notification: the payload `full`.

    An output in the S3 bucket of the stack gets a link that `presign` returns. Its event is not signed otherwise.
    """
    text, output_ref = notification.text, notification.event.get("dataref")
    # Only the bucket of the stack: the user's credentials sign the link.
    if isinstance(output_ref, str) and output_ref.startswith(f"s3://{bucket}/"):
        text = with_output_url(text, presign(output_ref))
    return UnsignedRequest(notification.id, text.encode("utf-8", "replace"))


def with_output_url(text: str, url: str) -> str:
    """Return an event with `data.final_output_url` after `data.final_output`. All other values stay the same text."""
    event = split_members(text)
    data: dict[str, str] = {}
    for name, value in split_members(event["data"]).items():
        data[name] = value
        if name == "final_output":
            data["final_output_url"] = to_json(url)
    event["data"] = join_members(data)
    return join_members(event)


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # a number may be too long for Python


def split_members(text: str) -> dict[str, str]:
    """Return the members of a JSON object, each value as its text. `text` must be valid JSON."""
    members: dict[str, str] = {}
    position = _after_space(text, text.index("{") + 1)
    while text[position] == '"':
        name, position = _DECODER.raw_decode(text, position)
        start = _after_space(text, text.index(":", position) + 1)
        _, end = _DECODER.raw_decode(text, start)
        members[name] = text[start:end]
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return members


def _after_space(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What the requests are made of."""

    requests: WebhookRequests
    sender: LoopbackSender
    bucket: str
    presign: Callable[[str], str]

    def send(self, notification: Notification) -> Attempt:
        """Sign the request for a notification, send it once and return the result."""
        request = to_request(notification, self.bucket, self.presign)
        return self.sender.send(request.body, self.requests.headers(request, SIGNING_HOST))


class Forwarder:
    """Forwards notifications in background threads, so that a slow server does not delay those that arrive."""

    def __init__(
        self,
        send: Callable[[Notification], Attempt],
        report: Callable[[Notification, Attempt], None],
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`report` is called in a background thread with each result."""
        self._send = send
        self._report = report
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue[tuple[Notification, Callable[[], None]]] = queue.SimpleQueue()
        self._unfinished = 0
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._workers: list[threading.Thread] = []

    @property
    def unfinished(self) -> int:
        """The number of notifications that are not forwarded yet."""
        return self._unfinished

    def has_room(self, timeout_s: float) -> bool:
        """Wait until another notification can be submitted; return whether it can. Raises the error of a thread."""
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: self._error or self._unfinished < self._max_waiting, timeout_s
            )
            self._raise_error()
            return bool(has_room)

    def submit(self, notification: Notification, done: Callable[[], None]) -> None:
        """Forward a notification in the background. `done` is called afterwards, whatever the result."""
        if len(self._workers) < WORKERS:
            # Daemons: the command ends without waiting for a server that does not answer.
            worker = threading.Thread(target=self._work, daemon=True)
            worker.start()
            self._workers.append(worker)
        with self._changed:
            self._unfinished += 1
        self._waiting.put((notification, done))

    def drain(self) -> None:
        """Wait until all notifications are forwarded. Raises the error of a thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._unfinished)
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            notification, done = self._waiting.get()
            try:
                self._report(notification, self._send(notification))
                done()
            except Exception as error:  # noqa: BLE001  # the main thread raises it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._unfinished -= 1
                self._changed.notify_all()
