"""`waterhook redeliver`: the filters, and the result of each execution."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.aws import Table
from tests.fakes.clock import NOW, Clock
from tests.fakes.deployed_stack import STACK_NAME, DeployedStack
from tests.fakes.lambda_function import LambdaFunction
from tests.support.builders import ID, final_attributes, running_record
from tests.unit.waterhook_cli.command_line import run, run_in_terminal
from waterhook.domain.status import Status
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.timestamps import to_rfc3339
from waterhook_cli.commands.redeliver import Redeliverer, Redelivery

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def redeliverer(table: Table, function: LambdaFunction | None = None) -> Redeliverer:
    client: Any = function or LambdaFunction()
    return Redeliverer(
        table.client,
        client,
        table=table.name,
        notify_function="notify",
        clock=Clock(NOW + 60),
    )


def execution(table: Table, digit: str, status: Status, finished_at: float, **changes: Any) -> str:
    ended = final_attributes(status, finished_at=to_rfc3339(finished_at)) | changes
    return table.put(running_record(execution_id=digit * 32, **ended)).execution_id


@pytest.fixture
def ids(table: Table) -> dict[str, str]:
    table.put(running_record())
    table.put(running_record(execution_id="e" * 32, **final_attributes(expires_at=int(NOW))))
    ConcurrencyLimiter(table.name, ConcurrencyLimits(stack=1), table.client).acquire(ID, "support-chat")
    return {
        "eve": execution(table, "a", Status.FAILED, NOW - 0.001),
        "new year": execution(table, "b", Status.FAILED, NOW, notified_at=to_rfc3339(NOW)),
        "day after": execution(table, "c", Status.COMPLETED, NOW + 86_400, notified_at=to_rfc3339(NOW)),
    }


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, {"eve", "new year", "day after"}),
        ({"status": "FAILED"}, {"eve", "new year"}),
        ({"since": NEW_YEAR}, {"new year", "day after"}),
        ({"until": NEW_YEAR}, {"eve"}),
        ({"since": NEW_YEAR, "until": NEW_YEAR + timedelta(days=1)}, {"new year"}),
        ({"undelivered_only": True}, {"eve"}),
        ({"ids": ["a" * 32, "c" * 32]}, {"eve", "day after"}),
        ({"ids": ["a" * 32, "c" * 32], "status": "COMPLETED"}, {"day after"}),
        ({"ids": [ID, "e" * 32, "f" * 32, "capacity"]}, set()),
        ({"ids": []}, set()),
    ],
)
def test_executions_that_pass_all_filters_are_found(
    table: Table, ids: dict[str, str], filters: dict[str, Any], names: set[str]
) -> None:
    assert sorted(redeliverer(table).find(**filters)) == sorted(ids[name] for name in names)


def test_all_pages_of_the_table_are_read(table: Table) -> None:
    # A page is a megabyte of stored items, whatever the projection is.
    big = "x" * 300_000
    all_ids = {execution(table, digit, Status.FAILED, NOW, metadata_json=big) for digit in "0123456789"}
    assert set(redeliverer(table).find()) == all_ids


def test_a_redelivery_has_the_outcome_that_was_published(table: Table) -> None:
    function = LambdaFunction(
        {
            "execution_id": ID,
            "redelivered": True,
            "outcome": "FAILED",
            "event_id": "x",
            "published_to": ["sns", "eventbridge"],
        }
    )
    assert redeliverer(table, function).redeliver(ID) == Redelivery(
        ID, redelivered=True, outcome="FAILED", published_to=("sns", "eventbridge")
    )
    (call,) = function.calls
    assert (call["FunctionName"], call["InvocationType"]) == ("notify", "RequestResponse")
    assert json.loads(call["Payload"]) == {"redeliver": {"execution_id": ID}}


def test_a_refused_redelivery_has_the_reason(table: Table) -> None:
    function = LambdaFunction({"execution_id": ID, "redelivered": False, "outcome": None, "reason": "gone"})
    assert redeliverer(table, function).redeliver(ID) == Redelivery(ID, redelivered=False, reason="gone")


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
def test_an_error_of_the_function_is_returned_without_its_message(
    table: Table, answer: object, error: str | None, kind: str
) -> None:
    result = redeliverer(table, LambdaFunction(answer, error=error)).redeliver(ID)
    assert result.redelivered is False
    assert f"failed ({kind})" in (result.reason or "")
    assert "k4711" not in (result.reason or "")


def finished_item(execution_id: str) -> dict[str, Any]:
    return {
        "execution_id": {"S": execution_id},
        "status": {"S": "FAILED"},
        "finished_at": {"S": "2026-01-01T00:00:00.000Z"},
        "expires_at": {"N": "99999999999"},
    }


def test_the_prompt_for_confirmation_has_the_stack_and_the_number(stack: DeployedStack) -> None:
    stack.table_items = [finished_item(ID), finished_item("1e" * 16)]
    code, screen = run_in_terminal("redeliver", "--status", "failed", on=stack, typed="n\n", columns=200)
    assert (code, stack.invocations) == (1, [])
    prompt = (
        f"Publish 2 notifications again, to every subscriber and event bus of the stack {STACK_NAME} "
        f"(us-east-1): {ID} (FAILED), {'1e' * 16} (FAILED)? [y/N]"
    )
    assert prompt in screen
    assert "Nothing was done." in screen
    code, screen = run_in_terminal("redeliver", ID, on=stack, typed="y\n", columns=200)
    assert (code, stack.invocations) == (0, [{"redeliver": {"execution_id": ID}}])
    assert "Publish 1 notification again" in screen


def test_a_dry_run_lists_executions_and_needs_no_confirmation(stack: DeployedStack) -> None:
    stack.table_items = [finished_item(ID)]
    assert run("redeliver", ID, "--dry-run", on=stack).stdout == f"{ID}\n"
    assert stack.invocations == []
    assert run("redeliver", ID, "--yes", on=stack).stdout == f"{ID}\tCOMPLETED\tsns\n"
    assert len(stack.invocations) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--undelivered", "--yes"], 0),
        ([ID, "--yes"], 3),
        ([], 2),
        (["--since", "yesterday"], 2),
    ],
)
def test_without_a_matching_execution_nothing_is_published(
    stack: DeployedStack, arguments: list[str], code: int
) -> None:
    result = run("redeliver", *arguments, on=stack)
    assert (result.exit_code, result.stdout, stack.invocations) == (code, "", [])
