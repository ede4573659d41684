"""Selection of deliveries for the CLI, and their text."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.aws import WebhookTable
from tests.fakes.clock import NOW
from tests.unit.waterhook_cli.webhook_items import HOST, execution_id, store
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook_cli.webhook_deliveries import accepted_ms, outcome_of, undelivered, webhook_text

PENDING, DELIVERED, FAILED, GONE = DeliveryStatus


def found(table: WebhookTable, limit: int = 10, **filters: Any) -> list[int]:
    deliveries = undelivered(table.deliveries, limit=limit, **filters)
    return [round((accepted_ms(one.event_id) - 1_767_225_600_000) / 1000) for one in deliveries]


@pytest.fixture
def filled(webhook_table: WebhookTable) -> WebhookTable:
    store(webhook_table, 1, FAILED)
    store(webhook_table, 2, PENDING, at=NOW + 10**6)
    store(webhook_table, 3, DELIVERED)
    store(webhook_table, 4, FAILED, has_cleanup=True)
    store(webhook_table, 5, PENDING, host="other.example.com")
    store(webhook_table, 6, GONE)
    store(webhook_table, 7, DELIVERED, has_cleanup=True)
    return webhook_table


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({}, [5, 4, 2, 1]),
        ({"failed_only": True}, [4, 1]),
        ({"host": "other.example.com"}, [5]),
        ({"host": HOST, "failed_only": True}, [4, 1]),
        ({"limit": 2}, [5, 4]),
    ],
)
def test_pending_and_failed_deliveries_are_found_newest_execution_first(
    filled: WebhookTable, filters: dict[str, Any], numbers: list[int]
) -> None:
    assert found(filled, **filters) == numbers


def test_an_entry_of_the_index_whose_delivery_has_changed_is_left_out(filled: WebhookTable) -> None:
    class Late:
        """Deliveries that change after the index was read."""

        def __init__(self) -> None:
            self.failed, self.due = filled.deliveries.failed, filled.deliveries.due

        def get(self, one_id: str, event_id: str) -> object:
            if one_id == execution_id(4):
                filled.deliveries.delete(one_id, event_id)
            return filled.deliveries.get(one_id, event_id)

    late: Any = Late()
    left = undelivered(late, failed_only=True, limit=10)
    assert [one.execution_id for one in left] == [execution_id(1)]


@pytest.mark.parametrize("event_id", ["", "a", "a/", "a/x/FAILED", "a//FAILED"])
def test_an_event_id_in_another_format_is_the_oldest(event_id: str) -> None:
    assert accepted_ms(event_id) == 0
    assert outcome_of("a/1/FAILED") == "FAILED"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": "waiting"}, "waiting for the outcome"),
        ({"status": "not_sent"}, "not_sent: it does not receive this outcome, or webhooks are off"),
        ({"status": "pending", "attempts": 0}, "pending, 0 attempts"),
        (
            {
                "status": "pending",
                "attempts": 1,
                "last_code": 503,
                "last_error": "http_status",
                "next_attempt_at": "2026-01-01T00:05:00.000Z",
            },
            "pending, 1 attempt, last http_status 503, next 2026-01-01T00:05:00Z",
        ),
        (
            {"status": "delivered", "attempts": 2, "delivered_at": "2026-01-01T00:05:00.000Z"},
            "delivered 2026-01-01T00:05:00Z",
        ),
        ({"status": "failed", "attempts": 10, "last_error": "tls"}, "failed, 10 attempts, last tls"),
        (
            {"status": "gone", "attempts": 1, "last_code": 410, "last_error": "http_status"},
            "gone, 1 attempt, last",
        ),
        ({"status": "a status of a newer version"}, "a status of a newer version, 0 attempts"),
    ],
)
def test_the_state_of_a_webhook_is_one_line_without_its_url(changes: Mapping[str, Any], text: str) -> None:
    line = webhook_text({"url": "https://hooks.example.com/?token=not-shown"} | dict(changes))
    assert line.startswith(text)
    assert "not-shown" not in line
