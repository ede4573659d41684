"""`waterhook submit`."""

import json
import signal
import subprocess
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fakes.deployed_stack import (
    API_KEY,
    STACK_NAME,
    ApiRequest,
    ApiResponse,
    DeployedStack,
    status_document,
)
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import COMMAND, environment, run
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


@pytest.mark.parametrize(
    ("arguments", "input_data"),
    [
        (["message=Hello", "count:=2"], {"message": "Hello", "count": 2}),
        (["--input", '{"a": 1, "b": 2}', "b:=3", "c="], {"a": 1, "b": 3, "c": ""}),
        (["a=x", "--input", '{"a": {"b": 1}}'], {"a": "x"}),
    ],
)
def test_fields_are_added_to_the_input_and_replace_its_fields(
    stack: DeployedStack, arguments: list[str], input_data: object
) -> None:
    stack.api_responses = [ACCEPTED]
    result = run("submit", "bot", *arguments, on=stack)
    assert result.exit_code == 0, result.stderr
    assert stack.api_requests[-1].body == {"input_data": input_data}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=1", "a:=1"], "The key 'a' is given 2 times."),
        (["n:={"], "n: invalid JSON at line 1, column 2"),
        (["other-chatbot"], "expected KEY=TEXT"),
        (["--wait", "5", "--follow"], "--wait can't be combined with --follow"),
        (["--wait", "26"], "26 is not in the range"),
        (["--wait=0"], "0 is not in the range"),
        (["--wait", "--deliver-to", "sns"], "--wait requires --deliver-to dynamodb"),
    ],
)
def test_an_unclear_request_is_a_usage_error_before_any_call(
    stack: DeployedStack, arguments: list[str], message: str
) -> None:
    result = run("submit", "bot", *arguments, on=stack)
    assert (result.exit_code, stack.api_requests, stack.access_keys) == (2, [], set())
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "wait"),
    [
        (["bot", "--wait"], "wait=20"),
        (["bot", "--wait", "3"], "wait=3"),
        (["--wait", "bot"], "wait=20"),
        (["bot", "--wait", "a=1"], "wait=20"),
        (["bot"], None),
    ],
)
def test_the_seconds_of_a_wait_can_be_left_out(
    stack: DeployedStack, arguments: list[str], wait: str | None
) -> None:
    stack.api_responses = [ACCEPTED]
    run("submit", *arguments, on=stack)
    (request,) = stack.api_requests
    assert (request.headers.get("prefer"), request.target) == (wait, "/live/v1/executions/bot/async")


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
def test_waiting_prints_the_outcome_and_exits_with_0_only_if_completed(
    stack: DeployedStack, status: Status
) -> None:
    stack.api_responses = [(200, status_document(status, error_message="that is why"))]
    result = run("submit", "bot", "--wait", on=stack)
    assert result.exit_code == (0 if status is Status.COMPLETED else 1)
    assert result.stdout == (OUTPUT if status is Status.COMPLETED else "")
    assert f"{status}: that is why" in result.stderr
    assert len(stack.api_requests) == 1


def test_ctrl_c_while_waiting_prints_how_to_find_the_execution(stack: DeployedStack) -> None:
    is_called, is_released = threading.Event(), threading.Event()

    def respond(request: ApiRequest) -> ApiResponse:
        stack.api_requests.append(request)
        is_called.set()
        is_released.wait(60)
        return ACCEPTED

    stack.respond = respond  # type: ignore[method-assign]
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*COMMAND, "submit", "bot", "--wait"],
            cwd=folder,
            env=environment(stack),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert is_called.wait(60)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    is_released.set()
    assert process.returncode == 130
    assert "To find it: waterhook list --mine --limit 5\n" in stderr


def test_an_execution_that_does_not_end_in_time_is_printed_with_the_command_to_follow_it(
    stack: DeployedStack,
) -> None:
    stack.api_responses = [ACCEPTED]
    result = run("submit", "bot", "--wait", "1", "--stack", STACK_NAME, on=stack)
    assert (result.exit_code, result.stdout) == (6, f"{ID}\n")
    assert result.stderr.endswith(f"\nwaterhook status {ID} --follow --stack {STACK_NAME}\n")
    as_json = run("submit", "bot", "--wait", "1", "--json", "-q", on=stack)
    assert (as_json.exit_code, json.loads(as_json.stdout), as_json.stderr) == (6, ACCEPTED[1], "")


def test_an_execution_that_has_ended_before_is_printed_also_if_the_stack_does_not_let_callers_wait(
    stack: DeployedStack,
) -> None:
    stack.api_responses = [(202, {"execution_id": ID, "status": "COMPLETED"}), (200, status_document())]
    result = run("submit", "bot", "--key", "used", "--wait", on=stack)
    assert (result.exit_code, result.stdout) == (0, OUTPUT)
