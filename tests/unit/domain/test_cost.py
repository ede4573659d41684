"""Cost estimate: the price table of the benchmark and of every notification."""

import pytest

from tests.contract.template import source
from tests.support.builders import history
from waterhook.domain import cost


def test_lambda_is_priced_by_gigabyte_seconds_and_requests() -> None:
    assert cost.lambda_usd(0, 1, 1024) == cost.LAMBDA_GB_SECOND_USD
    assert cost.lambda_usd(1_000_000, 0, 1024) == pytest.approx(0.20)


def test_a_poll_cycle_costs_as_much_as_following_for_45_seconds() -> None:
    poll_cycle_usd = cost.waiting_usd(3, follows=0, follow_s=0, polls=1)
    followed_second_usd = cost.waiting_usd(0, follows=0, follow_s=1, polls=0)
    assert poll_cycle_usd / followed_second_usd == pytest.approx(45, abs=1.5)


@pytest.mark.parametrize("more", [{"polls": 1}, {"follows": 1}, {"follow_seconds": 60.0}])
def test_every_poll_and_every_follow_adds_to_the_estimate(more: dict[str, float]) -> None:
    assert cost.estimated_usd(history(**more)) > cost.estimated_usd(history())


def test_the_estimate_uses_the_memory_sizes_of_the_template() -> None:
    follow = source()["Resources"]["FollowFunction"]["Properties"]["MemorySize"]
    deliver = source()["Resources"]["DeliverFunction"]["Properties"]["MemorySize"]
    others = source()["Globals"]["Function"]["MemorySize"]
    assert (follow, deliver, others) == (cost.FOLLOW_MB, cost.DELIVER_MB, cost.FUNCTION_MB)


def test_a_failed_attempt_adds_more_to_the_cost_of_a_webhook_if_the_receiver_is_slow() -> None:
    assert 0 < cost.attempt_usd() < cost.failed_attempt_usd() < cost.failed_attempt_usd(15.0) < 1e-4
