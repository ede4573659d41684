"""Checks the dead-letter queues of the stack and of the subscriptions of its topic."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import aws_error_code
from waterhook_cli.checks.finding import Finding
from waterhook_cli.checks.subscriptions import (
    dead_letter_queue_arn,
    list_subscriptions,
    read_attributes,
    subscriber_of,
)
from waterhook_cli.errors import is_access_denied
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

_QUEUE_TYPE = "AWS::SQS::Queue"
# Pages of docs/runbook by the logical id of a queue.
_RUNBOOK_PAGES = {"WebhookDeadLetterQueue": "WebhookDeadLettersAlarm.md"}
_OTHER_PAGE = "DeadLettersAlarm.md"
_COLONS_IN_QUEUE_ARN = 5  # arn:<partition>:sqs:<region>:<account>:<name>


def check_dead_letters(
    sqs: "SQSClient", sns: "SNSClient", topic_arn: str, resources: Iterable[StackResource]
) -> Iterator[Finding]:
    """Check that the dead-letter queues of the stack and of the subscriptions are empty.

    A queue in another account or region is not checked. It yields a finding, and so does a queue that can't be read.
    """
    # Description and URL (empty if unknown) by queue name. The name is unique in an account and region.
    queues = {
        queue_name(resource.physical_id): (resource.logical_id, resource.physical_id)
        for resource in resources
        if resource.type == _QUEUE_TYPE and "DeadLetter" in resource.logical_id
    }
    own_region_and_account = topic_arn.split(":")[3:5]
    for arn, subscriber in _queues_of_subscriptions(sns, topic_arn).items():
        region, account, name = arn.split(":")[3:6]
        description = f"{name}, the dead-letter queue of the subscription of {subscriber}"
        if [region, account] != own_region_and_account:
            yield Finding.unknown(
                description,
                f"it is in account {account}, {region}",
                "Count its messages in that account and region: "
                "aws sqs get-queue-attributes --attribute-names All --queue-url QUEUE_URL",
            )
        elif name not in queues:
            queues[name] = (description, "")
    empty = 0
    for name, (description, known_url) in queues.items():
        try:
            url = known_url or sqs.get_queue_url(QueueName=name)["QueueUrl"]
            count = _count_messages(sqs, url)
        except ClientError as error:
            if is_access_denied(error):
                yield Finding.access_denied(description, error.operation_name)
            elif _is_missing(error):
                yield Finding.problem(
                    f"{description} does not exist: a notification that can't be delivered is lost",
                    f"Create the queue again: aws sqs create-queue --queue-name {name}",
                )
            else:
                raise
            continue
        if count:
            yield Finding.problem(
                f"{count} in {description}. These messages could not be processed. SQS deletes them after two weeks",
                f"Find the cause with docs/runbook/{_RUNBOOK_PAGES.get(description, _OTHER_PAGE)}. Read a message: "
                f"aws sqs receive-message --message-attribute-names All --queue-url {url}",
            )
        empty += count == 0
    if empty:
        yield Finding.ok(f"{empty} of {len(queues)} dead-letter queues are empty")


def queue_name(url_or_arn: str) -> str:
    """Return the name of a queue from its URL or ARN."""
    return url_or_arn.replace(":", "/").rpartition("/")[2]


def _queues_of_subscriptions(sns: "SNSClient", topic_arn: str) -> dict[str, str]:
    """Return the ARN of each dead-letter queue of a subscription, with the first subscriber that uses it."""
    queues: dict[str, str] = {}
    for subscription in list_subscriptions(sns, topic_arn):
        if not subscription["SubscriptionArn"].startswith("arn:"):
            continue
        attributes = read_attributes(sns, subscription["SubscriptionArn"]) or {}
        queue_arn = dead_letter_queue_arn(attributes)
        if queue_arn and queue_arn.count(":") == _COLONS_IN_QUEUE_ARN:
            queues.setdefault(queue_arn, subscriber_of(subscription))
    return queues


def _count_messages(sqs: "SQSClient", url: str) -> int:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes.get(name, 0)) for name in names)


def _is_missing(error: ClientError) -> bool:
    return aws_error_code(error).endswith(("NonExistentQueue", "QueueDoesNotExist"))
