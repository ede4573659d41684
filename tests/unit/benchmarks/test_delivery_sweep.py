"""A sweep of deliveries has enough time for thousands of them."""

from benchmarks.delivery_sweep import DUE, TIMEOUT_S, sweep
from tests.contract.template import WEBHOOKS, deployed


def test_one_sweep_queues_ten_thousand_due_deliveries_in_batches() -> None:
    result = sweep(DUE)
    assert (result.swept.queued, result.swept.is_complete) == (DUE, True)
    assert result.batches == DUE / 10
    assert result.queries < 50


def test_a_sweep_ends_before_the_timeout_of_its_function() -> None:
    result = sweep(3 * DUE)
    assert DUE < result.swept.queued < 3 * DUE
    assert not result.swept.is_complete
    assert result.seconds < TIMEOUT_S


def test_the_simulated_sweep_has_the_timeout_of_the_template() -> None:
    assert deployed(**WEBHOOKS)["DeliverFunction"]["Properties"]["Timeout"] == TIMEOUT_S
