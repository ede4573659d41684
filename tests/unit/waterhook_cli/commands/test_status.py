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


def test_following_quietly_prints_the_output_and_errors_only(stack: DeployedStack) -> None:
    stack.api_responses = [(200, status_document())]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.stdout, result.stderr) == (OUTPUT, "")
    stack.api_responses = [(200, status_document("FAILED", error_message="that is why"))]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.exit_code, result.stderr) == (1, "FAILED: that is why\n")
