"""The demo prints the webhook beside the notification, on a fake stack that sends both."""

import base64
import dataclasses
import http.client
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from standardwebhooks import Webhook

from local.demo import run as demo
from local.demo.scenarios import SCENARIOS, Scenario
from local.local_aws.errors import ToolError
from local.local_aws.local_authority import LocalAuthority
from local.terminal import WIDTH, Terminal
from local.webhook_receiver import WebhookReceiver
from tests.unit.local.local_aws.stack import OUTPUTS

EXECUTION_ID = "0" * 32
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
COMPLETED = {
    "id": f"{EXECUTION_ID}/1767225600000/COMPLETED",
    "type": "waterhook.execution.completed",
    "data": {"execution_id": EXECUTION_ID, "timing": {"completed_at": datetime.now(UTC).isoformat()}},
}


@pytest.fixture(scope="module")
def local_authority() -> LocalAuthority:
    return LocalAuthority.create()


@pytest.fixture
def receiver(local_authority: LocalAuthority) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(local_authority, secret=SECRET) as receiver:
        yield receiver


class FakeStack:
    """A stack whose execution completes with the request. It sends the events `sent` to the webhook of the request."""

    outputs = OUTPUTS

    def __init__(
        self, authority: LocalAuthority, sent: list[dict[str, Any]], *, secret: str = SECRET
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self._sent = sent
        self._secret = secret
        self._context = ssl.create_default_context(cadata=authority.certificate_pem)
        self._messages = [{"Body": json.dumps(COMPLETED), "ReceiptHandle": "receipt"}]
        self.sqs = SimpleNamespace(receive_message=self._receive_message, delete_message=lambda **_: None)
        self.stepfunctions = SimpleNamespace(describe_execution=lambda **_: self.wait_for_end(""))

    def post(self, chatbot: str, request: dict[str, Any]) -> httpx.Response:
        self.requests.append(request)
        if url := request.get("webhook", {}).get("url"):
            for event in self._sent:
                self._send(url, event)
        return httpx.Response(202, json={"execution_id": EXECUTION_ID})

    def get(self, execution_id: str) -> httpx.Response:
        delivery = {"status": "pending", "last_error": "no_connection"}
        return httpx.Response(200, json={"status": "COMPLETED", "webhook": delivery})

    def execution_arn(self, execution_id: str) -> str:
        return "arn:execution"

    def states(self, arn: str) -> list[str]:
        return ["Start job", "Notify"]

    def wait_for_end(self, arn: str) -> dict[str, str]:
        return {"status": "SUCCEEDED"}

    def item(self, execution_id: str) -> dict[str, str]:
        return {"execution_id": execution_id}

    def _receive_message(self, **_: Any) -> dict[str, Any]:
        messages, self._messages = self._messages, []
        return {"Messages": messages}

    def _send(self, url: str, event: dict[str, Any]) -> None:
        now, body = datetime.now(UTC), json.dumps(event)
        headers = {
            "webhook-id": event["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._secret).sign(event["id"], now, body),
        }
        connection = http.client.HTTPSConnection(urlsplit(url).netloc, context=self._context, timeout=5)
        with closing(connection):
            connection.request("POST", "/", body, headers)
            assert connection.getresponse().status == 200


def view(stack: FakeStack, scenario: Scenario, receiver: WebhookReceiver | None) -> demo.ExecutionView:
    client: Any = stack
    return demo.ExecutionView(client, Terminal(), scenario, receiver)


def test_the_webhook_is_printed_in_the_timeline_and_beside_the_notification(
    receiver: WebhookReceiver, local_authority: LocalAuthority, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = FakeStack(local_authority, [COMPLETED])
    shown = view(stack, SCENARIOS["success"], receiver).show()
    assert stack.requests[0]["webhook"] == {"url": receiver.url}
    timeline = capsys.readouterr().out
    assert "Webhook        the signed HTTPS request with the result" in timeline
    assert re.search(
        r" s  Webhook        waterhook\.execution\.completed, \d+\.\d s after job end\n", timeline
    )
    assert "s  Webhook        signature verified with standardwebhooks\n" in timeline
    demo.print_result(Terminal(), shown, keeps_running=True)
    result = capsys.readouterr().out
    assert "signature verified with standardwebhooks" in result
    assert f"webhook-id: {COMPLETED['id']}" in result
    assert "webhook-signature: v1," in result
    assert "The body is the same CloudEvent." in result
    assert result.index("The notification") < result.index("The webhook") < result.index("What to do next")
    assert [line for line in (timeline + result).splitlines() if len(line) > WIDTH] == []


def test_a_webhook_with_another_secret_or_body_is_shown_as_such(
    receiver: WebhookReceiver, local_authority: LocalAuthority, capsys: pytest.CaptureFixture[str]
) -> None:
    other_secret = "whsec_" + base64.b64encode(b"o" * 32).decode()
    thin = {**COMPLETED, "data": {}}
    shown = view(
        FakeStack(local_authority, [thin], secret=other_secret), SCENARIOS["success"], receiver
    ).show()
    demo.print_result(Terminal(), shown, keeps_running=True)
    result = capsys.readouterr().out
    assert "signature verified" not in result
    assert "signature not verified: No matching signature found" in result
    assert "same CloudEvent" not in result


def test_a_webhook_of_another_execution_is_not_shown(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    foreign = {**COMPLETED, "id": f"{'1' * 32}/1767225600000/COMPLETED"}
    stack = FakeStack(local_authority, [foreign, COMPLETED])
    shown = view(stack, SCENARIOS["success"], receiver).show()
    assert shown.webhook is not None
    assert shown.webhook.webhook_id == COMPLETED["id"]


def test_a_webhook_that_does_not_arrive_is_an_error_with_the_last_attempt(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    client: Any = FakeStack(local_authority, [])
    shown = demo.ExecutionView(client, Terminal(), SCENARIOS["success"], receiver, webhook_timeout_s=0.2)
    with pytest.raises(
        ToolError, match=r"no webhook was received\. Status .*: pending, last error: no_connection"
    ):
        shown.show()


def test_without_a_receiver_the_demo_shows_no_webhook(
    local_authority: LocalAuthority, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = FakeStack(local_authority, [])
    shown = view(stack, SCENARIOS["success"], None).show()
    demo.print_result(Terminal(), shown, keeps_running=True)
    assert stack.requests == [dict(SCENARIOS["success"].request)]
    assert "ebhook" not in capsys.readouterr().out


def test_a_stack_without_webhooks_gets_no_receiver() -> None:
    without = dataclasses.replace(OUTPUTS, webhook_queue_url="")
    with demo.started_receiver(without, SCENARIOS["success"]) as receiver:
        assert receiver is None
    with demo.started_receiver(OUTPUTS, SCENARIOS["failure"]) as receiver:
        assert receiver is None
