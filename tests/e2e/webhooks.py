"""Webhooks of a deployed stack: what a receiver got, the state of a delivery, and messages of prepared executions."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from local.local_aws.stack_client import StackClient
from local.webhook_receiver import ReceivedWebhook, WebhookReceiver
from local.webhook_receiver.stack_receiver import receiver_for
from tests.e2e.account import aws_client, stack_output
from tests.support.builders import final_record
from tests.support.schemas import strict
from tests.support.waiting import PATIENCE_S, until
from waterhook.domain.webhook import Webhook
from waterhook.notifications import notification_events
from waterhook.notifications.notification_events import PROGRESS_TYPE
from waterhook.notifications.webhook_queue import WebhookQueue
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.timestamps import to_rfc3339

LIFETIME_S = 7 * 24 * 3600


def received(receiver: WebhookReceiver, execution_id: str) -> list[ReceivedWebhook]:
    """Return the webhooks of an execution, oldest first. Repeated ones of other tests may be at the same port.

    Fails if the body of one is not as its JSON Schema describes it.
    """
    webhooks = [webhook for webhook in receiver.requests if webhook.webhook_id.startswith(f"{execution_id}/")]
    for webhook in webhooks:
        strict("webhook").validate(webhook.event)
    return webhooks


def wait_for_webhooks(
    receiver: WebhookReceiver, execution_id: str, count: int = 1, timeout_s: float = PATIENCE_S
) -> list[ReceivedWebhook]:
    """Wait until the receiver has this number of webhooks of an execution, and return all of them."""

    def enough() -> list[ReceivedWebhook] | None:
        webhooks = received(receiver, execution_id)
        return webhooks if len(webhooks) >= count else None

    return until(enough, timeout_s)


def wait_for_outcomes(receiver: WebhookReceiver, execution_id: str, count: int = 1) -> list[ReceivedWebhook]:
    """Wait until the receiver has an execution's outcome this number of times, and return these webhooks."""

    def enough() -> list[ReceivedWebhook] | None:
        sent = received(receiver, execution_id)
        outcomes = [webhook for webhook in sent if webhook.event["type"] != PROGRESS_TYPE]
        return outcomes if len(outcomes) >= count else None

    return until(enough)


def shown_webhook(stack: StackClient, execution_id: str) -> Any:
    """Return the `webhook` of the status document."""
    answer = stack.get(execution_id)
    assert answer.status_code == 200, answer.text
    return answer.json()["webhook"]


def wait_for_shown(
    stack: StackClient, execution_id: str, condition: Callable[[Any], object], pause_s: float = 0.2
) -> Any:
    """Wait until the `webhook` of the status document fulfils a condition, and return it."""

    def fulfilled() -> Any:
        shown = shown_webhook(stack, execution_id)
        return shown if condition(shown) else None

    return until(fulfilled, pause_s=pause_s)


def deliveries(stack: StackClient) -> WebhookDeliveries:
    return WebhookDeliveries(stack.outputs.webhook_table_name, stack.dynamodb)


def queue_webhooks(stack: StackClient, messages: Iterable[Mapping[str, str]]) -> None:
    """Send messages with `execution_id` and `event_id`, as notify does."""
    queue = WebhookQueue(stack.outputs.webhook_queue_url, lambda: stack.sqs)
    queue.send_batch((message, 0.0) for message in messages)


def invoke_deliver(stack: StackClient, event: Mapping[str, Any]) -> Any:
    """Invoke the deliver function and return its result."""
    answer = aws_client(stack, "lambda").invoke(
        FunctionName=stack_output(stack, "DeliverFunctionName"), Payload=json.dumps(event)
    )
    result = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, result
    return result


class FinishedExecutions:
    """Creates executions that have ended, as records of a stack, and queues their webhooks.

    They take a small part of the time of executions that run.
    """

    def __init__(self, stack: StackClient) -> None:
        self._stack = stack
        # Each caller of the API reads only its own executions.
        record = until(lambda: stack.item(stack.submit("instant")))
        self._caller = str(record["caller"])

    def create(self, url: str) -> dict[str, str]:
        """Store a completed execution with a webhook and return the message that notify would queue."""
        now = time.time()
        record = final_record(
            webhook=Webhook(url),
            final_output_json='{"answer":"Done."}',
            notified_at=to_rfc3339(now),
            usage={"polls": 1, "follow_seconds": 0.5, "estimated_cost_usd": 0.0002},
        )
        times = dict.fromkeys(("created_at", "started_at", "finished_at"), to_rfc3339(now))
        record = replace(
            record,
            execution_id=uuid.uuid4().hex,
            unfinished=None,
            expires_at=int(now + LIFETIME_S),
            caller=self._caller,
            **times,
        )
        self._stack.dynamodb.put_item(TableName=self._stack.outputs.table_name, Item=record.to_item())
        host = record.webhook.host if record.webhook else ""
        event_id = notification_events.event_id(record)
        return {"execution_id": record.execution_id, "event_id": event_id, "host": host}

    def queue_one(self, url: str) -> str:
        """Create an execution, queue its webhook and return its id."""
        message = self.create(url)
        queue_webhooks(self._stack, [message])
        return message["execution_id"]


def receiver_at(stack: StackClient, number: int) -> AbstractContextManager[WebhookReceiver]:
    """Return a receiver at 127.0.0.<number>, a host of its own: no other test has its breaker and places."""
    return receiver_for(stack.outputs, host=f"127.0.0.{number}")
