"""Printing on a terminal and in a pipe."""

import json

import pytest

from tests.fakes.deployed_stack import DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import run, run_in_terminal
from waterhook_cli.output import format_time

# Sequences that would set a title or clear the screen, a lone surrogate, and a letter that is no ASCII.
UNSAFE = "\x1b]0;title\x07 \x9b2J \ud800 ß"


def test_control_characters_from_elsewhere_do_not_reach_a_pipe(stack: DeployedStack) -> None:
    failed = status_document("FAILED", error_message=UNSAFE, metadata={"note": UNSAFE}, chatbot_id=UNSAFE)
    completed = status_document(final_output={"answer": UNSAFE})
    stack.api_responses = [(200, failed), (200, failed), (200, completed)]
    results = [run("status", ID, *options, on=stack) for options in ([], ["--follow"], [])]
    for result in results:
        assert not set("\x1b\x07\x9b") & set(result.stdout + result.stderr)
        assert "ß" in result.stdout + result.stderr
    text = results[-1].stdout
    assert json.loads(text[text.index("{") :]) == {"answer": UNSAFE}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_external_control_characters_do_not_reach_a_terminal(
    stack: DeployedStack, options: list[str]
) -> None:
    stack.api_responses = [(200, status_document(final_output={"answer": UNSAFE}))]
    code, screen = run_in_terminal("status", ID, "-q", *options, on=stack, columns=40)
    assert code == 0
    assert not set("\x1b\x07\x9b") & set(screen)
    printed = json.loads(screen[screen.index("{") :])
    assert (printed["final_output"] if options else printed) == {"answer": UNSAFE}


def test_a_table_has_headings_on_a_terminal_and_tabs_in_a_pipe(stack: DeployedStack) -> None:
    entries = [
        {
            "execution_id": ID,
            "status": "FAILED",
            "created_at": "2026-01-31T09:00:00.123Z",
            "chatbot_id": "a b",
            "trigger": "api",
        },
        {"execution_id": ID, "status": "TIMED_OUT", "created_at": "2026-01-31T10:00:00+01:00"},
    ]
    stack.api_responses = [(200, {"executions": entries, "next": None})]
    assert run("list", on=stack).stdout.splitlines() == [
        f"{ID}\tFAILED\t2026-01-31T09:00:00Z\ta b\tapi\t",
        f"{ID}\tTIMED_OUT\t2026-01-31T09:00:00Z\t\t\t",
    ]
    code, screen = run_in_terminal("list", "-q", on=stack, columns=80)
    assert code == 0
    assert screen.splitlines() == [
        f"{'ID':32}  STATUS     ACCEPTED              CHATBOT  TRIGGER",
        f"{ID}  FAILED     2026-01-31T09:00:00Z  a b      api",
        f"{ID}  TIMED_OUT  2026-01-31T09:00:00Z",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-01-31T09:00:00.999Z", "2026-01-31T09:00:00Z"),
        ("2026-01-31T09:00:00", "2026-01-31T09:00:00Z"),
        ("2026-01-31T10:00:00+01:00", "2026-01-31T09:00:00Z"),
        ("soon", "soon"),
        (None, ""),
    ],
)
def test_a_time_is_printed_in_utc_and_other_text_unchanged(value: object, text: str) -> None:
    assert format_time(value) == text
