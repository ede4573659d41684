"""The price table: one for the benchmark and for the estimate in every notification."""

import pytest

from tests.contract.template import source
from tests.support.builders import history
from waterhook.domain import cost


def test_an_hour_of_listening_costs_less_than_asking_every_five_seconds_of_it() -> None:
    listened = cost.estimated_usd(history(follows=5, follow_seconds=3600))
    asked = cost.estimated_usd(history(polls=720))
    assert listened < asked / 8


def test_a_gigabyte_held_for_a_second_costs_what_lambda_charges_for_it() -> None:
    assert cost.lambda_usd(0, 1, 1024) == cost.LAMBDA_GB_SECOND_USD
    assert cost.lambda_usd(1_000_000, 0, 1024) == pytest.approx(0.20)


def test_a_turn_of_asking_costs_as_much_as_three_quarters_of_a_minute_of_listening() -> None:
    turn_usd = cost.waiting_usd(3, follows=0, follow_s=0, polls=1)
    second_usd = cost.lambda_usd(0, 1, cost.FOLLOW_MB)
    assert turn_usd / second_usd == pytest.approx(45, abs=1.5)


@pytest.mark.parametrize("more", [{"polls": 1}, {"follows": 1}, {"follow_seconds": 60.0}])
def test_whatever_more_it_takes_costs_more(more: dict[str, float]) -> None:
    assert cost.estimated_usd(history(**more)) > cost.estimated_usd(history())


def test_the_functions_are_counted_at_the_size_they_have() -> None:
    follow = source()["Resources"]["FollowFunction"]["Properties"]["MemorySize"]
    assert (follow, source()["Globals"]["Function"]["MemorySize"]) == (cost.FOLLOW_MB, cost.FUNCTION_MB)
