"""The simulation of waiting is deterministic, so its targets are held here on fewer jobs than `make bench` takes."""

from dataclasses import replace

import pytest

from benchmarks.polling.comparison import FOLLOW, OFF, compare, targets
from benchmarks.polling.workloads import Kind, tasks

FEW = {Kind.CHAT: 500, Kind.FLOW: 400, Kind.BATCH: 50}


@pytest.mark.parametrize("kind", Kind)
def test_the_policy_meets_its_targets(kind: Kind) -> None:
    assert [target for target in targets([compare(kind, FEW[kind])]) if not target.held] == []


def test_two_runs_of_the_simulation_agree() -> None:
    assert compare(Kind.CHAT, 50) == compare(Kind.CHAT, 50)


@pytest.mark.parametrize(("kind", "median_s"), [(Kind.CHAT, 12), (Kind.FLOW, 90)])
def test_the_jobs_are_as_published(kind: Kind, median_s: float) -> None:
    found = sorted(job.finish_s for job in tasks(kind, 4000))
    # A little later than they run, for some of them queue.
    assert median_s <= found[2000] <= median_s * 1.2


def test_a_missed_target_is_noticed() -> None:
    """Polling is not following: held to the targets of a good stream it misses them."""
    comparison = compare(Kind.CHAT, 50)
    assert comparison.of(OFF).p50_s > 0.3
    assert comparison.of("fixed 5 s").is_beaten_by(comparison.of(FOLLOW))
    slow = replace(comparison, ours=tuple(replace(each, p95_s=1.1) for each in comparison.ours))
    missed = [target.name for target in targets([comparison, slow]) if not target.held]
    assert "chat, follow: p95 within 1 s" in missed
