"""Limits of running jobs: a slot is held under the name of its execution, so a repeated call counts once."""

from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.fakes.aws import FailingClient, RepeatingClient, Table, cancelled_transaction, client_error
from tests.fakes.clock import NOW
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.builders import record
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.timestamps import to_rfc3339

execution_ids = (f"{number:032x}" for number in count())


def limiter(table: Table, *, stack: int = 0, chatbot: int = 0, client: Any = None) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(
        table.name, ConcurrencyLimits(stack=stack, chatbot=chatbot), client or table.client
    )


def held_by(table: Table, key: str = "capacity") -> set[str]:
    item = table.client.get_item(TableName=table.name, Key={"execution_id": {"S": key}}).get("Item", {})
    return set(item.get("running", {}).get("SS", []))


def test_without_a_limit_nothing_is_read_or_written() -> None:
    no_client: Any = object()
    unlimited = ConcurrencyLimiter("none", ConcurrencyLimits(), no_client)
    assert all(unlimited.acquire(next(execution_ids), "support-chat") for _ in range(100))
    unlimited.release(next(execution_ids), ())
    assert not ConcurrencyLimits()


def test_no_more_slots_are_acquired_than_the_limit_allows(table: Table) -> None:
    slots = limiter(table, stack=3)
    assert [bool(slots.acquire(next(execution_ids), "support-chat")) for _ in range(5)] == [True] * 3 + [
        False
    ] * 2
    assert len(held_by(table)) == 3


def test_a_released_slot_can_be_acquired_by_another_execution(table: Table) -> None:
    slots = limiter(table, stack=1)
    first, second = next(execution_ids), next(execution_ids)
    assert slots.acquire(first, "support-chat")
    assert not slots.acquire(second, "support-chat")
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    assert slots.acquire(second, "support-chat")
    assert held_by(table) == {second}


def test_a_held_slot_can_be_acquired_again_when_all_slots_are_taken(table: Table) -> None:
    slots = limiter(table, stack=2, chatbot=2)
    execution_id, other = next(execution_ids), next(execution_ids)
    slots.acquire(execution_id, "support-chat")
    slots.acquire(other, "support-chat")
    assert slots.acquire(execution_id, "support-chat")
    assert held_by(table) == held_by(table, "capacity/support-chat") == {execution_id, other}


def test_a_slot_that_is_released_twice_frees_one_slot(table: Table) -> None:
    slots = limiter(table, stack=2)
    first, second = next(execution_ids), next(execution_ids)
    slots.acquire(first, "support-chat")
    slots.acquire(second, "support-chat")
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    assert [bool(slots.acquire(next(execution_ids), "support-chat")) for _ in range(2)] == [True, False]


def test_an_execution_without_a_slot_releases_none(table: Table) -> None:
    slots = limiter(table, stack=1, chatbot=1)
    slots.acquire(next(execution_ids), "support-chat")
    slots.release(next(execution_ids), ConcurrencyLimiter.slots_of("support-chat"))
    slots.release(next(execution_ids), ConcurrencyLimiter.slots_of(None))
    assert not slots.acquire(next(execution_ids), "support-chat")


def test_a_chatbot_at_its_limit_does_not_block_other_chatbots(table: Table) -> None:
    slots = limiter(table, stack=3, chatbot=1)
    assert slots.acquire(next(execution_ids), "support-chat")
    assert not slots.acquire(next(execution_ids), "support-chat")
    assert slots.acquire(next(execution_ids), "report-flow")
    assert slots.acquire(next(execution_ids), "third")
    assert not slots.acquire(next(execution_ids), "fourth")


def test_nothing_is_acquired_if_one_of_the_limits_is_reached(table: Table) -> None:
    slots = limiter(table, stack=5, chatbot=1)
    slots.acquire(first := next(execution_ids), "support-chat")
    assert not slots.acquire(next(execution_ids), "support-chat")
    assert held_by(table) == {first}


def test_a_chatbot_id_with_a_slash_has_its_own_slots(table: Table) -> None:
    slots = limiter(table, chatbot=1)
    assert slots.acquire(next(execution_ids), "a/b")
    assert slots.acquire(next(execution_ids), "a")
    assert slots.acquire(next(execution_ids), "b")


@pytest.mark.parametrize("after", [False, True], ids=["before it was written", "after it was written"])
def test_an_execution_that_crashed_while_it_acquired_a_slot_acquires_it_again(
    table: Table, *, after: bool
) -> None:
    execution_id = next(execution_ids)
    with pytest.raises(Killed):
        limiter(table, stack=1, client=CountedClient(table.client, StepCounter(kill_at=int(after)))).acquire(
            execution_id, "a"
        )
    assert limiter(table, stack=1).acquire(execution_id, "a")
    assert held_by(table) == {execution_id}
    assert not limiter(table, stack=1).acquire(next(execution_ids), "a")


def test_a_slot_can_be_released_again_after_a_crash_at_any_step_of_the_release(table: Table) -> None:
    for step in range(4):
        execution_id, slots = next(execution_ids), limiter(table, stack=1, chatbot=1)
        assert slots.acquire(execution_id, "a")
        counted = CountedClient(table.client, StepCounter(kill_at=step))
        with pytest.raises(Killed):
            limiter(table, stack=1, chatbot=1, client=counted).release(
                execution_id, ConcurrencyLimiter.slots_of("a")
            )
        slots.release(execution_id, ConcurrencyLimiter.slots_of("a"))
        assert held_by(table) == held_by(table, "capacity/a") == set()


def test_a_write_that_botocore_repeats_counts_once(table: Table) -> None:
    execution_id, repeated = (
        next(execution_ids),
        limiter(table, stack=2, client=RepeatingClient(table.client)),
    )
    assert repeated.acquire(execution_id, "a")
    assert limiter(table, stack=2).acquire(execution_id, "a")
    repeated.release(execution_id, ConcurrencyLimiter.slots_of("a"))
    assert held_by(table) == set()


class RefusingClient:
    """A client that raises the given errors for the first writes, one for each attempt."""

    def __init__(self, real: Any, *errors: Exception) -> None:
        self._real, self.errors = real, list(errors)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(**arguments: Any) -> Any:
            if name in {"transact_write_items", "update_item"} and self.errors:
                raise self.errors.pop(0)
            return method(**arguments)

        return call


def limiter_with_pauses(table: Table, client: Any, pauses: list[float], **caps: int) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(table.name, ConcurrencyLimits(**caps), client, pauses.append)


@pytest.mark.parametrize(
    "codes", [("TransactionConflict",), ("ThrottlingError",), ("ProvisionedThroughputExceeded",), ()]
)
def test_a_conflict_is_retried_with_growing_pauses(table: Table, codes: tuple[str, ...]) -> None:
    execution_id, pauses = next(execution_ids), list[float]()
    client = RefusingClient(table.client, *[cancelled_transaction(*codes)] * 4)
    assert limiter_with_pauses(table, client, pauses, stack=1).acquire(execution_id, "a")
    assert held_by(table) == {execution_id}
    assert len(pauses) == 4
    assert pauses == sorted(pauses)
    assert sum(pauses) < 2


def test_a_conflict_that_continues_is_reported_as_contention_and_not_as_full(table: Table) -> None:
    client = RefusingClient(table.client, *[cancelled_transaction("TransactionConflict")] * 9)
    pauses = list[float]()
    assert limiter_with_pauses(table, client, pauses, stack=1).acquire(
        next(execution_ids), "a"
    ) == Acquisition(is_contended=True)
    assert len(client.errors) == 4
    slots = limiter(table, stack=1)
    slots.acquire(next(execution_ids), "a")
    assert slots.acquire(next(execution_ids), "a") == Acquisition(full="MaxRunning 1")


def test_executions_in_conflict_retry_at_different_times(table: Table) -> None:
    first_pauses = list[float]()
    for _ in range(20):
        pauses = list[float]()
        client = RefusingClient(table.client, *[cancelled_transaction("TransactionConflict")] * 9)
        limiter_with_pauses(table, client, pauses, stack=1).acquire(next(execution_ids), "a")
        first_pauses.append(pauses[0])
    assert len(set(first_pauses)) == 20


def test_the_limits_that_are_reached_are_named(table: Table) -> None:
    slots = limiter(table, stack=2, chatbot=1)
    slots.acquire(next(execution_ids), "a")
    assert slots.acquire(next(execution_ids), "a").full == "MaxRunningPerChatbot 1"
    slots.acquire(next(execution_ids), "b")
    assert slots.acquire(next(execution_ids), "c").full == "MaxRunning 2"
    assert slots.acquire(next(execution_ids), "b").full == "MaxRunning 2, MaxRunningPerChatbot 1"


def test_a_reached_limit_takes_precedence_over_a_conflict(table: Table) -> None:
    client = RefusingClient(
        table.client, cancelled_transaction("TransactionConflict", "ConditionalCheckFailed")
    )
    pauses = list[float]()
    acquisition = limiter_with_pauses(table, client, pauses, stack=5, chatbot=1).acquire(
        next(execution_ids), "a"
    )
    assert (acquisition, pauses) == (Acquisition(full="MaxRunningPerChatbot 1"), [])


def test_a_changed_record_raises_a_conflict_and_no_slot_is_acquired(table: Table) -> None:
    stored = table.put(record(cancel_requested=to_rfc3339(NOW)))
    slots = limiter(table, stack=1)
    with pytest.raises(RecordConflictError):
        slots.acquire(stored.execution_id, "a", (), partial(table.records.take_slots, stored))
    assert held_by(table) == set()


def test_the_record_lists_every_acquired_slot(table: Table) -> None:
    stored = table.put(record())
    mark = partial(table.records.take_slots, stored)
    assert limiter(table, stack=1, chatbot=1).acquire(stored.execution_id, "a", (), mark)
    assert table.get(stored.execution_id).slots == ("capacity", "capacity/a")


def test_slots_that_the_record_already_lists_are_not_acquired_again(table: Table) -> None:
    no_client: Any = object()
    slots = ConcurrencyLimiter("none", ConcurrencyLimits(stack=1, chatbot=1), no_client)
    assert slots.acquire(next(execution_ids), "a", ("capacity", "capacity/a"))


@pytest.mark.parametrize(
    "limits",
    [
        ConcurrencyLimits(),
        ConcurrencyLimits(stack=7),
        ConcurrencyLimits(chatbot=7),
        ConcurrencyLimits(stack=1, chatbot=1),
    ],
)
def test_a_slot_is_released_whatever_the_limits_are_at_that_time(
    table: Table, limits: ConcurrencyLimits
) -> None:
    execution_id = next(execution_ids)
    limiter(table, stack=1, chatbot=1).acquire(execution_id, "a")
    ConcurrencyLimiter(table.name, limits, table.client).release(execution_id, ("capacity", "capacity/a"))
    assert held_by(table) == held_by(table, "capacity/a") == set()


def test_releasing_a_slot_that_is_not_held_creates_no_item(table: Table) -> None:
    limiter(table).release(next(execution_ids), ConcurrencyLimiter.slots_of("a"))
    assert table.client.scan(TableName=table.name)["Items"] == []


def test_a_conflict_during_a_release_is_retried(table: Table) -> None:
    execution_id, pauses = next(execution_ids), list[float]()
    limiter(table, stack=1).acquire(execution_id, "a")
    client = RefusingClient(table.client, *[client_error("TransactionConflictException")] * 3)
    limiter_with_pauses(table, client, pauses).release(execution_id, ("capacity",))
    assert (held_by(table), len(pauses)) == (set(), 3)


def test_a_slot_whose_response_was_lost_can_be_acquired_again(table: Table) -> None:
    lost = FailingClient(
        table.client, {"transact_write_items": client_error("InternalServerError")}, after=True
    )
    execution_id = next(execution_ids)
    with pytest.raises(RecordUnavailableError):
        limiter(table, stack=1, client=lost).acquire(execution_id, "a")
    assert limiter(table, stack=1).acquire(execution_id, "a")


def test_another_cancellation_reason_raises_record_unavailable(table: Table) -> None:
    client = RefusingClient(table.client, cancelled_transaction("ValidationError"))
    with pytest.raises(RecordUnavailableError, match="ValidationError"):
        limiter(table, stack=1, client=client).acquire(next(execution_ids), "a")


def test_a_failure_of_dynamodb_acquires_no_slot_and_raises_record_unavailable(table: Table) -> None:
    failing = FailingClient(table.client, {"transact_write_items": client_error("ThrottlingException")})
    with pytest.raises(RecordUnavailableError):
        limiter(table, stack=1, client=failing).acquire(next(execution_ids), "a")
    assert held_by(table) == set()


@pytest.mark.parametrize("code", ["ThrottlingException", "TransactionConflictException"])
def test_a_failed_release_raises_record_unavailable(table: Table, code: str) -> None:
    execution_id = next(execution_ids)
    limiter(table, stack=1).acquire(execution_id, "a")
    failing = FailingClient(table.client, {"update_item": client_error(code)})
    with pytest.raises(RecordUnavailableError):
        limiter_with_pauses(table, failing, [], stack=1).release(
            execution_id, ConcurrencyLimiter.slots_of("a")
        )
    assert held_by(table) == {execution_id}


@pytest.mark.parametrize("key", ["capacity", "capacity/support-chat"])
def test_the_items_of_the_slots_are_not_read_as_executions(table: Table, key: str) -> None:
    limiter(table, stack=1, chatbot=1).acquire(next(execution_ids), "support-chat")
    assert table.records.get(key, NOW) is None
