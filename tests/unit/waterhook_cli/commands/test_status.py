"""`waterhook status`."""

import json

from tests.fakes.deployed_stack import DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run

OUTPUT = json.dumps(status_document()["final_output"], indent=2) + "\n"


def test_a_status_fits_80_columns(stack: DeployedStack) -> None:
    running = status_document(
        "RUNNING",
        completed_nodes=1,
        total_nodes=3,
        current_node="node-2",
        metadata={"ticket": "T-1"},
        waterflai_execution_id="1" * 36,
    )
    stack.api_responses = [(200, running)]
    stdout = run("status", ID, "--output", "table", on=stack).stdout
    assert "progress    33 %, 1/3 nodes, at node-2\n" in stdout
    assert 'metadata    {"ticket": "T-1"}\n' in stdout
    assert "output" not in stdout
    assert max(map(len, stdout.splitlines())) <= 80


def test_a_status_has_the_reason_why_an_execution_waits(stack: DeployedStack) -> None:
    waiting = {
        "reason": "upstream_busy",
        "since": "2026-01-31T10:00:00.000Z",
        "next_attempt_at": "2026-01-31T10:00:45.000Z",
    }
    stack.api_responses = [
        (200, status_document("ACCEPTED", waiting=waiting)),
        (200, status_document("RUNNING", waiting=None)),
    ]
    stdout = run("status", ID, on=stack).stdout
    assert "upstream_busy, next attempt 2026-01-31T10:00:45Z" in stdout
    assert max(map(len, stdout.splitlines())) <= 80
    assert "next attempt" not in run("status", ID, on=stack).stdout


def test_a_status_has_the_state_of_the_webhook_and_not_its_url(stack: DeployedStack) -> None:
    webhook = {
        "url": "https://hooks.example.com/?token=not-shown",
        "status": "pending",
        "attempts": 3,
        "last_code": 503,
        "last_error": "http_status",
        "next_attempt_at": "2026-01-31T10:00:45.000Z",
    }
    stack.api_responses = [(200, status_document(webhook=webhook)), (200, status_document(webhook=None))]
    stdout = run("status", ID, "--output", "table", on=stack).stdout
    line = "webhook     pending, 3 attempts, last http_status 503, next 2026-01-31T10:00:45Z\n"
    assert line in stdout
    assert len(line) <= 81
    assert "not-shown" not in stdout
    assert "webhook" not in run("status", ID, on=stack).stdout


def test_following_quietly_prints_the_output_and_errors_only(stack: DeployedStack) -> None:
    stack.api_responses = [(200, status_document())]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.stdout, result.stderr) == (OUTPUT, "")
    stack.api_responses = [(200, status_document("FAILED", error_message="that is why"))]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.exit_code, result.stderr) == (1, "FAILED: that is why\n")


def test_waiting_for_the_end_prints_the_outcome_as_following_does(stack: DeployedStack) -> None:
    stack.api_responses = [
        (200, status_document()),
        (200, status_document("FAILED")),
        (200, status_document("RUNNING")),
    ]
    completed, failed, running = [run("status", ID, "--wait", "7", "-q", on=stack) for _ in range(3)]
    assert (completed.exit_code, completed.stdout) == (0, OUTPUT)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert (running.exit_code, running.stdout.splitlines()[1]) == (6, "status\tRUNNING")
    assert {request.target for request in stack.api_requests} == {f"/live/v1/executions/{ID}?wait=7"}


def test_a_stack_that_does_not_let_callers_wait_is_reported(stack: DeployedStack) -> None:
    stack.api_responses = [(400, {"detail": "wait: MaxWaitSeconds is 0"})]
    result = run("status", ID, "--wait", on=stack)
    assert (result.exit_code, "MaxWaitSeconds is 0" in result.stderr) == (2, True)


def test_a_status_has_the_trigger_and_for_an_operator_the_caller(stack: DeployedStack) -> None:
    caller = "arn:aws:iam::123456789012:role/shop"
    stack.api_responses = [(200, status_document(trigger="api", caller=caller))]
    assert f"trigger\tapi\ncaller\t{caller}\n" in run("status", ID, on=stack).stdout
