"""What people have today: loops of Wait, Poll and Choice with fixed or growing waits, and Retry used as a loop."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.polling.waited import BASELINE_POLL_MB, BASELINE_POLL_S, INVOKE_S, TRANSITION_S, Waited
from benchmarks.polling.workloads import Task
from waterhook.domain import cost


@dataclass(frozen=True, slots=True)
class Baseline:
    """A row of waits in seconds, and how many transitions each of them costs with the question after it."""

    name: str
    waits: Callable[[random.Random], Iterator[float]]
    transitions: int = 3

    def wait(self, tasks: tuple[Task, ...]) -> list[Waited]:
        """Return what it takes to wait for each of these jobs."""
        dice = random.Random(f"waterhook {self.name}")  # noqa: S311 - deterministic on purpose
        return [self._wait(task, dice) for task in tasks]

    def _wait(self, task: Task, dice: random.Random) -> Waited:
        now, turns = 0.0, 0
        for wait_s in self.waits(dice):
            turns += 1
            now += wait_s + self.transitions * TRANSITION_S + INVOKE_S + BASELINE_POLL_S
            # The answer is as old as its way back.
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


def _doubling(dice: random.Random) -> Iterator[float]:
    del dice
    wait_s = 1.0
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, 60.0)


def _jittered(dice: random.Random) -> Iterator[float]:
    """The default of AWS's SDK for durable functions: 5 s, times 1.5, to 300 s, full jitter, at least a second."""
    most_s = 5.0
    while True:
        yield max(round(dice.uniform(0, most_s)), 1)
        most_s = min(most_s * 1.5, 300.0)


def _retried(_: random.Random) -> Iterator[float]:
    """A task that fails while the job runs: entered at once, then tried again at a fixed interval."""
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
