"""Deliveries for the tests of the CLI: stored by moto, and as items of the fake stack."""

from typing import Any

from tests.fakes.aws import WebhookTable
from tests.fakes.clock import NOW
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import KEPT_AFTER_S
from waterhook.storage.execution_record import to_attribute

HOST = "hooks.example.com"
ACCEPTED_MS = 1_767_225_600_000


def execution_id(number: int) -> str:
    return f"{number:032x}"[::-1]


def store(
    table: WebhookTable,
    number: int,
    status: DeliveryStatus = DeliveryStatus.PENDING,
    *,
    host: str = HOST,
    at: float = NOW,
    has_cleanup: bool = False,
) -> Delivery:
    """Store the delivery of the execution number `number`, accepted as many seconds later. Its attempt is at `at`."""
    one_id = execution_id(number)
    new = Delivery.new(
        one_id,
        f"{one_id}/{ACCEPTED_MS + number * 1000}/COMPLETED",
        host=host,
        now=at,
        expires_at=int(NOW + 10**6),
        has_cleanup=has_cleanup,
    )
    claimed = table.deliveries.claim(new, exists=False, token="token", now=at)
    if status is DeliveryStatus.PENDING:
        return table.deliveries.retry(claimed, next_at=at + 300, queued=True, code=503, error="http_status")
    return table.deliveries.finish(
        claimed, status, now=at, code=None, error=None if status is DeliveryStatus.DELIVERED else "timeout"
    )


def item(number: int = 1, status: str = "failed", **changes: Any) -> dict[str, Any]:
    """Return a delivery as an item of the fake stack."""
    one_id = execution_id(number)
    values = {
        "pk": one_id,
        "sk": f"{ACCEPTED_MS + number * 1000}/COMPLETED",
        "status": status,
        "host": HOST,
        "attempts": 10 if status == "failed" else 1,
        "created_at": NOW,
        "next_at": NOW + KEPT_AFTER_S,
        "expires_at": int(NOW) + 10**6,
        "queued": False,
        "undelivered": {"failed": "failed", "pending": one_id[0]}.get(status),
        "last_error": "http_status" if status != "delivered" else None,
        "last_code": 200 if status == "delivered" else 503,
        "delivered_at": NOW + 2 if status == "delivered" else None,
    } | changes
    return {name: to_attribute(value) for name, value in values.items() if value is not None}
