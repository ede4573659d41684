"""The deliver step: one attempt to deliver a webhook, and what follows from its result.

SQS only carries messages. The state of a delivery is an item of the deliveries table, so a message that comes twice, or
too early, has no effect. A message is deleted when this step returns. If it raises, SQS delivers the message again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from waterhook.domain import webhook_host, webhook_retries
from waterhook.domain.jitter import jitter_of
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_host import Admission
from waterhook.errors import RecordConflictError
from waterhook.notifications import notification_events
from waterhook.notifications.webhook_queue import MAX_DELAY_S, WebhookQueue, delivery_message
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.steps.deliver_progress import ProgressDelivery, count_of
from waterhook.steps.delivered import Delivered, DeliverResult
from waterhook.steps.webhook_attempts import WebhookAttempts
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import Entry
from waterhook.timestamps import to_epoch_s
from waterhook.webhooks.sender import Attempt, AttemptError


class DeliverStep:
    """Delivers the outcomes and the progress of executions to their webhooks."""

    def __init__(
        self,
        table: ExecutionsTable,
        deliveries: WebhookDeliveries,
        queue: WebhookQueue,
        dead_letters: WebhookQueue,
        requests: WebhookRequests,
        attempts: WebhookAttempts,
        *,
        retention_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`retention_s` is how long a record is stored after its notification, in seconds."""
        self._table = table
        self._deliveries = deliveries
        self._queue = queue
        self._dead_letters = dead_letters
        self._requests = requests
        self._attempts = attempts
        self._progress = ProgressDelivery(queue, attempts, clock)
        self._retention_s = retention_s
        self._clock = clock

    def deliver(self, message: object, *, before_attempt: Callable[[], object] = lambda: None) -> Delivered:
        """Handle one message of the queue: `execution_id`, `event_id`, `host`, and for progress the event itself.

        `before_attempt` is called before an attempt, which may take 15 s. Raises RecordUnavailableError,
        SigningKeysUnavailableError or boto3's errors if AWS fails.
        """
        if not isinstance(message, Mapping):
            return Delivered(DeliverResult.DROPPED)
        execution_id, event_id = message.get("execution_id"), message.get("event_id")
        if not isinstance(execution_id, str) or not isinstance(event_id, str):
            return Delivered(DeliverResult.DROPPED)
        is_progress = "progress" in message
        # The delivery is read before the record: if both are erased in between, it must not look like a new one.
        stored = None if is_progress else self._deliveries.get(execution_id, event_id)
        record = self._table.get(execution_id, self._clock())
        webhook = record.webhook if record else None
        if is_progress:
            if record is None or webhook is None or record.status.is_final:
                return Delivered(DeliverResult.DROPPED, execution_id, event_id)
            return self._progress.deliver(message, webhook, before_attempt)
        if record is None or webhook is None or not is_event_of(record, event_id):
            # It was erased or has expired, and another execution may have the same id. The sweep must not find it.
            self._deliveries.delete(execution_id, event_id)
            return Delivered(DeliverResult.DROPPED, execution_id, event_id)
        return self._deliver_outcome(message, record, webhook, stored, before_attempt)

    def _deliver_outcome(
        self,
        message: Mapping[str, Any],
        record: ExecutionRecord,
        webhook: Webhook,
        stored: Delivery | None,
        before_attempt: Callable[[], object],
    ) -> Delivered:
        now, event_id, host = self._clock(), notification_events.event_id(record), webhook.host
        delivery = stored or new_delivery(record, self._retention_s, now)
        result = Delivered(DeliverResult.DROPPED, record.execution_id, event_id, host)
        if delivery.next_at > now + webhook_retries.TOLERANCE_S:
            return result
        if delivery.status.is_final:
            return self._clean_up(record, delivery, result) if delivery.has_cleanup else result
        if delivery.attempts >= webhook_retries.MAX_ATTEMPTS:
            # The function ended during the last attempt.
            return self._give_up(delivery, result)
        claimed = delivery

        def claim(token: str) -> None:
            nonlocal claimed
            before_attempt()
            claimed = self._deliveries.claim(
                delivery, exists=stored is not None, token=token, now=self._clock()
            )

        try:
            attempt = self._attempts.make(
                webhook, self._requests.outcome(record), held_back_s=now - delivery.created_at, begin=claim
            )
        except RecordConflictError:
            return result  # another message of this delivery was faster
        if isinstance(attempt, Entry):
            waits = count_of(message, "waits")
            next_at = webhook_host.enter_again_at(
                attempt.admission,
                attempt.open_until,
                now,
                jitter_of(event_id, delivery.attempts * 100 + waits),
                earlier_waits=waits,
            )
            if stored is not None or attempt.admission is Admission.OPEN:
                self._postpone(delivery, next_at, waits + 1, exists=stored is not None)
            else:
                # It waits for seconds and has a message, so it needs no item yet. Thousands may wait at the same time.
                self._queue.send({**message_of(delivery), "waits": waits + 1}, next_at - now)
            return replace(result, result=DeliverResult.POSTPONED)
        result = replace(result, attempt=attempt, attempt_number=claimed.attempts)
        return self._conclude(record, claimed, attempt, result)

    def _conclude(
        self, record: ExecutionRecord, delivery: Delivery, attempt: Attempt, result: Delivered
    ) -> Delivered:
        """Write the result of an attempt. A conflict means that an operator resent the event in the meantime."""
        now = self._clock()
        if attempt.is_delivered or attempt.is_gone:
            status = DeliveryStatus.DELIVERED if attempt.is_delivered else DeliveryStatus.GONE
            outcome = DeliverResult.DELIVERED if attempt.is_delivered else DeliverResult.GONE
            self._finish(delivery, status, attempt.code, attempt.error)
            return replace(result, result=outcome, since_outcome_s=_since_outcome_s(record, now))
        next_at = webhook_retries.next_attempt_at(
            delivery.attempts,
            created_at=delivery.created_at,
            now=now,
            retry_after_s=attempt.retry_after_s,
            jitter=jitter_of(delivery.execution_id, delivery.attempts),
        )
        delivery = replace(delivery, last_code=attempt.code, last_error=attempt.error)
        if next_at is None:
            return self._give_up(delivery, result)
        try:
            queued = next_at - now <= MAX_DELAY_S
            self._deliveries.retry(
                delivery, next_at=next_at, queued=queued, code=attempt.code, error=attempt.error
            )
        except RecordConflictError:
            return result
        if queued:
            self._queue.send(message_of(delivery), next_at - now)
        return replace(result, result=DeliverResult.RETRY)

    def _give_up(self, delivery: Delivery, result: Delivered) -> Delivered:
        """Send the delivery to the dead-letter queue, then write that it failed. A crash in between repeats both."""
        self._dead_letters.send(
            message_of(delivery)
            | {
                "attempts": delivery.attempts,
                "last_code": delivery.last_code,
                "last_error": delivery.last_error,
            }
        )
        error = delivery.last_error or AttemptError.NO_RESULT
        self._finish(delivery, DeliveryStatus.FAILED, delivery.last_code, error)
        return replace(result, result=DeliverResult.FAILED)

    def _finish(
        self,
        delivery: Delivery,
        status: DeliveryStatus,
        code: int | None,
        error: str | None,
    ) -> None:
        try:
            self._deliveries.finish(delivery, status, now=self._clock(), code=code, error=error)
        except RecordConflictError:
            # An operator resent the event in the meantime, so it is delivered once more.
            return

    def _clean_up(self, record: ExecutionRecord, delivery: Delivery, result: Delivered) -> Delivered:
        notified_at = to_epoch_s(record.notified_at)
        if notified_at is None:
            return result  # a target still fails; the next sweep tries again
        expires_at = max(notified_at + self._retention_s, self._clock())
        self._table.set_lifetime(record, expires_at, drops_output="dynamodb" not in record.deliver_to)
        self._deliveries.cleaned_up(delivery)
        return replace(result, result=DeliverResult.CLEANED)

    def _postpone(self, delivery: Delivery, next_at: float, waits: int, *, exists: bool) -> None:
        """Postpone a delivery without an attempt. A conflict means that another message has changed it."""
        now = self._clock()
        queued = next_at - now <= MAX_DELAY_S
        try:
            self._deliveries.postpone(delivery, exists=exists, next_at=next_at, queued=queued)
        except RecordConflictError:
            return
        if queued:
            self._queue.send({**message_of(delivery), "waits": waits}, next_at - now)


def is_event_of(record: ExecutionRecord, event_id: str) -> bool:
    """Return whether an event id is the one of this record's outcome."""
    return record.status.is_final and notification_events.event_id(record) == event_id


def new_delivery(record: ExecutionRecord, retention_s: float, now: float) -> Delivery:
    """Return the delivery of a final record's outcome before its first attempt.

    `retention_s` is how long a record is stored after its notification, in seconds.
    """
    lifetime_s = webhook_retries.MAX_AGE_S + webhook_retries.KEPT_AFTER_S
    return Delivery.new(
        record.execution_id,
        notification_events.event_id(record),
        host=record.webhook.host if record.webhook else "",
        now=now,
        expires_at=int(max(record.expires_at, now + lifetime_s)),
        has_cleanup="dynamodb" not in record.deliver_to or retention_s < lifetime_s,
    )


def message_of(delivery: Delivery) -> dict[str, Any]:
    """Return the message that leads to the next attempt of a delivery."""
    return delivery_message(delivery.execution_id, delivery.event_id, delivery.host)


def _since_outcome_s(record: ExecutionRecord, now: float) -> float | None:
    finished_at = to_epoch_s(record.finished_at)
    return None if finished_at is None else max(now - finished_at, 0.0)
