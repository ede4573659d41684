"""Cancels an execution for its caller, in the API function instead of the state machine."""

from collections.abc import Callable
from http import HTTPStatus

from waterhook.domain.loop_state import LoopState
from waterhook.domain.outcome_reasons import cancelled_message
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.errors import ApiError, NotAcceptedError, RecordConflictError, UpstreamError
from waterhook.notifications.notifier import Notifier
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.wait_reason import cancel_without_job
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.upstream.client import CancelResult

# The caller waits, and API Gateway times out after 29 s. A cancel of a job that has ended sends two requests, each of
# which may take CALL_BUDGET_S.
READ_TIMEOUT_S = 6.0
CALL_BUDGET_S = 10.0
_READ_STATUS = "read the status in a moment"
_GONE = "the execution does not exist any more; its record was erased or has expired"


class ExecutionCanceller:
    """Cancels the job of an execution, or its start if there is no job yet, and publishes the outcome."""

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

    def cancel(self, record: ExecutionRecord, *, by_operator: bool = False) -> CancelResult:
        """Cancel an execution, publish the outcome, and return the result in the shape of Waterflai's API.

        `by_operator` is whether another than its caller cancels it; the message of the outcome states it.
        Raises ApiError 502 if Waterflai did not cancel the job, or if it is unknown whether it did.
        """
        previous = record.status
        if not record.status.is_final and record.waterflai_execution_id is None:
            try:
                record = self._table.cancel_start(record, self._clock(), by_operator=by_operator)
            except RecordConflictError as error:
                raise ApiError(HTTPStatus.NOT_FOUND, _GONE) from error
        if record.status.is_final:
            return _result(record.status, previous)
        if record.waterflai_execution_id is None:
            return self._cancel_start(record)
        state = self._loop_state(record)
        try:
            message = cancelled_message(by_operator=by_operator)
            cancelled = self._canceller.cancel(state, Status.CANCELLED, code="cancelled", message=message)
        except NotAcceptedError as error:
            detail = f"Waterflai did not cancel the job, nothing has changed: {error.message}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail) from error
        except UpstreamError as error:
            detail = f"Waterflai may have cancelled the job; {_READ_STATUS}: {error.message}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail) from error
        if not cancelled.outcome.is_final:
            # Waterflai refused the cancel while the job runs, or accepted it and the job still runs, or the status
            # request failed.
            detail = f"Waterflai has not confirmed the cancellation; {_READ_STATUS}"
            raise ApiError(HTTPStatus.BAD_GATEWAY, detail)
        return self._publish(cancelled, record, previous)

    def _cancel_start(self, record: ExecutionRecord) -> CancelResult:
        if record.status is Status.STARTING:
            # Only the start step gets the id of the job. It checks for this cancel request afterwards.
            message = "requested: the job is being started and will be cancelled as soon as it has an id"
            return CancelResult(cancelled=False, message=message, previous_status=record.status)
        state = cancel_without_job(self._loop_state(record), record)
        return self._publish(state, record, record.status)

    def _publish(self, state: LoopState, record: ExecutionRecord, previous: Status) -> CancelResult:
        """Publish the outcome, unless there is one already, and return the result of the cancel."""
        output = self._notifier.notify(state, record.owner_execution_arn)
        if "status" not in output:
            raise ApiError(HTTPStatus.NOT_FOUND, _GONE)
        return _result(Status(output["status"]), previous)

    def _loop_state(self, record: ExecutionRecord) -> LoopState:
        return LoopState(
            record.execution_id, record.deadline, PollHistory(self._clock()), record.waterflai_execution_id
        )


def _result(current: Status, previous: Status) -> CancelResult:
    if current is Status.CANCELLED and not previous.is_final:
        return CancelResult(cancelled=True, message="cancelled", previous_status=previous)
    if current is Status.UNCERTAIN and not previous.is_final:
        message = (
            "not started again, but the answer to a start was lost and Waterflai may be running this job"
        )
        return CancelResult(cancelled=False, message=message, previous_status=previous)
    return CancelResult(
        cancelled=False, message=f"too late: the execution is {current}", previous_status=previous
    )
