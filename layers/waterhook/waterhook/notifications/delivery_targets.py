"""Delivery targets for outcomes and progress: the SNS topic, the event bus, and the webhook of the request.

Delivery to `dynamodb` has no class here, because it is the record itself. To add a target: add its name to
`waterhook.domain.request.DELIVERY_TARGETS`, add a class here, and add an instance to `Dependencies`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from waterhook.notifications import notification_events
from waterhook.timestamps import to_epoch_s

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient

    from waterhook.notifications.webhook_queue import WebhookQueue
    from waterhook.storage.execution_record import ExecutionRecord

# The source of each event on the bus. Rules filter by it.
EVENT_SOURCE = "waterhook"
_INVALID_RESPONSE = "InvalidResponse"
_ERROR_CODE = re.compile(r"[A-Za-z]{1,64}")


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
        """Whether the request has `progress_events`, and `sns` in `deliver_to`."""
        return record.progress_events and self.name in record.deliver_to

    def publish_progress(self, record: "ExecutionRecord", change: Mapping[str, Any], now: float) -> None:
        """Publish a progress event."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=notification_events.progress_event(record, self._source, change, now),
            MessageAttributes=notification_events.progress_attributes(record),
        )


class EventBridgeTarget:
    """The event bus for results. The `detail` of an event is the CloudEvent that the topic receives.

    EventBridge accepts events for a bus that does not exist, and drops them. `waterhook doctor` checks that it exists.
    """

    name = "eventbridge"

    def __init__(self, client: "Callable[[], EventBridgeClient]", bus: str, source: str) -> None:
        """`client` is called with the first event. `source` is the CloudEvents source of the events."""
        self._client = client
        self._bus = bus
        self._source = source

    def receives_outcome(self, record: "ExecutionRecord") -> bool:
        """Whether the request has `eventbridge` in `deliver_to`."""
        return self.name in record.deliver_to

    def publish_outcome(self, record: "ExecutionRecord") -> None:
        """Put the outcome event of a final record on the bus."""
        self._put(
            record,
            notification_events.event_type(record.status),
            notification_events.outcome_event(record, self._source),
            to_epoch_s(record.finished_at) or 0.0,
        )

    def receives_progress(self, record: "ExecutionRecord") -> bool:
        """Whether the request has `progress_events`, and `eventbridge` in `deliver_to`."""
        return record.progress_events and self.name in record.deliver_to

    def publish_progress(self, record: "ExecutionRecord", change: Mapping[str, Any], now: float) -> None:
        """Put a progress event on the bus."""
        event = notification_events.progress_event(record, self._source, change, now)
        self._put(record, notification_events.PROGRESS_TYPE, event, now)

    def _put(self, record: "ExecutionRecord", event_type: str, event: str, at: float) -> None:
        client = self._client()
        entry: Any = {
            "Source": EVENT_SOURCE,
            "DetailType": event_type,
            "Detail": event,
            "Time": datetime.fromtimestamp(at, UTC),
            "Resources": [record.owner_execution_arn],
            "EventBusName": self._bus,
        }
        try:
            code = refusal_code(client.put_events(Entries=[entry]))
        except (AttributeError, TypeError, ValueError):
            # botocore's parser raises these for JSON of another shape than the service's. The text of the error may
            # contain the response, so it is left out.
            code = _INVALID_RESPONSE
        if code is not None:
            raise ClientError(
                {"Error": {"Code": code, "Message": "EventBridge did not accept the event"}}, "PutEvents"
            ) from None


def refusal_code(response: Any) -> str | None:
    """Return why EventBridge did not accept the only entry of a PutEvents call; None if it accepted it.

    A response without an error may still refuse an entry. An unusable response counts as a refusal.
    """
    (entry,) = response.get("Entries") or [{}]
    code = entry.get("ErrorCode")
    if code is None and entry.get("EventId") and response.get("FailedEntryCount") == 0:
        return None
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else _INVALID_RESPONSE


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
