"""Renders the section of the report in Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.polling.comparison import Comparison
from benchmarks.polling.waited import (
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
- "Retry as a loop" needs one transition for a poll instead of three. It can't follow `Retry-After`, and each poll of a
  running job is a failure in the history of the state machine execution.
- **turns** is the number of invocations (polls and follows), **held s** the seconds of following, **s per poll** the
  sum of the ages of the jobs divided by the number of status requests.
- The second table of each kind is for following faulty streams, and for a status that is 2 s late.
- The tables and the plot show seed 1. Each target holds for the worst of the seeds 1 to 3.
- In the plot, *follow all jobs* is `follow`, *follow 10 of 100 jobs* is `follow, 10 units for 100 jobs`, and
  *follow none* is `FollowConcurrency 0`. The grey line connects the baselines that no other one beats.
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
    yield from (_row(each, mark="**") for each in comparison.ours)
    yield from map(_row, comparison.by_progress)
    yield _row(comparison.fixed)


def _faulty(comparison: Comparison) -> Iterable[str]:
    yield from _head("followed")
    yield from map(_row, comparison.faulty)


def _head(first_column: str) -> Iterable[str]:
    yield (
        f"| {first_column} | delay mean | p50 | p95 | p99 s | turns | transitions | held s | requests | s per poll "
        "| $ per 1,000 |"
    )
    yield "|" + "---|" * 11


def _row(row: Summary, mark: str = "") -> str:
    return (
        f"| {mark}{row.name}{mark} | {row.mean_s:.2f} | {row.p50_s:.2f} | {row.p95_s:.2f} | {row.p99_s:.2f} | "
        f"{row.turns:.1f} | {row.transitions:.1f} | {row.held_s:.1f} | {row.requests:.1f} | "
        f"{row.s_per_status_request:.1f} | "
        f"{row.usd_per_1000:.3f} |"
    )


def _better_baselines(comparison: Comparison) -> Iterable[str]:
    """Yield the baselines that are cheaper and have a lower mean or 95th percentile of the delay."""
    for row in comparison.ours:
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
