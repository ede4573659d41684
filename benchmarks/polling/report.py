"""Renders the section of the report in Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.polling.comparison import Comparison
from benchmarks.polling.measurements import (
    BASELINE_POLL_MB,
    BASELINE_POLL_S,
    EVENT_S,
    INVOKE_S,
    OPEN_S,
    REQUEST_S,
    TRANSITION_S,
    Summary,
)
from benchmarks.target import Target, summary, table
from waterhook.domain import cost

_INTRODUCTION = f"""# Waiting, simulated

Compares the shipped `FollowStep`, `StatusPoller` and polling policy with common polling loops, with the same jobs, in
simulated time. Parameters have the defaults of the template. All random numbers are seeded, so two runs of
`python -m benchmarks.polling` write the same report.

- **chat**: log-normal, median 12 s. **flow**: log-normal, median 90 s. **batch**: log-uniform, 10 min to 4 h.
  40 % of the jobs are queued first. 3/8 show smooth progress, 3/8 stepwise, 1/4 none. On average 100 jobs run at the
  same time.
- **delay** is the time from the completion of the job until the state machine detects it. The plot shows the mean.
- **cost** is the cost of waiting: the transitions of the loop (with the choice after the start), its invocations and
  the seconds of following. Prices: `waterhook.domain.cost`. Start, notification, table and logs cost the same for all
  strategies and are listed separately.
- Assumed: a status request takes {REQUEST_S} s, opening a stream {OPEN_S} s, an event {EVENT_S} s to arrive, a
  transition {TRANSITION_S} s, invoking a warm function {INVOKE_S} s. A good stream sends no keep-alive. Waterhook
  follows with {cost.FOLLOW_MB} MB and polls with {cost.FUNCTION_MB} MB; a baseline's poll has {BASELINE_POLL_MB} MB for
  {BASELINE_POLL_S} s. No cold starts, no errors.
- *Task retry* is a Task state that fails while the job runs, and its Retry. It needs one transition for
  a poll instead of three. It cannot respect `Retry-After`, and each poll of a running job is a failure in the history
  of the state machine execution.
- **invocations** counts polls and follows. **followed s** is the seconds of following. **s per poll** is the sum of
  the ages of the jobs divided by the number of status requests.
- The second table of each kind has the results if all jobs are followed and streams are faulty or the status is 2 s
  late.
- The tables and the plot show seed 1. Each target holds for the worst of the seeds 1 to 3.
- *All jobs followed* means that `FollowConcurrency` is above the number of running jobs, *10 of 100 jobs followed* that
  it is 10, and *no job followed* that it is 0.
- The grey line in the plot connects the polling loops without Waterhook that no other loop beats in delay and cost.
"""


def render(comparisons: Sequence[Comparison], results: Sequence[Target]) -> str:
    """Return the section. Its last line has the number of targets that hold."""
    parts = [_INTRODUCTION, "![Mean delay against the cost of waiting](frontier.svg)", ""]
    for comparison in comparisons:
        parts += [f"## {comparison.kind}, {comparison.jobs:,} jobs", ""]
        parts += _table(comparison)
        parts += ["", *_faulty(comparison)]
        parts += ["", *_better_baselines(comparison), ""]
    parts += ["## Costs that are the same for all strategies, per 1,000 jobs", "", *_common_costs(), ""]
    parts += ["## Targets", "", *table(results)]
    return "\n".join([*parts, "", summary(results), ""])


def _table(comparison: Comparison) -> Iterable[str]:
    yield from _head("strategy")
    yield from map(_row, comparison.baselines)
    yield from (_row(each, mark="**") for each in comparison.waterhook)
    yield from map(_row, comparison.by_progress)
    yield _row(comparison.fixed)


def _faulty(comparison: Comparison) -> Iterable[str]:
    yield from _head("all jobs followed, with a fault")
    yield from map(_row, comparison.faulty)


def _head(first_column: str) -> Iterable[str]:
    yield (
        f"| {first_column} | delay mean | p50 | p95 | p99 s | invocations | transitions | followed s | requests | "
        "s per poll | $ per 1,000 |"
    )
    yield "|" + "---|" * 11


def _row(row: Summary, mark: str = "") -> str:
    return (
        f"| {mark}{row.name}{mark} | {row.mean_s:.2f} | {row.p50_s:.2f} | {row.p95_s:.2f} | {row.p99_s:.2f} | "
        f"{row.invocations:.1f} | {row.transitions:.1f} | {row.followed_s:.1f} | {row.requests:.1f} | "
        f"{row.s_per_status_request:.1f} | "
        f"{row.usd_per_1000:.3f} |"
    )


def _better_baselines(comparison: Comparison) -> Iterable[str]:
    """Yield the baselines that are cheaper and have a lower mean or 95th percentile of the delay."""
    for row in comparison.waterhook:
        for measure in ("mean", "p95"):
            better = [
                each.name
                for each in comparison.baselines
                if getattr(each, f"{measure}_s") < getattr(row, f"{measure}_s")
                and each.usd_per_1000 < row.usd_per_1000
            ]
            if better:
                yield f"Cheaper than {row.name} and faster by the {measure}: {', '.join(better)}.  "


def _common_costs() -> Iterable[str]:
    yield (
        f"- start: one transition, one invocation, {cost.START_WRITES} writes: ${cost.start_usd() * 1000:.3f}"
    )
    yield (
        f"- end: the state Notify and the two states after it, one invocation, {cost.END_WRITES} writes, one message: "
        f"${cost.end_usd() * 1000:.3f}"
    )
    yield f"- a request through the API: ${cost.API_REQUEST_USD * 1000:.4f}; logs and storage by their size"
