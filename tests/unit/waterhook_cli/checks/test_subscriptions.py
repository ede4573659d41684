"""The check of the topic's subscriptions."""

from typing import Any

from tests.fakes.aws import Topic
from tests.unit.waterhook_cli.checks.helpers import (
    NOTE,
    OK,
    UNKNOWN,
    WARNING,
    ForeignSubscriptions,
    PendingSubscription,
    only,
    set_dead_letter_queue,
    subscription_of,
)
from waterhook_cli.checks.subscriptions import check_subscriptions


def test_a_topic_without_subscriptions_is_a_warning_unless_results_go_to_the_table(topic: Topic) -> None:
    arn = topic.sns.create_topic(Name="without-subscriptions")["TopicArn"]
    assert only(check_subscriptions(topic.sns, arn, "sns,dynamodb")).level == WARNING
    # CloudFormation removes the spaces only from the value that it passes on.
    assert only(check_subscriptions(topic.sns, arn, "dynamodb, sns")).level == WARNING
    assert only(check_subscriptions(topic.sns, arn, "dynamodb")).level == NOTE


def test_a_subscription_without_a_dead_letter_queue_is_a_warning(topic: Topic) -> None:
    finding = only(check_subscriptions(topic.sns, topic.arn, "sns,dynamodb"))
    assert finding.level == WARNING
    assert "no dead-letter queue" in finding.message
    set_dead_letter_queue(topic, subscription_of(topic)["Endpoint"])
    assert only(check_subscriptions(topic.sns, topic.arn, "sns,dynamodb")).level == OK


def test_a_subscription_that_is_not_confirmed_is_a_warning() -> None:
    sns: Any = PendingSubscription()
    finding = only(check_subscriptions(sns, "arn", "sns,dynamodb"))
    assert finding.level == WARNING
    assert "email a@example.com has not confirmed" in finding.message


def test_a_subscription_that_only_its_owner_can_read_is_not_checked(topic: Topic) -> None:
    sns: Any = ForeignSubscriptions(topic.sns)
    finding = only(check_subscriptions(sns, topic.arn, "sns,dynamodb"))
    assert finding.level == UNKNOWN
    assert "of account 123456789012: not checked" in finding.message


def test_the_queue_of_a_listen_command_needs_no_dead_letter_queue_and_is_no_subscriber(topic: Topic) -> None:
    temporary = "arn:aws:sqs:us-east-1:123456789012:waterhook-listen-shop-0123456789abcdef"
    set_dead_letter_queue(topic, subscription_of(topic)["Endpoint"])
    topic.sns.subscribe(TopicArn=topic.arn, Protocol="sqs", Endpoint=temporary)
    assert only(check_subscriptions(topic.sns, topic.arn, "BOTH")).level == OK
    arn = topic.sns.create_topic(Name="only-temporary")["TopicArn"]
    topic.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=temporary)
    assert "has no subscription" in only(check_subscriptions(topic.sns, arn, "BOTH")).message
