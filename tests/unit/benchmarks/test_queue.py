"""The simulated queue starts each request within the concurrency limit."""

from benchmarks.queue import Case, by_policy, drain


def test_each_request_is_started_within_the_limit() -> None:
    drained = drain(Case(requests=40, cap=2, job_s=3.0, timeout_s=3600.0), by_policy, seed=1)
    assert len(drained.started_s) == 40
    for start in drained.started_s:
        assert sum(start - 3.0 < other <= start for other in drained.started_s) <= 2
