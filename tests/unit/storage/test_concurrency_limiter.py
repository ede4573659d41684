"""The cap on running jobs: a slot is its execution's by name, so nothing that happens twice counts twice."""

from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.fakes.aws import Failing, Stuttering, Table, cancelled_transaction, client_error
from tests.fakes.clock import NOW
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.builders import record
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.timestamps import to_rfc3339

names = (f"{number:032x}" for number in count())


def capacity(table: Table, *, stack: int = 0, chatbot: int = 0, client: Any = None) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(
        table.name, ConcurrencyLimits(stack=stack, chatbot=chatbot), client or table.client
    )


def holders(table: Table, key: str = "capacity") -> set[str]:
    item = table.client.get_item(TableName=table.name, Key={"execution_id": {"S": key}}).get("Item", {})
    return set(item.get("running", {}).get("SS", []))


def test_without_a_limit_nothing_is_read_and_nothing_written() -> None:
    nowhere: Any = object()
    unlimited = ConcurrencyLimiter("none", ConcurrencyLimits(), nowhere)
    assert all(unlimited.acquire(next(names), "support-chat") for _ in range(100))
    unlimited.release(next(names), ())
    assert not ConcurrencyLimits()


def test_as_many_run_as_the_limit_permits_and_not_one_more(table: Table) -> None:
    slots = capacity(table, stack=3)
    assert [bool(slots.acquire(next(names), "support-chat")) for _ in range(5)] == [True] * 3 + [False] * 2
    assert len(holders(table)) == 3


def test_a_slot_given_back_is_the_next_ones(table: Table) -> None:
    slots = capacity(table, stack=1)
    first, second = next(names), next(names)
    assert slots.acquire(first, "support-chat")
    assert not slots.acquire(second, "support-chat")
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    assert slots.acquire(second, "support-chat")
    assert holders(table) == {second}


def test_who_holds_a_slot_gets_it_again_even_when_all_are_taken(table: Table) -> None:
    slots = capacity(table, stack=2, chatbot=2)
    mine, other = next(names), next(names)
    slots.acquire(mine, "support-chat")
    slots.acquire(other, "support-chat")
    assert slots.acquire(mine, "support-chat")
    assert holders(table) == holders(table, "capacity/support-chat") == {mine, other}


def test_a_slot_given_back_twice_frees_one(table: Table) -> None:
    slots = capacity(table, stack=2)
    first, second = next(names), next(names)
    slots.acquire(first, "support-chat")
    slots.acquire(second, "support-chat")
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    slots.release(first, ConcurrencyLimiter.slots_of("support-chat"))
    assert [bool(slots.acquire(next(names), "support-chat")) for _ in range(2)] == [True, False]


def test_who_never_had_a_slot_gives_none_back(table: Table) -> None:
    slots = capacity(table, stack=1, chatbot=1)
    slots.acquire(next(names), "support-chat")
    slots.release(next(names), ConcurrencyLimiter.slots_of("support-chat"))
    slots.release(next(names), ConcurrencyLimiter.slots_of(None))
    assert not slots.acquire(next(names), "support-chat")


def test_a_chatbot_at_its_cap_does_not_stand_in_the_way_of_another(table: Table) -> None:
    slots = capacity(table, stack=3, chatbot=1)
    assert slots.acquire(next(names), "support-chat")
    assert not slots.acquire(next(names), "support-chat")
    assert slots.acquire(next(names), "report-flow")
    assert slots.acquire(next(names), "third")
    assert not slots.acquire(next(names), "fourth")


def test_a_slot_under_one_cap_alone_is_none_and_takes_nothing(table: Table) -> None:
    slots = capacity(table, stack=5, chatbot=1)
    slots.acquire(first := next(names), "support-chat")
    assert not slots.acquire(next(names), "support-chat")
    assert holders(table) == {first}


def test_a_chatbot_whose_name_is_a_path_has_slots_of_its_own(table: Table) -> None:
    slots = capacity(table, chatbot=1)
    assert slots.acquire(next(names), "a/b")
    assert slots.acquire(next(names), "a")
    assert slots.acquire(next(names), "b")


@pytest.mark.parametrize("after", [False, True], ids=["before it was written", "after it was written"])
def test_killed_in_taking_a_slot_the_same_execution_takes_it_again(table: Table, *, after: bool) -> None:
    mine = next(names)
    with pytest.raises(Killed):
        capacity(table, stack=1, client=CountedClient(table.client, StepCounter(kill_at=int(after)))).acquire(
            mine, "a"
        )
    assert capacity(table, stack=1).acquire(mine, "a")
    assert holders(table) == {mine}
    assert not capacity(table, stack=1).acquire(next(names), "a")


def test_killed_at_any_step_of_giving_back_it_can_be_given_back_again(table: Table) -> None:
    for at in range(4):
        mine, slots = next(names), capacity(table, stack=1, chatbot=1)
        assert slots.acquire(mine, "a")
        taped = CountedClient(table.client, StepCounter(kill_at=at))
        with pytest.raises(Killed):
            capacity(table, stack=1, chatbot=1, client=taped).release(mine, ConcurrencyLimiter.slots_of("a"))
        slots.release(mine, ConcurrencyLimiter.slots_of("a"))
        assert holders(table) == holders(table, "capacity/a") == set()


def test_a_write_that_botocore_repeats_counts_once(table: Table) -> None:
    mine, stuttering = next(names), capacity(table, stack=2, client=Stuttering(table.client))
    assert stuttering.acquire(mine, "a")
    assert capacity(table, stack=2).acquire(mine, "a")
    stuttering.release(mine, ConcurrencyLimiter.slots_of("a"))
    assert holders(table) == set()


class Cancelling:
    """A client whose writes are refused by planned errors first, one for each attempt."""

    def __init__(self, real: Any, *errors: Exception) -> None:
        self._real, self.errors = real, list(errors)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(**arguments: Any) -> Any:
            if name in {"transact_write_items", "update_item"} and self.errors:
                raise self.errors.pop(0)
            return method(**arguments)

        return call


def unhurried(table: Table, client: Any, pauses: list[float], **caps: int) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(table.name, ConcurrencyLimits(**caps), client, pauses.append)


@pytest.mark.parametrize(
    "codes", [("TransactionConflict",), ("ThrottlingError",), ("ProvisionedThroughputExceeded",), ()]
)
def test_a_conflict_is_tried_again_with_growing_pauses_and_never_means_that_all_slots_are_taken(
    table: Table, codes: tuple[str, ...]
) -> None:
    mine, pauses = next(names), list[float]()
    client = Cancelling(table.client, *[cancelled_transaction(*codes)] * 4)
    assert unhurried(table, client, pauses, stack=1).acquire(mine, "a")
    assert holders(table) == {mine}
    assert len(pauses) == 4
    assert pauses == sorted(pauses)
    assert sum(pauses) < 2


def test_a_conflict_that_continues_is_distinguished_from_slots_that_are_all_taken(table: Table) -> None:
    client = Cancelling(table.client, *[cancelled_transaction("TransactionConflict")] * 9)
    pauses = list[float]()
    assert unhurried(table, client, pauses, stack=1).acquire(next(names), "a") == Acquisition(
        is_contended=True
    )
    assert len(client.errors) == 4
    slots = capacity(table, stack=1)
    slots.acquire(next(names), "a")
    assert slots.acquire(next(names), "a") == Acquisition(full="MaxRunning 1")


def test_executions_that_meet_in_a_conflict_try_again_at_different_times(table: Table) -> None:
    first = list[float]()
    for _ in range(20):
        pauses = list[float]()
        client = Cancelling(table.client, *[cancelled_transaction("TransactionConflict")] * 9)
        unhurried(table, client, pauses, stack=1).acquire(next(names), "a")
        first.append(pauses[0])
    assert len(set(first)) == 20


def test_the_caps_that_are_reached_are_named(table: Table) -> None:
    slots = capacity(table, stack=2, chatbot=1)
    slots.acquire(next(names), "a")
    assert slots.acquire(next(names), "a").full == "MaxRunningPerChatbot 1"
    slots.acquire(next(names), "b")
    assert slots.acquire(next(names), "c").full == "MaxRunning 2"
    assert slots.acquire(next(names), "b").full == "MaxRunning 2, MaxRunningPerChatbot 1"


def test_a_cap_that_is_reached_counts_more_than_a_conflict_beside_it(table: Table) -> None:
    client = Cancelling(table.client, cancelled_transaction("TransactionConflict", "ConditionalCheckFailed"))
    pauses = list[float]()
    taking = unhurried(table, client, pauses, stack=5, chatbot=1).acquire(next(names), "a")
    assert (taking, pauses) == (Acquisition(full="MaxRunningPerChatbot 1"), [])


def test_a_record_that_was_changed_is_distinguished_from_slots_that_are_all_taken(table: Table) -> None:
    one = table.put(record(cancel_requested=to_rfc3339(NOW)))
    slots = capacity(table, stack=1)
    with pytest.raises(RecordConflictError):
        slots.acquire(one.execution_id, "a", (), partial(table.records.take_slots, one))
    assert holders(table) == set()


def test_the_record_lists_every_slot_that_was_taken_for_it(table: Table) -> None:
    one = table.put(record())
    mark = partial(table.records.take_slots, one)
    assert capacity(table, stack=1, chatbot=1).acquire(one.execution_id, "a", (), mark)
    assert table.get(one.execution_id).slots == ("capacity", "capacity/a")


def test_slots_that_the_record_lists_already_are_not_taken_again(table: Table) -> None:
    nowhere: Any = object()
    slots = ConcurrencyLimiter("none", ConcurrencyLimits(stack=1, chatbot=1), nowhere)
    assert slots.acquire(next(names), "a", ("capacity", "capacity/a"))


@pytest.mark.parametrize(
    "now",
    [
        ConcurrencyLimits(),
        ConcurrencyLimits(stack=7),
        ConcurrencyLimits(chatbot=7),
        ConcurrencyLimits(stack=1, chatbot=1),
    ],
)
def test_a_slot_is_given_back_whatever_the_caps_are_by_then(table: Table, now: ConcurrencyLimits) -> None:
    mine = next(names)
    capacity(table, stack=1, chatbot=1).acquire(mine, "a")
    ConcurrencyLimiter(table.name, now, table.client).release(mine, ("capacity", "capacity/a"))
    assert holders(table) == holders(table, "capacity/a") == set()


def test_giving_back_what_is_not_held_makes_no_list(table: Table) -> None:
    capacity(table).release(next(names), ConcurrencyLimiter.slots_of("a"))
    assert table.client.scan(TableName=table.name)["Items"] == []


def test_a_conflict_in_giving_back_is_tried_again(table: Table) -> None:
    mine, pauses = next(names), list[float]()
    capacity(table, stack=1).acquire(mine, "a")
    client = Cancelling(table.client, *[client_error("TransactionConflictException")] * 3)
    unhurried(table, client, pauses).release(mine, ("capacity",))
    assert (holders(table), len(pauses)) == (set(), 3)


def test_a_slot_whose_answer_was_lost_is_still_its_executions(table: Table) -> None:
    lost = Failing(table.client, {"transact_write_items": client_error("InternalServerError")}, after=True)
    mine = next(names)
    with pytest.raises(RecordUnavailableError):
        capacity(table, stack=1, client=lost).acquire(mine, "a")
    assert capacity(table, stack=1).acquire(mine, "a")


def test_a_refusal_that_is_neither_a_condition_nor_a_conflict_is_a_table_in_trouble(table: Table) -> None:
    client = Cancelling(table.client, cancelled_transaction("ValidationError"))
    with pytest.raises(RecordUnavailableError, match="ValidationError"):
        capacity(table, stack=1, client=client).acquire(next(names), "a")


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_a_failing_table_gives_no_slot_and_is_named(table: Table, code: str) -> None:
    failing = Failing(table.client, {"transact_write_items": client_error(code)})
    with pytest.raises(RecordUnavailableError):
        capacity(table, stack=1, client=failing).acquire(next(names), "a")
    assert holders(table) == set()


@pytest.mark.parametrize("code", ["ThrottlingException", "TransactionConflictException"])
def test_a_slot_that_could_not_be_given_back_is_a_reason_to_be_called_again(table: Table, code: str) -> None:
    mine = next(names)
    capacity(table, stack=1).acquire(mine, "a")
    failing = Failing(table.client, {"update_item": client_error(code)})
    with pytest.raises(RecordUnavailableError):
        capacity(table, stack=1, client=failing).release(mine, ConcurrencyLimiter.slots_of("a"))
    assert holders(table) == {mine}


@pytest.mark.parametrize("key", ["capacity", "capacity/support-chat"])
def test_the_items_of_the_slots_are_not_found_as_executions(table: Table, key: str) -> None:
    capacity(table, stack=1, chatbot=1).acquire(next(names), "support-chat")
    assert table.records.get(key, NOW) is None
