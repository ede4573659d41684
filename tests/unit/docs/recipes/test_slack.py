"""The recipe for Slack posts one message for each event, and fails if Slack refuses it."""

from typing import Any
from urllib.error import HTTPError

import pytest

from tests.contract.test_recipes import code, delivered
from tests.fakes.aws import Secret
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support import samples

EVENT = samples.read("failed")


def handle(secret: Secret, slack: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    secret.rotate(f"{slack.url}/services/T0/B0/x\n")  # with a line end, as after a paste
    monkeypatch.setenv("WEBHOOK_SECRET_ARN", secret.arn)
    return code("slack.yaml")["handler"](delivered(EVENT), None)


def test_an_event_becomes_a_message_to_the_webhook_of_the_secret(
    secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer([reply(200, "ok")]) as slack:
        handle(secret, slack, monkeypatch)
    (request,) = slack.requests
    assert (request.method, request.target) == ("POST", "/services/T0/B0/x")
    assert request.headers["content-type"] == "application/json"
    assert request.json["text"].startswith("support-chat FAILED")


def test_a_message_that_slack_refuses_fails_so_that_it_is_retried(
    secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer([reply(429, "slow down")]) as slack, pytest.raises(HTTPError) as caught:
        handle(secret, slack, monkeypatch)
    caught.value.close()
