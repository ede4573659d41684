"""The simulation of waiting is deterministic, so its targets are held here on fewer jobs than `make bench` takes."""

import pytest

from benchmarks.polling.comparison import compare, targets
from benchmarks.polling.workloads import Kind, tasks

FEW = {Kind.CHAT: 1000, Kind.FLOW: 1000, Kind.BATCH: 100}


@pytest.mark.parametrize("kind", Kind)
def test_the_policy_meets_its_targets(kind: Kind) -> None:
    assert [target for target in targets(compare(kind, FEW[kind])) if not target.held] == []


def test_two_runs_of_the_simulation_agree() -> None:
    assert compare(Kind.CHAT, 50) == compare(Kind.CHAT, 50)


@pytest.mark.parametrize(("kind", "median_s"), [(Kind.CHAT, 12), (Kind.FLOW, 90)])
def test_the_jobs_are_as_published(kind: Kind, median_s: float) -> None:
    found = sorted(job.finish_s for job in tasks(kind, 4000))
    # A little later than they run, for some of them queue.
    assert median_s <= found[2000] <= median_s * 1.2


def test_a_missed_target_is_noticed() -> None:
    """A loop that never listens is no follow: held to its targets it misses them."""
    comparison = compare(Kind.CHAT, 50)
    assert comparison.of("FollowMode OFF").p50_s > 0.3
    assert comparison.of("fixed 5 s").is_beaten_by(comparison.of("follow"))
