"""Many webhooks at the same time. `make soak` runs hundreds of executions with webhooks.

The executions have records only: running them would take most of the time.
"""

import time

import pytest

from local.local_aws.stack_client import StackClient
from local.webhook_receiver import CLOSE, HANG, OK, WebhookReceiver, status
from tests.e2e.webhooks import FinishedExecutions, queue_webhooks, receiver_at, wait_for_webhooks
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

# Receivers at 127.0.0.<number>.
HANGING, FAILING = 56, 57
HANGING_WEBHOOKS, WEBHOOKS = 40, 60
TIMEOUT_S = 15  # of an attempt
PLACES = 2  # attempts of one host at the same time: a quarter of WebhookConcurrency


def test_a_host_that_hangs_does_not_use_the_places_of_another_host(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    finished = FinishedExecutions(stack)
    with receiver_at(stack, HANGING) as hanging:
        hanging.answers.for_path("/", HANG)
        messages = [finished.create(hanging.url) for _ in range(HANGING_WEBHOOKS)]
        queue_webhooks(stack, messages)
        until(lambda: len(hanging.requests) == PLACES)
        began = time.monotonic()
        execution_id = finished.queue_one(receiver.url)
        (webhook,) = wait_for_webhooks(receiver, execution_id)
        lag_s, attempts = time.monotonic() - began, len(hanging.requests)
        # Deletes the deliveries too, which would keep the functions of other tests busy.
        for message in messages:
            stack.dynamodb.delete_item(
                TableName=stack.outputs.table_name, Key={"execution_id": {"S": message["execution_id"]}}
            )
    print(f"\n{HANGING_WEBHOOKS} webhooks to a host that hangs: another host's one after {lag_s:.2f} s")
    assert webhook.verified
    # Without places for each host, ten functions at the same time would send to the host that hangs.
    assert attempts <= PLACES * (lag_s // TIMEOUT_S + 2)


def test_webhooks_that_fail_once_and_messages_that_come_twice_are_each_delivered_with_one_content(
    stack: StackClient,
) -> None:
    finished, began = FinishedExecutions(stack), time.monotonic()
    with receiver_at(stack, FAILING) as receiver:
        messages = []
        for number in range(WEBHOOKS):
            path = f"/{number}"
            if number % 10 == 0:
                receiver.answers.for_path(path, CLOSE if number % 20 else status(500), OK)
            messages.append(finished.create(receiver.url_of(path)))
        # SQS delivers a message at least once.
        queue_webhooks(stack, [*messages, *messages])
        for number, message in enumerate(messages):
            sent = wait_for_webhooks(receiver, message["execution_id"], 2 if number % 10 == 0 else 1)
            assert all(webhook.verified for webhook in sent)
            assert len({(webhook.webhook_id, webhook.body) for webhook in sent}) == 1
        attempts = len(receiver.requests)
    print(f"\n{WEBHOOKS} webhooks, {attempts} attempts, {time.monotonic() - began:.1f} s")
