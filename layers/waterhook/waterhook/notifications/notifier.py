"""The end of an execution: the first outcome is written to its record and delivered from there."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waterhook.domain import cost
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError
from waterhook.notifications import notification_events, state_machine_output
from waterhook.notifications.delivery_targets import SnsTarget
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import UNFINISHED_GRACE_S, ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import clip
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


def _ignore_delivery(_record: ExecutionRecord) -> None:
    """Do nothing."""


class Notifier:
    """Writes outcomes and publishes them. Idempotent: safe to retry after a crash."""

    def __init__(
        self,
        table: ExecutionsTable,
        sns: "SNSClient",
        *,
        topic_arn: str,
        source: str,
        retention_s: float,
        clock: Callable[[], float],
        limiter: ConcurrencyLimiter | None = None,
        on_delivery: Callable[[ExecutionRecord], None] = _ignore_delivery,
    ) -> None:
        """`retention_s` is how long a record stays after its notification, in seconds.

        `on_delivery` is called with each record that was marked as notified here. Without a `limiter` no slot is
        released.
        """
        self._table = table
        # What is delivered to DynamoDB stays in the record: see ExecutionsTable.mark_notified.
        self._targets = (SnsTarget(sns, topic_arn, source),)
        self._retention_s = retention_s
        self._clock = clock
        self._limiter = limiter
        self._on_delivery = on_delivery

    def notify(self, state: LoopState, owner: str) -> dict[str, Any]:
        """Conclude the job and return what the state machine ends with.

        Only the record's owner concludes it. Raises RecordConflictError when the record was changed
        in between and has no outcome.
        """
        record = self._table.get(state.execution_id, self._clock())
        if record is None:
            # The list of its slots was erased with it.
            self._release_slots(state.execution_id, ConcurrencyLimiter.slots_of(state.chatbot_id))
            message = f"the record of {state.execution_id} is gone; it was erased or has expired"
            return state_machine_output.failure_output(
                Status.ERROR.error_name, message, {"execution_id": state.execution_id}
            )
        if record.owner_execution_arn != owner:
            return state_machine_output.duplicate_output(record)
        return self.conclude(record, self.final_attributes(state))

    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Write an outcome unless there is one, deliver the record's and return the state machine's output."""
        if not record.status.is_final:
            try:
                record = self._table.conclude(record, final_attributes)
            except RecordConflictError:
                # Another outcome was written first. That one counts.
                record = self._reread(record)
        output = state_machine_output.outcome_output(record)
        self.release(self._deliver(record))
        return output

    def release(self, record: ExecutionRecord) -> None:
        """Give back the slots of a record that is notified, and take it out of the index that the sweep reads.

        Raises RecordUnavailableError when the table fails; the record is then still in the index.
        """
        self._release_slots(record.execution_id, record.slots or ())
        if record.notified_at is not None and record.unfinished is not None:
            # On a conflict it was erased meanwhile.
            with suppress(RecordConflictError):
                self._table.leave_index(record)

    def _release_slots(self, execution_id: str, slots: Iterable[str]) -> None:
        if self._limiter is not None:
            self._limiter.release(execution_id, slots)

    def redeliver(self, execution_id: object) -> dict[str, Any]:
        """Publish the event of a finished execution again, the same to the byte, and return what came of it.

        The result has `execution_id`, `redelivered`, `outcome` (None where nothing is known) and either `event_id`
        or the `reason` why nothing was published. A record that was not marked as notified is marked.
        Raises RecordUnavailableError or boto3's errors when table or topic fail.
        """
        record = self._table.get(execution_id, self._clock()) if isinstance(execution_id, str) else None
        if record is None:
            reason = "there is no such execution: its record was erased or has expired, or the id is wrong"
            return {"execution_id": execution_id, "redelivered": False, "outcome": None, "reason": reason}
        result = {"execution_id": record.execution_id, "outcome": record.status}
        if (why := _undeliverable(record)) is not None:
            return result | {"redelivered": False, "reason": why}
        self._publish(record)
        self.release(self._mark_notified(record))
        return result | {"redelivered": True, "event_id": notification_events.event_id(record)}

    def _deliver(self, record: ExecutionRecord) -> ExecutionRecord:
        """Publish, then mark the record. A crash in between publishes the same event again: at least once."""
        if record.notified_at is None:
            self._publish(record)
        return self._mark_notified(record)

    def _publish(self, record: ExecutionRecord) -> None:
        for target in self._targets:
            if target.name in record.deliver_to:
                target.deliver(record)

    def _mark_notified(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.notified_at is not None:
            return record
        now = self._clock()
        try:
            marked = self._table.mark_notified(
                record, now, now + self._retention_s, has_slots=bool(record.slots)
            )
        except RecordConflictError:
            # Another publisher published the same event, or the answer to this very write was lost. Either way the
            # slots may still be taken.
            return self._table.get(record.execution_id, now) or record
        self._on_delivery(marked)
        return marked

    def _reread(self, record: ExecutionRecord) -> ExecutionRecord:
        current = self._table.get(record.execution_id, self._clock())
        if current is None or not current.status.is_final:
            message = f"{record.execution_id}: the record has no outcome, and it was changed in between"
            raise RecordConflictError(message)
        return current

    def final_attributes(self, state: LoopState) -> dict[str, Any]:
        """Return the record's attributes of an outcome. A state without an outcome is a fault of Waterhook."""
        now = self._clock()
        outcome, error = state.outcome, state.error
        if not outcome.is_final:
            outcome = Status.ERROR
            error = {"code": "no_outcome", "message": f"the loop ended with {clip(state.outcome)}"}
        result = dict(state.result)
        completed_at = result.pop("completed_at", None)
        return result | {
            "status": outcome,
            "finished_at": to_rfc3339(now),
            # The retention begins with the notification: what is not notified yet must not expire.
            "expires_at": int(now + max(self._retention_s, UNFINISHED_GRACE_S)),
            "error": error,
            "waterflai_execution_id": state.waterflai_execution_id,
            "timing": {"completed_at": completed_at} if completed_at else None,
            "usage": {
                "polls": state.history.status_requests,
                "follow_seconds": state.history.follow_seconds,
                "estimated_cost_usd": cost.estimated_usd(state.history),
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
