"""The sweep: finds records whose notification is still to come although no execution works on them, and ends them.

Status events and retries see to nearly all of it; the sweep is for the event that never came, the start that was
never made, and the topic that was down for longer than a machine tries. After an outage there may be more of them than
one sweep has time for: it holds a page of the index at a time, paces its calls of Step Functions, and begins where the
last one stopped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from waterhook.errors import RecordConflictError
from waterhook.steps.state_machine_executions import (
    GRACE_S,
    MISSING,
    RESERVE_S,
    THROTTLE_PAUSE_S,
    StateMachineExecutions,
    is_throttled,
)
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.unfinished_index import UnfinishedEntry, UnfinishedIndex
from waterhook.timestamps import to_rfc3339

# Another sweep begins after this.
TURN_S = 900.0
MAX_THROTTLES = 3


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep did: records ended, left to a live execution, failed, not reached in time, and discarded."""

    ended: int = 0
    alive: int = 0
    failed: int = 0
    left: int = 0
    discarded: int = 0


class Sweeper:
    """Touches nothing that a live execution owns; one record that fails never stops the others."""

    def __init__(
        self,
        table: ExecutionsTable,
        unfinished: UnfinishedIndex,
        executions: StateMachineExecutions,
        *,
        end: Callable[[ExecutionRecord, str], object],
        release: Callable[[ExecutionRecord], object],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        """Bring records to their end with `end`, give back the slots of those that are notified with `release`.

        `on_failure` is called with each execution id that failed.
        """
        self._table = table
        self._unfinished = unfinished
        self._executions = executions
        self._end = end
        self._release = release
        self._clock = clock
        self._sleep = sleep
        self._on_failure = on_failure

    def sweep(self, remaining_s: Callable[[], float]) -> SweepResult:
        """End what is to be ended, while `remaining_s` leaves time for it, and return what was done.

        Raises boto3's ClientError where the index or the list of running executions can't be read.
        """
        before = to_rfc3339(self._clock() - GRACE_S) or ""
        running = set(self._executions.running(remaining_s))
        position = self._unfinished.position()
        swept, handled = SweepResult(), position
        entries = self._unfinished.before(before, after=position)
        for entry in entries:
            # Running ones are the most by far, and known by a page of a thousand; the others are described singly.
            if entry.owner in running:
                swept, handled = replace(swept, alive=swept.alive + 1), entry.key
                continue
            outcome = self._patiently(entry, remaining_s) if remaining_s() >= RESERVE_S else None
            if outcome is None:
                left = 1 + self._count(entries, running, remaining_s)
                self._unfinished.stop_at(handled)
                return replace(swept, left=left)
            swept = replace(swept, **{outcome: getattr(swept, outcome) + 1})
            handled = entry.key
        if position is not None:
            self._unfinished.stop_at(None)
        return swept

    def _count(
        self, entries: Iterator[UnfinishedEntry], running: set[str], remaining_s: Callable[[], float]
    ) -> int:
        """Return how many records are not reached, as far as they can be counted in half of the reserve."""
        count = 0
        for entry in entries:
            if remaining_s() < RESERVE_S / 2:
                break
            count += entry.owner not in running
        return count

    def _patiently(self, entry: UnfinishedEntry, remaining_s: Callable[[], float]) -> str | None:
        """Return the name of the count that a record belongs to, or None where there is no time left for it."""
        throttles = 0
        while True:
            try:
                return self._look(entry)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next record is another
                if not is_throttled(error) or throttles == MAX_THROTTLES:
                    self._on_failure(entry.execution_id, error)
                    return "failed"
            pause_s = THROTTLE_PAUSE_S * 2**throttles
            if remaining_s() - pause_s < RESERVE_S:
                return None
            self._sleep(pause_s)
            throttles += 1

    def _look(self, entry: UnfinishedEntry) -> str:
        """Do what a record needs, and return the name of the count that it belongs to."""
        record = self._table.get(entry.execution_id, self._clock())
        if record is None or record.owner_execution_arn != entry.owner:
            return "alive"
        if record.notified_at is not None:
            # Its slots could not be given back, or a version that knew no index notified it.
            self._release(record)
            return "alive"
        status = self._executions.ended_as(entry.owner)
        if status is None:
            return "alive"
        if status == MISSING and record.source == "api" and not record.has_begun:
            return self._discard(record)
        self._end(record, status)
        return "ended"

    def _discard(self, record: ExecutionRecord) -> str:
        """Delete a record whose POST was answered 503: no caller was given its id, and no job exists."""
        try:
            self._table.discard(record, self._clock() - GRACE_S)
        except RecordConflictError:
            # The same request has come again, or its execution has begun.
            return "alive"
        return "discarded"
