"""The check of the dead-letter queues."""

from typing import Any

import pytest

from tests.fakes.aws import FailingClient, Topic, client_error
from tests.unit.waterhook_cli.checks.helpers import (
    OK,
    PROBLEM,
    UNKNOWN,
    ForeignSubscriptions,
    create_queue,
    only,
    set_dead_letter_queue,
    subscription_of,
)
from waterhook_cli.checks.dead_letters import check_dead_letters
from waterhook_cli.checks.finding import Finding
from waterhook_cli.stack import StackResource


def findings(topic: Topic, *urls: str, sqs: Any = None, sns: Any = None) -> list[Finding]:
    resources = [StackResource("DeadLetterQueue", "AWS::SQS::Queue", url) for url in urls]
    resources.append(StackResource("ResultsQueue", "AWS::SQS::Queue", "https://sqs.test/1/results"))
    return list(check_dead_letters(sqs or topic.sqs, sns or topic.sns, topic.arn, resources))


def test_messages_in_a_dead_letter_queue_are_a_problem(topic: Topic) -> None:
    url, _ = create_queue(topic, "dead")
    assert only(findings(topic, url)).level == OK
    topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    topic.sqs.receive_message(QueueUrl=url)
    finding = only(findings(topic, url))
    assert (finding.level, finding.message[:20]) == (PROBLEM, "2 in DeadLetterQueue")


def test_the_dead_letter_queue_of_webhooks_has_a_runbook_page_of_its_own(topic: Topic) -> None:
    url, _ = create_queue(topic, "dead", messages=1)
    resource = StackResource("WebhookDeadLetterQueue", "AWS::SQS::Queue", url)
    finding = only(check_dead_letters(topic.sqs, topic.sns, topic.arn, [resource]))
    assert "docs/runbook/WebhookDeadLettersAlarm.md" in finding.hint


def test_the_dead_letter_queue_of_a_subscription_is_checked(topic: Topic) -> None:
    own, _ = create_queue(topic, "own")
    full, arn = create_queue(topic, "of-a-subscriber", messages=3)
    set_dead_letter_queue(topic, arn)
    problem, fine = findings(topic, own)
    assert (problem.level, fine.level) == (PROBLEM, OK)
    assert problem.message.startswith("3 in of-a-subscriber-")
    assert (
        f"the dead-letter queue of the subscription of sqs {subscription_of(topic)['Endpoint']}"
        in problem.message
    )
    assert full in problem.hint
    assert fine.message == "1 of 2 dead-letter queues are empty"


def test_a_dead_letter_queue_of_stack_and_subscription_is_counted_once(topic: Topic) -> None:
    url, arn = create_queue(topic, "results", messages=1)
    set_dead_letter_queue(topic, arn)
    assert only(findings(topic, url)).message.startswith("1 in DeadLetterQueue")


@pytest.mark.parametrize("where", ["us-east-1:210987654321", "eu-west-1:123456789012"])
def test_a_dead_letter_queue_of_another_account_or_region_is_not_checked(topic: Topic, where: str) -> None:
    own, _ = create_queue(topic, "own")
    set_dead_letter_queue(topic, f"arn:aws:sqs:{where}:theirs")
    unknown, fine = findings(topic, own)
    region, account = where.split(":")
    assert (unknown.level, fine.level) == (UNKNOWN, OK)
    assert (
        f"theirs, the dead-letter queue of the subscription of sqs {subscription_of(topic)['Endpoint']}"
        in unknown.message
    )
    assert unknown.message.endswith(f"not checked, it is in account {account}, {region}")


def test_a_dead_letter_queue_that_does_not_exist_is_a_problem(topic: Topic) -> None:
    own, _ = create_queue(topic, "own")
    url, arn = create_queue(topic, "gone")
    set_dead_letter_queue(topic, arn)
    topic.sqs.delete_queue(QueueUrl=url)
    problem, fine = findings(topic, own)
    assert (problem.level, fine.level) == (PROBLEM, OK)
    assert "does not exist: a notification that can't be delivered is lost" in problem.message


def test_a_queue_that_cannot_be_read_does_not_stop_the_check(topic: Topic) -> None:
    own, _ = create_queue(topic, "own", messages=1)
    set_dead_letter_queue(topic, create_queue(topic, "secret")[1])
    sqs = FailingClient(topic.sqs, {"get_queue_url": client_error("AccessDenied", 403)})
    problem, unknown = findings(topic, own, sqs=sqs)
    assert (problem.level, unknown.level) == (PROBLEM, UNKNOWN)
    assert "you are not allowed to" in unknown.message


def test_a_subscription_that_cannot_be_read_does_not_stop_the_check(topic: Topic) -> None:
    own, _ = create_queue(topic, "own")
    assert only(findings(topic, own, sns=ForeignSubscriptions(topic.sns))).level == OK
