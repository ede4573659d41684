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
    stdout = run("status", ID, on=stack).stdout
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
    stdout = run("status", ID, on=stack).stdout
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
