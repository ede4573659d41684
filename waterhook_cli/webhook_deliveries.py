"""Selects deliveries of webhooks, and writes them as text."""

from collections.abc import Iterator, Mapping
from heapq import nlargest
from typing import Any

from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.storage.webhook_deliveries import DUE_SHARDS, DueDelivery, WebhookDeliveries
from waterhook.timestamps import to_rfc3339
from waterhook_cli.output import format_time

# Later than the next attempt of any delivery.
_END_OF_TIME = 253_402_300_799


def undelivered(
    deliveries: WebhookDeliveries, *, failed_only: bool = False, host: str | None = None, limit: int
) -> list[Delivery]:
    """Return at most `limit` pending and failed deliveries, those of the newest executions first.

    Reads the index, then each returned delivery. `host` selects one host. Raises RecordUnavailableError.
    """
    entries = (entry for entry in _entries(deliveries, failed_only=failed_only) if host in {None, entry.host})
    statuses = {DeliveryStatus.FAILED} if failed_only else {DeliveryStatus.FAILED, DeliveryStatus.PENDING}
    found: list[Delivery] = []
    newest = nlargest(limit, entries, key=lambda entry: accepted_ms(entry.event_id))
    for entry in newest:
        delivery = deliveries.get(entry.execution_id, entry.event_id)
        # The index may be older than the table.
        if delivery is not None and delivery.status in statuses:
            found.append(delivery)
    return found


def _entries(deliveries: WebhookDeliveries, *, failed_only: bool) -> Iterator[DueDelivery]:
    yield from deliveries.failed()
    if not failed_only:
        for shard in DUE_SHARDS:
            for entry in deliveries.due(shard, _END_OF_TIME):
                if entry.status is DeliveryStatus.PENDING:
                    yield entry


def accepted_ms(event_id: str) -> int:
    """Return when the execution of an event was accepted, in epoch milliseconds: the second part of the event's id."""
    part = event_id.split("/")[1:2]
    return int(part[0]) if part and part[0].isdecimal() else 0


def outcome_of(event_id: str) -> str:
    """Return the outcome of an event: the last part of its id."""
    return event_id.rpartition("/")[2]


def to_fields(delivery: Delivery) -> dict[str, Any]:
    """Return the fields of a delivery for `--json`, with the names of the API."""
    return {
        "execution_id": delivery.execution_id,
        "event_id": delivery.event_id,
        "host": delivery.host,
        "status": str(delivery.status),
        "attempts": delivery.attempts,
        "last_code": delivery.last_code,
        "last_error": delivery.last_error,
        "created_at": to_rfc3339(delivery.created_at),
        "last_attempt_at": to_rfc3339(delivery.last_attempt_at),
        "next_attempt_at": None if delivery.status.is_final else to_rfc3339(delivery.next_at),
        "delivered_at": to_rfc3339(delivery.delivered_at),
    }


def last_result(fields: Mapping[str, Any]) -> str:
    """Return the code and the error of the last attempt: `200`, `http_status 503`, `timeout`, or an empty text."""
    return " ".join(str(value) for value in (fields.get("last_error"), fields.get("last_code")) if value)


def webhook_text(webhook: Mapping[str, Any]) -> str:
    """Return the state of the webhook in a status document of the API, without its URL."""
    status = str(webhook.get("status"))
    if status == "waiting":
        return "waiting for the outcome"
    if status == "not_sent":
        return "not_sent: it does not receive this outcome, or webhooks are off"
    if webhook.get("delivered_at"):
        return f"delivered {format_time(webhook['delivered_at'])}"
    attempts = webhook.get("attempts") or 0
    parts = [status, f"{attempts} attempt{'' if attempts == 1 else 's'}"]
    if result := last_result(webhook):
        parts.append(f"last {result}")
    if webhook.get("next_attempt_at"):
        parts.append(f"next {format_time(webhook['next_attempt_at'])}")
    return ", ".join(parts)
