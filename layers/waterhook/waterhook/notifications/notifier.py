"""The end of an execution: the first verdict is written, and what the record says is published."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from waterhook import aws_clients
from waterhook.domain import cost
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError
from waterhook.notifications import cloudevents, execution_output
from waterhook.settings import Settings
from waterhook.storage.concurrency_limiter import UNLIMITED, ConcurrencyLimiter
from waterhook.storage.execution_record import UNFINISHED_GRACE_S, ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import clip
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


def _untold(_record: ExecutionRecord) -> None:
    """Tell nobody."""


class Notifier:
    """Writes verdicts and publishes them. Killed at any point and called again, it says the same thing."""

    def __init__(
        self,
        records: ExecutionsTable,
        sns: "SNSClient",
        *,
        topic_arn: str,
        source: str,
        retention_s: float,
        clock: Callable[[], float],
        capacity: ConcurrencyLimiter = UNLIMITED,
        delivered: Callable[[ExecutionRecord], None] = _untold,
    ) -> None:
        """Keep what it works with; `retention_s` is how long a record stays after its notification.

        `delivered` is told of each record that was marked as notified here.
        """
        self._records = records
        self._sns = sns
        self._topic_arn = topic_arn
        self._source = source
        self._retention_s = retention_s
        self._clock = clock
        self._capacity = capacity
        self._delivered = delivered

    @classmethod
    def of(
        cls,
        settings: Settings,
        records: ExecutionsTable,
        clock: Callable[[], float],
        delivered: Callable[[ExecutionRecord], None] = _untold,
    ) -> Self:
        """Return the notifier of this deployment."""
        return cls(
            records,
            aws_clients.session().client("sns"),
            topic_arn=settings.topic_arn,
            source=settings.source,
            retention_s=settings.retention_days * 24 * 3600,
            clock=clock,
            capacity=ConcurrencyLimiter(settings.table, settings.caps),
            delivered=delivered,
        )

    def notify(self, job: LoopState, owner: str) -> dict[str, Any]:
        """Conclude the job and return what the state machine ends with.

        Only the record's owner concludes it. Raises RecordConflictError when the record says neither one nor the other.
        """
        record = self._records.get(job.execution_id, self._clock())
        if record is None:
            # The list of its slots was erased with it.
            self._capacity.release(job.execution_id, ConcurrencyLimiter.slots_of(job.chatbot_id))
            message = f"the record of {job.execution_id} is gone; it was erased or has expired"
            return execution_output.failure_output(
                Status.ERROR.error_name, message, {"execution_id": job.execution_id}
            )
        if record.owner_execution_arn != owner:
            return execution_output.duplicate_output(record)
        return self.conclude(record, self.verdict(job))

    def conclude(self, record: ExecutionRecord, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """Write a verdict unless there is one, deliver what the record then says and return its summary."""
        if not record.status.is_final:
            try:
                record = self._records.conclude(record, verdict)
            except RecordConflictError:
                # Somebody was first. Whoever it was, their verdict is what counts from here on.
                record = self._reread(record)
        said = execution_output.outcome_output(record)
        self.release(self._deliver(record))
        return said

    def release(self, record: ExecutionRecord) -> None:
        """Give back the slots of a record that is notified, and take it out of the index that the sweep reads.

        Raises RecordUnavailableError when the table fails; the record is then still in the index.
        """
        self._capacity.release(record.execution_id, record.slots or ())
        if record.notified_at is not None and record.unfinished is not None:
            # On a conflict it was erased meanwhile.
            with suppress(RecordConflictError):
                self._records.leave_index(record)

    def redeliver(self, execution_id: object) -> dict[str, Any]:
        """Publish the event of a finished execution again, the same to the byte, and return what came of it.

        The answer is `execution_id`, `redelivered`, `outcome` (None where nothing is known) and either `event_id`
        or the `reason` why nothing was published, for whoever asked. An event that was never published is
        remembered as `notify` would. Raises RecordUnavailableError or boto3's errors when table or topic fail.
        """
        record = self._records.get(execution_id, self._clock()) if isinstance(execution_id, str) else None
        if record is None:
            reason = "there is no such execution: its record was erased or has expired, or the id is wrong"
            return {"execution_id": execution_id, "redelivered": False, "outcome": None, "reason": reason}
        said = {"execution_id": record.execution_id, "outcome": record.status}
        if (why := _undeliverable(record)) is not None:
            return said | {"redelivered": False, "reason": why}
        self._publish(record)
        self.release(self._remember(record))
        return said | {"redelivered": True, "event_id": cloudevents.event_id(record)}

    def _deliver(self, record: ExecutionRecord) -> ExecutionRecord:
        """Publish, then remember it. A crash in between publishes the same event again: at least once."""
        if record.notified_at is None and "sns" in record.deliver_to:
            self._publish(record)
        return self._remember(record)

    def _publish(self, record: ExecutionRecord) -> None:
        self._sns.publish(
            TopicArn=self._topic_arn,
            Message=cloudevents.outcome_event(record, self._source),
            MessageAttributes=cloudevents.outcome_attributes(record),
        )

    def _remember(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.notified_at is not None:
            return record
        now = self._clock()
        try:
            marked = self._records.mark_notified(
                record, now, now + self._retention_s, has_slots=bool(record.slots)
            )
        except RecordConflictError:
            # Another publisher published the same event, or the answer to this very write was lost. Either way the
            # slots may still be taken.
            return self._records.get(record.execution_id, now) or record
        self._delivered(marked)
        return marked

    def _reread(self, record: ExecutionRecord) -> ExecutionRecord:
        current = self._records.get(record.execution_id, self._clock())
        if current is None or not current.status.is_final:
            message = f"{record.execution_id}: not concluded, and by nobody else"
            raise RecordConflictError(message)
        return current

    def verdict(self, job: LoopState) -> dict[str, Any]:
        """Return the attributes a verdict sets. A job without an outcome is our own fault."""
        now = self._clock()
        outcome, error = job.outcome, job.error
        if not outcome.is_final:
            outcome = Status.ERROR
            error = {"code": "no_outcome", "message": f"the loop ended with {clip(job.outcome)}"}
        result = dict(job.result)
        completed_at = result.pop("completed_at", None)
        return result | {
            "status": outcome,
            "finished_at": to_rfc3339(now),
            # The retention begins with the notification: what is not notified yet must not expire.
            "expires_at": int(now + max(self._retention_s, UNFINISHED_GRACE_S)),
            "error": error,
            "waterflai_execution_id": job.waterflai_execution_id,
            "timing": {"completed_at": completed_at} if completed_at else None,
            "usage": {
                "polls": job.history.status_requests,
                "follow_seconds": job.history.follow_seconds,
                "estimated_cost_usd": cost.estimated_usd(job.history),
            },
        }


def _undeliverable(record: ExecutionRecord) -> str | None:
    """Return why a record's event can't be published again, or None where it can."""
    if not record.status.is_final:
        return f"it is {record.status}: there is no outcome yet, and it is notified by itself"
    if "sns" not in record.deliver_to:
        return "its request asked for no notification: deliver_to is without sns"
    # What a completed job gave is in one of three attributes; without `dynamodb` the first goes with the notification.
    given = record.final_output_json or record.output_ref or record.output_error
    if record.status is Status.COMPLETED and not given and "dynamodb" not in record.deliver_to:
        return "its output was dropped once notified, as its request asked: deliver_to is without dynamodb"
    return None
