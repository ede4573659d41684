"""`waterhook webhook-test`: the explanation of each result."""

import json
from typing import Any

import pytest

from tests.fakes.deployed_stack import STACK_NAME, WEBHOOK_OUTPUTS, DeployedStack
from tests.unit.waterhook_cli.command_line import run
from tests.unit.waterhook_cli.webhook_items import HOST
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.webhooks.sender import AttemptError
from waterhook_cli.commands.webhook_test import explain

URL = f"https://{HOST}/hook?token=not-shown"


def result(**changes: Any) -> dict[str, Any]:
    fields = {
        "delivered": False,
        "host": HOST,
        "webhook_id": "test/1",
        "code": None,
        "error": None,
        "latency_ms": 12,
    }
    return fields | changes


@pytest.fixture
def webhooks(stack: DeployedStack) -> DeployedStack:
    stack.outputs = WEBHOOK_OUTPUTS
    stack.deliver = lambda _payload: result(delivered=True, code=204)
    return stack


def test_a_delivered_test_event_is_success(webhooks: DeployedStack) -> None:
    ran = run("webhook-test", URL, on=webhooks)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout == f"ok\t{HOST} answered 204 after 12 ms\nwebhook-id\ttest/1\n"
    assert webhooks.invocations == [{"test": {"url": URL}}]
    assert "not-shown" not in ran.stdout + ran.stderr


def test_a_failed_test_has_an_explanation_and_exit_code_1(webhooks: DeployedStack) -> None:
    webhooks.deliver = lambda _payload: result(error="http_status", code=401)
    ran = run("webhook-test", URL, "--stack", STACK_NAME, on=webhooks)
    assert ran.exit_code == 1
    assert ran.stdout.startswith(f"failed\t{HOST} answered 401, and only 2xx confirms a webhook\t")
    assert f"waterhook webhook-secret {HOST} --stack {STACK_NAME}\n" in ran.stdout
    printed = json.loads(run("webhook-test", URL, "--json", on=webhooks).stdout)
    assert (printed["delivered"], printed["code"], printed["error"]) == (False, 401, "http_status")
    assert printed["do"].endswith(f"waterhook webhook-secret {HOST}")


@pytest.mark.parametrize("error", [error for error in AttemptError if error is not AttemptError.NO_RESULT])
def test_each_error_has_an_explanation(error: AttemptError) -> None:
    what, hint = explain(result(error=error, code=500 if error == "http_status" else None))
    assert HOST in what
    assert hint
    assert "{" not in what + hint


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 429, 500])
def test_the_status_is_explained(code: int) -> None:
    what, hint = explain(result(error=AttemptError.HTTP_STATUS, code=code))
    assert f"answered {code}" in what
    assert hint


def test_an_error_of_a_newer_version_is_named() -> None:
    assert "odd" in explain(result(error="odd"))[0]


@pytest.mark.parametrize(
    ("host", "rules", "parameter"),
    [
        ("a.example.com", WebhookRules(("b.example.com",)), "WebhookAllowedHosts=HOSTS"),
        ("10.0.0.1", WebhookRules(("10.0.0.1",)), "WebhookAllowedNetworks=NETWORKS"),
        ("a.example.com", WebhookRules(), "WebhookAllowedHosts=HOSTS"),
        ("169.254.169.254", WebhookRules(("*",)), None),
    ],
)
def test_a_refused_url_is_explained_by_the_parameter_that_allows_it(
    host: str, rules: WebhookRules, parameter: str | None
) -> None:
    problem = rules.host_problem(WebhookUrl.parse(f"https://{host}"))
    what, hint = explain({"delivered": False, "reason": f"url: {problem}"})
    assert what.startswith("nothing was sent: url: ")
    assert (parameter or "") in hint
    assert bool(hint) == (parameter is not None)


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/?token=not-shown", "https://not-shown@a.test/", "x"]
)
def test_an_invalid_url_is_a_usage_error_that_does_not_show_it(stack: DeployedStack, url: str) -> None:
    ran = run("webhook-test", url, on=stack)
    assert (ran.exit_code, stack.access_keys) == (2, set())
    assert "not-shown" not in ran.stderr


def test_a_function_that_fails_is_reported_with_its_runbook_page(webhooks: DeployedStack) -> None:
    webhooks.deliver = lambda _payload: {
        "errorType": "SigningKeysUnavailableError",
        "errorMessage": "not-shown",
    }
    ran = run("webhook-test", URL, on=webhooks)
    assert (ran.exit_code, ran.stdout) == (4, "")
    assert "DeliverFunction failed (SigningKeysUnavailableError)" in ran.stderr
    assert "docs/runbook/DeliverAlarm.md" in ran.stderr
    assert "not-shown" not in ran.stderr


def test_a_lost_answer_does_not_send_a_second_event(webhooks: DeployedStack) -> None:
    def broken(_payload: object) -> object:
        raise ConnectionAbortedError

    webhooks.deliver = broken
    assert run("webhook-test", URL, on=webhooks).exit_code == 4
    assert len(webhooks.invocations) == 1
