"""Webhook requests: the body from the record, and the headers with the signatures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from waterhook.domain.webhook import FULL
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.webhooks.signature import signature_header

_MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"


class KeySource(Protocol):
    """Provides the signing keys."""

    def keys_for(self, host: str) -> list[bytes]:
        """Return the keys that sign requests to a host, newest first."""


@dataclass(frozen=True, slots=True)
class UnsignedRequest:
    """A webhook request without its signature, which contains the time of the attempt."""

    webhook_id: str
    body: bytes


class WebhookRequests:
    """Builds the requests of deliveries."""

    def __init__(
        self, keys: KeySource, presign: Callable[[str], str], source: str, clock: Callable[[], float]
    ) -> None:
        """`presign` returns a link to an output in S3, `source` is the CloudEvents source of the events."""
        self._keys = keys
        self._presign = presign
        self._source = source
        self._clock = clock

    def outcome(self, record: ExecutionRecord) -> UnsignedRequest:
        """Return the request for the outcome of a final record. Two calls differ only in the link to the output."""
        is_full = record.webhook is not None and record.webhook.payload == FULL
        event = notification_events.outcome_event(
            record,
            self._source,
            has_output=is_full,
            output_url=self._presign(record.output_ref) if is_full and record.output_ref else None,
        )
        return UnsignedRequest(notification_events.event_id(record), event.encode())

    def headers(self, request: UnsignedRequest, host: str) -> dict[str, str]:
        """Return the headers of an attempt that begins now, as the Standard Webhooks specification defines them.

        Raises SigningKeysUnavailableError if the keys can't be read.
        """
        timestamp = int(self._clock())
        signatures = signature_header(
            self._keys.keys_for(host), webhook_id=request.webhook_id, timestamp=timestamp, body=request.body
        )
        return {
            "Content-Type": _MEDIA_TYPE,
            "User-Agent": "Waterhook",
            "webhook-id": request.webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures,
        }
