"""The simulation of queued requests keeps to what it simulates; its figures are printed, not asserted."""

import pytest

from benchmarks.queue import Case, Wait, by_age, by_policy, drain


@pytest.mark.parametrize("wait", [by_age, by_policy])
def test_no_more_jobs_run_than_the_cap_allows_and_every_request_is_started(wait: Wait) -> None:
    drained = drain(Case(requests=40, cap=2, job_s=3.0, timeout_s=3600.0), wait, seed=1)
    assert len(drained.started_s) == 40
    for start in drained.started_s:
        assert sum(start - 3.0 < other <= start for other in drained.started_s) <= 2
    assert 0 < drained.utilisation <= 1


def test_a_request_that_finds_no_slot_until_its_deadline_is_given_up() -> None:
    assert len(drain(Case(requests=3, cap=1, job_s=99.0, timeout_s=20.0), by_policy, seed=1).started_s) == 1
