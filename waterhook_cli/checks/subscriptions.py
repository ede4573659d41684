"""Checks the subscriptions of the notification topic."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.text import split_list
from waterhook_cli.checks.finding import Finding
from waterhook_cli.errors import is_access_denied
from waterhook_cli.temporary_queue import is_temporary

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

_PENDING = "PendingConfirmation"


def check_subscriptions(sns: "SNSClient", topic_arn: str, deliver_to: str) -> Iterator[Finding]:
    """Check that the topic has subscriptions, and that each is confirmed and has a dead-letter queue.

    `deliver_to` is the value of the parameter DefaultDeliverTo.
    """
    # The queues of `waterhook listen` receive nothing that may not be lost.
    subscriptions = [
        entry for entry in list_subscriptions(sns, topic_arn) if not is_temporary(entry["Endpoint"])
    ]
    if not subscriptions:
        yield _no_subscription(topic_arn, deliver_to)
        return
    complete = 0
    for subscription in subscriptions:
        arn, subscriber = subscription["SubscriptionArn"], subscriber_of(subscription)
        if not arn.startswith("arn:"):
            state = "has not confirmed" if arn == _PENDING else "is being deleted"
            yield Finding.warning(
                f"the subscription of {subscriber} {state}: it receives nothing",
                "Confirm it within two days, with the link in the mail or the SubscribeURL of the HTTP request. After "
                "two days, subscribe again.",
            )
            continue
        attributes = read_attributes(sns, arn)
        if attributes is None:
            yield Finding.access_denied(
                f"the subscription of {subscriber}, of account {subscription.get('Owner', 'unknown')}",
                "GetSubscriptionAttributes",
                "The owner of that account can check whether it has a dead-letter queue and whether that is empty.",
            )
        elif attributes.get("RedrivePolicy"):
            complete += 1
        else:
            yield Finding.warning(
                f"the subscription of {subscriber} has no dead-letter queue: a notification that can't be delivered "
                "is lost",
                f"Set a dead-letter queue: aws sns set-subscription-attributes --subscription-arn {arn} "
                '--attribute-name RedrivePolicy --attribute-value \'{"deadLetterTargetArn": "QUEUE_ARN"}\'',
            )
    if complete:
        yield Finding.ok(
            f"{complete} of {len(subscriptions)} subscriptions are confirmed and have a dead-letter queue"
        )


def _no_subscription(topic_arn: str, deliver_to: str) -> Finding:
    message = "the notification topic has no subscription"
    if "sns" not in split_list(deliver_to):
        return Finding.note(f"{message}. DefaultDeliverTo is {deliver_to}, so results do not go there")
    return Finding.warning(
        f"{message}, so no subscriber receives the results",
        "Deploy with CreateResultsQueue=true, or subscribe: aws sns subscribe --protocol email "
        f"--notification-endpoint YOU@EXAMPLE.COM --topic-arn {topic_arn}",
    )


def list_subscriptions(sns: "SNSClient", topic_arn: str) -> list[Any]:
    """Return the subscriptions of a topic as SNS lists them."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    return [entry for page in pages for entry in page["Subscriptions"]]


def subscriber_of(subscription: Mapping[str, Any]) -> str:
    """Return the protocol and the endpoint of a subscription."""
    return f"{subscription['Protocol']} {subscription['Endpoint']}"


def read_attributes(sns: "SNSClient", subscription_arn: str) -> dict[str, str] | None:
    """Return the attributes of a subscription; None if access is denied, for example in another account."""
    try:
        return sns.get_subscription_attributes(SubscriptionArn=subscription_arn)["Attributes"]
    except ClientError as error:
        if is_access_denied(error):
            return None
        raise


def dead_letter_queue_arn(attributes: Mapping[str, str]) -> str | None:
    """Return the ARN of the dead-letter queue in the attributes of a subscription; None if it has no queue."""
    try:
        return str(json.loads(attributes.get("RedrivePolicy", "{}"))["deadLetterTargetArn"])
    except (ValueError, TypeError, KeyError):
        return None
