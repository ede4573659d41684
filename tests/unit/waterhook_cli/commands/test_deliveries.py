"""`waterhook deliveries`: what is listed, and how."""

import json

import pytest

from tests.fakes.deployed_stack import STACK_NAME, WEBHOOK_OUTPUTS, DeployedStack
from tests.unit.waterhook_cli.command_line import run, run_in_terminal
from tests.unit.waterhook_cli.webhook_items import HOST, execution_id, item

EXECUTION = execution_id(1)
NEXT = "2026-01-02T00:00:00Z"


@pytest.fixture
def webhooks(stack: DeployedStack) -> DeployedStack:
    stack.outputs = WEBHOOK_OUTPUTS
    stack.deliveries = [item(1, "failed"), item(2, "pending"), item(3, "delivered")]
    return stack


def test_the_deliveries_of_an_execution_are_listed(webhooks: DeployedStack) -> None:
    result = run("deliveries", execution_id(3), on=webhooks)
    assert result.stdout == f"COMPLETED\tdelivered\t1\t200\t\t2026-01-01T00:00:02Z\t{HOST}\n"
    assert "resend" not in result.stderr
    result = run("deliveries", EXECUTION, on=webhooks)
    assert result.stdout == f"COMPLETED\tfailed\t10\thttp_status 503\t\t\t{HOST}\n"
    assert f"waterhook resend {EXECUTION}\n" in result.stderr


def test_without_an_id_the_deliveries_that_are_not_delivered_are_listed(webhooks: DeployedStack) -> None:
    result = run("deliveries", "--stack", STACK_NAME, on=webhooks)
    assert result.stdout.splitlines() == [
        f"{execution_id(2)}\tCOMPLETED\tpending\t1\thttp_status 503\t{NEXT}\t{HOST}",
        f"{EXECUTION}\tCOMPLETED\tfailed\t10\thttp_status 503\t\t{HOST}",
    ]
    assert f"waterhook resend --failed --stack {STACK_NAME}\n" in result.stderr
    only = run("deliveries", "--failed", "--host", HOST.upper(), on=webhooks)
    assert [line[:32] for line in only.stdout.splitlines()] == [EXECUTION]
    assert f"waterhook resend --failed --host {HOST}\n" in only.stderr


def test_the_number_of_deliveries_is_limited_and_more_are_reported(webhooks: DeployedStack) -> None:
    result = run("deliveries", "--limit", "1", on=webhooks)
    assert [line[:32] for line in result.stdout.splitlines()] == [execution_id(2)]
    assert "There are more deliveries" in result.stderr
    assert json.loads(run("deliveries", "--limit", "1", "--json", on=webhooks).stdout)["more"] is True
    assert json.loads(run("deliveries", "--limit", "2", "--json", on=webhooks).stdout)["more"] is False


def test_a_delivery_is_printed_as_json_with_the_names_of_the_api(webhooks: DeployedStack) -> None:
    printed = json.loads(run("deliveries", execution_id(2), "--json", on=webhooks).stdout)
    assert printed == {
        "deliveries": [
            {
                "execution_id": execution_id(2),
                "event_id": f"{execution_id(2)}/1767225602000/COMPLETED",
                "host": HOST,
                "status": "pending",
                "attempts": 1,
                "last_code": 503,
                "last_error": "http_status",
                "created_at": "2026-01-01T00:00:00.000Z",
                "last_attempt_at": None,
                "next_attempt_at": "2026-01-02T00:00:00.000Z",
                "delivered_at": None,
            }
        ],
        "more": False,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9" * 32], "No deliveries of this execution"),
        (["--failed", "--host", "other.example.com"], "No failed deliveries."),
        (["--host", "other.example.com"], "No pending or failed deliveries."),
    ],
)
def test_an_empty_list_is_explained(webhooks: DeployedStack, arguments: list[str], message: str) -> None:
    result = run("deliveries", *arguments, on=webhooks)
    assert (result.exit_code, result.stdout) == (0, "")
    assert message in result.stderr


def test_the_table_in_a_terminal_has_headings(webhooks: DeployedStack) -> None:
    _, screen = run_in_terminal("deliveries", on=webhooks, columns=200)
    assert "LAST RESULT      NEXT ATTEMPT" in screen


@pytest.mark.parametrize("options", [["--failed"], ["--host", HOST]])
def test_an_id_with_a_filter_is_a_usage_error(webhooks: DeployedStack, options: list[str]) -> None:
    assert run("deliveries", EXECUTION, *options, on=webhooks).exit_code == 2
    assert webhooks.access_keys == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["deliveries"],
        ["deliveries", EXECUTION],
        ["resend", EXECUTION],
        ["resend", "--failed", "--yes"],
        ["webhook-test", "https://hooks.example.com/"],
    ],
)
def test_without_webhooks_each_command_explains_how_to_switch_them_on(
    stack: DeployedStack, arguments: list[str]
) -> None:
    result = run(*arguments, on=stack)
    assert (result.exit_code, result.stdout, stack.invocations) == (4, "", [])
    assert "webhooks are switched off" in result.stderr
    assert "WebhookAllowedHosts=hooks.example.com" in result.stderr
