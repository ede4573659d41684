"""Receives the notifications from the subscribed queue."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.local_aws.stack_client import StackClient, notification
from waterhook.timestamps import to_epoch_s


@dataclass(frozen=True, slots=True)
class ReceivedNotification:
    """A notification with its arrival time in the queue."""

    marker: str
    execution_id: str
    status: str
    upstream_id: str
    arrived_at: float
    completed_at: float | None

    @property
    def delay_s(self) -> float:
        """Seconds from the completion of the job, by the simulator's clock, to the arrival in the queue."""
        return self.arrived_at - (self.completed_at or self.arrived_at)


def received(stack: StackClient) -> Iterator[ReceivedNotification]:
    """Yield all notifications in the queue, and delete them from it."""
    queue = stack.outputs.results_queue_url
    while messages := stack.sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=900,
        MessageSystemAttributeNames=["SentTimestamp"],
    ).get("Messages"):
        for message in messages:
            stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            yield _parse(
                notification(message["Body"])["data"], int(message["Attributes"]["SentTimestamp"]) / 1000
            )


def _parse(data: dict[str, Any], arrived_at: float) -> ReceivedNotification:
    return ReceivedNotification(
        data["metadata"].get("marker", ""),
        data["execution_id"],
        data["status"],
        data.get("waterflai_execution_id") or "",
        arrived_at,
        to_epoch_s((data.get("timing") or {}).get("completed_at")),
    )
