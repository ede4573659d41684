"""How many abandoned executions the sweep recovers in an hour: `python -m benchmarks.sweep`, which takes two minutes.

The real sweep and the real closing, over a table in memory, on a clock that each call moves by its usual latency.
Step Functions has the smallest quota of DescribeExecution that AWS documents: a bucket of 250, refilled by 10 a second.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.fakes.clock import NOW, Clock
from tests.fakes.step_functions import FakeStepFunctions
from tests.fakes.timed_client import TimedClient
from tests.fakes.upstream_client import FakeUpstream
from tests.invariants.dynamodb import Table, refusal
from tests.support.build import build_reconcile_step, build_sweeper
from tests.support.builders import MACHINE, SOURCE, running_record
from waterhook.notifications.notifier import Notifier
from waterhook.steps.state_machine_executions import StateMachineExecutions
from waterhook.steps.sweep import SWEEP_INTERVAL_S
from waterhook.storage.execution_record import UNFINISHED_SHARDS
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.unfinished_index import UnfinishedIndex

DEAD = 100_000
TIMEOUT_S = 840.0
SWEEPS_PER_HOUR = int(3600 // SWEEP_INTERVAL_S)
# Seconds of a call in one region; those of Waterflai are across the internet.
LATENCIES_S = {
    "get_item": 0.006,
    "put_item": 0.010,
    "update_item": 0.010,
    "query": 0.020,
    "publish": 0.030,
    "list_executions": 0.100,
    "describe_execution": 0.040,
    "cancel": 0.250,
}


class ThrottledStepFunctions(FakeStepFunctions):
    """Step Functions after an outage: no execution runs, and each has failed. It begins with a full bucket."""

    def __init__(self, clock: Clock) -> None:
        """Refill the bucket by the clock."""
        super().__init__()
        self._clock, self._filled, self._filled_at = clock, 250.0, clock.now
        self.throttled = 0

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        """Return an execution that failed. Raises ThrottlingException where the bucket is empty."""
        self._filled = min(self._filled + 10 * (self._clock.now - self._filled_at), 250.0)
        self._filled_at = self._clock.now
        if self._filled < 1:
            self.throttled += 1
            raise refusal("ThrottlingException", "DescribeExecution")
        self._filled -= 1
        return super().describe_execution(**arguments)


class Topic:
    """A topic without subscribers."""

    def publish(self, **_: Any) -> dict[str, Any]:
        """Return an empty response."""
        return {}


@dataclass(frozen=True)
class Recovery:
    """What it took to end all abandoned executions; `first_hour` is how many of them were ended in that hour."""

    first_hour: int
    hours: float
    sweeps: int
    throttled: int


def recover(dead: int) -> Recovery:
    """Sweep every quarter of an hour until none of so many abandoned executions is left."""
    clock = Clock(NOW + 3600)
    table, step_functions = Table(), ThrottledStepFunctions(clock)
    for number in range(dead):
        shard = UNFINISHED_SHARDS[number % len(UNFINISHED_SHARDS)]
        one = running_record(
            execution_id=f"{shard}{number:031x}", unfinished=shard, owner_execution_arn=f"{MACHINE}:{number}"
        )
        table.items[one.execution_id] = one.to_item()
        step_functions.ended[one.owner_execution_arn] = ("FAILED", NOW)
    client: Any = TimedClient(table, clock, LATENCIES_S)
    topic: Any = TimedClient(Topic(), clock, LATENCIES_S)
    upstream: Any = TimedClient(FakeUpstream(), clock, LATENCIES_S)
    states: Any = TimedClient(step_functions, clock, LATENCIES_S)
    records = ExecutionsTable("executions", client)
    notifier = Notifier(
        records, topic, topic_arn="topic", source=SOURCE, retention_s=30 * 24 * 3600, clock=clock
    )
    step = build_reconcile_step(records, upstream, notifier, clock)
    executions = StateMachineExecutions(states, MACHINE, clock, clock.sleep)
    unfinished = UnfinishedIndex("executions", client)
    sweeper = build_sweeper(records, unfinished, executions, step, notifier, clock)
    began, ended, sweeps, first_hour = clock.now, 0, 0, 0
    while ended < dead:
        turn = began + sweeps * SWEEP_INTERVAL_S
        clock.now = max(clock.now, turn)
        swept = sweeper.sweep(partial(_left_s, clock, turn + TIMEOUT_S))
        ended, sweeps = ended + swept.ended, sweeps + 1
        first_hour = ended if sweeps == SWEEPS_PER_HOUR else first_hour
    hours = (clock.now - began) / 3600
    return Recovery(first_hour or ended, hours, sweeps, step_functions.throttled)


def _left_s(clock: Clock, ends_at: float) -> float:
    return ends_at - clock.now


def main() -> None:
    """Print how long the recovery takes."""
    done = recover(DEAD)
    print(
        f"{DEAD:,} abandoned executions: {done.first_hour:,} recovered in the first hour, all in {done.hours:.1f} h"
    )
    print(f"{done.sweeps} sweeps; {done.throttled} calls of Step Functions were throttled")


if __name__ == "__main__":
    main()
