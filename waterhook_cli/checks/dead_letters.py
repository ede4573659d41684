"""Checks of `doctor`: the topic's subscriptions and the dead-letter queues."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook_cli.checks.finding import Finding, Level
from waterhook_cli.errors import denied
from waterhook_cli.stack import Resource

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

_QUEUE = "AWS::SQS::Queue"
_PENDING = "PendingConfirmation"
_COLONS_OF_A_QUEUE = 5  # arn:<partition>:sqs:<region>:<account>:<name>


def subscriptions(sns: "SNSClient", topic_arn: str, delivery: str) -> Iterator[Finding]:
    """Look for subscriptions that are missing, wait to be confirmed, or lose what they fail to take."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    found: list[Any] = [entry for page in pages for entry in page["Subscriptions"]]
    if not found:
        yield _nobody(topic_arn, delivery)
        return
    well = 0
    for entry in found:
        who = f"{entry['Protocol']} {entry['Endpoint']}"
        if not entry["SubscriptionArn"].startswith("arn:"):
            state = "has not confirmed" if entry["SubscriptionArn"] == _PENDING else "is being deleted"
            yield Finding.warning(
                f"the subscription of {who} {state}: it receives nothing",
                "Confirm it (the link in the mail, the SubscribeURL of the request) within two days, or subscribe "
                "again.",
            )
            continue
        attributes = _attributes(sns, entry["SubscriptionArn"])
        if attributes is None:
            yield Finding(
                Level.UNKNOWN,
                f"the subscription of {who}, of account {entry.get('Owner', 'unknown')}: not looked at, you are not "
                "allowed to (GetSubscriptionAttributes)",
                "Ask its owner whether it has a dead-letter queue, and whether that is empty.",
            )
            continue
        if attributes.get("RedrivePolicy"):
            well += 1
            continue
        yield Finding.warning(
            f"the subscription of {who} has no dead-letter queue: a notification it can't take is lost",
            f"Name one: aws sns set-subscription-attributes --subscription-arn {entry['SubscriptionArn']} "
            '--attribute-name RedrivePolicy --attribute-value \'{"deadLetterTargetArn": "QUEUE_ARN"}\'',
        )
    if well:
        yield Finding.ok(f"{well} of {len(found)} subscriptions confirmed and with a dead-letter queue")


def alarm_mail(sns: "SNSClient", resources: Iterable[Resource]) -> Iterator[Finding]:
    """Look whether somebody hears the alarms of a stack that has a topic of its own for them."""
    for topic in resources:
        if (topic.kind, topic.name) != ("AWS::SNS::Topic", "AlarmTopic"):
            continue
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic.physical)
        found: list[Any] = [entry for page in pages for entry in page["Subscriptions"]]
        if any(entry["SubscriptionArn"].startswith("arn:") for entry in found):
            yield Finding.ok("somebody hears the alarms")
        else:
            who = ", ".join(entry["Endpoint"] for entry in found)
            yield Finding.warning(
                f"nobody hears the alarms: {f'{who} has not confirmed' if who else 'there is no subscription'}",
                "Confirm by the link in AWS's mail; after two days deploy with another AlarmEmail and back.",
            )


def _nobody(topic_arn: str, delivery: str) -> Finding:
    what = "nobody has subscribed to the notifications"
    if delivery == "DYNAMODB":
        return Finding.note(f"{what}; results stay in the table (Delivery is DYNAMODB)")
    return Finding.warning(
        what,
        "Deploy with CreateResultsQueue=true, or subscribe: aws sns subscribe --protocol email "
        f"--notification-endpoint YOU@EXAMPLE.COM --topic-arn {topic_arn}",
    )


def dead_letters(
    sqs: "SQSClient", sns: "SNSClient", topic_arn: str, resources: Iterable[Resource]
) -> Iterator[Finding]:
    """Count the messages in the stack's dead-letter queues and in those of the topic's subscriptions.

    A queue in another account or region, or one that may not be read, yields a finding that names it.
    """
    # By name, which is unique in an account and region: what it is, and its URL where that is known.
    queues = {
        name_of(entry.physical): (entry.name, entry.physical)
        for entry in resources
        if entry.kind == _QUEUE and "DeadLetter" in entry.name
    }
    home = topic_arn.split(":")[3:5]
    for arn, who in _of_subscriptions(sns, topic_arn).items():
        region, account, name = arn.split(":")[3:6]
        what = f"{name}, the dead-letter queue of the subscription of {who}"
        if [region, account] != home:
            yield Finding(
                Level.UNKNOWN,
                f"{what}: not looked at, it is in account {account}, {region}",
                "Count its messages there: aws sqs get-queue-attributes --attribute-names All --queue-url QUEUE_URL",
            )
        elif name not in queues:
            queues[name] = (what, "")
    empty = 0
    for name, (what, known_url) in queues.items():
        try:
            url = known_url or sqs.get_queue_url(QueueName=name)["QueueUrl"]
            count = _messages(sqs, url)
        except ClientError as error:
            if not denied(error) and not _is_gone(error):
                raise
            yield _unread(what, error)
            continue
        if count:
            yield Finding.problem(
                f"{count} in {what}: what could not be delivered or closed waits there, for two weeks at most",
                "docs/operations.md#dead-letters has what to do with it. To see one: "
                f"aws sqs receive-message --message-attribute-names All --queue-url {url}",
            )
        empty += count == 0
    if empty:
        yield Finding.ok(f"{empty} of {len(queues)} dead-letter queues are empty")


def name_of(queue: str) -> str:
    """Return a queue's name from its URL or its ARN."""
    return queue.replace(":", "/").rpartition("/")[2]


def _of_subscriptions(sns: "SNSClient", topic_arn: str) -> dict[str, str]:
    """Return the dead-letter queues that the topic's subscriptions name, by ARN, each with its first subscriber."""
    found: dict[str, str] = {}
    for page in sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn):
        for entry in page["Subscriptions"]:
            arn = entry["SubscriptionArn"]
            if not arn.startswith("arn:"):
                continue
            attributes = _attributes(sns, arn) or {}
            try:
                queue = json.loads(attributes.get("RedrivePolicy", "{}"))["deadLetterTargetArn"]
            except (ValueError, TypeError, KeyError):
                continue
            if str(queue).count(":") == _COLONS_OF_A_QUEUE:
                found.setdefault(queue, f"{entry['Protocol']} {entry['Endpoint']}")
    return found


def _attributes(sns: "SNSClient", arn: str) -> dict[str, str] | None:
    """Return a subscription's attributes, None where only another account may see them."""
    try:
        return sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    except ClientError as error:
        if denied(error):
            return None
        raise


def _messages(sqs: "SQSClient", url: str) -> int:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(answer["Attributes"].get(name, 0)) for name in names)


def _is_gone(error: ClientError) -> bool:
    return error.response["Error"].get("Code", "").endswith(("NonExistentQueue", "QueueDoesNotExist"))


def _unread(what: str, error: ClientError) -> Finding:
    if _is_gone(error):
        return Finding.problem(
            f"{what} does not exist: a notification that can't be delivered is lost",
            "Create the queue again, or name another one in the subscription's RedrivePolicy.",
        )
    return Finding.refused(what, error.operation_name)
