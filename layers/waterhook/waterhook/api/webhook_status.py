"""What a caller sees of the webhook of its execution."""

from collections.abc import Mapping
from typing import Any, Protocol

from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

# Statuses of a webhook that has no delivery, beside those of DeliveryStatus.
WAITING, NOT_SENT = "waiting", "not_sent"


class DeliverySource(Protocol):
    """Reads deliveries."""

    def get(self, execution_id: str, event_id: str) -> Delivery | None:
        """Return the delivery of an event, or None before its first attempt."""


def public_webhook(
    record: ExecutionRecord, deliveries: DeliverySource | None, *, shows_url: bool = True
) -> Mapping[str, Any] | None:
    """Return the `webhook` of a status document: its fields, and the state of the outcome's delivery.

    Returns None without a webhook. `deliveries` is None if webhooks are off. The URL may contain a token of the caller,
    so an operator does not see it. Raises RecordUnavailableError.
    """
    webhook = record.webhook
    if webhook is None:
        return None
    delivery: Delivery | None = None
    if not record.status.is_final:
        status: str = WAITING
    elif deliveries is None or not webhook.wants(record.status):
        status = NOT_SENT
    else:
        delivery = deliveries.get(record.execution_id, notification_events.event_id(record))
        status = delivery.status if delivery else DeliveryStatus.PENDING
    is_pending = delivery is not None and not delivery.status.is_final
    return {
        "url": webhook.url if shows_url and not webhook.is_default else None,
        "events": list(webhook.events),
        "payload": webhook.payload,
        "status": status,
        "attempts": delivery.attempts if delivery else 0,
        "last_code": delivery.last_code if delivery else None,
        "last_error": delivery.last_error if delivery else None,
        "next_attempt_at": to_rfc3339(delivery.next_at) if delivery and is_pending else None,
        "delivered_at": to_rfc3339(delivery.delivered_at) if delivery and delivery.delivered_at else None,
    }
