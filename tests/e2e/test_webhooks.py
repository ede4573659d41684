"""Webhooks on the deployed stack: from each trigger, delivered, verified, shown, repeated."""

import json
import time
from typing import Any

import pytest
from click.testing import CliRunner

from local.local_aws.stack_client import StackClient
from local.webhook_receiver import ReceivedWebhook, WebhookReceiver, status
from local.webhook_receiver.received import problem_of
from local.webhook_receiver.stack_receiver import receiver_for, secret_of_host
from tests.e2e.account import changed_environment
from tests.e2e.conftest import home_of
from tests.e2e.executions import owner_arn, put_event
from tests.e2e.webhooks import (
    deliveries,
    invoke_deliver,
    received,
    receiver_at,
    shown_webhook,
    wait_for_shown,
    wait_for_webhooks,
)
from tests.support.waiting import until
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.domain.webhook import TERMINAL_EVENTS
from waterhook_cli.main import cli

pytestmark = pytest.mark.e2e

# Each test with a receiver that fails has a host of its own.
(HOST_OF_DELETED,) = range(10, 11)
TOKEN = "token-of-the-url"


def only(webhooks: list[ReceivedWebhook]) -> ReceivedWebhook:
    """Return the webhook, which may have arrived more than once with the same content."""
    assert len({(webhook.webhook_id, webhook.body) for webhook in webhooks}) == 1
    assert all(webhook.verified for webhook in webhooks), [webhook.verification for webhook in webhooks]
    return webhooks[0]


def test_a_webhook_is_the_notification_from_every_trigger(
    stack: StackClient, receiver: WebhookReceiver, marker: str
) -> None:
    webhook = {"url": receiver.url_of(f"/in?token={TOKEN}")}
    request = {"chatbot_id": "instant", "input_data": {"marker": marker}, "webhook": webhook}
    schedule = {
        "arn": f"arn:aws:scheduler:us-east-1:000000000000:schedule/default/{marker}",
        "time": "2026-01-01T00:00:00Z",
    }
    arn = stack.start_execution(request)
    stack.start_execution({"schedule": schedule, "request": request})
    ids = {
        "API": stack.submit("instant", {"marker": marker}, webhook=webhook),
        "event": derive_execution_id("events", put_event(stack, "Waterflai Execution Requested", request)),
        "schedule": derive_execution_id("schedule", "{arn}@{time}".format(**schedule)),
        "state machine": json.loads(stack.wait_for_end(arn)["output"])["execution_id"],
    }
    for trigger, execution_id in ids.items():
        sent = only(wait_for_webhooks(receiver, execution_id))
        assert sent.event == stack.wait_for_notification(execution_id), trigger
        assert (sent.method, sent.target) == ("POST", f"/in?token={TOKEN}")
        assert sent.webhook_id == sent.event["id"]
        assert sent.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert abs(int(sent.timestamp) - sent.received_at) < 60

    shown = wait_for_shown(stack, ids["API"], lambda shown: shown["status"] == "delivered")
    assert shown.pop("delivered_at").endswith("Z")
    assert shown == {
        **webhook,
        "events": list(TERMINAL_EVENTS),
        "payload": "full",
        "status": "delivered",
        "attempts": 1,
        "last_code": 200,
        "last_error": None,
        "next_attempt_at": None,
    }


def test_an_output_in_s3_has_a_link_in_the_webhook_and_a_thin_webhook_has_no_output(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    job = {"simulate": {"output_kib": 64, "seconds": 0.2, "output": {"answer": "\N{DUCK}"}}}
    full = stack.submit("big-output", job, webhook={"url": receiver.url})
    thin = stack.submit("big-output", job, webhook={"url": receiver.url, "payload": "thin"})
    thin_inline = stack.submit("instant", webhook={"url": receiver.url, "payload": "thin"})

    sent, notification = only(wait_for_webhooks(receiver, full)).event, stack.wait_for_notification(full)
    link = sent["data"].pop("final_output_url")
    assert sent == notification
    # The receiver has no credentials for AWS.
    assert (
        stack.http.get(link).raise_for_status().json()
        == stack.http.get(stack.get(full).json()["final_output_url"]).json()
    )

    for execution_id in (thin, thin_inline):
        notification = stack.wait_for_notification(execution_id)
        del notification["data"]["final_output"]
        assert only(wait_for_webhooks(receiver, execution_id)).event == notification
    assert "dataref" in only(received(receiver, thin)).event


def test_progress_is_sent_on_request_and_none_after_the_outcome(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    job = {"simulate": {"seconds": 5, "nodes": 4, "queue_seconds": 0}}
    both = stack.submit(
        "report-flow",
        job,
        progress_events=True,
        webhook={"url": receiver.url, "events": ["completed", "progress"]},
    )
    failures = stack.submit("instant", webhook={"url": receiver.url, "events": ["failed", "lost"]})
    assert wait_for_shown(stack, both, lambda shown: shown["status"] == "waiting")["attempts"] == 0
    stack.wait_for_notification(both)
    until(lambda: any(sent.event["type"].endswith(".completed") for sent in received(receiver, both)))
    time.sleep(2)

    *progress, last = received(receiver, both)
    assert last.event["type"] == "waterhook.execution.completed"
    assert len(progress) >= 2
    assert {sent.event["type"] for sent in progress} == {"waterhook.execution.progress"}
    assert all(sent.verified for sent in [*progress, last])
    published = {event["id"]: event for event in stack.peek(both)}
    assert all(sent.event == published[sent.webhook_id] for sent in [*progress, last])
    assert wait_for_shown(stack, both, lambda shown: shown["status"] == "delivered")["attempts"] == 1

    stack.wait_for_notification(failures)
    assert shown_webhook(stack, failures)["status"] == "not_sent"
    assert received(receiver, failures) == []


def url(rest: str, scheme: str = "https://") -> dict[str, Any]:
    return {"url": f"{scheme}{rest}/{TOKEN}?key={TOKEN}"}


REFUSED = {
    "http": (url("localhost", "http://"), "https"),
    "no URL": ({"events": ["completed"]}, "webhook.url: missing"),
    "user": (url(f"{TOKEN}@localhost"), "user"),
    "fragment": ({"url": f"https://localhost/#{TOKEN}"}, "fragment"),
    "another host": (url("another.example"), "another.example is not in WebhookAllowedHosts"),
    "an address of metadata": (url("169.254.169.254"), "169.254.169.254 is not in WebhookAllowedHosts"),
    "2,001 characters": (
        {"url": f"https://localhost/{TOKEN}".ljust(2001, "x")},
        "longer than 2,000 characters",
    ),
    "an unknown event": ({**url("localhost"), "events": ["done"]}, "webhook.events: expected a list"),
    "an unknown payload": ({**url("localhost"), "payload": "all"}, "webhook.payload: expected full or thin"),
    "an unknown field": ({**url("localhost"), "secret": TOKEN}, "webhook: unknown field secret"),
    "a text": (f"https://localhost/{TOKEN}", "webhook: expected object or false, got string"),
}


def test_a_refused_webhook_is_answered_with_the_reason_and_without_its_url(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    for name, (webhook, reason) in REFUSED.items():
        answer = stack.post("instant", {"input_data": {}, "webhook": webhook})
        assert answer.status_code == 400, name
        assert reason in answer.json()["detail"], name
        assert TOKEN not in answer.text, name

    webhook, reason = REFUSED["another host"]
    arn = stack.start_execution({"chatbot_id": "instant", "input_data": {}, "webhook": webhook})
    ended = stack.wait_for_end(arn)
    assert ended["error"] == "Waterhook.Rejected"
    assert reason in json.loads(ended["cause"])["message"]
    assert TOKEN not in ended["cause"]
    assert receiver.requests == []


def test_a_resent_webhook_is_the_same_event_with_a_signature_of_its_own(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    execution_id = stack.submit("instant", webhook={"url": receiver.url}, deliver_to=["dynamodb"])
    wait_for_shown(stack, execution_id, lambda shown: shown["status"] == "delivered")
    assert stack.peek(execution_id) == []
    stack.wait_for_end(owner_arn(stack, execution_id))
    time.sleep(1.1)  # so that the timestamp, in seconds, differs
    result = invoke_deliver(stack, {"resend": {"execution_id": execution_id}})
    first, second = wait_for_webhooks(receiver, execution_id, 2)
    assert result == {
        "execution_id": execution_id,
        "outcome": "COMPLETED",
        "resent": True,
        "event_id": first.webhook_id,
    }
    only([first, second])
    assert first.timestamp != second.timestamp
    assert first.signatures != second.signatures
    shown = wait_for_shown(stack, execution_id, lambda shown: shown["status"] == "delivered")
    assert (shown["attempts"], shown["last_code"]) == (1, 200)

    without = stack.submit("instant")
    stack.wait_for_notification(without)
    assert shown_webhook(stack, without) is None
    for unsendable, reason in ((without, "no webhook"), ("0" * 32, "no such execution")):
        result = invoke_deliver(stack, {"resend": {"execution_id": unsendable}})
        assert (result["resent"], reason in result["reason"]) == (False, True)


def test_a_test_event_is_verified_and_changes_no_delivery(
    stack: StackClient, receiver: WebhookReceiver
) -> None:
    result = invoke_deliver(stack, {"test": {"url": receiver.url}})
    (sent,) = [sent for sent in receiver.requests if sent.webhook_id.startswith("test/")]
    assert sent.verified
    assert sent.event["type"] == "waterhook.webhook.test"
    assert result.pop("latency_ms") >= 0
    expected = {"delivered": True, "host": "localhost", "webhook_id": sent.webhook_id, "code": 200}
    assert result == expected | {"error": None}
    refused = invoke_deliver(stack, {"test": url("another.example")})
    assert refused["delivered"] is False
    assert TOKEN not in json.dumps(refused)


def test_a_deleted_execution_gets_no_further_attempt(stack: StackClient) -> None:
    with receiver_at(stack, HOST_OF_DELETED) as receiver:
        receiver.answers.for_path("/", status(503))
        execution_id = stack.submit("instant", webhook={"url": receiver.url})
        (failed,) = wait_for_webhooks(receiver, execution_id)
        stack.wait_for_end(owner_arn(stack, execution_id))
        stack.dynamodb.delete_item(
            TableName=stack.outputs.table_name, Key={"execution_id": {"S": execution_id}}
        )
        # The message of the second attempt deletes the delivery too.
        until(lambda: deliveries(stack).get(execution_id, failed.webhook_id) is None)
        assert stack.get(execution_id).status_code == 404
        assert len(received(receiver, execution_id)) == 1


# ---- On the stack with enforced permissions, one test at a time ----------------------------------------------------


def test_requests_without_a_webhook_use_that_of_the_deployment_unless_they_opt_out(
    strict: StackClient,
) -> None:
    with (
        receiver_for(strict.outputs) as receiver,
        receiver_for(strict.outputs, host="127.0.0.3") as default,
    ):
        variables = {"WATERHOOK_DEFAULT_WEBHOOK_URL": default.url_of("/default")}
        with changed_environment(strict, "ApiFunction", variables):
            without = strict.submit("instant")
            opted_out = strict.submit("instant", webhook=False)
            own = strict.submit("instant", webhook={"url": receiver.url})
        sent = only(wait_for_webhooks(default, without))
        assert (sent.target, sent.event) == ("/default", strict.wait_for_notification(without))
        only(wait_for_webhooks(receiver, own))
        strict.wait_for_notification(opted_out)
        assert shown_webhook(strict, opted_out) is None
        assert received(default, own) == received(default, opted_out) == []


def test_after_a_rotation_webhooks_have_a_signature_for_each_secret(strict: StackClient) -> None:
    with receiver_for(strict.outputs) as receiver:
        old = receiver.secret
        rotated = CliRunner(mix_stderr=False, env={"WATERHOOK_LOCAL": str(home_of("-strict"))}).invoke(
            cli, ["rotate-webhook-secret", "--yes"]
        )
        assert rotated.exit_code == 0, rotated.stderr
        new = secret_of_host(strict.outputs, receiver.host)
        assert new != old
        # Containers keep the keys for five minutes. With the change, new ones start.
        with changed_environment(strict, "DeliverFunction", {"TEST": "rotation"}):
            execution_id = strict.submit("instant", webhook={"url": receiver.url})
            sent = only(wait_for_webhooks(receiver, execution_id))
        first, second, *rest = sent.signatures
        assert not rest
        for secret, signature in ((new, first), (old, second)):
            headers = {**sent.headers, "webhook-signature": signature}
            assert problem_of("POST", headers, sent.body, secret) is None
        assert problem_of("POST", {**sent.headers, "webhook-signature": second}, sent.body, new) is not None
