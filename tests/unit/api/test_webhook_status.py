"""The `webhook` of a status document."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.clock import NOW
from tests.support.builders import ID, final_record, running_record
from waterhook.api.webhook_status import public_webhook
from waterhook.domain.status import Status
from waterhook.domain.webhook import TERMINAL_EVENTS, Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

WEBHOOK = Webhook("https://hooks.example.com/in?token=s3cret")


@dataclass
class Deliveries:
    """A source with at most one delivery."""

    delivery: Delivery | None = None
    requested: list[tuple[str, str]] = field(default_factory=list)

    def get(self, execution_id: str, event_id: str) -> Delivery | None:
        self.requested.append((execution_id, event_id))
        return self.delivery


def shown(record: ExecutionRecord, deliveries: Deliveries | None) -> dict[str, Any]:
    webhook = public_webhook(record, deliveries)
    assert webhook is not None
    return dict(webhook)


def delivery(status: DeliveryStatus, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "attempts": 1,
        "created_at": NOW,
        "next_at": NOW + 300,
        "expires_at": int(NOW) + 9,
    }
    return Delivery(ID, "event", status, "hooks.example.com", **(values | changes))


def test_an_execution_without_a_webhook_shows_none() -> None:
    assert public_webhook(final_record(), Deliveries()) is None


def test_before_the_outcome_a_webhook_is_waiting_and_no_delivery_is_read() -> None:
    deliveries = Deliveries()
    assert shown(running_record(webhook=WEBHOOK), deliveries) == {
        "url": WEBHOOK.url,
        "events": list(TERMINAL_EVENTS),
        "payload": "full",
        "status": "waiting",
        "attempts": 0,
        "last_code": None,
        "last_error": None,
        "next_attempt_at": None,
        "delivered_at": None,
    }
    assert deliveries.requested == []


def test_before_the_first_attempt_a_delivery_is_pending() -> None:
    webhook = shown(final_record(webhook=WEBHOOK), Deliveries())
    assert (webhook["status"], webhook["attempts"], webhook["next_attempt_at"]) == ("pending", 0, None)


def test_a_failed_attempt_is_shown_with_its_result_and_the_next_attempt() -> None:
    failed = delivery(DeliveryStatus.PENDING, attempts=2, last_code=503, last_error="http_status")
    webhook = shown(final_record(webhook=WEBHOOK), Deliveries(failed))
    assert (webhook["status"], webhook["attempts"]) == ("pending", 2)
    assert (webhook["last_code"], webhook["last_error"]) == (503, "http_status")
    assert webhook["next_attempt_at"] == to_rfc3339(NOW + 300)


@pytest.mark.parametrize("status", [DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.GONE])
def test_a_delivery_that_has_ended_has_no_next_attempt(status: DeliveryStatus) -> None:
    delivered_at = NOW + 5 if status is DeliveryStatus.DELIVERED else None
    webhook = shown(
        final_record(webhook=WEBHOOK), Deliveries(delivery(status, delivered_at=delivered_at, last_code=200))
    )
    assert (webhook["status"], webhook["next_attempt_at"]) == (status.value, None)
    assert webhook["delivered_at"] == (to_rfc3339(NOW + 5) if delivered_at else None)


@pytest.mark.parametrize(
    ("record", "deliveries"),
    [
        (final_record(Status.FAILED, webhook=Webhook(WEBHOOK.url, ("completed",))), Deliveries()),
        (final_record(webhook=WEBHOOK), None),
    ],
    ids=["outcome not received", "webhooks are off"],
)
def test_an_outcome_that_is_not_sent_is_shown_as_such(
    record: ExecutionRecord, deliveries: Deliveries | None
) -> None:
    assert shown(record, deliveries)["status"] == "not_sent"


def test_the_url_of_the_deployments_webhook_is_not_shown_to_callers() -> None:
    webhook = shown(running_record(webhook=Webhook(WEBHOOK.url, is_default=True)), Deliveries())
    assert webhook["url"] is None
    assert "s3cret" not in str(webhook)
