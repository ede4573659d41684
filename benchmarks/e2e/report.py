"""Renders the section of the report, and computes the targets."""

from collections.abc import Iterator, Sequence
from statistics import mean, median, quantiles

from benchmarks.e2e.burst import Burst
from benchmarks.e2e.compare import WAVE, Measurement, Pair
from benchmarks.e2e.jobs import LONGEST_S, MEDIAN_S, SHORTEST_S
from benchmarks.e2e.poller import WAIT_SECONDS
from benchmarks.target import Target, table


def targets(pairs: Sequence[Pair], burst: Burst) -> Iterator[Target]:
    """Yield the targets with their results."""
    waterhook, poller = [pair.waterhook for pair in pairs], [pair.poller for pair in pairs]
    for name, average, of in (
        ("median delay is lower than the poller's", median, _delay),
        ("mean number of transitions is lower than the poller's", mean, _transitions),
    ):
        waterhook_average, poller_average = average(map(of, waterhook)), average(map(of, poller))
        yield Target(
            name, waterhook_average < poller_average, f"{waterhook_average:.2f} against {poller_average:.2f}"
        )
    yield Target(
        f"each of {burst.executions} concurrent executions has one notification and one job",
        burst.accounted_for == burst.executions == len(burst.notifications),
        f"{burst.accounted_for} of {burst.executions}, {len(burst.notifications)} notifications",
    )


def render(pairs: Sequence[Pair], burst: Burst, results: Sequence[Target]) -> str:
    """Return the section in markdown."""
    delays = [each.delay_s for each in burst.notifications]
    p50, p95, p99 = _percentiles(delays)
    count, rate = burst.executions, burst.executions / burst.wall_s
    throughput = (
        f"{count} executions of 1 to 3 s, started within {burst.started_s:.1f} s: the last notification arrived "
        f"{burst.wall_s:.1f} s after the first start ({rate:.1f} per second). Time from the completion of a job to its "
        f"notification: median {p50:.1f} s, p95 {p95:.1f} s, p99 {p99:.1f} s. The local AWS runs 32 functions at a "
        "time, 12 of them follow functions, on one machine. Each function has a cold start."
    )
    return "\n".join(
        [
            _INTRODUCTION,
            "| | delay median s | p95 s | longest s | transitions | requests to Waterflai |",
            "|---|---|---|---|---|---|",
            _row("**Waterhook**", [pair.waterhook for pair in pairs]),
            _row(f"poll every {WAIT_SECONDS} s", [pair.poller for pair in pairs]),
            _ratios(pairs),
            "",
            f"{len(pairs)} jobs with each, {WAVE} at a time.",
            "",
            "## Throughput",
            "",
            throughput,
            "",
            *table(results),
            "",
        ]
    )


_INTRODUCTION = f"""# End to end

`python -m benchmarks.e2e`: compares the deployed stack with a job poller as in the examples of AWS (submit, wait
{WAIT_SECONDS} s, get the status, branch; `benchmarks/e2e/peer`). Both run in the same local AWS, with the same
simulated Waterflai. Both run each job at the same time. Absolute times depend on the machine, so compare the ratios.

- Jobs are log-normal, median {MEDIAN_S:g} s, cut off at {SHORTEST_S:g} and {LONGEST_S:g} s.
- **delay** is the time from the completion of the job, by the simulator's clock, to the message in the subscribed
  queue. The poller publishes nothing. Its delay ends with its state machine execution.
- **transitions** is the number of entered states in the history, including those after the end of the job (Notify and
  two more for Waterhook).
- **requests to Waterflai** is the number of requests without the start, counted by the simulator. Waterhook polls while
  it follows the stream, at least 2 s apart. The simulation has the target for this interval.
"""


def _delay(measurement: Measurement) -> float:
    return measurement.delay_s


def _transitions(measurement: Measurement) -> float:
    return measurement.transitions


def _requests(measurement: Measurement) -> float:
    return measurement.requests


def _row(name: str, measurements: Sequence[Measurement]) -> str:
    delays = [each.delay_s for each in measurements]
    p50, p95, _ = _percentiles(delays)
    transitions, requests = mean(map(_transitions, measurements)), mean(map(_requests, measurements))
    return f"| {name} | {p50:.2f} | {p95:.2f} | {max(delays):.2f} | {transitions:.1f} | {requests:.1f} |"


def _ratios(pairs: Sequence[Pair]) -> str:
    waterhook, poller = [pair.waterhook for pair in pairs], [pair.poller for pair in pairs]
    delay = median(map(_delay, waterhook)) / median(map(_delay, poller))
    transitions = mean(map(_transitions, waterhook)) / mean(map(_transitions, poller))
    requests = mean(map(_requests, waterhook)) / mean(map(_requests, poller))
    return f"| ratio | {delay:.2f} | | | {transitions:.2f} | {requests:.2f} |"


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
