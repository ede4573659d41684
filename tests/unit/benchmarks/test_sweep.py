"""A sweep recovers executions as fast as the operations guide states."""

from benchmarks.sweep import TIMEOUT_S, recover
from tests.contract.template import deployed


def test_one_sweep_recovers_hundreds_of_abandoned_executions_without_a_throttle() -> None:
    result = recover(300)
    assert (result.first_hour, result.sweeps, result.throttled) == (300, 1, 0)
    assert 5_000 < 300 / result.hours < 15_000


def test_the_simulated_sweep_has_the_timeout_of_the_template() -> None:
    assert deployed()["ReconcileFunction"]["Properties"]["Timeout"] == TIMEOUT_S
