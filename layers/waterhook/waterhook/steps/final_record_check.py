"""Ends the loop of an execution whose record is already final, because of a caller's DELETE or reconcile."""

from collections.abc import Callable

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordUnavailableError
from waterhook.storage.executions_table import ExecutionsTable

# A follow polls often, so it reads the record at most once in this time.
CHECK_EVERY_S = 30.0
# The record is not read if the step has already taken longer: the table might not answer in the remaining time.
CHECK_UNTIL_S = 15.0
# After a failure the record is not read for this long.
PAUSE_S = 60.0


class FinalRecordCheck:
    """Reads the status of a record. Best effort: a failing table does not affect the poll."""

    def __init__(self, table: Callable[[], ExecutionsTable], clock: Callable[[], float]) -> None:
        """`table` is called only when a record is read, because the client needs memory."""
        self._table = table
        self._clock = clock
        self._paused_until = float("-inf")

    def end_if_final(self, state: LoopState, began_at: float) -> LoopState:
        """Return the state ended with the status of its record if that is final, else the state unchanged.

        `began_at` is when the step began, in epoch seconds.
        """
        now = self._clock()
        if state.outcome.is_final or now < self._paused_until or now - began_at > CHECK_UNTIL_S:
            return state
        try:
            status = self._table().status(state.execution_id)
        except RecordUnavailableError:
            self._paused_until = self._clock() + PAUSE_S
            return state
        return state if status is None or not status.is_final else state.ended(status)
