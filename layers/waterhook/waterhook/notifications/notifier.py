"""Ends an execution: writes the outcome to its record, unless there is one, and publishes it from the record."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain import cost
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications import notification_events, state_machine_output
from waterhook.notifications.delivery_targets import DeliveryTarget
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import UNFINISHED_GRACE_S, ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import clip
from waterhook.timestamps import to_rfc3339


def _ignore_delivery(_record: ExecutionRecord) -> None:
    """Default for `on_delivery`."""


class Notifier:
    """Writes outcomes and publishes them. Idempotent: safe to retry after a crash."""

    def __init__(
        self,
        table: ExecutionsTable,
        topic: DeliveryTarget,
        webhook: DeliveryTarget | None = None,
        result_bus: DeliveryTarget | None = None,
        *,
        retention_s: float,
        clock: Callable[[], float],
        limiter: ConcurrencyLimiter | None = None,
        on_delivery: Callable[[ExecutionRecord], None] = _ignore_delivery,
    ) -> None:
        """`retention_s` is how long a record is stored after its notification, in seconds.

        Without a `webhook` target no webhooks are sent, and without a `result_bus` no events, because they are off in
        this deployment. `on_delivery` is called with each record that this notifier marks as notified. Without a
        `limiter` no slot is released.
        """
        self._table = table
        self._webhook = webhook
        # Delivery to DynamoDB means that the record keeps the output, see ExecutionsTable.mark_notified. The bus is
        # last: if it does not answer, the others have their event already.
        self._targets = [target for target in (topic, webhook, result_bus) if target is not None]
        self._retention_s = retention_s
        self._clock = clock
        self._limiter = limiter
        self._on_delivery = on_delivery

    def notify(self, state: LoopState, owner: str) -> dict[str, Any]:
        """Write and publish the outcome, and return the output of the state machine.

        If `owner` does not own the record, nothing is written or published. Raises RecordConflictError if another call
        changed the record and it still has no outcome.
        """
        record = self._table.get(state.execution_id, self._clock())
        if record is None:
            # The record listed its slots. Without it, every possible slot is released.
            self._release_slots(state.execution_id, ConcurrencyLimiter.slots_of(state.chatbot_id))
            message = f"the record of {state.execution_id} does not exist; it was erased or has expired"
            return state_machine_output.failure_output(
                Status.ERROR.error_name, message, {"execution_id": state.execution_id}
            )
        if record.owner_execution_arn != owner:
            return state_machine_output.duplicate_output(record)
        return self.conclude(record, self.final_attributes(state))

    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Write an outcome unless there is one, deliver the record's outcome, and return the state machine's output."""
        if not record.status.is_final:
            try:
                record = self._table.conclude(record, final_attributes)
            except RecordConflictError:
                # Another outcome was written first, and it counts.
                record = self._reread(record)
        output = state_machine_output.outcome_output(record)
        self.release(self._deliver(record))
        return output

    def release(self, record: ExecutionRecord) -> None:
        """Release the slots of a notified record, and remove it from the index of unfinished records.

        Raises RecordUnavailableError if the table fails; the record then stays in the index for the sweep.
        """
        self._release_slots(record.execution_id, record.slots or ())
        if record.notified_at is not None and record.unfinished is not None:
            # A conflict means that the record was erased in the meantime.
            with suppress(RecordConflictError):
                self._table.leave_index(record)

    def _release_slots(self, execution_id: str, slots: Iterable[str]) -> None:
        if self._limiter is not None:
            self._limiter.release(execution_id, slots)

    def redeliver(self, execution_id: object) -> dict[str, Any]:
        """Publish the event of a finished execution again, with the same bytes, and return the result.

        The result has `execution_id`, `redelivered`, `outcome` (None if there is no record), and either `event_id` and
        `published_to`, or the `reason` why nothing was published. The topic and the bus receive it, whichever
        `deliver_to` lists; webhooks have a command of their own. A record that was not marked as notified is marked
        now, unless another target has not received its outcome. Raises RecordUnavailableError or boto3's errors if
        DynamoDB, SNS or EventBridge fails. If one of SNS and EventBridge fails, the other one has received the event.
        """
        record = self._table.get(execution_id, self._clock()) if isinstance(execution_id, str) else None
        if record is None:
            reason = "no such execution: the id is wrong, or its record was erased or has expired"
            return {"execution_id": execution_id, "redelivered": False, "outcome": None, "reason": reason}
        result = {"execution_id": record.execution_id, "outcome": record.status}
        targets = [
            target
            for target in self._targets
            if target is not self._webhook and target.receives_outcome(record)
        ]
        if (why := _redelivery_obstacle(record, targets)) is not None:
            return result | {"redelivered": False, "reason": why}
        self._publish(record, targets)
        published = [target.name for target in targets]
        if record.notified_at is None and self._missing_targets(record, published):
            # The state machine or a sweep publishes to the other targets.
            self._mark_published(record, published)
        else:
            self.release(self._mark_notified(record))
        event_id = notification_events.event_id(record)
        return result | {"redelivered": True, "event_id": event_id, "published_to": published}

    def _deliver(self, record: ExecutionRecord) -> ExecutionRecord:
        """Publish, then mark the record. After a crash in between, the same event is published again."""
        if record.notified_at is None:
            self._publish(record, self._missing_targets(record))
        return self._mark_notified(record)

    def _publish(self, record: ExecutionRecord, targets: Iterable[DeliveryTarget]) -> None:
        """Publish the outcome to these targets. If one fails, raise its error after the others.

        A record that is not notified then lists those that did not fail, so that a retry does not repeat them.
        """
        published: list[str] = []
        failure: ClientError | BotoCoreError | None = None
        for target in targets:
            try:
                target.publish_outcome(record)
            except (ClientError, BotoCoreError) as error:
                failure = failure or error
            else:
                published.append(target.name)
        if failure is not None:
            if published and record.notified_at is None:
                self._mark_published(record, published)
            raise failure

    def _missing_targets(
        self, record: ExecutionRecord, published: Iterable[str] = ()
    ) -> list[DeliveryTarget]:
        done = {*(record.published_to or ()), *published}
        return [
            target for target in self._targets if target.receives_outcome(record) and target.name not in done
        ]

    def _mark_published(self, record: ExecutionRecord, published: Iterable[str]) -> None:
        # Best effort: without the mark, a retry repeats an event, which subscribers have to expect.
        with suppress(RecordConflictError, RecordUnavailableError):
            self._table.mark_published(record, sorted({*(record.published_to or ()), *published}))

    def _mark_notified(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.notified_at is not None:
            return record
        now = self._clock()
        # The deliver function shortens the lifetime again when the delivery has ended.
        lifetime_s = self._retention_s
        has_delivery = self._webhook is not None and self._webhook.receives_outcome(record)
        if has_delivery:
            from waterhook.domain.webhook_retries import KEPT_AFTER_S, MAX_AGE_S

            lifetime_s = max(lifetime_s, MAX_AGE_S + KEPT_AFTER_S)
        try:
            marked = self._table.mark_notified(
                record,
                now,
                now + lifetime_s,
                has_slots=bool(record.slots),
                keeps_output=has_delivery,
            )
        except RecordConflictError:
            # Another call published the same event, or the response to this write was lost. In both cases the record
            # may still have slots.
            return self._table.get(record.execution_id, now) or record
        self._on_delivery(marked)
        return marked

    def _reread(self, record: ExecutionRecord) -> ExecutionRecord:
        current = self._table.get(record.execution_id, self._clock())
        if current is None or not current.status.is_final:
            message = f"{record.execution_id}: another call changed the record, and it has no outcome"
            raise RecordConflictError(message)
        return current

    def final_attributes(self, state: LoopState) -> dict[str, Any]:
        """Return the attributes that an outcome sets in the record. A state without an outcome becomes ERROR."""
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
            # Retention begins with the notification. A record that is not notified yet must not expire.
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


def _redelivery_obstacle(record: ExecutionRecord, targets: Collection[DeliveryTarget]) -> str | None:
    """Return why a record's event can't be published again to these targets, or None if it can."""
    if not record.status.is_final:
        return (
            f"status is {record.status}: there is no outcome yet; its notification is published automatically"
        )
    if not targets and "eventbridge" in record.deliver_to:
        return "the stack has no event bus for results; set its parameter ResultEventBusName"
    if not targets:
        return "the request has neither sns nor eventbridge in deliver_to, so there is no notification"
    if notification_events.is_output_deleted(record):
        return "the request has no dynamodb in deliver_to, so its output was deleted after the notification"
    return None
