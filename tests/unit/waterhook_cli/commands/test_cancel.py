"""`waterhook cancel`."""

import pytest

from tests.fakes.deployed_stack import DeployedStack
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run


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
    result = run("cancel", ID, on=stack)
    assert (result.exit_code, result.stdout) == (code, f"{text}\n")
    assert stack.api_requests[0].method == "DELETE"
