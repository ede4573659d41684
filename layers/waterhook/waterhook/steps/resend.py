"""Repeats the delivery of a webhook on request of an operator."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from waterhook.domain.webhook_delivery import Delivery
from waterhook.errors import RecordConflictError
from waterhook.notifications import notification_events
from waterhook.notifications.webhook_queue import WebhookQueue
from waterhook.steps.deliver import message_of, new_delivery
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.webhook_deliveries import WebhookDeliveries

# This long before the record is cleaned up, and until it is, nothing is resent: the deliver function may have read the
# delivery as ended, and would delete the output that the resend needs. Its timeout is much shorter.
CLEANUP_MARGIN_S = 300.0


class Resender:
    """Begins the delivery of an outcome again, with all its attempts, the same `webhook-id` and the same content."""

    def __init__(
        self,
        table: ExecutionsTable,
        deliveries: WebhookDeliveries,
        queue: WebhookQueue,
        *,
        retention_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`retention_s` is how long a record is stored after its notification, in seconds."""
        self._table = table
        self._deliveries = deliveries
        self._queue = queue
        self._retention_s = retention_s
        self._clock = clock

    def resend(self, request: object) -> dict[str, Any]:
        """Begin the delivery of an execution's outcome again. `request` has its `execution_id`.

        The result has `execution_id`, `resent`, `outcome` (None if there is no record), and either `event_id` or the
        `reason` why nothing is sent. Raises RecordUnavailableError or boto3's errors if DynamoDB or SQS fails.
        """
        now = self._clock()
        execution_id = request.get("execution_id") if isinstance(request, Mapping) else None
        record = self._table.get(execution_id, now) if isinstance(execution_id, str) else None
        if record is None:
            reason = "no such execution: the id is wrong, or its record was erased or has expired"
            return {"execution_id": execution_id, "resent": False, "outcome": None, "reason": reason}
        result = {"execution_id": record.execution_id, "outcome": record.status}
        if (why := _obstacle(record)) is not None:
            return result | {"resent": False, "reason": why}
        event_id = notification_events.event_id(record)
        stored = self._deliveries.get(record.execution_id, event_id)
        # Read again: the record may have been cleaned up before the delivery was read.
        if _is_cleaned_up_soon(stored, now) or self._table.get(record.execution_id, now) != record:
            reason = "its record is being cleaned up or changed at this moment; try again in a few minutes"
            return result | {"resent": False, "reason": reason}
        fresh = new_delivery(record, self._retention_s, now)
        delivery = fresh if stored is None else replace(stored, expires_at=fresh.expires_at, has_cleanup=True)
        try:
            if record.expires_at < fresh.expires_at:
                # The record must outlive the delivery. It gets its own lifetime back a day after the result.
                self._table.set_lifetime(record, fresh.expires_at)
            # The item is written before the message. If the message is lost in a crash, the sweep sends it.
            self._deliveries.reset(delivery, exists=stored is not None, now=now, queued=True)
        except RecordConflictError:
            reason = "its delivery is being changed at this moment; try again in a minute"
            return result | {"resent": False, "reason": reason}
        self._queue.send(message_of(fresh))
        return result | {"resent": True, "event_id": event_id}


def _is_cleaned_up_soon(delivery: Delivery | None, now: float) -> bool:
    """Whether the record of an ended delivery is due to be cleaned up, see `DeliverStep`."""
    if delivery is None or not (delivery.status.is_final and delivery.has_cleanup):
        return False
    return delivery.next_at - CLEANUP_MARGIN_S <= now


def _obstacle(record: ExecutionRecord) -> str | None:
    """Return why the outcome of a record can't be sent to its webhook, or None if it can."""
    if record.webhook is None:
        return "the request has no webhook"
    if not record.status.is_final:
        return f"status is {record.status}: there is no outcome yet; it is sent automatically"
    if not record.webhook.wants(record.status):
        return f"the webhook of the request does not receive {record.status.lower()}"
    if notification_events.is_output_deleted(record):
        return "the request has no dynamodb in deliver_to, so its output was deleted after the delivery"
    return None
