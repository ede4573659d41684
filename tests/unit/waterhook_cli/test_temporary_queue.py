"""The temporary queue of `waterhook listen`: its settings, and what each crash leaves for the next command."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.fakes.aws import FailingClient, client_error
from tests.fakes.clock import NOW, Clock
from waterhook_cli.errors import CommandError
from waterhook_cli.temporary_queue import (
    EXPIRY_TAG,
    LEASE_S,
    PREFIX,
    TOPIC_TAG,
    QueueLostError,
    TemporaryQueue,
    is_temporary,
    name_prefix,
    remove_expired,
)

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient


class KilledError(Exception):
    """The end of the process: nothing runs after it."""


LOST = EndpointConnectionError(endpoint_url="https://sns.test")


@dataclass
class Aws:
    """A topic that only one test uses, and the queues that belong to its stack."""

    sns: "SNSClient"
    sqs: "SQSClient"
    stack: str
    topic_arn: str
    clock: Clock

    def queue(self, sns: Any = None, sqs: Any = None, **policy: list[str]) -> TemporaryQueue:
        return TemporaryQueue(
            self.topic_arn,
            self.stack,
            sns or self.sns,
            sqs or self.sqs,
            filter_policy=policy,
            clock=self.clock,
        )

    def names(self) -> list[str]:
        urls = self.sqs.list_queues(QueueNamePrefix=name_prefix(self.stack)).get("QueueUrls", [])
        return [url.rpartition("/")[2] for url in urls]

    def endpoints(self) -> list[str]:
        listed = self.sns.list_subscriptions_by_topic(TopicArn=self.topic_arn)["Subscriptions"]
        return [entry["Endpoint"].rpartition(":")[2] for entry in listed]

    def remove_expired(self) -> list[str]:
        return remove_expired(self.topic_arn, self.stack, self.sns, self.sqs, self.clock())


@pytest.fixture
def account(messaging: "tuple[SNSClient, SQSClient]") -> Iterator[Aws]:
    sns, sqs = messaging
    stack = f"shop-{uuid4().hex[:8]}"
    topic_arn = sns.create_topic(Name=stack)["TopicArn"]
    yield Aws(sns, sqs, stack, topic_arn, Clock())
    sns.delete_topic(TopicArn=topic_arn)


def test_a_queue_is_encrypted_and_short_lived_and_accepts_only_its_topic_over_tls(account: Aws) -> None:
    queue = account.queue()
    queue.create()
    attributes: Any = account.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])[
        "Attributes"
    ]
    assert attributes["QueueArn"] == queue.arn
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert attributes["MessageRetentionPeriod"] == "3600"
    allow, deny = json.loads(attributes["Policy"])["Statement"]
    assert (allow["Principal"], allow["Action"]) == ({"Service": "sns.amazonaws.com"}, "sqs:SendMessage")
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": account.topic_arn}}
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert allow["Resource"] == deny["Resource"] == queue.arn
    tags = account.sqs.list_queue_tags(QueueUrl=queue.url)["Tags"]
    assert tags == {TOPIC_TAG: account.topic_arn, EXPIRY_TAG: str(int(NOW + LEASE_S))}
    queue.remove()
    assert (account.names(), account.endpoints()) == ([], [])


def test_over_http_tls_is_not_required(account: Aws) -> None:
    queue = TemporaryQueue(
        account.topic_arn, account.stack, account.sns, account.sqs, filter_policy={}, requires_tls=False
    )
    queue.create()
    attributes = account.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["Policy"])["Attributes"]
    (allow,) = json.loads(attributes["Policy"])["Statement"]
    assert allow["Effect"] == "Allow"
    queue.remove()


def test_the_subscription_is_raw_and_has_the_filter_policy(account: Aws) -> None:
    queue = account.queue(status=["FAILED"], chatbot_id=["a", "b"])
    queue.create()
    (listed,) = account.sns.list_subscriptions_by_topic(TopicArn=account.topic_arn)["Subscriptions"]
    attributes = account.sns.get_subscription_attributes(SubscriptionArn=listed["SubscriptionArn"])[
        "Attributes"
    ]
    assert attributes["RawMessageDelivery"] == "true"
    assert json.loads(attributes["FilterPolicy"]) == {"status": ["FAILED"], "chatbot_id": ["a", "b"]}
    queue.remove()


def test_names_are_recognized_and_never_too_long() -> None:
    for stack in ("shop", "s" * 128):
        queue = TemporaryQueue(f"arn:aws-cn:sns:r:1:{stack}", stack, None, None, filter_policy={})  # type: ignore[arg-type]
        assert queue.name.startswith(f"{PREFIX}{stack[:10]}")
        assert len(queue.name) <= 80
        assert is_temporary(queue.arn)
        assert queue.arn == f"arn:aws-cn:sqs:r:1:{queue.name}"
    assert not is_temporary("arn:aws:sqs:r:1:orders")
    assert not is_temporary("https://example.com/waterhook-listen-shop")


@pytest.mark.parametrize("is_carried_out", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("operation", ["create_queue", "subscribe"])
def test_a_creation_that_fails_halfway_is_removed(
    account: Aws, operation: str, *, is_carried_out: bool
) -> None:
    faults = {operation: LOST}
    queue = account.queue(
        FailingClient(account.sns, faults, after=is_carried_out),
        FailingClient(account.sqs, faults, after=is_carried_out),
    )
    with pytest.raises(EndpointConnectionError):
        queue.create()
    queue.remove()
    assert (account.names(), account.endpoints()) == ([], [])


@pytest.mark.parametrize("is_carried_out", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("operation", ["unsubscribe", "delete_queue"])
def test_a_removal_that_fails_does_the_rest_and_can_be_repeated(
    account: Aws, operation: str, *, is_carried_out: bool
) -> None:
    sns, sqs = (FailingClient(client, {}, after=is_carried_out) for client in (account.sns, account.sqs))
    queue = account.queue(sns, sqs)
    queue.create()
    sns.faults = sqs.faults = {operation: LOST}
    with pytest.raises(EndpointConnectionError):
        queue.remove()
    assert len(account.names()) + len(account.endpoints()) == (0 if is_carried_out else 1)
    sns.faults = sqs.faults = {}
    queue.remove()
    queue.remove()
    assert (account.names(), account.endpoints()) == ([], [])


def test_nothing_is_called_before_the_creation() -> None:
    queue = TemporaryQueue("arn:aws:sns:r:1:t", "shop", None, None, filter_policy={})  # type: ignore[arg-type]
    queue.remove()


@pytest.mark.parametrize("operation", ["create_queue", "subscribe", "unsubscribe", "delete_queue", "nothing"])
@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "after"])
def test_after_a_kill_at_any_point_the_next_command_removes_what_is_left(
    account: Aws, operation: str, *, is_carried_out: bool
) -> None:
    faults = {operation: KilledError()}
    queue = account.queue(
        FailingClient(account.sns, faults, after=is_carried_out),
        FailingClient(account.sqs, faults, after=is_carried_out),
    )
    with suppress(KilledError):
        queue.create()
        if operation != "nothing":
            queue.remove()
    left = {*account.names(), *account.endpoints()}
    account.clock.sleep(LEASE_S)
    assert account.remove_expired() == []
    assert {*account.names(), *account.endpoints()} == left
    account.clock.sleep(2)
    assert account.remove_expired() == sorted(left)
    assert (account.names(), account.endpoints()) == ([], [])
    assert account.remove_expired() == []


def test_a_queue_in_use_is_never_removed(account: Aws) -> None:
    used = account.queue()
    used.create()
    for _ in range(3):
        account.clock.sleep(LEASE_S - 60)
        used.renew()
        assert account.remove_expired() == []
    assert account.names() == account.endpoints() == [used.name]
    used.remove()


def test_queues_of_other_stacks_and_other_programs_are_not_removed(account: Aws) -> None:
    prefix = name_prefix(account.stack)
    # The second name begins with the prefix of this stack, and the stack of the queue has another topic.
    strangers: dict[str, dict[str, str]] = {
        f"{prefix}without-tags": {},
        f"{prefix}eu-0000000012345678": {TOPIC_TAG: "arn:aws:sns:r:1:other", EXPIRY_TAG: "1"},
        f"{prefix}odd": {TOPIC_TAG: account.topic_arn, EXPIRY_TAG: "soon"},
    }
    for name, tags in strangers.items():
        account.sqs.create_queue(QueueName=name, tags=tags)
    assert account.remove_expired() == []
    assert sorted(account.names()) == sorted(strangers)


def test_two_commands_may_remove_the_same_leftovers(account: Aws) -> None:
    account.queue().create()
    account.clock.sleep(LEASE_S + 2)
    missing = client_error("AWS.SimpleQueueService.NonExistentQueue")
    # The other command is faster with each call.
    sqs = FailingClient(account.sqs, {"delete_queue": missing}, after=True)
    sns = FailingClient(account.sns, {"unsubscribe": client_error("NotFound", 404)}, after=True)
    found: Any = remove_expired(account.topic_arn, account.stack, sns, sqs, account.clock())  # type: ignore[arg-type]
    assert len(found) == 1
    assert (account.names(), account.endpoints()) == ([], [])
    sqs = FailingClient(account.sqs, {"list_queue_tags": missing})
    account.queue().create()
    assert remove_expired(account.topic_arn, account.stack, account.sns, sqs, account.clock()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["queue", "subscription"])
def test_a_queue_that_another_program_has_deleted_is_reported(account: Aws, part: str) -> None:
    queue = account.queue()
    queue.create()
    queue.renew()
    if part == "queue":
        account.sqs.delete_queue(QueueUrl=queue.url)
    else:
        (listed,) = account.sns.list_subscriptions_by_topic(TopicArn=account.topic_arn)["Subscriptions"]
        account.sns.unsubscribe(SubscriptionArn=listed["SubscriptionArn"])
    with pytest.raises(QueueLostError):
        queue.renew()
    queue.remove()
    assert (account.names(), account.endpoints()) == ([], [])


def test_a_deleted_topic_ends_the_command_and_leaves_no_queue(account: Aws) -> None:
    queue, late = account.queue(), account.queue()
    queue.create()
    account.sns.delete_topic(TopicArn=account.topic_arn)
    with pytest.raises(CommandError, match="topic of the stack does not exist"):
        queue.renew()
    with pytest.raises(CommandError, match="topic of the stack does not exist"):
        late.create()
    queue.remove()
    late.remove()
    assert account.names() == []


@pytest.mark.parametrize("operation", ["create_queue", "subscribe"])
def test_a_denied_call_is_raised_with_its_operation(account: Aws, operation: str) -> None:
    faults = {operation: client_error("AuthorizationError", 403)}
    queue = account.queue(FailingClient(account.sns, faults), FailingClient(account.sqs, faults))
    with pytest.raises(ClientError, match="AuthorizationError"):
        queue.create()
    queue.remove()
    assert (account.names(), account.endpoints()) == ([], [])
