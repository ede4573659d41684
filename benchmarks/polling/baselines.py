"""Common polling loops: the states Wait, Poll and Choice with fixed or growing intervals, and a task with a Retry."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.polling.measurements import (
    BASELINE_POLL_MB,
    BASELINE_POLL_S,
    INVOKE_S,
    TRANSITION_S,
    WaitMeasurement,
)
from benchmarks.polling.workloads import SimulatedJob
from waterhook.domain import cost

# Any other text would change the results of the loop with jitter.
_SEED = "waterhook 1.5-fold to 300 s, full jitter"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A polling loop: its waits in seconds, and the number of transitions of each wait with its poll."""

    name: str
    waits: Callable[[random.Random], Iterator[float]]
    transitions: int = 3

    def wait(self, jobs: tuple[SimulatedJob, ...]) -> list[WaitMeasurement]:
        """Simulate the loop for each job."""
        generator = random.Random(_SEED)  # noqa: S311 - not used for security
        return [self._wait(job, generator) for job in jobs]

    def _wait(self, job: SimulatedJob, generator: random.Random) -> WaitMeasurement:
        now, invocations = 0.0, 0
        for wait_s in self.waits(generator):
            invocations += 1
            now += wait_s + self.transitions * TRANSITION_S + INVOKE_S + BASELINE_POLL_S
            # The status in the response is half of the request time old.
            if now - BASELINE_POLL_S / 2 >= job.finish_s:
                break
        each_usd = self.transitions * cost.TRANSITION_USD + cost.lambda_usd(
            1, BASELINE_POLL_S, BASELINE_POLL_MB
        )
        delay_s = now + TRANSITION_S - job.finish_s
        return WaitMeasurement(
            delay_s=delay_s,
            invocations=invocations,
            transitions=invocations * self.transitions,
            followed_s=0.0,
            requests=invocations,
            cost_usd=invocations * each_usd,
            status_requests=invocations,
            age_s=job.finish_s,
        )


def _fixed_waits(wait_s: float) -> Callable[[random.Random], Iterator[float]]:
    def waits(_: random.Random) -> Iterator[float]:
        while True:
            yield wait_s

    return waits


def _doubling_waits(generator: random.Random) -> Iterator[float]:
    del generator
    wait_s = 1.0
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, 60.0)


def _jittered_waits(generator: random.Random) -> Iterator[float]:
    """Yield the default of AWS's SDK for durable functions: 5 s, times 1.5, up to 300 s, full jitter, at least 1 s."""
    max_s = 5.0
    while True:
        yield max(round(generator.uniform(0, max_s)), 1)
        max_s = min(max_s * 1.5, 300.0)


def _task_retry_waits(_: random.Random) -> Iterator[float]:
    """Yield the waits of a task that fails while the job runs: first immediately, then at a fixed interval."""
    yield 0.0
    while True:
        yield 5.0


def fixed_interval(wait_s: int) -> Baseline:
    """Return a loop that polls at a fixed interval."""
    return Baseline(f"poll every {wait_s} s", _fixed_waits(wait_s))


BASELINES = (
    *map(fixed_interval, (5, 15, 30, 60)),
    Baseline("backoff 1 s to 60 s", _doubling_waits),
    Baseline("backoff 5 s to 300 s, with jitter", _jittered_waits),
    Baseline("task retry every 5 s", _task_retry_waits, transitions=1),
)
