"""The in-memory table behaves as moto's DynamoDB does: the same results, the same items."""

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.fakes import aws
from tests.fakes.clock import NOW
from tests.invariants.dynamodb import Table, condition
from tests.support import builders
from tests.support.builders import CALLER, ID, OTHER, OWNER, final_attributes, request
from waterhook.domain.status import Status
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.errors import RecordConflictError
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts

_IDS = (ID, "1e" * 16, "2d" * 16)
_CALL_COUNT = 600
# An item that differs is found at the latest after this many calls: a scan by moto takes longer than a call.
_CALLS_PER_SCAN = 5
_CALLS: list[Callable[[ExecutionsTable, ConcurrencyLimiter, ExecutionRecord, float], object]] = [
    lambda table, _, record, now: table.accept(record, now),
    lambda table, _, record, now: table.accept(record, now),
    lambda table, _, record, now: table.get(record.execution_id, now),
    lambda table, _, record, now: table.mark_repeated(record, now),
    lambda table, _, record, now: table.discard(record, now),
    lambda table, _, record, now: table.withdraw(record),
    lambda table, _, record, now: table.begin_start(record),
    lambda table, _, record, now: table.begin_start(record),
    lambda table, _, record, now: table.undo_start(record),
    lambda table, _, record, now: table.save_start(record, "job-1", now),
    lambda table, _, record, now: table.request_cancel(record, now),
    lambda table, _, record, now: table.save_progress(record, 12.5),
    lambda table, _, record, now: table.conclude(
        record, final_attributes(Status.FAILED, expires_at=int(now) + 50)
    ),
    lambda table, _, record, now: table.mark_notified(
        record, now, now + 50, has_slots=record.start_attempts > 0
    ),
    lambda table, _, record, now: table.leave_index(record),
    lambda _, limiter, record, now: limiter.acquire(record.execution_id, record.chatbot_id or ""),
    lambda _, limiter, record, now: limiter.acquire(record.execution_id, record.chatbot_id or ""),
    lambda table, limiter, record, now: limiter.acquire(
        record.execution_id, "a", record.slots or (), partial(table.take_slots, record)
    ),
    lambda table, _, record, now: table.wait(record, {"reason": "queued"}),
    lambda _, limiter, record, now: limiter.release(record.execution_id, limiter.slots_of(record.chatbot_id)),
]


def _result(call: Callable[[], object]) -> object:
    try:
        return call()
    except RecordConflictError as conflict:
        return str(conflict)


def _sorted(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for item in items:
        if "running" in item:
            item["running"] = {"SS": sorted(item["running"]["SS"])}
    return sorted(items, key=lambda item: str(item["execution_id"]))


def test_the_in_memory_table_behaves_as_moto_does(table: aws.Table) -> None:
    """Three executions and two owners compete for a slot."""
    chance, in_memory = Random(4), Table()  # noqa: S311 - no secret depends on it
    limits, now = ConcurrencyLimits(stack=2, chatbot=1), NOW
    in_memory_client: Any = in_memory
    sides = [
        (
            ExecutionsTable(table.name, side, partial(next, map(str, count()))),
            ConcurrencyLimiter(table.name, limits, side),
        )
        for side in (table.client, in_memory_client)
    ]
    seen = set()
    for number in range(1, _CALL_COUNT + 1):
        now += chance.choice([1, 1, 1, 40])
        record = builders.record(
            request(chatbot_id=chance.choice(["a", "b"]), deliver_to=chance.choice([["sns"], ["dynamodb"]])),
            execution_id=chance.choice(_IDS),
            owner_execution_arn=chance.choice([OWNER, OWNER, OTHER]),
            caller=chance.choice([None, CALLER]),
            expires_at=int(now) + 30,
        )
        index = chance.randrange(len(_CALLS))
        expected, actual = (_result(partial(_CALLS[index], *side, record, now)) for side in sides)
        assert actual == expected
        seen.add((index, isinstance(expected, str)))
        if number % _CALLS_PER_SCAN == 0:
            items = table.client.scan(TableName=table.name, ConsistentRead=True)["Items"]
            assert _sorted([*in_memory.items.values()]) == _sorted([*items])
    # Each call has succeeded and has met a conflict, except for reads and releases, which have no conflicts.
    assert len(seen) >= 2 * len(_CALLS) - 8


_DELIVERY_CALLS: list[Callable[[WebhookDeliveries, WebhookHosts, Delivery, bool, float], object]] = [
    lambda deliveries, _, delivery, exists, now: deliveries.claim(
        delivery, exists=exists, token=str(now), now=now
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.finish(
        delivery, DeliveryStatus.DELIVERED, now=now, code=204, error=None
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.finish(
        delivery, DeliveryStatus.FAILED, now=now, code=None, error="timeout"
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.retry(
        delivery, next_at=now + 5, queued=True, code=503, error="http_status"
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.postpone(
        delivery, exists=exists, next_at=now + 2, queued=False
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.reset(
        delivery, exists=exists, now=now + 90, queued=True
    ),
    lambda deliveries, _, delivery, exists, now: deliveries.cleaned_up(delivery),
    lambda deliveries, _, delivery, exists, now: deliveries.of_execution(delivery.execution_id),
    lambda deliveries, _, delivery, exists, now: list(deliveries.due(delivery.execution_id[0], now)),
    lambda deliveries, _, delivery, exists, now: list(deliveries.failed(now - 20)),
    lambda deliveries, _, delivery, exists, now: deliveries.delete_of(delivery.execution_id),
    lambda _, hosts, delivery, exists, now: hosts.enter("a", str(now), now, held_back_s=0.0),
    lambda _, hosts, delivery, exists, now: hosts.leave(
        "a", str(now - 1), now, host_failed=exists, error="timeout" if exists else None
    ),
    lambda _, hosts, delivery, exists, now: hosts.all(),
]


def test_the_in_memory_table_of_deliveries_behaves_as_moto_does(webhook_table: aws.WebhookTable) -> None:
    """Deliveries of three executions are read, and written after none, one or several other writes."""
    chance, in_memory, now = Random(5), Table(key=("pk", "sk")), NOW  # noqa: S311 - no secret depends on it
    in_memory_client: Any = in_memory
    sides = [
        (
            WebhookDeliveries(webhook_table.name, side),
            WebhookHosts(webhook_table.name, side, limit=2, sleep=lambda _: None),
        )
        for side in (webhook_table.client, in_memory_client)
    ]
    read: dict[str, Delivery | None] = dict.fromkeys(_IDS)
    seen = set()
    for number in range(1, _CALL_COUNT + 1):
        now += 1
        execution_id = chance.choice(_IDS)
        event_id = f"{execution_id}/1/COMPLETED"
        if chance.random() < 0.8:
            read[execution_id] = sides[1][0].get(execution_id, event_id)
            assert sides[0][0].get(execution_id, event_id) == read[execution_id]
        new = Delivery.new(
            execution_id, event_id, host="a", now=now, expires_at=5, has_cleanup=chance.random() < 0.3
        )
        delivery = read[execution_id]
        index = chance.randrange(len(_DELIVERY_CALLS))
        expected, actual = (
            _result(partial(_DELIVERY_CALLS[index], *side, delivery or new, delivery is not None, now))
            for side in sides
        )
        assert actual == expected
        seen.add((index, isinstance(expected, str)))
        if number % _CALLS_PER_SCAN == 0:
            items = {(item["pk"]["S"], item["sk"]["S"]): item for item in webhook_table.items()}
            assert in_memory.items == items
    # Each of the first seven calls has succeeded and has met a conflict. The others have none.
    assert len(seen) == len(_DELIVERY_CALLS) + 7


def test_a_condition_that_is_not_simulated_is_an_error() -> None:
    with pytest.raises(NotImplementedError):
        condition("begins_with(caller, :me)")
