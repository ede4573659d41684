"""The polling policy meets its targets on simulated jobs, fewer than `make bench` simulates."""

import pytest

from benchmarks.polling.comparison import compare, targets
from benchmarks.polling.workloads import Kind

JOBS = {Kind.CHAT: 300, Kind.FLOW: 400, Kind.BATCH: 20}


@pytest.mark.parametrize("kind", Kind)
def test_the_policy_meets_its_targets(kind: Kind) -> None:
    assert [target for target in targets([compare(kind, JOBS[kind])]) if not target.held] == []
