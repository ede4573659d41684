"""A temporary SQS queue that receives the notifications of a topic while a command runs.

The queue has the ARN of its topic and a time of expiry as tags. The command moves that time while it runs. After a
crash, the next command removes queues whose time has passed, with their subscriptions.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import aws_error_code
from waterhook_cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

PREFIX = "waterhook-listen-"
TOPIC_TAG, EXPIRY_TAG = "waterhook:topic", "waterhook:expires-at"
# After this time without `renew`, another command may remove the queue. AWS refuses requests of a computer whose clock
# is wrong by more than 15 minutes, so two clocks can't make a queue in use look expired.
LEASE_S = 45 * 60.0
# Customer data in a queue that is left after a crash is deleted after this time.
RETENTION_S = 3600
# A new queue may not be usable everywhere for a second.
_NEW_S = 5.0
_MAX_NAME_CHARS = 80
_SUFFIX_CHARS = 25  # a hyphen, the time of creation in 8 hexadecimal digits, and 16 random ones

type FilterPolicy = Mapping[str, Sequence[str]]


class QueueLostError(Exception):
    """Another program has deleted the queue or its subscription, so no notifications arrive."""


class TemporaryQueue:
    """A queue that is subscribed to a topic, between `create` and `remove`.

    `remove` also removes what a `create` that failed or was interrupted has left.
    """

    def __init__(
        self,
        topic_arn: str,
        stack_name: str,
        sns: "SNSClient",
        sqs: "SQSClient",
        *,
        filter_policy: FilterPolicy,
        requires_tls: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`filter_policy` compares attributes of notifications; an empty one matches each notification.

        Without `requires_tls`, the queue can be used over http, as a local AWS is.
        """
        self._topic_arn = topic_arn
        self._sns = sns
        self._sqs = sqs
        self._filter_policy = filter_policy
        self._requires_tls = requires_tls
        self._clock = clock
        self._created_at = clock()
        self.name = f"{name_prefix(stack_name)}{int(self._created_at):08x}{os.urandom(8).hex()}"
        self.url = ""
        """URL of the queue; empty before `create`."""
        self._subscription_arn = ""
        self._is_creating = self._is_subscribing = False

    @property
    def arn(self) -> str:
        """ARN of the queue. It is in the account and the region of the topic."""
        partition, _, region, account = self._topic_arn.split(":")[1:5]
        return f"arn:{partition}:sqs:{region}:{account}:{self.name}"

    @property
    def is_new(self) -> bool:
        """Whether SQS may not find the queue yet."""
        return self._clock() - self._created_at < _NEW_S

    def create(self) -> None:
        """Create the queue and subscribe it. Raises CommandError if the topic does not exist, and boto3's errors."""
        self._is_creating = True
        # Tags and policy are set by the same call, so a crash leaves no queue without them.
        self.url = self._sqs.create_queue(
            QueueName=self.name,
            Attributes={
                "MessageRetentionPeriod": str(RETENTION_S),
                "SqsManagedSseEnabled": "true",
                "Policy": json.dumps(self._policy()),
            },
            tags={TOPIC_TAG: self._topic_arn, EXPIRY_TAG: self._expiry()},
        )["QueueUrl"]
        self._is_subscribing = True
        attributes = {"RawMessageDelivery": "true"}
        if self._filter_policy:
            attributes["FilterPolicy"] = json.dumps(self._filter_policy)
        try:
            self._subscription_arn = self._sns.subscribe(
                TopicArn=self._topic_arn,
                Protocol="sqs",
                Endpoint=self.arn,
                Attributes=attributes,
                ReturnSubscriptionArn=True,
            )["SubscriptionArn"]
        except ClientError as error:
            raise _topic_error(error) from error

    def renew(self) -> None:
        """Move the time of expiry, and check that the queue and its subscription exist.

        Raises QueueLostError if they don't, CommandError if the topic does not exist, and boto3's errors.
        """
        try:
            self._sqs.tag_queue(QueueUrl=self.url, Tags={EXPIRY_TAG: self._expiry()})
        except ClientError as error:
            if is_missing_queue(error):
                raise QueueLostError from error
            raise
        try:
            subscriptions = _subscriptions(self._sns, self._topic_arn)
        except ClientError as error:
            raise _topic_error(error) from error
        if self.arn not in subscriptions:
            raise QueueLostError

    def remove(self) -> None:
        """Delete the subscription, then the queue. Tries both, and raises the first of boto3's errors."""
        errors: list[ClientError | BotoCoreError] = []
        for remove in (self._unsubscribe, self._delete):
            try:
                remove()
            except (ClientError, BotoCoreError) as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _unsubscribe(self) -> None:
        if not self._is_subscribing:
            return
        # Without its ARN: the answer to Subscribe was lost.
        arn = self._subscription_arn or _subscriptions_or_none(self._sns, self._topic_arn).get(self.arn)
        if arn:
            _unsubscribe(self._sns, arn)
        self._is_subscribing = False

    def _delete(self) -> None:
        if not self._is_creating:
            return
        try:
            url = self.url or self._sqs.get_queue_url(QueueName=self.name)["QueueUrl"]
            self._sqs.delete_queue(QueueUrl=url)
        except ClientError as error:
            if not is_missing_queue(error):
                raise
        self._is_creating = False

    def _policy(self) -> dict[str, Any]:
        receive = {
            "Sid": "ReceiveFromTheTopic",
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": self.arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": self._topic_arn}},
        }
        only_over_tls = {
            "Sid": "UseOnlyOverTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": self.arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        statements = [receive, only_over_tls] if self._requires_tls else [receive]
        return {"Version": "2012-10-17", "Statement": statements}

    def _expiry(self) -> str:
        return str(int(self._clock() + LEASE_S))


def remove_expired(
    topic_arn: str, stack_name: str, sns: "SNSClient", sqs: "SQSClient", now: float
) -> list[str]:
    """Remove the queues and subscriptions that earlier commands have left at the topic. Return the names of the queues.

    A queue in use is never removed. Idempotent: several commands may do this at the same time.
    """
    prefix = name_prefix(stack_name)
    listed, expired = set(), dict[str, str]()
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix):
        for url in page.get("QueueUrls", []):
            name = url.rpartition("/")[2]
            listed.add(name)
            if _has_expired(_tags(sqs, url), topic_arn, now):
                expired[name] = url
    removed = set(expired)
    for endpoint, arn in _subscriptions_or_none(sns, topic_arn).items():
        name = endpoint.rpartition(":")[2]
        if not is_temporary(endpoint) or name in listed - expired.keys():
            continue
        # A subscription without a queue, unless the queue is so new that SQS does not list it yet.
        if name in expired or now > _created_at(name) + LEASE_S:
            _unsubscribe(sns, arn)
            removed.add(name)
    for url in expired.values():
        try:
            sqs.delete_queue(QueueUrl=url)
        except ClientError as error:
            if not is_missing_queue(error):
                raise
    return sorted(removed)


def name_prefix(stack_name: str) -> str:
    """Return what the names of all temporary queues of a stack begin with."""
    return f"{PREFIX}{stack_name}"[: _MAX_NAME_CHARS - _SUFFIX_CHARS] + "-"


def is_temporary(endpoint: str) -> bool:
    """Return whether the endpoint of a subscription is a temporary queue."""
    return ":sqs:" in endpoint and endpoint.rpartition(":")[2].startswith(PREFIX)


def is_missing_queue(error: ClientError) -> bool:
    """Return whether SQS has no such queue."""
    return aws_error_code(error).endswith(("NonExistentQueue", "QueueDoesNotExist"))


def _topic_error(error: ClientError) -> Exception:
    """Return the CommandError if the topic does not exist, else the error itself."""
    if not _is_not_found(error):
        return error
    return CommandError(
        ExitCode.NOT_FOUND,
        "the notification topic of the stack does not exist any more",
        "The stack was deleted, or its topic was replaced. Run the command again after the deployment.",
    )


def _tags(sqs: "SQSClient", url: str) -> Mapping[str, str]:
    try:
        return sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    except ClientError as error:
        if is_missing_queue(error):  # deleted meanwhile
            return {}
        raise


def _has_expired(tags: Mapping[str, str], topic_arn: str, now: float) -> bool:
    expires_at = tags.get(EXPIRY_TAG, "")
    return tags.get(TOPIC_TAG) == topic_arn and expires_at.isdecimal() and int(expires_at) < now


def _created_at(name: str) -> float:
    """Return the time in the name of a queue in epoch seconds; infinity if it has none."""
    digits = name[1 - _SUFFIX_CHARS :][:8]
    try:
        return float(int(digits, 16))
    except ValueError:
        return float("inf")


def _subscriptions(sns: "SNSClient", topic_arn: str) -> dict[str, str]:
    """Return the ARN of each subscription of the topic by its endpoint."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    return {entry["Endpoint"]: entry["SubscriptionArn"] for page in pages for entry in page["Subscriptions"]}


def _subscriptions_or_none(sns: "SNSClient", topic_arn: str) -> dict[str, str]:
    """Return the same; nothing if the topic does not exist, because its subscriptions are deleted with it."""
    try:
        return _subscriptions(sns, topic_arn)
    except ClientError as error:
        if _is_not_found(error):
            return {}
        raise


def _unsubscribe(sns: "SNSClient", subscription_arn: str) -> None:
    if not subscription_arn.startswith("arn:"):  # SNS is deleting it
        return
    try:
        sns.unsubscribe(SubscriptionArn=subscription_arn)
    except ClientError as error:
        if not _is_not_found(error):
            raise


def _is_not_found(error: ClientError) -> bool:
    return aws_error_code(error) in {"NotFound", "NotFoundException"}
