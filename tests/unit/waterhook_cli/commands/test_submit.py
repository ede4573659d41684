"""`waterhook submit`."""

import json
from pathlib import Path

import pytest

from tests.fakes.deployed_stack import API_KEY, ApiResponse, DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run
from waterhook.domain.status import Status

ACCEPTED: ApiResponse = (202, {"execution_id": ID, "status": "ACCEPTED", "status_url": "", "cancel_url": ""})
OUTPUT = json.dumps(status_document()["final_output"], indent=2) + "\n"


def test_a_request_has_only_the_fields_of_the_options(stack: DeployedStack, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"ticket": "ß"}', encoding="utf-8")
    stack.api_responses = [ACCEPTED]
    options = ["--input", "-", "--key", "once", "--timeout", "60", "--progress", "--deliver-to", "sns"]
    metadata = f"@{tmp_path / 'metadata.json'}"
    result = run("submit", "a bot", *options, "--metadata", metadata, on=stack, stdin='{"n": 1}')
    assert result.stdout == f"{ID}\n"
    (request,) = stack.api_requests
    assert (request.method, request.target) == ("POST", "/live/v1/executions/a%20bot/async")
    assert request.headers["idempotency-key"] == "once"
    assert request.body == {
        "input_data": {"n": 1},
        "timeout_seconds": 60,
        "metadata": {"ticket": "ß"},
        "deliver_to": ["sns"],
        "progress_events": True,
    }
    run("submit", "bot", on=stack)
    assert stack.api_requests[-1].body == {"input_data": {}}


@pytest.mark.parametrize(
    ("options", "webhook"),
    [
        (["--webhook", "https://a.test/"], {"url": "https://a.test/"}),
        (
            [
                "--webhook",
                "https://a.test/",
                "--webhook-events",
                "Completed, progress",
                "--webhook-payload",
                "thin",
            ],
            {"url": "https://a.test/", "events": ["completed", "progress"], "payload": "thin"},
        ),
        (["--no-webhook"], False),
    ],
)
def test_the_options_of_a_webhook_are_sent(stack: DeployedStack, options: list[str], webhook: object) -> None:
    stack.api_responses = [ACCEPTED]
    run("submit", "bot", *options, on=stack)
    assert stack.api_requests[-1].body == {"input_data": {}, "webhook": webhook}


@pytest.mark.parametrize(
    "options",
    [
        ["--webhook-events", "completed"],
        ["--webhook-payload", "thin"],
        ["--no-webhook", "--webhook", "https://a.test/"],
        ["--no-webhook", "--webhook-payload", "thin"],
        ["--webhook", "https://a.test/", "--webhook-events", "finished"],
        ["--webhook", "https://a.test/", "--webhook-events", ""],
    ],
)
def test_options_of_a_webhook_that_do_not_fit_are_a_usage_error(
    stack: DeployedStack, options: list[str]
) -> None:
    assert run("submit", "bot", *options, on=stack).exit_code == 2
    assert (stack.api_requests, stack.access_keys) == ([], set())


def test_a_request_is_signed_or_has_the_api_key(stack: DeployedStack) -> None:
    stack.api_responses = [ACCEPTED]
    run("submit", "bot", on=stack)
    assert "/execute-api/aws4_request" in stack.api_requests[-1].headers["authorization"]
    stack.outputs = {"ApiKeyId": "abc"}
    run("submit", "bot", on=stack)
    assert stack.api_requests[-1].headers["x-api-key"] == API_KEY
    assert "authorization" not in stack.api_requests[-1].headers


def test_an_invalid_input_is_a_usage_error(stack: DeployedStack) -> None:
    assert run("submit", "bot", "--input", "{", on=stack).exit_code == 2
    assert stack.api_requests == []


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
def test_following_prints_the_outcome_and_exits_with_0_only_if_completed(
    stack: DeployedStack, status: Status
) -> None:
    stack.api_responses = [ACCEPTED, (200, status_document(status, error_message="that is why"))]
    result = run("submit", "bot", "--follow", on=stack)
    assert result.exit_code == (0 if status is Status.COMPLETED else 1)
    assert result.stdout == (OUTPUT if status is Status.COMPLETED else "")
    assert f"{status}: that is why" in result.stderr
