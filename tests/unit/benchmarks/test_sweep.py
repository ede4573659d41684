"""The benchmark of the sweep still runs, and its pace is that of the operations guide."""

from benchmarks.sweep import TIMEOUT_S, recover
from tests.contract.template import deployed


def test_hundreds_of_abandoned_executions_are_recovered_by_one_sweep_without_a_throttle() -> None:
    done = recover(300)
    assert (done.first_hour, done.sweeps, done.throttled) == (300, 1, 0)
    assert 5_000 < 300 / done.hours < 15_000


def test_the_time_of_a_sweep_is_that_of_the_template() -> None:
    assert deployed()["ReconcileFunction"]["Properties"]["Timeout"] == TIMEOUT_S
