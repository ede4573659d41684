"""The options that every command has."""

import json

import pytest

from tests.fakes.deployed_stack import STACK_NAME, ApiResponse, DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run, run_in_terminal

ACCEPTED: ApiResponse = (202, {"execution_id": ID, "status": "ACCEPTED"})
LISTED: ApiResponse = (
    200,
    {
        "executions": [{"execution_id": ID, "status": "FAILED", "created_at": "2026-01-01T00:00:00.000Z"}],
        "next": "more",
    },
)


def test_a_printed_command_finds_the_same_stack_and_is_on_one_line(stack: DeployedStack) -> None:
    stack.api_responses = [ACCEPTED]
    hint = f"waterhook status {ID} --follow --stack {STACK_NAME} --region us-east-1"
    arguments = ["submit", "bot", "--stack", STACK_NAME, "--region", "us-east-1"]
    # On one line, so that it can be copied, in a pipe and on a narrow terminal.
    assert hint in run(*arguments, on=stack).stderr
    assert hint in run_in_terminal(*arguments, on=stack, columns=40)[1]


def test_the_stack_is_named_on_standard_error_unless_quiet(stack: DeployedStack) -> None:
    stack.api_responses = [LISTED]
    result = run("list", "--limit", "1", on=stack)
    assert f"the stack {STACK_NAME} (us-east-1)\n" in result.stderr
    assert STACK_NAME not in result.stdout
    for quiet in ("--quiet", "-q"):
        silent = run("list", "--limit", "1", quiet, on=stack)
        assert (silent.stdout, silent.stderr) == (result.stdout, "")


CANCELLED: ApiResponse = (
    200,
    {"execution_id": ID, "cancelled": True, "message": None, "previous_status": "RUNNING"},
)
WITH_JSON = {
    "submit": (["submit", "bot"], ACCEPTED),
    "submit --follow": (["submit", "bot", "--follow"], (200, status_document(final_output="ß"))),
    "status": (["status", ID], (200, status_document())),
    "status --follow": (["status", ID, "--follow"], (200, status_document())),
    "cancel": (["cancel", ID], CANCELLED),
}


@pytest.mark.parametrize("case", WITH_JSON)
@pytest.mark.parametrize("is_before_command", [True, False])
def test_with_json_standard_output_is_the_unchanged_response_of_the_api(
    stack: DeployedStack, case: str, *, is_before_command: bool
) -> None:
    arguments, (_, body) = WITH_JSON[case]
    # A number that no float holds is not rounded.
    text = json.dumps(body, ensure_ascii=False).replace("null", "12345678901234567890.10")
    stack.api_responses = [(200, text)]
    with_json = ["--json", *arguments] if is_before_command else [*arguments, "--json"]
    assert run(*with_json, on=stack).stdout == text + "\n"


def test_without_a_terminal_a_confirmation_needs_yes(stack: DeployedStack) -> None:
    for arguments in (["erase", ID], ["redeliver", ID]):
        result = run(*arguments, on=stack)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "add --yes" in result.stderr
    assert stack.invocations == []
