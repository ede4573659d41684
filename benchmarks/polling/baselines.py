"""Common polling loops: Wait, Poll and Choice with fixed or growing intervals, and Retry used as a loop."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.polling.waited import BASELINE_POLL_MB, BASELINE_POLL_S, INVOKE_S, TRANSITION_S, Waited
from benchmarks.polling.workloads import Task
from waterhook.domain import cost


@dataclass(frozen=True, slots=True)
class Baseline:
    """A polling loop: its waits in seconds, and the number of transitions of each wait with its poll."""

    name: str
    waits: Callable[[random.Random], Iterator[float]]
    transitions: int = 3

    def wait(self, tasks: tuple[Task, ...]) -> list[Waited]:
        """Simulate the loop for each job."""
        generator = random.Random(f"waterhook {self.name}")  # noqa: S311 - not used for security
        return [self._wait(task, generator) for task in tasks]

    def _wait(self, task: Task, generator: random.Random) -> Waited:
        now, turns = 0.0, 0
        for wait_s in self.waits(generator):
            turns += 1
            now += wait_s + self.transitions * TRANSITION_S + INVOKE_S + BASELINE_POLL_S
            # The status in the response is half of the request time old.
            if now - BASELINE_POLL_S / 2 >= task.finish_s:
                break
        each_usd = self.transitions * cost.TRANSITION_USD + cost.lambda_usd(
            1, BASELINE_POLL_S, BASELINE_POLL_MB
        )
        lag_s = now + TRANSITION_S - task.finish_s
        return Waited(
            lag_s, turns, turns * self.transitions, 0.0, turns, turns * each_usd, turns, task.finish_s
        )


def _fixed(wait_s: float) -> Callable[[random.Random], Iterator[float]]:
    def waits(_: random.Random) -> Iterator[float]:
        while True:
            yield wait_s

    return waits


def _doubling(generator: random.Random) -> Iterator[float]:
    del generator
    wait_s = 1.0
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, 60.0)


def _jittered(generator: random.Random) -> Iterator[float]:
    """Yield the default of AWS's SDK for durable functions: 5 s, times 1.5, up to 300 s, full jitter, at least 1 s."""
    max_s = 5.0
    while True:
        yield max(round(generator.uniform(0, max_s)), 1)
        max_s = min(max_s * 1.5, 300.0)


def _retried(_: random.Random) -> Iterator[float]:
    """Yield the waits of a task that fails while the job runs: first immediately, then at a fixed interval."""
    yield 0.0
    while True:
        yield 5.0


def fixed_interval(wait_s: int) -> Baseline:
    """Return a loop that polls at a fixed interval."""
    return Baseline(f"fixed {wait_s} s", _fixed(wait_s))


BASELINES = (
    *map(fixed_interval, (5, 15, 30, 60)),
    Baseline("doubling 1→60 s", _doubling),
    Baseline("1.5-fold to 300 s, full jitter", _jittered),
    Baseline("Retry as a loop, 5 s", _retried, transitions=1),
)
