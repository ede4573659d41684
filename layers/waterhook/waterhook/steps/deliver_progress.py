"""Delivers progress events to webhooks, best effort: two retries, and no state in a table."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from waterhook.domain import webhook_host, webhook_retries
from waterhook.domain.jitter import jitter_of
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_host import Admission
from waterhook.notifications.webhook_queue import WebhookQueue
from waterhook.notifications.webhook_requests import UnsignedRequest
from waterhook.steps.delivered import Delivered, DeliverResult
from waterhook.steps.webhook_attempts import WebhookAttempts
from waterhook.storage.webhook_hosts import Entry

MAX_ATTEMPTS = 3
# After this many waits for a place of the host, about a minute, the event is of no use any more.
MAX_WAITS = 5


class ProgressDelivery:
    """Delivers progress events. The message contains the event, and the number of attempts and waits."""

    def __init__(self, queue: WebhookQueue, attempts: WebhookAttempts, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._attempts = attempts
        self._clock = clock

    def deliver(
        self, message: Mapping[str, Any], webhook: Webhook, before_attempt: Callable[[], object]
    ) -> Delivered:
        """Make one attempt for a message with `execution_id`, `event_id` and `progress`, the event as JSON text.

        `before_attempt` is called before the request is sent.
        """
        execution_id, event_id = message["execution_id"], message["event_id"]
        now, number, waits = self._clock(), count_of(message, "attempt") or 1, count_of(message, "waits")
        result = Delivered(DeliverResult.DROPPED, execution_id, event_id, webhook.host)
        request = UnsignedRequest(event_id, str(message["progress"]).encode())
        attempt = self._attempts.make(
            webhook, request, held_back_s=0.0, begin=lambda _token: before_attempt()
        )
        if isinstance(attempt, Entry):
            if attempt.admission is Admission.OPEN or waits >= MAX_WAITS:
                return result
            jitter = jitter_of(event_id, waits)
            next_at = webhook_host.enter_again_at(
                attempt.admission, attempt.open_until, now, jitter, earlier_waits=waits
            )
            self._queue.send({**message, "waits": waits + 1}, next_at - now)
            return replace(result, result=DeliverResult.POSTPONED)
        result = replace(result, attempt=attempt, attempt_number=number)
        if attempt.is_delivered:
            return replace(result, result=DeliverResult.DELIVERED)
        if attempt.is_gone or number >= MAX_ATTEMPTS:
            return result
        again = {**message, "attempt": number + 1, "waits": 0}
        self._queue.send(again, webhook_retries.DELAYS_S[number - 1])
        return replace(result, result=DeliverResult.RETRY)


def count_of(message: Mapping[str, Any], name: str) -> int:
    """Return a counter that a message carries, or 0."""
    value = message.get(name)
    return value if isinstance(value, int) and value > 0 else 0
