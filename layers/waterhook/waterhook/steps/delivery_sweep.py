"""The sweep of deliveries: sends the messages of attempts that are due before the next sweep.

SQS delays a message by 15 minutes at most. Later attempts are only in the index of the deliveries table. The sweep also
finds deliveries whose message was lost because a function ended at the wrong moment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waterhook.notifications.webhook_queue import WebhookQueue, delivery_message
from waterhook.storage.webhook_deliveries import DUE_SHARDS, DueDelivery, WebhookDeliveries

SWEEP_INTERVAL_S = 900.0
# A delivery that has a message and is overdue by this much has lost it.
LOST_AFTER_S = 300.0
# Time in seconds that a sweep leaves unused, for the writes that it has begun.
RESERVE_S = 10.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class DeliverySweepResult:
    """How many messages a sweep sent, and whether it read the whole index."""

    queued: int
    is_complete: bool


class DeliverySweeper:
    """Sends a message for each delivery that is due and has none."""

    def __init__(
        self, deliveries: WebhookDeliveries, queue: WebhookQueue, clock: Callable[[], float]
    ) -> None:
        self._deliveries = deliveries
        self._queue = queue
        self._clock = clock

    def sweep(self, remaining_s: Callable[[], float]) -> DeliverySweepResult:
        """Send messages while there is time. Raises RecordUnavailableError or boto3's errors if AWS fails."""
        count = 0
        batch: list[DueDelivery] = []
        for due in self._due():
            batch.append(due)
            if len(batch) == _BATCH:
                count += self._send(batch)
                batch = []
                if remaining_s() < RESERVE_S:
                    return DeliverySweepResult(count, is_complete=False)
        count += self._send(batch)
        return DeliverySweepResult(count, is_complete=True)

    def _due(self) -> Iterator[DueDelivery]:
        now = self._clock()
        for shard in DUE_SHARDS:
            for due in self._deliveries.due(shard, now + SWEEP_INTERVAL_S):
                if not due.queued or due.next_at < now - LOST_AFTER_S:
                    yield due

    def _send(self, batch: list[DueDelivery]) -> int:
        now = self._clock()
        messages = [
            (delivery_message(due.execution_id, due.event_id, due.host), max(due.next_at - now, 0.0))
            for due in batch
        ]
        return self._queue.send_batch(messages)
