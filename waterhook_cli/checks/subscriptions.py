"""Checks the subscriptions of the notification topic."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook_cli.checks.finding import Finding
from waterhook_cli.errors import is_access_denied

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

_PENDING = "PendingConfirmation"


def check_subscriptions(sns: "SNSClient", topic_arn: str, delivery: str) -> Iterator[Finding]:
    """Check that there are subscriptions, and that each is confirmed and has a dead-letter queue.

    `delivery` is the stack's parameter Delivery.
    """
    subscriptions = list_subscriptions(sns, topic_arn)
    if not subscriptions:
        yield _no_subscription(topic_arn, delivery)
        return
    complete = 0
    for subscription in subscriptions:
        arn, subscriber = subscription["SubscriptionArn"], subscriber_of(subscription)
        if not arn.startswith("arn:"):
            state = "has not confirmed" if arn == _PENDING else "is being deleted"
            yield Finding.warning(
                f"the subscription of {subscriber} {state}: it receives nothing",
                "Confirm it (the link in the mail, the SubscribeURL of the request) within two days, or subscribe "
                "again.",
            )
            continue
        attributes = read_attributes(sns, arn)
        if attributes is None:
            yield Finding.access_denied(
                f"the subscription of {subscriber}, of account {subscription.get('Owner', 'unknown')}",
                "GetSubscriptionAttributes",
                "Ask its owner whether it has a dead-letter queue, and whether that is empty.",
            )
        elif attributes.get("RedrivePolicy"):
            complete += 1
        else:
            yield Finding.warning(
                f"the subscription of {subscriber} has no dead-letter queue: a notification that can't be delivered "
                "to it is lost",
                f"Set one: aws sns set-subscription-attributes --subscription-arn {arn} "
                '--attribute-name RedrivePolicy --attribute-value \'{"deadLetterTargetArn": "QUEUE_ARN"}\'',
            )
    if complete:
        yield Finding.ok(
            f"{complete} of {len(subscriptions)} subscriptions confirmed and with a dead-letter queue"
        )


def _no_subscription(topic_arn: str, delivery: str) -> Finding:
    message = "the topic of the notifications has no subscription"
    if delivery == "DYNAMODB":
        return Finding.note(f"{message}; results stay in the table (Delivery is DYNAMODB)")
    return Finding.warning(
        message,
        "Deploy with CreateResultsQueue=true, or subscribe: aws sns subscribe --protocol email "
        f"--notification-endpoint YOU@EXAMPLE.COM --topic-arn {topic_arn}",
    )


def list_subscriptions(sns: "SNSClient", topic_arn: str) -> list[Any]:
    """Return the subscriptions of a topic as SNS lists them."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    return [entry for page in pages for entry in page["Subscriptions"]]


def subscriber_of(subscription: Mapping[str, Any]) -> str:
    """Return protocol and endpoint of a subscription."""
    return f"{subscription['Protocol']} {subscription['Endpoint']}"


def read_attributes(sns: "SNSClient", subscription_arn: str) -> dict[str, str] | None:
    """Return the attributes of a subscription, None where only another account may read them."""
    try:
        return sns.get_subscription_attributes(SubscriptionArn=subscription_arn)["Attributes"]
    except ClientError as error:
        if is_access_denied(error):
            return None
        raise


def dead_letter_queue_arn(attributes: Mapping[str, str]) -> str | None:
    """Return the ARN of the dead-letter queue in a subscription's attributes, None where there is none."""
    try:
        return str(json.loads(attributes.get("RedrivePolicy", "{}"))["deadLetterTargetArn"])
    except (ValueError, TypeError, KeyError):
        return None
