"""Helpers of the checks' tests."""

import json
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from tests.fakes.aws import Topic, client_error
from waterhook_cli.checks.finding import Finding, Level
from waterhook_cli.stack import StackResource

OK, NOTE, WARNING, PROBLEM, UNKNOWN = Level
FOLLOW_FUNCTION = StackResource("FollowFunction", "AWS::Lambda::Function", "shop-Follow")


def only(findings: Iterable[Finding]) -> Finding:
    """Return the only finding. Every finding that needs an action has a hint."""
    (finding,) = findings
    assert finding.hint or finding.level in {OK, NOTE}
    return finding


class LambdaQuota:
    """Lambda with a quota, the reservation of the follow function, and that of other functions."""

    def __init__(self, quota: int, reserved: int | None = None, *, by_others: int = 0) -> None:
        self._quota, self._reserved, self._by_others = quota, reserved, by_others

    def get_account_settings(self) -> dict[str, Any]:
        unreserved = self._quota - (self._reserved or 0) - self._by_others
        return {
            "AccountLimit": {
                "ConcurrentExecutions": self._quota,
                "UnreservedConcurrentExecutions": unreserved,
            }
        }

    def get_function_concurrency(self, **arguments: str) -> dict[str, int]:
        assert arguments == {"FunctionName": FOLLOW_FUNCTION.physical_id}
        return {} if self._reserved is None else {"ReservedConcurrentExecutions": self._reserved}


class PendingSubscription:
    """SNS with a subscription that is not confirmed."""

    def get_paginator(self, name: str) -> "PendingSubscription":
        return self

    def paginate(self, **arguments: str) -> list[dict[str, Any]]:
        entry = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "a@example.com"}
        return [{"Subscriptions": [entry]}]


class ForeignSubscriptions:
    """SNS with a topic whose subscriptions belong to another account."""

    def __init__(self, sns: Any) -> None:
        self.get_paginator = sns.get_paginator

    def get_subscription_attributes(self, **arguments: str) -> None:
        raise client_error("AuthorizationError", 403)


def create_queue(topic: Topic, name: str, messages: int = 0) -> tuple[str, str]:
    """Create a queue with a unique name; return its URL and ARN."""
    url = topic.sqs.create_queue(QueueName=f"{name}-{uuid4().hex}")["QueueUrl"]
    for _ in range(messages):
        topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    attributes = topic.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, attributes["QueueArn"]


def set_dead_letter_queue(topic: Topic, queue_arn: str) -> None:
    """Set the dead-letter queue of the topic's subscription."""
    topic.sns.set_subscription_attributes(
        SubscriptionArn=subscription_of(topic)["SubscriptionArn"],
        AttributeName="RedrivePolicy",
        AttributeValue=json.dumps({"deadLetterTargetArn": queue_arn}),
    )


def subscription_of(topic: Topic) -> Any:
    (subscription,) = topic.sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    return subscription
