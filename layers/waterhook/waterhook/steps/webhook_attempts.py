"""One attempt to send a webhook: takes a place of the host, signs and sends the request, and leaves the host."""

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_host import Admission
from waterhook.errors import RecordConflictError
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.storage.webhook_hosts import Entry, WebhookHosts
from waterhook.webhooks.sender import Attempt

# For this time, a container does not read again that a host has no free place.
FULL_S = 1.0
_MAX_HOSTS = 1000


class Sender(Protocol):
    """Sends webhook requests."""

    def prepare(self) -> None:
        """Read what a request needs. Raises DependencyUnavailableError."""

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """Send one request and return its result. Raises nothing for what a receiver does."""


def _token() -> str:
    return os.urandom(8).hex()


class WebhookAttempts:
    """Makes attempts, within the limits of each host."""

    def __init__(
        self,
        hosts: WebhookHosts,
        requests: WebhookRequests,
        sender: Sender,
        clock: Callable[[], float],
        token: Callable[[], str] = _token,
    ) -> None:
        """`token` returns a new unique text with each call."""
        self._hosts = hosts
        self._requests = requests
        self._sender = sender
        self._clock = clock
        self._token = token
        self._full_until: dict[str, float] = {}

    def is_full(self, host: str) -> bool:
        """Whether a host had no free place a moment ago. Reads no table.

        With thousands of messages for one host, each of them would otherwise delay those for other hosts.
        """
        return self._clock() < self._full_until.get(host, 0.0)

    def make(
        self,
        webhook: Webhook,
        request: UnsignedRequest,
        *,
        held_back_s: float,
        begin: Callable[[str], object] = lambda _token: None,
    ) -> Attempt | Entry:
        """Return the result of an attempt, or the entry of the host if it admits no attempt now.

        `held_back_s` is the age of the delivery. `begin` is called with the token of the attempt before the request is
        sent. If it raises RecordConflictError, nothing is sent. Raises DependencyUnavailableError before that.
        """
        host = webhook.host
        # First, because without keys or certificates no attempt is counted.
        self._sender.prepare()
        headers = self._requests.headers(request, host)
        token = self._token()
        entry = self._hosts.enter(host, token, self._clock(), held_back_s=held_back_s)
        if entry.admission is not Admission.ADMITTED:
            if entry.admission is Admission.FULL:
                if len(self._full_until) >= _MAX_HOSTS:
                    self._full_until.clear()
                self._full_until[host] = self._clock() + FULL_S
            return entry
        self._full_until.pop(host, None)
        try:
            begin(token)
        except RecordConflictError:
            self._hosts.leave(host, token, self._clock(), host_failed=None, error=None)
            raise
        attempt = self._sender.send(webhook.url, request.body, headers)
        self._hosts.leave(host, token, self._clock(), host_failed=attempt.host_failed, error=attempt.error)
        return attempt
