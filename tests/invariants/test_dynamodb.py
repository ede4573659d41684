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
from waterhook.errors import RecordConflictError
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable

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


def test_a_condition_that_is_not_simulated_is_an_error() -> None:
    with pytest.raises(NotImplementedError):
        condition("begins_with(caller, :me)")
