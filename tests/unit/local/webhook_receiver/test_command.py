"""The command that receives webhooks in the terminal."""

import json
import time

import pytest

from local.local_aws.errors import ToolError
from local.local_aws.local_authority import LocalAuthority
from local.terminal import Terminal
from local.webhook_receiver import OK, ReceivedWebhook, WebhookReceiver
from local.webhook_receiver.command import print_webhook, receive_webhooks


def webhook(body: bytes, problem: str | None = None) -> ReceivedWebhook:
    headers = {"webhook-id": "abc/1/COMPLETED"}
    return ReceivedWebhook(time.time(), "POST", "/hook?token=1", headers, body, problem, OK)


def test_a_webhook_is_printed_with_type_id_verification_and_body(capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"type": "waterhook.execution.completed", "data": {"final_output": "Hello"}})
    print_webhook(webhook(body.encode()), Terminal())
    shown = capsys.readouterr().out
    for text in (
        "waterhook.execution.completed\n",
        "webhook-id  abc/1/COMPLETED",
        "verified with standardwebhooks",
        '"final_output": "Hello"',
    ):
        assert text in shown


def test_a_webhook_that_is_not_verified_is_printed_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_webhook(webhook(b"\xff\x00", "No matching signature found"), Terminal())
    shown = capsys.readouterr().out
    assert "not verified: No matching signature found" in shown
    assert "no CloudEvent" in shown
    assert r"b'\xff\x00'" in shown


def test_a_host_that_is_not_on_the_loopback_interface_is_an_error() -> None:
    with pytest.raises(
        ToolError, match=r"--host: 'example\.com' is neither localhost nor a loopback address"
    ):
        receive_webhooks(lambda: WebhookReceiver(LocalAuthority.create(), host="example.com"), Terminal())


def test_a_port_that_is_in_use_is_an_error() -> None:
    authority = LocalAuthority.create()
    with (
        WebhookReceiver(authority) as receiver,
        pytest.raises(ToolError, match="The receiver can't use the port: Address already in use"),
    ):
        receive_webhooks(lambda: WebhookReceiver(authority, port=receiver.port), Terminal())
