"""Delivery targets for outcomes and progress: the SNS topic, and the webhook of the request.

Delivery to `dynamodb` has no class here, because it is the record itself. To add a target: add its name to
`waterhook.domain.request.DELIVERY_TARGETS`, add a class here, and add an instance to `Dependencies`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from waterhook.notifications import notification_events

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

    from waterhook.notifications.webhook_queue import WebhookQueue
    from waterhook.storage.execution_record import ExecutionRecord


class DeliveryTarget(Protocol):
    """A place that receives the events of executions. Its methods raise boto3's errors if its service fails."""

    @property
    def name(self) -> str:
        """The name by which a record lists this target."""

    def receives_outcome(self, record: "ExecutionRecord") -> bool:
        """Whether this target receives the outcome of a final record."""

    def publish_outcome(self, record: "ExecutionRecord") -> None:
        """Publish the outcome of a final record."""

    def receives_progress(self, record: "ExecutionRecord") -> bool:
        """Whether this target receives the progress of a running job."""

    def publish_progress(self, record: "ExecutionRecord", change: Mapping[str, Any], now: float) -> None:
        """Publish a change of progress that the record has numbered."""


class SnsTarget:
    """The SNS notification topic."""

    name = "sns"

    def __init__(self, client: "SNSClient", topic_arn: str, source: str) -> None:
        """`source` is the CloudEvents source of the events."""
        self._client = client
        self._topic_arn = topic_arn
        self._source = source

    def receives_outcome(self, record: "ExecutionRecord") -> bool:
        """Whether the request has `sns` in `deliver_to`."""
        return self.name in record.deliver_to

    def publish_outcome(self, record: "ExecutionRecord") -> None:
        """Publish the outcome event of a final record."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=notification_events.outcome_event(record, self._source),
            MessageAttributes=notification_events.outcome_attributes(record),
        )

    def receives_progress(self, record: "ExecutionRecord") -> bool:
        """Whether the request has `progress_events`."""
        return record.progress_events

    def publish_progress(self, record: "ExecutionRecord", change: Mapping[str, Any], now: float) -> None:
        """Publish a progress event."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=notification_events.progress_event(record, self._source, change, now),
            MessageAttributes=notification_events.progress_attributes(record),
        )


class WebhookTarget:
    """The webhook of the request: a message in the queue of deliveries, which the deliver function receives."""

    name = "webhook"

    def __init__(self, queue: "WebhookQueue", source: str) -> None:
        """`source` is the CloudEvents source of the events."""
        self._queue = queue
        self._source = source

    def receives_outcome(self, record: "ExecutionRecord") -> bool:
        """Whether the request has a webhook that receives this outcome."""
        return record.webhook_wants_outcome

    def publish_outcome(self, record: "ExecutionRecord") -> None:
        """Send a message without the event: the deliver function builds it from the record."""
        event_id = notification_events.event_id(record)
        self._queue.send(_message(record, event_id))

    def receives_progress(self, record: "ExecutionRecord") -> bool:
        """Whether the request has a webhook that receives progress."""
        return record.webhook is not None and record.webhook.wants_progress

    def publish_progress(self, record: "ExecutionRecord", change: Mapping[str, Any], now: float) -> None:
        """Send a message with the event: the record does not store the changes of progress."""
        event = notification_events.progress_event(record, self._source, change, now)
        self._queue.send(_message(record, notification_events.progress_id(record)) | {"progress": event})


def _message(record: "ExecutionRecord", event_id: str) -> dict[str, Any]:
    # Imported here, because functions without webhooks load no module of webhooks.
    from waterhook.notifications.webhook_queue import delivery_message

    host = record.webhook.host if record.webhook else None
    return delivery_message(record.execution_id, event_id, host)
