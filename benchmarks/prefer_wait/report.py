"""Renders the section of the report, and computes the targets."""

from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from benchmarks.prefer_wait.crowd import Crowd
from benchmarks.prefer_wait.delay import Delay
from benchmarks.target import Target, at_most, table

MAX_DELAY_S = 0.7


def targets(delays: Sequence[Delay], crowd: Crowd, places: int) -> Iterator[Target]:
    """Yield the targets with their results. `places` is `MaxWaiters`."""
    answer_s = median(each.answer_s for each in delays)
    yield at_most("median time from the completion of a job to the answer:", answer_s, MAX_DELAY_S, " s")
    refused = len(crowd.refused_s)
    yield Target(
        f"of {crowd.callers} callers at the same time, exactly MaxWaiters ({places}) wait",
        crowd.answered == crowd.most_places == places and refused == crowd.callers - places,
        f"{crowd.answered} waited, {refused} did not, at most {crowd.most_places} places were taken",
    )


def render(delays: Sequence[Delay], crowd: Crowd, results: Sequence[Target]) -> str:
    """Return the section in markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            "| | median s | p95 s | longest s |",
            "|---|---|---|---|",
            _row("answer of `Prefer: wait`", [each.answer_s for each in delays]),
            _row("SNS and SQS", [each.sns_s for each in delays]),
            "",
            f"{len(delays)} executions of 1 to 3 s, one after the other.",
            "",
            "## Many callers",
            "",
            _MANY.format(
                callers=crowd.callers,
                answered=crowd.answered,
                median_s=median(crowd.refused_s),
                longest_s=max(crowd.refused_s),
            ),
            "",
            *table(results),
            "",
        ]
    )


_INTRODUCTION = """# An answer while the caller waits

`python -m benchmarks.prefer_wait`: measures the answers to `Prefer: wait` on the local AWS. Absolute times depend on
the machine.

- Each number is the time from the completion of a job, by the simulator's clock, to the arrival of its result.
- **answer of `Prefer: wait`**: at the caller, which sent the request with `Prefer: wait=20`. **SNS and SQS**: at a
  consumer that long-polls the queue which is subscribed to the topic. Both belong to the same executions.
"""


_MANY = """{callers} callers sent a GET with `?wait=20` for one job at the same time. {answered} of them waited until
it ended. The others got an answer without a wait: median {median_s:.1f} s, longest {longest_s:.1f} s. All functions of
the local AWS share the processors of one machine."""


def _row(name: str, delays: Sequence[float]) -> str:
    p95 = quantiles(delays, n=20, method="inclusive")[18]
    return f"| {name} | {median(delays):.2f} | {p95:.2f} | {max(delays):.2f} |"
