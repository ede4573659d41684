"""Receives the notifications from the subscribed queue."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from local.local_aws.stack_client import StackClient, execution_id_of, notification
from waterhook.timestamps import to_epoch_s

_LONG_POLL_S = 2


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


class QueueConsumer:
    """Receives the notifications from the subscribed queue with long polls while its block runs."""

    def __init__(self, stack: StackClient) -> None:
        self._stack = stack
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.arrived_at: dict[str, float] = {}
        """When the notification of an execution was received, in epoch seconds."""

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the end of the last long poll."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        queue = self._stack.outputs.results_queue_url
        while not self._stopping.is_set():
            answer = self._stack.sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=_LONG_POLL_S
            )
            now = time.time()
            for message in answer.get("Messages", []):
                self.arrived_at.setdefault(execution_id_of(notification(message["Body"])) or "", now)
                self._stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
