"""Delivery targets for outcomes, by their names in a request's `deliver_to`.

`dynamodb` has no class here, because its delivery is the record itself. To add a target: add its name to
`waterhook.domain.request.DELIVERY_TARGETS`, add a class here, and add an instance to the targets of the notifier.
"""

from typing import TYPE_CHECKING

from waterhook.notifications import notification_events

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

    from waterhook.storage.execution_record import ExecutionRecord


class SnsTarget:
    """The SNS notification topic."""

    name = "sns"

    def __init__(self, client: "SNSClient", topic_arn: str, source: str) -> None:
        """`source` is the CloudEvents source of the events."""
        self._client = client
        self._topic_arn = topic_arn
        self._source = source

    def deliver(self, record: "ExecutionRecord") -> None:
        """Publish the outcome event of a final record. Raises boto3's errors if SNS fails."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=notification_events.outcome_event(record, self._source),
            MessageAttributes=notification_events.outcome_attributes(record),
        )
