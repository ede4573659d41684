"""Targets that the outcome of an execution is delivered to, by their names in a request's `deliver_to`.

DynamoDB is no target of this kind: its delivery is the record itself. To add one: give it a name in
`waterhook.domain.request.DELIVERY_TARGETS` and a class here, and let the notifier use it.
"""

from typing import TYPE_CHECKING

from waterhook.notifications import notification_events

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

    from waterhook.storage.execution_record import ExecutionRecord


class SnsTarget:
    """The notification topic."""

    name = "sns"

    def __init__(self, client: "SNSClient", topic_arn: str, source: str) -> None:
        """`source` is the CloudEvents source of the events."""
        self._client = client
        self._topic_arn = topic_arn
        self._source = source

    def deliver(self, record: "ExecutionRecord") -> None:
        """Publish the event of a final record. Raises boto3's errors where SNS does not take it."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=notification_events.outcome_event(record, self._source),
            MessageAttributes=notification_events.outcome_attributes(record),
        )
