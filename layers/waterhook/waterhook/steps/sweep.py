"""The sweep: finds records without a notification whose state machine execution is not running, and ends them.

Status events and retries close nearly every record. The sweep is for lost events, for executions that were never
started, and for a topic that failed for longer than the state machine retries. After an outage one sweep may not have
time for all records. It therefore reads the index page by page, paces its calls of Step Functions, and begins where the
last sweep stopped.
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

# Time between the starts of two sweeps.
SWEEP_INTERVAL_S = 900.0
MAX_THROTTLES = 3


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Numbers of records: ended, owned by a live execution, failed, not reached in time, and discarded."""

    ended: int = 0
    alive: int = 0
    failed: int = 0
    left: int = 0
    discarded: int = 0


class Sweeper:
    """Ends records that no live execution owns. A record that fails does not stop the others."""

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
        """`end` ends a record, `release` releases the slots of a notified one.

        `on_failure` is called with each execution id that failed and its error.
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
        """End records while `remaining_s` leaves enough time, and return the numbers.

        Raises boto3's ClientError if the index or the list of running executions can't be read.
        """
        before = to_rfc3339(self._clock() - GRACE_S) or ""
        running = set(self._executions.running(remaining_s))
        position = self._unfinished.position()
        swept, handled = SweepResult(), position
        entries = self._unfinished.accepted_before(before, after=position)
        for entry in entries:
            # Most records belong to running executions, which are listed 1,000 per call. The others need a call each.
            if entry.owner in running:
                swept, handled = replace(swept, alive=swept.alive + 1), entry.key
                continue
            counter = self._handle_with_retries(entry, remaining_s) if remaining_s() >= RESERVE_S else None
            if counter is None:
                left = 1 + self._count_unreached(entries, running, remaining_s)
                self._unfinished.save_position(handled)
                return replace(swept, left=left)
            swept = replace(swept, **{counter: getattr(swept, counter) + 1})
            handled = entry.key
        if position is not None:
            self._unfinished.save_position(None)
        return swept

    def _count_unreached(
        self, entries: Iterator[UnfinishedEntry], running: set[str], remaining_s: Callable[[], float]
    ) -> int:
        """Return how many records were not reached. Stops counting after half of the reserve."""
        count = 0
        for entry in entries:
            if remaining_s() < RESERVE_S / 2:
                break
            count += entry.owner not in running
        return count

    def _handle_with_retries(self, entry: UnfinishedEntry, remaining_s: Callable[[], float]) -> str | None:
        """Return the field of SweepResult that counts this record, or None if there is no time left for it."""
        throttles = 0
        while True:
            try:
                return self._handle(entry)
            except Exception as error:  # noqa: BLE001 - an error of one record must not stop the sweep
                if not is_throttled(error) or throttles == MAX_THROTTLES:
                    self._on_failure(entry.execution_id, error)
                    return "failed"
            pause_s = THROTTLE_PAUSE_S * 2**throttles
            if remaining_s() - pause_s < RESERVE_S:
                return None
            self._sleep(pause_s)
            throttles += 1

    def _handle(self, entry: UnfinishedEntry) -> str:
        """End, discard or release a record if needed. Return the field of SweepResult that counts it."""
        record = self._table.get(entry.execution_id, self._clock())
        if record is None or record.owner_execution_arn != entry.owner:
            return "alive"
        if record.notified_at is not None:
            # Its slots could not be released, or a version without the index published it.
            self._release(record)
            return "alive"
        status = self._executions.final_status(entry.owner)
        if status is None:
            return "alive"
        if status == MISSING and record.source == "api" and not record.has_begun:
            return self._discard(record)
        self._end(record, status)
        return "ended"

    def _discard(self, record: ExecutionRecord) -> str:
        """Delete a record whose POST was answered 503: no caller got its id, and no job exists."""
        try:
            self._table.discard(record, self._clock() - GRACE_S)
        except RecordConflictError:
            # The same request was sent again, or its execution has started.
            return "alive"
        return "discarded"
