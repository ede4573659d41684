"""`python -m benchmarks.sweep`: measures how many abandoned executions the sweep recovers in an hour.

Takes two minutes. It runs the real sweep with a table in memory and a simulated clock, which each call advances by its
usual latency. DescribeExecution has the lowest quota that AWS documents: a token bucket of 250, refilled with 10 a
second.
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
from waterhook.notifications.delivery_targets import SnsTarget
from waterhook.notifications.notifier import Notifier
from waterhook.steps.state_machine_executions import StateMachineExecutions
from waterhook.steps.sweep import SWEEP_INTERVAL_S
from waterhook.storage.execution_record import UNFINISHED_SHARDS
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.unfinished_index import UnfinishedIndex

DEAD = 100_000
TIMEOUT_S = 840.0
SWEEPS_PER_HOUR = int(3600 // SWEEP_INTERVAL_S)
# Latency of each call in seconds: AWS in the same region, Waterflai (cancel) across the internet.
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
    """Step Functions after an outage: all executions have failed. The token bucket is full at first."""

    def __init__(self, clock: Clock) -> None:
        """`clock` refills the token bucket."""
        super().__init__()
        self._clock, self._filled, self._filled_at = clock, 250.0, clock.now
        self.throttled = 0

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        """Return a failed execution. Raises ThrottlingException if the token bucket is empty."""
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
    """Result of recovering all abandoned executions. `first_hour`: number of executions recovered in the first hour."""

    first_hour: int
    hours: float
    sweeps: int
    throttled: int


def recover(dead: int) -> Recovery:
    """Sweep every 15 minutes until all of `dead` abandoned executions are recovered."""
    clock = Clock(NOW + 3600)
    table, step_functions = Table(), ThrottledStepFunctions(clock)
    for number in range(dead):
        shard = UNFINISHED_SHARDS[number % len(UNFINISHED_SHARDS)]
        record = running_record(
            execution_id=f"{shard}{number:031x}", unfinished=shard, owner_execution_arn=f"{MACHINE}:{number}"
        )
        table.items[record.execution_id] = record.to_item()
        step_functions.ended[record.owner_execution_arn] = ("FAILED", NOW)
    client: Any = TimedClient(table, clock, LATENCIES_S)
    topic: Any = TimedClient(Topic(), clock, LATENCIES_S)
    upstream: Any = TimedClient(FakeUpstream(), clock, LATENCIES_S)
    states: Any = TimedClient(step_functions, clock, LATENCIES_S)
    records = ExecutionsTable("executions", client)
    notifier = Notifier(records, SnsTarget(topic, "topic", SOURCE), retention_s=30 * 24 * 3600, clock=clock)
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
    """Print the duration of the recovery."""
    result = recover(DEAD)
    print(
        f"{DEAD:,} abandoned executions: {result.first_hour:,} recovered in the first hour, all in {result.hours:.1f} h"
    )
    print(f"{result.sweeps} sweeps, {result.throttled} throttled calls of Step Functions")


if __name__ == "__main__":
    main()
