"""The poll step: sends one status request and decides what to do next."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications.progress_publisher import ProgressPublisher, has_progressed, was_retried
from waterhook.steps.final_record_check import CHECK_UNTIL_S, FinalRecordCheck
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable

# Time for one status document. The other half of the function's 120 s is for checking and storing an output of 50 MiB.
STATUS_BUDGET_S = 60.0


class UpstreamIdRecovery:
    """Saves the id of the job if the start step could not. Polls write no other attribute of the record."""

    def __init__(self, table: Callable[[], ExecutionsTable], clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock

    def save(self, state: LoopState, owner: str) -> LoopState:
        """Return the state with its id saved, or unchanged if it could not be saved; the next poll tries again.

        If the record is final, the returned state is ended.
        """
        now = self._clock()
        table = self._table()
        try:
            record = table.get(state.execution_id, now)
            if record is None or record.owner_execution_arn != owner:
                return state
            record = self._saved(table, record, state.waterflai_execution_id or "", now)
        except (RecordConflictError, RecordUnavailableError):
            return state
        if record.status.is_final:
            return state.ended(record.status)
        # The API may have accepted a cancel since then, to be carried out as soon as the id is known.
        return replace(
            state,
            unsaved=False,
            cancel_requested=record.cancel_requested is not None,
            cancelled_by_operator=bool(record.cancelled_by_operator),
        )

    @staticmethod
    def _saved(
        table: ExecutionsTable, record: ExecutionRecord, upstream_id: str, now: float
    ) -> ExecutionRecord:
        """Return the record with the id, or final. Raises RecordConflictError if it is neither."""
        try:
            return table.save_start(record, upstream_id, now)
        except RecordConflictError:
            # This call may have written it: the response was lost, and boto3 repeated the write.
            current = table.get(record.execution_id, now)
            if current is None or (current.waterflai_execution_id is None and not current.status.is_final):
                raise
            return current


@dataclass(frozen=True, slots=True)
class PollStep:
    """Sends one status request. `publisher` is called only for executions that want progress events."""

    poller: StatusPoller
    recovery: UpstreamIdRecovery
    check: FinalRecordCheck
    publisher: Callable[[], ProgressPublisher]
    clock: Callable[[], float]

    def poll(self, state: LoopState, owner: str) -> LoopState:
        """Return the state after one status request. Saves the id of the job and publishes progress if needed.

        The table is used last, so a slow table does not take time from the status request.
        """
        began_at = self.clock()
        polled = self.poller.poll(
            replace(state, history=replace(state.history, polls=state.history.polls + 1))
        )
        if polled.unsaved and not polled.outcome.is_final and self.clock() - began_at <= CHECK_UNTIL_S:
            saved = self.recovery.save(polled, owner)
            polled = saved if saved.outcome.is_final else self.poller.decide(saved)
        else:
            polled = self.check.end_if_final(polled, began_at)
        if has_progressed(state, polled):
            restarted = was_retried(state, polled)
            self.publisher().publish(polled, {"progress": polled.history.progress}, restarted=restarted)
        return polled
