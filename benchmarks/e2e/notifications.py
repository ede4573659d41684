"""What the subscribed queue has received, and when."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.runner.client import StackClient, notification
from waterhook.timestamps import to_epoch_s


@dataclass(frozen=True, slots=True)
class Heard:
    """One notification."""

    marker: str
    execution_id: str
    status: str
    upstream_id: str
    arrived_at: float
    completed_at: float | None

    @property
    def lag_s(self) -> float:
        """From the job's completion, by the simulator's clock, to the notification's arrival in the queue."""
        return self.arrived_at - (self.completed_at or self.arrived_at)


def received(stack: StackClient) -> Iterator[Heard]:
    """Yield every notification that waits, and take it."""
    queue = stack.outputs.results_queue_url
    while messages := stack.sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=900,
        MessageSystemAttributeNames=["SentTimestamp"],
    ).get("Messages"):
        for message in messages:
            stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            yield _heard(
                notification(message["Body"])["data"], int(message["Attributes"]["SentTimestamp"]) / 1000
            )


def _heard(data: dict[str, Any], arrived_at: float) -> Heard:
    return Heard(
        data["metadata"].get("marker", ""),
        data["execution_id"],
        data["status"],
        data.get("waterflai_execution_id") or "",
        arrived_at,
        to_epoch_s((data.get("timing") or {}).get("completed_at")),
    )
