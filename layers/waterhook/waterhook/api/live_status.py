"""Live status and cancellation of a running job, for callers of the API."""

from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import ApiError, NotAcceptedError, RecordConflictError, UpstreamError, WaterhookError
from waterhook.notifications.notifier import Notifier
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.start_waiting import end_without_job
from waterhook.steps.status_poller import StatusSource
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.upstream.client import CancelResult

# A dashboard that refreshes every second causes a status request every other second.
CACHED_S = 2.0
MAX_CACHED = 256
# Progress needs no output: a document larger than this is not worth its transfer.
MAX_PROGRESS_BYTES = 64 * 1024
_READ_AGAIN = "read the status again in a moment"


class LiveStatus:
    """Reads and cancels jobs at the upstream, without waiting for the state machine."""

    def __init__(
        self,
        records: ExecutionsTable,
        source: StatusSource,
        stopper: JobCanceller,
        notifier: Notifier,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._source = source
        self._stopper = stopper
        self._notifier = notifier
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, StatusDocument | None]] = OrderedDict()

    def progress(self, record: ExecutionRecord) -> StatusDocument | None:
        """Return the status document of a running job, at most CACHED_S old, or None where it is not known."""
        upstream_id, now = record.waterflai_execution_id, self._clock()
        if upstream_id is None or record.status.is_final:
            return None
        seen_at, document = self._seen.get(upstream_id, (float("-inf"), None))
        if now - seen_at < CACHED_S:
            return document
        try:
            document = self._source.status(upstream_id, limit_bytes=MAX_PROGRESS_BYTES)
        except (WaterhookError, BotoCoreError, ClientError):
            # The record is returned without it. The failure is cached too: an upstream that fails, or a key that
            # can't be read, is not requested more often.
            document = None
        self._seen[upstream_id] = (now, document)
        self._seen.move_to_end(upstream_id)
        while len(self._seen) > MAX_CACHED:
            self._seen.popitem(last=False)
        return document

    def cancel(self, record: ExecutionRecord) -> CancelResult:
        """Cancel an execution and return the answer, in the upstream's shape. The outcome is published before.

        Raises Problem 502 when Waterflai did not cancel it, or when it is not known whether it did.
        """
        previous = record.status
        if not record.status.is_final and record.waterflai_execution_id is None:
            try:
                record = self._records.cancel_start(record, self._clock())
            except RecordConflictError as error:
                raise ApiError(HTTPStatus.NOT_FOUND, "the execution is gone") from error
        if record.status.is_final:
            return _answer(record.status, previous)
        if record.waterflai_execution_id is None:
            return self._before_the_job(record)
        job = self._job(record)
        try:
            stopped = self._stopper.stop(
                job, Status.CANCELLED, code="cancelled", message="cancelled by its caller"
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
        job = end_without_job(self._job(record), record, Status.CANCELLED, code="cancelled", message=message)
        return self._ended(job, record, record.status)

    def _ended(self, job: LoopState, record: ExecutionRecord, previous: Status) -> CancelResult:
        """Publish the outcome, or the one that was first, and return the result of the cancel."""
        ending = self._notifier.notify(job, record.owner_execution_arn)
        if "status" not in ending:
            raise ApiError(HTTPStatus.NOT_FOUND, "the execution is gone")
        return _answer(Status(ending["status"]), previous)

    def _job(self, record: ExecutionRecord) -> LoopState:
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
