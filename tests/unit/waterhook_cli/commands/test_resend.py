"""`waterhook resend`: the selection, the result of each execution, and what an end before the last one leaves."""

import json
import signal
import subprocess
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from tests.fakes.aws import WebhookTable, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.deployed_stack import STACK_NAME, WEBHOOK_OUTPUTS, DeployedStack
from tests.fakes.lambda_function import LambdaFunction
from tests.unit.waterhook_cli.command_line import COMMAND, environment, run, run_in_terminal
from tests.unit.waterhook_cli.webhook_items import HOST, execution_id, item, store
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook_cli.commands.resend import Resend, Resender, find
from waterhook_cli.webhook_stack import DeliverFunction

PENDING, DELIVERED, FAILED, _ = DeliveryStatus
EXECUTION = execution_id(1)
SENT = {"execution_id": EXECUTION, "resent": True, "outcome": "FAILED", "event_id": "an/event/id"}
THROTTLED = client_error("TooManyRequestsException", 429)
UNREACHABLE = EndpointConnectionError(endpoint_url="https://lambda.test")


@pytest.fixture
def filled(webhook_table: WebhookTable) -> WebhookTable:
    store(webhook_table, 1, FAILED, at=NOW + 60)
    store(webhook_table, 2, FAILED, at=NOW, has_cleanup=True)
    store(webhook_table, 3, DELIVERED, at=NOW + 60)
    store(webhook_table, 4, PENDING, at=NOW + 60, host="other.example.com")
    store(webhook_table, 5, DELIVERED, at=NOW)
    return webhook_table


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"failed_only": True}, [1, 2]),
        ({"failed_only": True, "since": 60}, [1]),
        ({"since": 0}, [1, 2, 3, 4, 5]),
        ({"since": 60}, [1, 3, 4]),
        ({"since": 60, "host": HOST}, [1, 3]),
        ({"failed_only": True, "host": "other.example.com"}, []),
    ],
)
def test_deliveries_are_found_oldest_execution_first(
    filled: WebhookTable, filters: dict[str, Any], numbers: list[int]
) -> None:
    since_s = filters.pop("since", None)
    since = None if since_s is None else datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=since_s)
    arguments = {"failed_only": False, "host": None} | filters
    assert find(filled.deliveries, since=since, **arguments) == [execution_id(one) for one in numbers]


def resender(function: LambdaFunction, clock: Clock | None = None) -> Resender:
    client: Any = function
    clock = clock or Clock()
    return Resender(DeliverFunction("deliver", client), clock=clock, sleep=clock.sleep)


def test_a_resend_has_the_outcome_and_the_event() -> None:
    function = LambdaFunction(SENT)
    assert resender(function).resend(EXECUTION) == Resend(
        EXECUTION, resent=True, outcome="FAILED", event_id="an/event/id"
    )
    assert function.payloads == [{"resend": {"execution_id": EXECUTION}}]
    assert function.calls[0]["FunctionName"] == "deliver"


def test_a_refusal_has_its_reason() -> None:
    refusal = {"execution_id": EXECUTION, "resent": False, "outcome": None, "reason": "no such execution"}
    assert resender(LambdaFunction(refusal)).resend(EXECUTION) == Resend(
        EXECUTION, resent=False, reason="no such execution"
    )


def test_at_most_ten_webhooks_are_resent_per_second() -> None:
    clock = Clock()
    began_at = clock()
    many = resender(LambdaFunction(SENT), clock)
    for _ in range(21):
        many.resend(EXECUTION)
    assert clock() - began_at == pytest.approx(2)


@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        ({"errorType": "ClientError", "errorMessage": "card k4711"}, "Unhandled", "ClientError"),
        (None, "Unhandled", "no result"),
        (None, None, "no result"),
        (["odd"], None, "no result"),
        ({"outcome": "ERROR"}, None, "no result"),
    ],
)
def test_an_error_of_the_function_is_a_result_without_its_message(
    answer: object, error: str | None, kind: str
) -> None:
    result = resender(LambdaFunction(answer, error=error)).resend(EXECUTION)
    assert result.resent is None
    assert f"failed ({kind})" in (result.reason or "")
    assert "k4711" not in (result.reason or "")


@pytest.mark.parametrize("error", [THROTTLED, client_error("ServiceException", 500), UNREACHABLE])
def test_a_temporary_failure_of_a_call_is_a_result_and_the_third_in_a_row_is_raised(error: Exception) -> None:
    many = resender(LambdaFunction(error, error, SENT, error, error, error))
    results = [many.resend(EXECUTION).resent for _ in range(5)]
    assert results == [None, None, True, None, None]
    with pytest.raises(type(error)):
        many.resend(EXECUTION)


def test_a_denied_call_is_raised() -> None:
    with pytest.raises(ClientError):
        resender(LambdaFunction(client_error("AccessDeniedException", 403))).resend(EXECUTION)


@pytest.fixture
def webhooks(stack: DeployedStack) -> DeployedStack:
    stack.outputs = WEBHOOK_OUTPUTS
    stack.deliveries = [item(2, "failed"), item(1, "failed"), item(3, "delivered")]
    return stack


def resent(stack: DeployedStack) -> list[str]:
    return [payload["resend"]["execution_id"] for payload in stack.invocations]


def test_ids_are_resent_once_each_without_a_prompt(webhooks: DeployedStack) -> None:
    result = run("resend", execution_id(3), EXECUTION, EXECUTION, on=webhooks)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{execution_id(3)}\tCOMPLETED\n{EXECUTION}\tCOMPLETED\n"
    assert resent(webhooks) == [execution_id(3), EXECUTION]
    assert "2 of 2 are sent again" in result.stderr


def test_the_failed_ones_are_resent_oldest_first(webhooks: DeployedStack) -> None:
    assert run("resend", "--failed", "--since", "7d", "--yes", on=webhooks).exit_code == 0
    assert resent(webhooks) == [EXECUTION, execution_id(2)]


def test_after_a_refusal_the_others_are_resent_and_the_exit_code_is_1(webhooks: DeployedStack) -> None:
    def deliver(payload: Mapping[str, Any]) -> object:
        if payload["resend"]["execution_id"] == EXECUTION:
            return {"resent": False, "outcome": "COMPLETED", "reason": "the request has no webhook"}
        return {"resent": True, "outcome": "COMPLETED"}

    webhooks.deliver = deliver
    result = run("resend", "--since", "2h", "--yes", on=webhooks)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{EXECUTION}\tnot sent: the request has no webhook",
        f"{execution_id(2)}\tCOMPLETED",
        f"{execution_id(3)}\tCOMPLETED",
    ]
    assert "2 of 3 are sent again" in result.stderr
    printed = json.loads(run("resend", EXECUTION, "--json", on=webhooks).stdout)
    assert printed == {
        "dry_run": False,
        "executions": [
            {
                "execution_id": EXECUTION,
                "resent": False,
                "outcome": "COMPLETED",
                "event_id": None,
                "reason": "the request has no webhook",
            }
        ],
    }


def test_a_dry_run_lists_executions_and_needs_no_confirmation(webhooks: DeployedStack) -> None:
    result = run("resend", "--failed", "--dry-run", on=webhooks)
    assert (result.exit_code, result.stdout) == (0, f"{EXECUTION}\n{execution_id(2)}\n")
    assert "2 would be sent again" in result.stderr
    assert json.loads(run("resend", "--failed", "--dry-run", "--json", on=webhooks).stdout)["dry_run"] is True
    assert webhooks.invocations == []


@pytest.mark.parametrize(
    ("options", "warns"),
    [(["--failed"], False), (["--since", "1h"], True), (["--failed", "--since", "1h"], False)],
)
def test_a_filter_prompts_with_the_number_and_the_stack(
    webhooks: DeployedStack, options: list[str], *, warns: bool
) -> None:
    code, screen = run_in_terminal("resend", *options, on=webhooks, typed="n\n", columns=250)
    assert (code, webhooks.invocations) == (1, [])
    count = 3 if warns else 2
    assert f"Send {count} webhooks of the stack {STACK_NAME} (us-east-1) again?" in screen
    assert ("Receivers get those that were delivered a second time." in screen) is warns
    assert "Nothing was done." in screen


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--yes"],
        ["--host", HOST, "--yes"],
        [EXECUTION, "--failed", "--yes"],
        [EXECUTION, "--since", "1h"],
        ["--failed"],
        ["--since", "yesterday", "--yes"],
        ["not-an-id"],
    ],
)
def test_an_unclear_selection_is_a_usage_error_before_aws_is_called(
    webhooks: DeployedStack, arguments: list[str]
) -> None:
    assert run("resend", *arguments, on=webhooks).exit_code == 2
    assert (webhooks.invocations, webhooks.access_keys) == ([], set())


def test_without_a_matching_delivery_nothing_is_sent(webhooks: DeployedStack) -> None:
    result = run("resend", "--failed", "--host", "other.example.com", "--yes", on=webhooks)
    assert (result.exit_code, result.stdout, webhooks.invocations) == (0, "", [])


@pytest.mark.parametrize(
    ("options", "again"), [(["--failed"], "still failed"), (["--since", "1h"], "also those")]
)
def test_ctrl_c_prints_the_state_of_each_execution(
    webhooks: DeployedStack, options: list[str], again: str
) -> None:
    webhooks.deliveries = [item(number, "failed") for number in (1, 2, 3)]
    hangs, released = threading.Event(), threading.Event()

    def deliver(payload: Mapping[str, Any]) -> object:
        if payload["resend"]["execution_id"] == execution_id(2):
            hangs.set()
            released.wait(60)
        return {"resent": True, "outcome": "COMPLETED"}

    webhooks.deliver = deliver
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*COMMAND, "resend", *options, "--yes"],
            cwd=folder,
            env=environment(webhooks),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert hangs.wait(60)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    released.set()
    assert process.returncode == 130
    assert stdout.splitlines() == [
        f"{EXECUTION}\tCOMPLETED",
        f"{execution_id(2)}\tunknown: interrupted. It may be sent again",
        f"{execution_id(3)}\tnot sent: not tried",
    ]
    assert "1 of 3 are sent again" in stderr
    assert again in stderr
    assert "Traceback" not in stderr


def test_a_lost_answer_is_unknown() -> None:
    error = ReadTimeoutError(endpoint_url="https://lambda.test")
    result = resender(LambdaFunction(error)).resend(EXECUTION)
    assert result.resent is None
    assert "Repeat the command" in (result.reason or "")
