"""Ours and the baselines on the same jobs, and the targets they are held to."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.polling import ours
from benchmarks.polling.baselines import BASELINES, FIXED_5, FIXED_30
from benchmarks.polling.waited import Summary, Waited
from benchmarks.polling.workloads import Kind, Progress, Workload, tasks
from benchmarks.target import Target

FULL = {Kind.CHAT: 4000, Kind.FLOW: 4000, Kind.BATCH: 1000}
SHORT_STREAM_S = 60.0
FEW_UNITS = 10

FOLLOW = "follow"
FOLLOW_SHORT = "follow, streams end after 60 s"
FOLLOW_FEW = "follow, 10 units for 100 jobs"
FOLLOW_FEW_SHORT = "follow, 10 units, streams end after 60 s"
OFF = "FollowMode OFF"

# The most that following may cost, as a part of what fixed 5 s costs.
PART_OF_FIXED_5 = {
    (Kind.CHAT, FOLLOW): 1 / 3,
    (Kind.CHAT, FOLLOW_SHORT): 1 / 3,
    (Kind.FLOW, FOLLOW): 1 / 6,
    (Kind.FLOW, FOLLOW_SHORT): 1 / 5,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All strategies on the jobs of one kind."""

    kind: Kind
    jobs: int
    baselines: tuple[Summary, ...]
    ours: tuple[Summary, ...]
    by_progress: tuple[Summary, ...]
    """FollowMode OFF once more, for the jobs of each kind of progress by themselves."""

    def of(self, name: str) -> Summary:
        """Return the figures of a strategy."""
        return next(each for each in (*self.baselines, *self.ours) if each.name == name)


def compare(kind: Kind, count: int, seed: int = 1) -> Comparison:
    """Return how the strategies do on so many jobs of a kind."""
    jobs = tasks(kind, count, seed=seed)
    plain, short = Workload(kind, jobs), Workload(kind, jobs, SHORT_STREAM_S)
    few, few_short = (
        Workload(kind, jobs, units=FEW_UNITS),
        Workload(kind, jobs, SHORT_STREAM_S, units=FEW_UNITS),
    )
    off = ours.wait(plain, follow=False)
    found = {
        FOLLOW: ours.wait(plain),
        FOLLOW_SHORT: ours.wait(short),
        FOLLOW_FEW: ours.wait(few),
        FOLLOW_FEW_SHORT: ours.wait(few_short),
        OFF: off,
    }

    def seen(progress: Progress) -> list[Waited]:
        return [each for each, job in zip(off, jobs, strict=True) if job.progress is progress]

    return Comparison(
        kind,
        count,
        tuple(Summary.of(each.name, each.wait(jobs)) for each in BASELINES),
        tuple(Summary.of(name, waited) for name, waited in found.items()),
        tuple(Summary.of(f"{OFF}, progress: {progress}", seen(progress)) for progress in Progress),
    )


def targets(comparison: Comparison) -> Iterator[Target]:
    """Yield what is promised for the jobs of this kind."""
    for name in (FOLLOW, FOLLOW_SHORT):
        yield from _followed(comparison, comparison.of(name))
    for row in comparison.ours:
        beaten_by = [each.name for each in comparison.baselines if row.is_beaten_by(each)]
        wording = (
            "is on the frontier of the baselines or beyond it" if row.name == OFF else "is beaten by none"
        )
        yield Target(
            f"{comparison.kind}, {row.name}: {wording}",
            not beaten_by,
            f"{row.mean_s:.2f} s at ${row.usd_per_1000:.3f}"
            + (f", beaten by {', '.join(beaten_by)}" if beaten_by else ""),
        )


def _followed(comparison: Comparison, row: Summary) -> Iterator[Target]:
    name = f"{comparison.kind}, {row.name}"
    if comparison.kind is Kind.BATCH:
        yield Target(f"{name}: p95 within 5 s", row.p95_s <= 5, f"{row.p95_s:.2f} s")  # noqa: PLR2004
        most_usd, said = comparison.of(FIXED_30.name).usd_per_1000, "no more than fixed 30 s"
    else:
        yield Target(f"{name}: p50 within 0.3 s", row.p50_s <= 0.3, f"{row.p50_s:.2f} s")  # noqa: PLR2004
        yield Target(f"{name}: p95 within 1 s", row.p95_s <= 1, f"{row.p95_s:.2f} s")
        part = PART_OF_FIXED_5[comparison.kind, row.name]
        most_usd, said = comparison.of(FIXED_5.name).usd_per_1000 * part, f"1/{1 / part:.0f} of fixed 5 s"
    figures = f"${row.usd_per_1000:.3f} of ${most_usd:.3f}"
    yield Target(f"{name}: costs {said} at most", row.usd_per_1000 <= most_usd, figures)
