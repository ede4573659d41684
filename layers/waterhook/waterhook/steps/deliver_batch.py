"""The messages of one invocation of the deliver function. At most one of them makes an attempt.

An attempt may take 15 s. Before it begins, the other messages go back to the queue, where another invocation receives
them. So a batch delays no message, and many messages for a host without a free place cost few invocations.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from waterhook.domain import webhook_host
from waterhook.domain.jitter import jitter_of
from waterhook.domain.webhook_host import Admission
from waterhook.notifications.webhook_queue import WebhookQueue
from waterhook.steps.deliver import DeliverStep
from waterhook.steps.deliver_progress import count_of
from waterhook.steps.delivered import Delivered, DeliverResult
from waterhook.steps.webhook_attempts import WebhookAttempts


class DeliverBatch:
    """Handles batches of messages."""

    def __init__(
        self,
        step: DeliverStep,
        attempts: WebhookAttempts,
        queue: WebhookQueue,
        clock: Callable[[], float],
    ) -> None:
        """`attempts` are those of `step`, `queue` is the queue that the messages come from."""
        self._step = step
        self._attempts = attempts
        self._queue = queue
        self._clock = clock

    def deliver(self, messages: Iterable[object]) -> list[Delivered]:
        """Handle the messages. Returns the results of those that did not go back to the queue unread.

        Raises what `DeliverStep.deliver` raises. SQS then delivers all of the messages again.
        """
        unread, postponed = deque(messages), list[tuple[Mapping[str, Any], float]]()
        results: list[Delivered] = []

        def give_back() -> None:
            while unread:
                message = unread.popleft()
                if isinstance(message, Mapping):
                    postponed.append(self._wait(message) if self._is_held_back(message) else (message, 0.0))
            if postponed:
                self._queue.send_batch(postponed)
                postponed.clear()

        while unread:
            message = unread.popleft()
            if isinstance(message, Mapping) and self._is_held_back(message):
                postponed.append(self._wait(message))
                results.append(_postponed(message))
            else:
                results.append(self._step.deliver(message, before_attempt=give_back))
        give_back()
        return results

    def _is_held_back(self, message: Mapping[str, Any]) -> bool:
        """Whether the host of a message had no free place a moment ago."""
        host = message.get("host")
        return isinstance(host, str) and "progress" not in message and self._attempts.is_full(host)

    def _wait(self, message: Mapping[str, Any]) -> tuple[Mapping[str, Any], float]:
        """Return the message with one more wait, and its delay in seconds."""
        now, waits = self._clock(), count_of(message, "waits")
        jitter = jitter_of(str(message.get("event_id")), waits)
        next_at = webhook_host.enter_again_at(Admission.FULL, 0.0, now, jitter, earlier_waits=waits)
        return {**message, "waits": waits + 1}, next_at - now


def _postponed(message: Mapping[str, Any]) -> Delivered:
    return Delivered(
        DeliverResult.POSTPONED, message.get("execution_id"), message.get("event_id"), message.get("host")
    )
