"""The report in markdown."""

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
from benchmarks.target import Target, table, verdict
from waterhook.domain import cost

_INTRODUCTION = f"""# Waiting, simulated

The shipped `FollowStep`, `StatusPoller` and polling policy in virtual time, with the template's defaults, against what
people use today, on the same jobs. Everything is seeded: two runs of `python -m benchmarks.polling` write the same.

- **chat**: log-normal, median 12 s. **flow**: log-normal, median 90 s. **batch**: log-uniform, 10 min to 4 h.
  40 % of the jobs queue first. 3/8 show smooth progress, 3/8 stepwise, 1/4 none. 100 are in flight on average.
- **delay** is from completion to the step of the state machine that detects it. The plot shows its mean.
- **cost** is the cost of waiting: the transitions of the loop (the choice after the start included), its
  invocations and the seconds it holds. Prices: `waterhook.domain.cost`. Start, notification, table and logs are the
  same for all and listed apart.
- Assumed: a status request takes {REQUEST_S} s, opening a stream {OPEN_S} s, an event {EVENT_S} s to arrive, a
  transition {TRANSITION_S} s, invoking a warm function {INVOKE_S} s. A good stream sends no keep-alive. Ours follows
  with {cost.FOLLOW_MB} MB and polls with {cost.FUNCTION_MB} MB; a baseline's poll has {BASELINE_POLL_MB} MB for
  {BASELINE_POLL_S} s. No cold starts, no errors.
- "Retry as a loop" pays one transition for a poll instead of three. It cannot honour `Retry-After`, and every poll
  that finds the job running is a failure in the execution's history.
- **s per poll** is the sum of the jobs' ages over the number of status requests.
- The second table of each kind follows streams that do not work as they should, and a status that lags behind.
- The tables and the plot show seed 1. Each target holds for the worst of the seeds 1 to 3.
- In the plot, *follow all jobs* is `follow`, *follow 10 of 100 jobs* is `follow, 10 units for 100 jobs`, and
  *follow none* is `FollowConcurrency 0`. The grey line connects the baselines that no other one beats.
"""


def render(comparisons: Sequence[Comparison], found: Sequence[Target]) -> str:
    """Return the report, ending with how many targets hold."""
    parts = [_INTRODUCTION, "![Mean delay against the cost of waiting](frontier.svg)", ""]
    for comparison in comparisons:
        parts += [f"## {comparison.kind}, {comparison.jobs:,} jobs", ""]
        parts += _table(comparison)
        parts += ["", *_faulty(comparison)]
        parts += ["", *_better_baselines(comparison), ""]
    parts += ["## What is the same for all, per 1,000 jobs", "", *_apart(), ""]
    parts += ["## Targets", "", *table(found)]
    return "\n".join([*parts, "", verdict(found), ""])


def _table(comparison: Comparison) -> Iterable[str]:
    yield from _head("strategy")
    yield from map(_row, comparison.baselines)
    yield from (_row(each, mark="**") for each in comparison.ours)
    yield from map(_row, comparison.by_progress)
    yield _row(comparison.fixed)


def _faulty(comparison: Comparison) -> Iterable[str]:
    yield from _head("followed")
    yield from map(_row, comparison.faulty)


def _head(what: str) -> Iterable[str]:
    yield (
        f"| {what} | delay mean | p50 | p95 | p99 s | turns | transitions | held s | requests | s per poll "
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
    """Yield which baselines are cheaper and faster, by the mean or by the 95th percentile of the delay."""
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


def _apart() -> Iterable[str]:
    yield (
        f"- start: one transition, one invocation, {cost.START_WRITES} writes: ${cost.start_usd() * 1000:.3f}"
    )
    yield (
        f"- end: notify and the two states after it, one invocation, {cost.END_WRITES} writes, one message: "
        f"${cost.end_usd() * 1000:.3f}"
    )
    yield f"- a request through the API: ${cost.API_REQUEST_USD * 1000:.4f}; logs and storage by their size"
