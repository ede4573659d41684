"""The final output of an execution."""

import json

from tests.fakes.deployed_stack import DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run


def test_a_stored_output_is_downloaded_without_credentials(stack: DeployedStack) -> None:
    url = f"{stack.url}/bucket/output.json?signature=x"
    document = status_document(final_output=None, final_output_url=url)
    stack.api_responses = [(200, document), (200, {"pages": [1, 2]})]
    assert json.loads(run("status", ID, "--follow", on=stack).stdout) == {"pages": [1, 2]}
    assert not {"authorization", "x-api-key"} & stack.api_requests[-1].headers.keys()


def test_a_stored_output_that_cannot_be_downloaded_is_printed_as_a_link(stack: DeployedStack) -> None:
    url = f"{stack.url}/bucket/output.json?signature=x"
    document = status_document(final_output=None, final_output_url=url)
    for status, body in ((403, "<Error/>"), (200, "no JSON")):
        stack.api_responses = [(200, document), (status, body)]
        result = run("status", ID, "--follow", on=stack)
        assert (result.exit_code, result.stdout) == (0, "")
        assert url in result.stderr


def test_a_number_that_python_cannot_hold_is_printed_as_text(stack: DeployedStack) -> None:
    text = json.dumps(status_document(final_output={"answer": "?"})).replace(
        '"?"', f"[{'9' * 5000}, 1e999, 2.50]"
    )
    stack.api_responses = [(200, text)]
    printed = json.loads(run("status", ID, "--follow", on=stack).stdout)
    assert printed == {"answer": ["9" * 5000, "1e999", 2.5]}


def test_the_reason_of_a_missing_output_is_printed(stack: DeployedStack) -> None:
    stack.api_responses = [(200, status_document(final_output=None, output_error="too_large"))]
    assert "The execution has no output: too_large" in run("status", ID, "--follow", on=stack).stderr
