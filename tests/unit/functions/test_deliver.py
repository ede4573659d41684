"""The deliver function: messages of the queue, the sweep, and what operators send to it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from functions.deliver import app
from local.webhook_receiver import WebhookReceiver, status
from tests.fakes.aws import Table
from tests.fakes.webhook_stack import WebhookStack
from tests.support.builders import ID, final_record
from tests.support.captured_logs import CapturedLogs
from tests.support.invoke import Invoke, log_of
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import Delivery
from waterhook.errors import SettingsError
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord

TOKEN = "canary-token"
FAR = 9_000_000_000

type Deliver = Callable[[Any], tuple[dict[str, Any], CapturedLogs]]


@pytest.fixture
def receiver(webhook_stack: WebhookStack) -> Iterator[WebhookReceiver]:
    with webhook_stack.receiver() as receiver:
        yield receiver


@pytest.fixture
def record(table: Table, receiver: WebhookReceiver) -> ExecutionRecord:
    url = receiver.url_of(f"/in?token={TOKEN}")
    return table.put(
        final_record(final_output_json='{"canary": 1}', webhook=Webhook(url), expires_at=FAR, unfinished=None)
    )


@pytest.fixture
def deliver(invoke: Invoke, webhook_stack: WebhookStack, capsys: pytest.CaptureFixture[str]) -> Deliver:
    """Return a function that invokes the handler, and returns its result and its logs.

    No line contains the URL of the webhook or the output.
    """

    def run(event: dict[str, Any]) -> tuple[dict[str, Any], CapturedLogs]:
        with log_of(app) as log:
            capsys.readouterr()
            result = invoke(app, event, **webhook_stack.environment)
            logs = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
        assert TOKEN not in logs.text
        assert "canary" not in logs.text
        return result, logs

    return run


def message_of(body: object) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"Records": [{"messageId": "any", "eventSource": "aws:sqs", "body": text}]}


def outcome_of(record: ExecutionRecord) -> dict[str, Any]:
    return message_of({"execution_id": record.execution_id, "event_id": notification_events.event_id(record)})


def test_a_message_of_the_queue_leads_to_one_signed_request(
    deliver: Deliver, record: ExecutionRecord, receiver: WebhookReceiver
) -> None:
    result, logs = deliver(outcome_of(record))
    (request,) = receiver.requests
    assert result == {}
    assert request.verified, request.problem
    assert request.target == f"/in?token={TOKEN}"
    assert request.webhook_id == notification_events.event_id(record)
    assert request.event["data"]["final_output"] == {"canary": 1}
    (line,) = logs.of("deliver")
    assert line["execution_id"] == ID
    assert line["event_id"] == request.webhook_id
    assert (line["webhook_result"], line["webhook_host"]) == ("delivered", "localhost")
    assert (line["webhook_attempt"], line["webhook_status"]) == (1, 200)
    assert logs.metrics["WebhooksDelivered"] == [1]
    assert logs.metrics["WebhookAttemptsFailed"] == [0]
    assert logs.metrics.keys() >= {"WebhookLatency", "WebhookLag"}


def test_a_message_that_comes_twice_leads_to_one_request(
    deliver: Deliver, record: ExecutionRecord, receiver: WebhookReceiver
) -> None:
    deliver(outcome_of(record))
    _, logs = deliver(outcome_of(record))
    assert len(receiver.requests) == 1
    assert logs.of("deliver")[0]["webhook_result"] == "dropped"


def test_a_failed_attempt_is_logged_with_code_and_error(
    deliver: Deliver, record: ExecutionRecord, receiver: WebhookReceiver
) -> None:
    receiver.answers.next(status(503))
    _, logs = deliver(outcome_of(record))
    (line,) = logs.of("deliver")
    assert (line["webhook_result"], line["webhook_status"]) == ("retry", 503)
    assert line["webhook_error"] == "http_status"
    assert logs.metrics["WebhookAttemptsFailed"] == [1]
    assert "WebhooksDelivered" not in logs.metrics


@pytest.mark.parametrize(
    "body",
    ["", "no JSON", "[]", "7", "null", "{}", '{"execution_id": 1, "event_id": []}', '{"execution_id": "'],
)
def test_a_malformed_message_is_dropped_with_a_log_line(
    deliver: Deliver, webhook_stack: WebhookStack, body: str
) -> None:
    result, logs = deliver(message_of(body))
    (line,) = logs.of("deliver")
    assert (result, line["webhook_result"]) == ({}, "dropped")
    assert webhook_stack.queue.messages() == webhook_stack.dead_letters.messages() == []


def test_a_message_of_an_erased_execution_is_dropped(
    deliver: Deliver, record: ExecutionRecord, table: Table, receiver: WebhookReceiver
) -> None:
    table.delete(record)
    _, logs = deliver(outcome_of(record))
    (line,) = logs.of("deliver")
    assert (line["webhook_result"], receiver.requests) == ("dropped", [])


def test_a_sweep_sends_the_messages_of_due_attempts(
    deliver: Deliver, record: ExecutionRecord, webhook_stack: WebhookStack
) -> None:
    event_id = notification_events.event_id(record)
    delivery = Delivery.new(ID, event_id, host="localhost", now=1.0, expires_at=FAR)
    webhook_stack.table.deliveries.postpone(
        replace(delivery, attempts=3), exists=False, next_at=1.0, queued=False
    )
    result, logs = deliver({"sweep": {}})
    assert result == {"queued": 1, "is_complete": True}
    assert webhook_stack.queue.messages() == [{"execution_id": ID, "event_id": event_id, "host": "localhost"}]
    assert logs.of("deliver")[0]["webhooks_queued"] == 1


def test_a_resend_sends_a_message_and_returns_the_event(
    deliver: Deliver, record: ExecutionRecord, webhook_stack: WebhookStack
) -> None:
    event_id = notification_events.event_id(record)
    result, logs = deliver({"resend": {"execution_id": ID}})
    assert result == {"execution_id": ID, "outcome": "COMPLETED", "resent": True, "event_id": event_id}
    assert webhook_stack.queue.messages() == [{"execution_id": ID, "event_id": event_id, "host": "localhost"}]
    assert logs.of("deliver")[0]["execution_id"] == ID


@pytest.mark.parametrize("request_", [None, [], {}, {"execution_id": None}, {"execution_id": "f" * 32}])
def test_a_resend_without_a_record_returns_the_reason(deliver: Deliver, request_: object) -> None:
    result, _ = deliver({"resend": request_})
    assert (result["resent"], result["outcome"]) == (False, None)
    assert "no such execution" in result["reason"]


def test_a_test_sends_one_event_that_belongs_to_no_execution(
    deliver: Deliver, receiver: WebhookReceiver, webhook_stack: WebhookStack
) -> None:
    result, _ = deliver({"test": {"url": receiver.url_of(f"/?{TOKEN}")}})
    (request,) = receiver.requests
    assert request.verified, request.problem
    assert request.event["type"] == "waterhook.webhook.test"
    assert (result["delivered"], result["code"], result["host"]) == (True, 200, "localhost")
    assert result["webhook_id"] == request.webhook_id
    assert webhook_stack.table.items() == []


@pytest.mark.parametrize(
    "request_", [None, {}, {"url": None}, {"url": f"http://localhost/{TOKEN}"}, {"url": "https://other.test"}]
)
def test_a_test_of_a_url_that_is_not_allowed_sends_nothing(deliver: Deliver, request_: object) -> None:
    result, _ = deliver({"test": request_})
    assert result.keys() == {"delivered", "reason"}
    assert not result["delivered"]
    assert TOKEN not in result["reason"]


def test_without_allowed_hosts_the_function_raises_and_names_the_variable(invoke: Invoke) -> None:
    with pytest.raises(SettingsError, match="WATERHOOK_WEBHOOK_ALLOWED_HOSTS"):
        invoke(app, message_of({}))
