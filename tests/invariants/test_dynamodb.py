"""The table in a dictionary against moto's: the same calls, the same answers, the same items."""

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.fakes import aws
from tests.fakes.clock import NOW
from tests.invariants.dynamodb import Table, condition
from tests.support.builders import CALLER, ID, OTHER, OWNER, final_attributes, record, request
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable

_IDS = (ID, "1e" * 16, "2d" * 16)
_CALLS: list[Callable[[ExecutionsTable, ConcurrencyLimiter, ExecutionRecord, float], object]] = [
    lambda records, _, one, now: records.accept(one, now),
    lambda records, _, one, now: records.accept(one, now),
    lambda records, _, one, now: records.get(one.execution_id, now),
    lambda records, _, one, now: records.mark_repeated(one, now),
    lambda records, _, one, now: records.discard(one, now),
    lambda records, _, one, now: records.withdraw(one),
    lambda records, _, one, now: records.begin_start(one),
    lambda records, _, one, now: records.begin_start(one),
    lambda records, _, one, now: records.undo_start(one),
    lambda records, _, one, now: records.save_start(one, "job-1", now),
    lambda records, _, one, now: records.request_cancel(one, now),
    lambda records, _, one, now: records.save_progress(one, 12.5),
    lambda records, _, one, now: records.conclude(
        one, final_attributes(Status.FAILED, expires_at=int(now) + 50)
    ),
    lambda records, _, one, now: records.mark_notified(one, now, now + 50, has_slots=one.start_attempts > 0),
    lambda records, _, one, now: records.leave_index(one),
    lambda _, capacity, one, now: capacity.acquire(one.execution_id, one.chatbot_id or ""),
    lambda _, capacity, one, now: capacity.acquire(one.execution_id, one.chatbot_id or ""),
    lambda records, capacity, one, now: capacity.acquire(
        one.execution_id, "a", one.slots or (), partial(records.take_slots, one)
    ),
    lambda records, _, one, now: records.wait(one, {"reason": "queued"}),
    lambda _, capacity, one, now: capacity.release(one.execution_id, capacity.slots_of(one.chatbot_id)),
]


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except RecordConflictError as conflict:
        return str(conflict)


def _sorted(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for item in items:
        if "running" in item:
            item["running"] = {"SS": sorted(item["running"]["SS"])}
    return sorted(items, key=lambda item: str(item["execution_id"]))


def test_the_table_in_a_dictionary_answers_as_moto_does(table: aws.Table) -> None:
    """Three executions, two owners, one slot: six hundred calls in any order."""
    chance, fake = Random(4), Table()  # noqa: S311 - chance, not secrecy
    caps, client, now = ConcurrencyLimits(stack=2, chatbot=1), fake, NOW
    ours: Any = client
    sides = [
        (
            ExecutionsTable(table.name, given, partial(next, map(str, count()))),
            ConcurrencyLimiter(table.name, caps, given),
        )
        for given in (table.client, ours)
    ]
    seen = set()
    for _ in range(600):
        now += chance.choice([1, 1, 1, 40])
        one = record(
            request(chatbot_id=chance.choice(["a", "b"]), deliver_to=chance.choice([["sns"], ["dynamodb"]])),
            execution_id=chance.choice(_IDS),
            owner_execution_arn=chance.choice([OWNER, OWNER, OTHER]),
            caller=chance.choice([None, CALLER]),
            expires_at=int(now) + 30,
        )
        index = chance.randrange(len(_CALLS))
        moto, fakes = (_outcome(partial(_CALLS[index], *side, one, now)) for side in sides)
        assert moto == fakes
        seen.add((index, isinstance(moto, str)))
        stored = table.client.scan(TableName=table.name, ConsistentRead=True)["Items"]
        assert _sorted([*stored]) == _sorted([*fake.items.values()])
    # Won and lost, each of them, but for reading and the slots, which lose no race.
    assert len(seen) >= 2 * len(_CALLS) - 8


def test_an_expression_that_the_table_does_not_know_is_no_silent_yes() -> None:
    with pytest.raises(NotImplementedError):
        condition("begins_with(caller, :me)")
