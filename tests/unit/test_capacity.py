"""The cap on running jobs: a slot is its execution's by name, so nothing that happens twice counts twice."""

from itertools import count
from typing import Any

import pytest

from tests.support.aws import Failing, Killed, Stuttering, Table, Tape, Taped, client_error
from tests.support.clock import NOW
from waterhook.capacity import NO_CAP, Capacity, Caps
from waterhook.errors import RecordUnavailable

names = (f"{number:032x}" for number in count())


def capacity(table: Table, *, stack: int = 0, chatbot: int = 0, client: Any = None) -> Capacity:
    return Capacity(table.name, Caps(stack=stack, chatbot=chatbot), client or table.client)


def holders(table: Table, key: str = "capacity") -> set[str]:
    item = table.client.get_item(TableName=table.name, Key={"execution_id": {"S": key}}).get("Item", {})
    return set(item.get("running", {}).get("SS", []))


def test_where_there_is_no_cap_nothing_is_asked_and_nothing_written() -> None:
    nowhere: Any = object()
    unlimited = Capacity("none", Caps(), nowhere)
    assert all(unlimited.take(next(names), "support-chat") for _ in range(100))
    unlimited.give_back(next(names), "support-chat")
    assert NO_CAP.take(next(names), "support-chat")
    assert not Caps()


def test_as_many_run_as_the_cap_says_and_not_one_more(table: Table) -> None:
    slots = capacity(table, stack=3)
    assert [slots.take(next(names), "support-chat") for _ in range(5)] == [True] * 3 + [False] * 2
    assert len(holders(table)) == 3


def test_a_slot_given_back_is_the_next_ones(table: Table) -> None:
    slots = capacity(table, stack=1)
    first, second = next(names), next(names)
    assert slots.take(first, "support-chat")
    assert not slots.take(second, "support-chat")
    slots.give_back(first, "support-chat")
    assert slots.take(second, "support-chat")
    assert holders(table) == {second}


def test_who_holds_a_slot_gets_it_again_even_when_all_are_taken(table: Table) -> None:
    slots = capacity(table, stack=2, chatbot=2)
    mine, other = next(names), next(names)
    slots.take(mine, "support-chat")
    slots.take(other, "support-chat")
    assert slots.take(mine, "support-chat")
    assert holders(table) == holders(table, "capacity/support-chat") == {mine, other}


def test_a_slot_given_back_twice_frees_one(table: Table) -> None:
    slots = capacity(table, stack=2)
    first, second = next(names), next(names)
    slots.take(first, "support-chat")
    slots.take(second, "support-chat")
    slots.give_back(first, "support-chat")
    slots.give_back(first, "support-chat")
    assert [slots.take(next(names), "support-chat") for _ in range(2)] == [True, False]


def test_who_never_had_a_slot_gives_none_back(table: Table) -> None:
    slots = capacity(table, stack=1, chatbot=1)
    slots.take(next(names), "support-chat")
    slots.give_back(next(names), "support-chat")
    slots.give_back(next(names), None)
    assert not slots.take(next(names), "support-chat")


def test_a_chatbot_at_its_cap_does_not_stand_in_the_way_of_another(table: Table) -> None:
    slots = capacity(table, stack=3, chatbot=1)
    assert slots.take(next(names), "support-chat")
    assert not slots.take(next(names), "support-chat")
    assert slots.take(next(names), "report-flow")
    assert slots.take(next(names), "third")
    assert not slots.take(next(names), "fourth")


def test_a_slot_under_one_cap_alone_is_none_and_takes_nothing(table: Table) -> None:
    slots = capacity(table, stack=5, chatbot=1)
    slots.take(first := next(names), "support-chat")
    assert not slots.take(next(names), "support-chat")
    assert holders(table) == {first}


def test_a_chatbot_whose_name_is_a_path_has_slots_of_its_own(table: Table) -> None:
    slots = capacity(table, chatbot=1)
    assert slots.take(next(names), "a/b")
    assert slots.take(next(names), "a")
    assert slots.take(next(names), "b")


@pytest.mark.parametrize("after", [False, True], ids=["before it was written", "after it was written"])
def test_killed_in_taking_a_slot_the_same_execution_takes_it_again(table: Table, *, after: bool) -> None:
    mine = next(names)
    with pytest.raises(Killed):
        capacity(table, stack=1, client=Taped(table.client, Tape(kill_at=int(after)))).take(mine, "a")
    assert capacity(table, stack=1).take(mine, "a")
    assert holders(table) == {mine}
    assert not capacity(table, stack=1).take(next(names), "a")


def test_killed_at_any_step_of_giving_back_it_can_be_given_back_again(table: Table) -> None:
    for at in range(4):
        mine, slots = next(names), capacity(table, stack=1, chatbot=1)
        assert slots.take(mine, "a")
        taped = Taped(table.client, Tape(kill_at=at))
        with pytest.raises(Killed):
            capacity(table, stack=1, chatbot=1, client=taped).give_back(mine, "a")
        slots.give_back(mine, "a")
        assert holders(table) == holders(table, "capacity/a") == set()


def test_a_write_that_botocore_repeats_counts_once(table: Table) -> None:
    mine, stuttering = next(names), capacity(table, stack=2, client=Stuttering(table.client))
    assert stuttering.take(mine, "a")
    assert capacity(table, stack=2).take(mine, "a")
    stuttering.give_back(mine, "a")
    assert holders(table) == set()


def test_a_conflict_of_two_that_take_a_slot_at_once_means_later(table: Table) -> None:
    conflict = Failing(table.client, {"transact_write_items": client_error("TransactionCanceledException")})
    mine = next(names)
    assert not capacity(table, stack=1, client=conflict).take(mine, "a")
    assert capacity(table, stack=1).take(mine, "a")


def test_a_slot_whose_answer_was_lost_is_still_its_executions(table: Table) -> None:
    lost = Failing(
        table.client, {"transact_write_items": client_error("TransactionCanceledException")}, after=True
    )
    mine = next(names)
    assert not capacity(table, stack=1, client=lost).take(mine, "a")
    assert capacity(table, stack=1).take(mine, "a")


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_a_table_in_trouble_is_no_slot_and_says_so(table: Table, code: str) -> None:
    failing = Failing(table.client, {"transact_write_items": client_error(code)})
    with pytest.raises(RecordUnavailable):
        capacity(table, stack=1, client=failing).take(next(names), "a")
    assert holders(table) == set()


@pytest.mark.parametrize("code", ["ThrottlingException", "TransactionConflictException"])
def test_a_slot_that_could_not_be_given_back_is_a_reason_to_be_called_again(table: Table, code: str) -> None:
    mine = next(names)
    capacity(table, stack=1).take(mine, "a")
    failing = Failing(table.client, {"update_item": client_error(code)})
    with pytest.raises(RecordUnavailable):
        capacity(table, stack=1, client=failing).give_back(mine, "a")
    assert holders(table) == {mine}


@pytest.mark.parametrize("key", ["capacity", "capacity/support-chat"])
def test_the_slots_are_no_execution_that_anybody_could_ask_for(table: Table, key: str) -> None:
    capacity(table, stack=1, chatbot=1).take(next(names), "support-chat")
    assert table.records.get(key, NOW) is None
