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

# For one status document. The rest of the function's 120 s is for checking and storing an output of 50 MiB.
STATUS_BUDGET_S = 60.0


class UpstreamIdRecovery:
    """Saves the upstream id that start could not save; polling itself writes no record."""

    def __init__(self, table: Callable[[], ExecutionsTable], clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock

    def save(self, state: LoopState, owner: str) -> LoopState:
        """Return the state with its upstream id saved, or as it was for another attempt at the next poll.

        A record that is final ends the job.
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
        # A caller who cancelled meanwhile got the answer that it happens as soon as there is an id.
        return replace(state, unsaved=False, cancel_requested=record.cancel_requested is not None)

    @staticmethod
    def _saved(
        table: ExecutionsTable, record: ExecutionRecord, upstream_id: str, now: float
    ) -> ExecutionRecord:
        """Return the record with the id, or final. Raises RecordConflictError where it is neither."""
        try:
            return table.save_start(record, upstream_id, now)
        except RecordConflictError:
            # It may be our own write, whose answer was lost and which boto3 repeated.
            current = table.get(record.execution_id, now)
            if current is None or (current.waterflai_execution_id is None and not current.status.is_final):
                raise
            return current


@dataclass(frozen=True, slots=True)
class PollStep:
    """The parts of a poll; the topic is used only by those that need it."""

    poller: StatusPoller
    recovery: UpstreamIdRecovery
    check: FinalRecordCheck
    publisher: Callable[[], ProgressPublisher]
    clock: Callable[[], float]

    def poll(self, state: LoopState, owner: str) -> LoopState:
        """Return the state after one status request, its upstream id saved and its progress published where due.

        The table comes last: a table that does not answer must not take the time of the status request.
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
