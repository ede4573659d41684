"""The options that every command has."""

import json
from collections.abc import Callable

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
    "cancel": (["cancel", ID, "--yes"], CANCELLED),
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
    for arguments in (["erase", ID], ["redeliver", ID], ["cancel", ID], ["rotate-webhook-secret"]):
        result = run(*arguments, on=stack)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "add --yes" in result.stderr
    assert stack.invocations == []


def as_json(text: str) -> bool:
    return text.startswith("{")


def as_table(text: str) -> bool:
    return text.startswith("ID ")


def as_text(text: str) -> bool:
    return text.startswith(f"{ID}\t")


@pytest.mark.parametrize(
    ("options", "variable", "is_form"),
    [
        (["list"], None, as_text),
        (["list", "--output", "table"], None, as_table),
        (["list", "--output", "TEXT"], "json", as_text),
        (["list", "--json"], "table", as_json),
        (["list"], "json", as_json),
        (["list"], "Table", as_table),
        (["--output", "json", "list"], "table", as_json),
        (["--json", "list", "--output", "table"], None, as_table),
        (["list", "--json", "--output", "text"], None, as_text),
        (["list", "--output", "text", "--json"], None, as_json),
    ],
)
def test_the_last_option_selects_the_form_and_then_the_environment(
    stack: DeployedStack, options: list[str], variable: str | None, is_form: Callable[[str], bool]
) -> None:
    stack.api_responses = [LISTED]
    result = run(*options, "--limit", "1", on=stack, env={"WATERHOOK_OUTPUT": variable})
    assert is_form(result.stdout), result.stdout + result.stderr


def test_an_unknown_form_is_a_usage_error_before_any_call(stack: DeployedStack) -> None:
    for options, variable in ((["--output", "yaml"], None), ([], "yaml")):
        result = run("list", *options, on=stack, env={"WATERHOOK_OUTPUT": variable})
        assert (result.exit_code, stack.access_keys) == (2, set())
        assert "yaml" in result.stderr


def test_text_has_no_colours_and_no_headings_on_a_terminal(stack: DeployedStack) -> None:
    stack.api_responses = [LISTED]
    code, screen = run_in_terminal("list", "-q", "--limit", "1", "--output", "text", on=stack, columns=200)
    assert (code, screen) == (0, f"{ID}\tFAILED\t2026-01-01T00:00:00Z\t\t\t\n")


def test_a_hint_of_an_error_finds_the_same_stack(stack: DeployedStack) -> None:
    stack.api_responses = [(404, {"detail": "no execution"})]
    result = run("status", ID, "--stack", STACK_NAME, on=stack)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        3,
        f"To list them: waterhook list --stack {STACK_NAME}",
    )
    arguments = ["deliveries", "--stack", STACK_NAME, "--region", "us-east-1"]
    assert (
        f"sam deploy --stack-name {STACK_NAME} --region us-east-1 --parameter-over"
        in run(*arguments, on=stack).stderr
    )
    result = run("list", "--stack", "other", "--region", "eu-west-1", "--json", on=stack)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "waterhook: there is no stack 'other'" in result.stderr
