"""`waterhook cancel`."""

import pytest

from tests.fakes.deployed_stack import STACK_NAME, DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run, run_in_terminal


@pytest.mark.parametrize(
    ("cancelled", "previous", "code", "text"),
    [
        (True, "RUNNING", 0, "CANCELLED. The status before was RUNNING."),
        (
            False,
            "STARTING",
            0,
            "STARTING. Cancellation is requested. The execution is cancelled when its job has started.",
        ),
        # The answer to the start was lost: the execution ends UNCERTAIN.
        (False, "ACCEPTED", 1, "Not cancelled: the message of the API"),
        (False, "CANCELLED", 0, "CANCELLED. The execution had already ended, so it was not cancelled."),
        (False, "COMPLETED", 1, "COMPLETED. The execution had already ended, so it was not cancelled."),
    ],
)
def test_a_cancellation_prints_its_result_and_fails_where_there_is_another_outcome(
    stack: DeployedStack, previous: str, code: int, text: str, *, cancelled: bool
) -> None:
    response = {
        "execution_id": ID,
        "cancelled": cancelled,
        "message": "the message of the API",
        "previous_status": previous,
    }
    stack.api_responses = [(200, response)]
    result = run("cancel", ID, "--yes", on=stack)
    assert (result.exit_code, result.stdout) == (code, f"{text}\n")
    assert [request.method for request in stack.api_requests] == ["DELETE"]


def test_the_prompt_has_the_status_and_the_chatbot(stack: DeployedStack) -> None:
    stack.api_responses = [(200, status_document("RUNNING"))]
    code, screen = run_in_terminal("cancel", ID, on=stack, typed="n\n", columns=250)
    assert f"Cancel execution {ID} (RUNNING, chatbot support-chat) of the stack {STACK_NAME}" in screen
    assert (code, [request.method for request in stack.api_requests]) == (1, ["GET"])


def test_an_execution_that_has_ended_needs_no_confirmation(stack: DeployedStack) -> None:
    ended = {"execution_id": ID, "cancelled": False, "message": None, "previous_status": "COMPLETED"}
    stack.api_responses = [(200, status_document("COMPLETED")), (200, ended)]
    code, screen = run_in_terminal("cancel", ID, on=stack, columns=250)
    assert (code, "[y/N]" in screen) == (1, False)
