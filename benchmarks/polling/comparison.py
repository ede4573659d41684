"""Runs the shipped policy and the baselines with the same jobs, and computes the targets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.polling import shipped_loop
from benchmarks.polling.baselines import BASELINES, fixed_interval
from benchmarks.polling.measurements import Summary, WaitMeasurement
from benchmarks.polling.workloads import Behaviour, Kind, Progress, SimulatedJob, Workload, make_jobs
from benchmarks.target import Target

FULL = {Kind.CHAT: 4000, Kind.FLOW: 4000, Kind.BATCH: 1000}
SEEDS = (1, 2, 3)
SHORT_STREAM_S = 60.0
FEW_UNITS = 10

FOLLOW = "Waterhook, all jobs followed"
FOLLOW_SHORT = "Waterhook, streams end after 60 s"
FOLLOW_FEW = "Waterhook, 10 of 100 jobs followed"
OFF = "Waterhook, no job followed"
EQUAL_COST = "poll at a fixed interval, equal cost"

# Cost of a good stream with version 0.1, in dollars for 1,000 jobs, by kind, for the seeds 1 to 3, with all jobs.
COST_OF_0_1 = {
    Kind.CHAT: (0.120152, 0.123830, 0.124647),
    Kind.FLOW: (0.434872, 0.429892, 0.407503),
    Kind.BATCH: (7.764532, 7.456726, 7.209045),
}
# Intervals in seconds. The cost of Waterhook without following is between the costs of two of them.
INTERVALS_S = {
    Kind.CHAT: (3, 4, 5, 6, 8, 10, 15),
    Kind.FLOW: (8, 10, 12, 14, 16, 18, 20, 25),
    Kind.BATCH: (25, 30, 35, 40, 45, 50, 60),
}

_PROGRESS_LABELS = {
    Progress.SMOOTH: "smooth progress",
    Progress.STEPWISE: "stepwise progress",
    Progress.NONE: "no progress",
}
_POLLED = (Behaviour.HEARTBEATS, Behaviour.NONE, Behaviour.HELD_BACK, Behaviour.LOST_OPEN)
_PROMPT = (Behaviour.BUFFERED, Behaviour.LOST_CLOSED, Behaviour.LATE)
# Maximum delay in seconds: mean and 95th percentile.
_MAX_POLLED_S = {Kind.CHAT: (2.0, 3.0), Kind.FLOW: (2.3, 5.5), Kind.BATCH: (None, 20.0)}
_MIN_S_PER_REQUEST = {Kind.CHAT: 2.0, Kind.FLOW: 3.0, Kind.BATCH: 10.0}
_MAX_COST_RATIO = {Kind.CHAT: 1.05, Kind.FLOW: 1.03, Kind.BATCH: 1.02}
_MAX_USD_OFF = {Kind.CHAT: 0.45, Kind.FLOW: 1.45, Kind.BATCH: 12.50}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All strategies on the jobs of one kind and seed."""

    kind: Kind
    jobs: int
    seed: int
    baselines: tuple[Summary, ...]
    waterhook: tuple[Summary, ...]
    by_progress: tuple[Summary, ...]
    """Waterhook without following, separately for each kind of progress."""
    faulty: tuple[Summary, ...]
    """Following with a faulty stream or a late status, by behaviour."""
    fixed: Summary
    """A polling loop with a fixed interval that costs as much as Waterhook without following."""

    def of(self, name: str) -> Summary:
        """Return the summary of a strategy or a behaviour."""
        return next(each for each in (*self.baselines, *self.waterhook, *self.faulty) if each.name == name)


def compare(kind: Kind, count: int, seed: int = 1) -> Comparison:
    """Run all strategies with `count` jobs of a kind."""
    jobs = make_jobs(kind, count, seed=seed)
    plain, short = Workload(kind, jobs), Workload(kind, jobs, SHORT_STREAM_S)
    few = Workload(kind, jobs, units=FEW_UNITS)
    off = shipped_loop.wait(plain, follow=False)
    waited_by_strategy = {
        FOLLOW: shipped_loop.wait(plain),
        FOLLOW_SHORT: shipped_loop.wait(short),
        FOLLOW_FEW: shipped_loop.wait(few),
        OFF: off,
    }

    def with_progress(progress: Progress) -> list[WaitMeasurement]:
        return [each for each, job in zip(off, jobs, strict=True) if job.progress is progress]

    return Comparison(
        kind,
        count,
        seed,
        tuple(Summary.of(each.name, each.wait(jobs)) for each in BASELINES),
        tuple(Summary.of(name, waited) for name, waited in waited_by_strategy.items()),
        tuple(
            Summary.of(f"{OFF}, {_PROGRESS_LABELS[progress]}", with_progress(progress))
            for progress in Progress
        ),
        tuple(
            Summary.of(each, shipped_loop.wait(Workload(kind, jobs, behaviour=each)))
            for each in Behaviour
            if each is not Behaviour.GOOD
        ),
        _fixed_at(kind, jobs, Summary.of(OFF, off).usd_per_1000),
    )


def _fixed_at(kind: Kind, jobs: tuple[SimulatedJob, ...], usd_per_1000: float) -> Summary:
    """Return the fixed interval with this cost, interpolated between two intervals."""
    summaries = [Summary.of("", fixed_interval(each).wait(jobs)) for each in INTERVALS_S[kind]]
    for expensive, cheap in pairwise(summaries):
        if cheap.usd_per_1000 <= usd_per_1000 <= expensive.usd_per_1000:
            part = (expensive.usd_per_1000 - usd_per_1000) / (expensive.usd_per_1000 - cheap.usd_per_1000)
            return expensive.between(cheap, part, EQUAL_COST)
    message = f"{kind}: no interval in INTERVALS_S has a cost of ${usd_per_1000:.3f}"
    raise ValueError(message)


def targets(comparisons: Sequence[Comparison]) -> Iterator[Target]:
    """Yield the targets for the jobs of one kind. The result of each target is the worst of all seeds."""
    kind = comparisons[0].kind
    yield from _good_stream(kind, comparisons)
    yield from _faulty_streams(kind, comparisons)
    yield from _without_stream(kind, comparisons)
    for name in (FOLLOW, FOLLOW_SHORT):
        yield _unbeaten(f"{kind}, {name}", name, comparisons)


def _unbeaten(label: str, name: str, comparisons: Sequence[Comparison]) -> Target:
    better = {
        each.name
        for comparison in comparisons
        for each in comparison.baselines
        if comparison.of(name).is_beaten_by(each)
    }
    row = comparisons[0].of(name)
    result = f"{row.mean_s:.2f} s at ${row.usd_per_1000:.3f}" + "".join(
        f", {each}" for each in sorted(better)
    )
    return Target(f"{label}: no baseline is faster on average and cheaper", not better, result)


def _good_stream(kind: Kind, comparisons: Sequence[Comparison]) -> Iterator[Target]:
    for name in (FOLLOW, FOLLOW_SHORT):
        rows = [each.of(name) for each in comparisons]
        yield _at_most(f"{kind}, {name}: p50", rows, lambda row: row.p50_s, 0.3)
        yield _at_most(f"{kind}, {name}: p95", rows, lambda row: row.p95_s, 1.0)
    rows = [each.of(FOLLOW) for each in comparisons]
    yield _min_interval(f"{kind}, {FOLLOW}", kind, rows)
    if _is_full(kind, comparisons):
        costs = [each.of(FOLLOW).usd_per_1000 / COST_OF_0_1[kind][each.seed - 1] for each in comparisons]
        yield _at_most_times(f"{kind}, {FOLLOW}: cost against version 0.1", costs, 1.01)


def _faulty_streams(kind: Kind, comparisons: Sequence[Comparison]) -> Iterator[Target]:
    for row in comparisons[0].faulty:
        name, rows = f"{kind}, {row.name}", [each.of(row.name) for each in comparisons]
        if row.name in _POLLED:
            max_mean_s, max_p95_s = _MAX_POLLED_S[kind]
            if max_mean_s is not None:
                yield _at_most(f"{name}: mean", rows, lambda row: row.mean_s, max_mean_s)
            yield _at_most(f"{name}: p95", rows, lambda row: row.p95_s, max_p95_s or 0)
        elif row.name in _PROMPT:
            yield _at_most(f"{name}: p95", rows, lambda row: row.p95_s, 1.0)
        elif row.name == Behaviour.LAGGING:
            yield _at_most(f"{name}: mean", rows, lambda row: row.mean_s, 2.8)
            yield _at_most(f"{name}: p95", rows, lambda row: row.p95_s, 3.0)
        else:
            yield _at_most(f"{name}: p95", rows, lambda row: row.p95_s, 31.0)
        yield _min_interval(name, kind, rows)
        if row.name != Behaviour.EVENTS_GO_ON:
            costs = [each.of(row.name).usd_per_1000 / each.of(FOLLOW).usd_per_1000 for each in comparisons]
            yield _at_most_times(f"{name}: cost against a good stream", costs, _MAX_COST_RATIO[kind])


def _without_stream(kind: Kind, comparisons: Sequence[Comparison]) -> Iterator[Target]:
    off = [each.of(OFF) for each in comparisons]
    against = f"{kind}, {OFF}, against {EQUAL_COST}"
    pairs = [(each.of(OFF), each.fixed) for each in comparisons]
    yield _at_most_times(f"{against}: p95", [row.p95_s / fixed.p95_s for row, fixed in pairs], 1.2)
    yield _at_most_times(f"{against}: mean", [row.mean_s / fixed.mean_s for row, fixed in pairs], 0.95)
    if _is_full(kind, comparisons):
        max_usd, usd = _MAX_USD_OFF[kind], max(row.usd_per_1000 for row in off)
        yield Target(f"{kind}, {OFF}: costs ${max_usd:.2f} at most", usd <= max_usd, f"${usd:.3f}")
    yield _min_interval(f"{kind}, {OFF}", kind, off)
    pairs = [(each.of(FOLLOW_FEW), each.of(OFF)) for each in comparisons]
    against = f"{kind}, {FOLLOW_FEW}, against {OFF}"
    yield _at_most_times(f"{against}: mean", [few.mean_s / all_off.mean_s for few, all_off in pairs], 1.0)
    yield _at_most_times(f"{against}: p95", [few.p95_s / all_off.p95_s for few, all_off in pairs], 1.0)
    costs = [few.usd_per_1000 / all_off.usd_per_1000 for few, all_off in pairs]
    yield _at_most_times(f"{against}: cost", costs, 1.15)


def _is_full(kind: Kind, comparisons: Sequence[Comparison]) -> bool:
    """Return whether the number of jobs is the one for which absolute costs are known."""
    return all(each.jobs == FULL[kind] for each in comparisons)


def _at_most(name: str, rows: Sequence[Summary], of: Callable[[Summary], float], limit_s: float) -> Target:
    worst_s = max(map(of, rows))
    return Target(f"{name} within {limit_s:g} s", worst_s <= limit_s, f"{worst_s:.2f} s")


def _at_most_times(name: str, ratios: Sequence[float], limit: float) -> Target:
    return Target(f"{name} at most {limit:g} times", max(ratios) <= limit, f"{max(ratios):.3f} times")


def _min_interval(name: str, kind: Kind, rows: Sequence[Summary]) -> Target:
    min_s, measured_s = _MIN_S_PER_REQUEST[kind], min(row.s_per_status_request for row in rows)
    return Target(
        f"{name}: at least {min_s:g} s per status request", measured_s >= min_s, f"{measured_s:.2f} s"
    )
