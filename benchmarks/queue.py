"""`python -m benchmarks.queue`: simulates how well queued requests use free slots, now and in version 0.1.

All requests arrive within half a second. Each checks for a free slot when it arrives, and then at the times that the
policy sets. A check is instantaneous, so checks do not compete. A slot is free when its job has ended.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import mean

from waterhook.domain import polling_policy, retry_policy
from waterhook.domain.jitter import jitter_of
from waterhook.domain.polling_policy import Limits

SHORTEST_S, LONGEST_S = 2.0, 30.0
HOUR_S, DAY_S = 3_600.0, 24 * 3_600.0
SEEDS = range(10)
# Time that Step Functions, Lambda and DynamoDB need for a check after a wait.
_LATENCY_S = 0.15
_ARRIVALS_S = 0.5

type Wait = Callable[[str, float, float, float], float]
"""Returns the seconds to wait from execution id, timeout, arrival and current time."""


@dataclass(frozen=True, slots=True)
class Case:
    """Requests that arrive together. `cap` is the number of slots."""

    requests: int
    cap: int
    job_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class QueueResult:
    """Result of a case: the start of each request in seconds after the first arrival, and the number of checks."""

    started_s: tuple[float, ...]
    checks: int
    case: Case

    @property
    def last_s(self) -> float:
        """Start of the last request in seconds."""
        return max(self.started_s, default=math.inf)

    @property
    def utilisation(self) -> float:
        """Fraction of the slot time that was used, from the first arrival to the end of the last job."""
        used_s = len(self.started_s) * self.case.job_s
        return used_s / self.case.cap / (self.last_s + self.case.job_s)


def by_policy(execution_id: str, timeout_s: float, arrived: float, now: float) -> float:
    """Return the wait of the current start step."""
    limits = Limits(SHORTEST_S, LONGEST_S, arrived + timeout_s)
    return retry_policy.next_slot_attempt(
        timeout_s, now, limits, jitter_of(execution_id, int(now))
    ).wait_seconds


def by_age(_execution_id: str, timeout_s: float, arrived: float, now: float) -> float:
    """Return the wait of version 0.1, which grows with the age of the request and has no jitter."""
    age_s, rest_s = now - arrived, max(arrived + timeout_s - now, 1.0)
    wait_s = min(max(0.3 * age_s, SHORTEST_S), LONGEST_S)
    wait_s = min(max(wait_s, timeout_s / 200), rest_s)
    return min(max(math.ceil(wait_s), 1), polling_policy.WAIT_LIMIT_S)


def drain(case: Case, wait: Wait, seed: int) -> QueueResult:
    """Simulate a case. A request that passes its timeout is never started."""
    chance = Random(seed)  # noqa: S311 - not used for security
    arrived = [chance.uniform(0, _ARRIVALS_S) for _ in range(case.requests)]
    checks = [(moment, number) for number, moment in enumerate(arrived)]
    heapq.heapify(checks)
    ends: list[float] = []
    started: list[float] = []
    count = 0
    while checks:
        now, number = heapq.heappop(checks)
        if now >= arrived[number] + case.timeout_s:
            continue
        count += 1
        ends = [end for end in ends if end > now]
        if len(ends) < case.cap:
            started.append(now)
            ends.append(now + case.job_s)
        else:
            wait_s = wait(f"{seed}-{number}", case.timeout_s, arrived[number], now)
            heapq.heappush(checks, (now + wait_s + _LATENCY_S, number))
    return QueueResult(tuple(started), count, case)


def main() -> None:
    """Print the means over the seeds, a line for each timeout and policy."""
    print(f"40 requests of 3 s, MaxRunning 2, means over {len(SEEDS)} seeds. The minimum is 60 s")
    for name, timeout_s in (("1 h", HOUR_S), ("1 day", DAY_S), ("30 days", 30 * DAY_S)):
        for version, wait in (("0.1", by_age), ("now", by_policy)):
            runs = [drain(Case(40, 2, 3.0, timeout_s), wait, seed) for seed in SEEDS]
            print(
                f"timeout {name:>7}  {version}: last start after {mean(run.last_s for run in runs):7.0f} s,"
                f" utilisation {100 * mean(run.utilisation for run in runs):5.1f} %,"
                f" {mean(run.checks for run in runs):4.0f} checks"
            )


if __name__ == "__main__":
    main()
