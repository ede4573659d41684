"""`doctor` looks at who hears the notifications, and at what becomes of those nobody took."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from waterhook_cli.findings import Finding
from waterhook_cli.target import Resource

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

_QUEUE = "AWS::SQS::Queue"
_PENDING = "PendingConfirmation"


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
        attributes = sns.get_subscription_attributes(SubscriptionArn=entry["SubscriptionArn"])["Attributes"]
        if attributes.get("RedrivePolicy"):
            well += 1
            continue
        yield Finding.warning(
            f"the subscription of {who} has no dead-letter queue: a notification it can't take is lost",
            f"aws sns set-subscription-attributes --subscription-arn {entry['SubscriptionArn']} "
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
        f"aws sns subscribe --topic-arn {topic_arn} --protocol email --notification-endpoint YOU@EXAMPLE.COM, "
        "or deploy with CreateResultsQueue=true.",
    )


def dead_letters(sqs: "SQSClient", resources: Iterable[Resource]) -> Iterator[Finding]:
    """Look into the stack's dead-letter queues: each message is something that did not happen."""
    queues = [entry for entry in resources if entry.kind == _QUEUE and "DeadLetter" in entry.name]
    empty = 0
    for queue in queues:
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = sqs.get_queue_attributes(QueueUrl=queue.physical, AttributeNames=names)
        count = sum(int(answer["Attributes"].get(name, 0)) for name in names)
        if count:
            yield Finding.problem(
                f"{count} in {queue.name}: what could not be delivered or closed waits there, for two weeks at most",
                f"aws sqs receive-message --queue-url {queue.physical} --message-attribute-names All "
                "shows one; docs/operations.md#dead-letters says what to do with it.",
            )
        empty += count == 0
    if empty:
        yield Finding.ok(f"{empty} of {len(queues)} dead-letter queues are empty")
