"""Cancels an execution for its caller, without waiting for the state machine."""

from collections.abc import Callable
from http import HTTPStatus

from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.errors import ApiError, NotAcceptedError, RecordConflictError, UpstreamError
from waterhook.notifications.notifier import Notifier
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.wait_reason import end_without_job
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.upstream.client import CancelResult

# A caller waits for the answer, and API Gateway ends the request after 29 s. A cancel that is too late sends two
# requests: each may take this long.
READ_TIMEOUT_S = 6.0
CALL_BUDGET_S = 10.0
_READ_AGAIN = "read the status again in a moment"


class ExecutionCanceller:
    """Cancels the job of an execution, or its start where there is no job yet, and publishes the outcome."""

    def __init__(
        self,
        table: ExecutionsTable,
        canceller: JobCanceller,
        notifier: Notifier,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._canceller = canceller
        self._notifier = notifier
        self._clock = clock

    def cancel(self, record: ExecutionRecord) -> CancelResult:
        """Cancel an execution and return the answer, in the upstream's shape. The outcome is published before.

        Raises ApiError 502 when Waterflai did not cancel it, or when it is not known whether it did.
        """
        previous = record.status
        if not record.status.is_final and record.waterflai_execution_id is None:
            try:
                record = self._table.cancel_start(record, self._clock())
            except RecordConflictError as error:
                raise ApiError(HTTPStatus.NOT_FOUND, "the execution is gone") from error
        if record.status.is_final:
            return _answer(record.status, previous)
        if record.waterflai_execution_id is None:
            return self._before_the_job(record)
        state = self._loop_state(record)
        try:
            stopped = self._canceller.stop(
                state, Status.CANCELLED, code="cancelled", message="cancelled by its caller"
            )
        except NotAcceptedError as error:
            detail = f"Waterflai did not cancel it, nothing has changed: {error.message}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail) from error
        except UpstreamError as error:
            detail = f"Waterflai may or may not have cancelled it; {_READ_AGAIN}: {error.message}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail) from error
        if not stopped.outcome.is_final:
            # Refused while it runs, taken but not carried out yet, or the status request failed.
            detail = f"Waterflai has not confirmed that it is cancelled; {_READ_AGAIN}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail)
        return self._ended(stopped, record, previous)

    def _before_the_job(self, record: ExecutionRecord) -> CancelResult:
        if record.status is Status.STARTING:
            # Only the start step gets the id. It checks for this request before it goes on.
            message = "requested: the job is being started and will be cancelled as soon as it has an id"
            return CancelResult(cancelled=False, message=message, previous_status=record.status)
        message = "cancelled before it was started"
        state = end_without_job(
            self._loop_state(record), record, Status.CANCELLED, code="cancelled", message=message
        )
        return self._ended(state, record, record.status)

    def _ended(self, state: LoopState, record: ExecutionRecord, previous: Status) -> CancelResult:
        """Publish the outcome, or the one that was first, and return the result of the cancel."""
        ending = self._notifier.notify(state, record.owner_execution_arn)
        if "status" not in ending:
            raise ApiError(HTTPStatus.NOT_FOUND, "the execution is gone")
        return _answer(Status(ending["status"]), previous)

    def _loop_state(self, record: ExecutionRecord) -> LoopState:
        return LoopState(
            record.execution_id, record.deadline, PollHistory(self._clock()), record.waterflai_execution_id
        )


def _answer(now: Status, previous: Status) -> CancelResult:
    if now is Status.CANCELLED and not previous.is_final:
        return CancelResult(cancelled=True, message="cancelled", previous_status=previous)
    if now is Status.UNCERTAIN and not previous.is_final:
        message = (
            "it is not started again, but Waterflai may be running this job: the answer to a start was lost"
        )
        return CancelResult(cancelled=False, message=message, previous_status=previous)
    return CancelResult(
        cancelled=False, message=f"too late: the execution is {now}", previous_status=previous
    )
