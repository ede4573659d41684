"""`waterhook open`."""

import json
from pathlib import Path

import pytest

from tests.fakes.deployed_stack import STACK_NAME, DeployedStack
from tests.support.builders import ID, MACHINE
from tests.unit.waterhook_cli.command_line import run, run_in_terminal

ARN = f"{MACHINE.replace(':stateMachine:', ':execution:')}:{ID}-1"
LINK = f"https://us-east-1.console.aws.amazon.com/states/home?region=us-east-1#/v2/executions/details/{ARN}"


@pytest.fixture
def deployed(stack: DeployedStack) -> DeployedStack:
    stack.table_items = [
        {
            "execution_id": {"S": ID},
            "status": {"S": "COMPLETED"},
            "created_at": {"S": "2026-01-01T00:00:00.000Z"},
            "owner_execution_arn": {"S": ARN},
        }
    ]
    stack.resources = {"StartLogs": ("AWS::Logs::LogGroup", "start-logs")}
    return stack


def test_without_a_terminal_the_links_are_printed(deployed: DeployedStack) -> None:
    result = run("open", ID, on=deployed)
    assert result.exit_code == 0, result.stderr
    names = [text.split("\t") for text in result.stdout.splitlines()]
    assert [name for name, _ in names] == ["state_machine_execution", "logs", "record"]
    assert names[0][1] == LINK
    assert "start-logs" in names[1][1]
    printed = json.loads(run("open", ID, "--json", on=deployed).stdout)
    assert (printed["execution_id"], printed["state_machine_execution"]) == (ID, LINK)


@pytest.mark.parametrize(("options", "is_opened"), [([], True), (["--print"], False), (["--json"], False)])
def test_in_a_terminal_the_browser_is_started(
    deployed: DeployedStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    *,
    is_opened: bool,
) -> None:
    browser = tmp_path / "xdg-open"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n', encoding="utf-8")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    code, screen = run_in_terminal("open", ID, *options, on=deployed, columns=60)
    assert (code, LINK in screen) == (0, True)
    opened = tmp_path / "opened"
    assert (opened.read_text(encoding="utf-8").strip() if opened.exists() else "") == (
        LINK if is_opened else ""
    )


def test_an_execution_without_a_record_is_an_error_with_the_command_for_its_logs(
    deployed: DeployedStack,
) -> None:
    deployed.table_items = []
    result = run("open", ID, "--stack", STACK_NAME, on=deployed)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith(f"waterhook logs {ID} --stack {STACK_NAME}\n")
