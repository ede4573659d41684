"""Ends the loop of an execution whose record is final already: by a caller's DELETE, or by reconcile."""

from collections.abc import Callable

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordUnavailableError
from waterhook.storage.executions_table import ExecutionsTable

# Beside a stream the record is read once in this time: a follow polls often.
CHECK_EVERY_S = 30.0
# A step that has taken longer has no time for a table that does not answer.
CHECK_UNTIL_S = 15.0
# After a failure the table is left alone for this long.
PAUSE_S = 60.0


class FinalRecordCheck:
    """Reads the status of a record, best effort: a table that fails disturbs no poll."""

    def __init__(self, table: Callable[[], ExecutionsTable], clock: Callable[[], float]) -> None:
        """`table` is called only when a record is read: a client needs memory."""
        self._table = table
        self._clock = clock
        self._paused_until = float("-inf")

    def end_if_final(self, state: LoopState, began_at: float) -> LoopState:
        """Return the state ended with the status of its record, or as it is where that is not final or not known.

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
