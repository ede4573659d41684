"""The section on the deployed stacks, and what it is held to."""

from collections.abc import Callable, Iterator, Sequence
from statistics import mean, median, quantiles

from benchmarks.e2e.burst import Burst
from benchmarks.e2e.compare import WAVE, Course, Pair
from benchmarks.e2e.jobs import LONGEST_S, MEDIAN_S, SHORTEST_S
from benchmarks.e2e.poller import WAIT_SECONDS
from benchmarks.target import Target, table

type Side = Callable[[Pair], Course]


def targets(pairs: Sequence[Pair], burst: Burst) -> Iterator[Target]:
    """Yield what is held and what isn't."""
    ours, peer = [pair.ours for pair in pairs], [pair.peer for pair in pairs]
    for name, middle, of in (
        ("notifies sooner than the peer, by the median", median, _lag),
        ("takes fewer transitions than the peer, on average", mean, _transitions),
    ):
        mine, theirs = middle(map(of, ours)), middle(map(of, peer))
        yield Target(name, mine < theirs, f"{mine:.2f} against {theirs:.2f}")
    yield Target(
        f"each of {burst.executions} executions started together is told of once and ran one job",
        burst.accounted_for == burst.executions == len(burst.heard),
        f"{burst.accounted_for} of {burst.executions}, {len(burst.heard)} notifications",
    )


def render(pairs: Sequence[Pair], burst: Burst, found: Sequence[Target]) -> str:
    """Return the section in markdown."""
    lags = [each.lag_s for each in burst.heard]
    p50, p95, p99 = _percentiles(lags)
    count, rate = burst.executions, burst.executions / burst.wall_s
    told = (
        f"{count} executions of 1 to 3 s, started within {burst.started_s:.1f} s: the last notification came "
        f"{burst.wall_s:.1f} s after the first start ({rate:.1f} a second). From a job's completion to its "
        f"notification: median {p50:.1f} s, p95 {p95:.1f} s, p99 {p99:.1f} s. The local AWS runs 32 functions at a "
        "time, 12 of them followers, on the processors of one machine, and each starts cold."
    )
    return "\n".join(
        [
            _INTRODUCTION,
            "| | lag median s | p95 s | longest s | transitions | requests upstream |",
            "|---|---|---|---|---|---|",
            _row("**waterhook**", [pair.ours for pair in pairs]),
            _row(f"fixed {WAIT_SECONDS} s", [pair.peer for pair in pairs]),
            _ratios(pairs),
            "",
            f"{len(pairs)} jobs each, {WAVE} at a time.",
            "",
            "## Throughput",
            "",
            told,
            "",
            *table(found),
            "",
        ]
    )


_INTRODUCTION = f"""# End to end

`python -m benchmarks.e2e`: the deployed stack against a job poller as AWS's examples describe it (submit, wait
{WAIT_SECONDS} s, ask, choose; `benchmarks/e2e/peer`), both in one local AWS, against one simulated Waterflai. Each job
is run by both from the same moment on. It is a local AWS on one machine: take the ratios.

- Jobs are log-normal, median {MEDIAN_S:g} s, cut off at {SHORTEST_S:g} and {LONGEST_S:g} s.
- **lag** is from the completion, by the simulator's clock, to the message in the subscribed queue. The peer publishes
  nothing; its lag ends with its execution.
- **transitions** are the states entered, counted in the histories. Those after the end (ours has Notify and two more)
  are counted like all others.
- **requests upstream** are the simulator's count, the start aside. Ours polls beside the stream, at least 2 s apart;
  the simulation has the target for that.
"""


def _lag(course: Course) -> float:
    return course.lag_s


def _transitions(course: Course) -> float:
    return course.transitions


def _questions(course: Course) -> float:
    return course.questions


def _row(name: str, courses: Sequence[Course]) -> str:
    lags = [each.lag_s for each in courses]
    p50, p95, _ = _percentiles(lags)
    transitions, questions = mean(map(_transitions, courses)), mean(map(_questions, courses))
    return f"| {name} | {p50:.2f} | {p95:.2f} | {max(lags):.2f} | {transitions:.1f} | {questions:.1f} |"


def _ratios(pairs: Sequence[Pair]) -> str:
    ours, peer = [pair.ours for pair in pairs], [pair.peer for pair in pairs]
    lag = median(map(_lag, ours)) / median(map(_lag, peer))
    transitions = mean(map(_transitions, ours)) / mean(map(_transitions, peer))
    questions = mean(map(_questions, ours)) / mean(map(_questions, peer))
    return f"| ratio | {lag:.2f} | | | {transitions:.2f} | {questions:.2f} |"


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
