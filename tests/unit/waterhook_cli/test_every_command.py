"""What applies to every command: --json, --quiet, and text without a terminal."""

import json
import time

import pytest

from tests.fakes.deployed_stack import WEBHOOK_OUTPUTS, ApiResponse, DeployedStack, status_document
from tests.support.builders import ID, MACHINE
from tests.unit.waterhook_cli.command_line import run
from tests.unit.waterhook_cli.log_events import event, line
from tests.unit.waterhook_cli.webhook_items import execution_id, item
from waterhook.webhooks.signing_keys import MasterKey, to_secret_text
from waterhook_cli.main import COMMANDS

ACCEPTED: ApiResponse = (202, {"execution_id": ID, "status": "ACCEPTED"})
LISTED: ApiResponse = (
    200,
    {
        "executions": [{"execution_id": ID, "status": "RUNNING", "created_at": "2026-01-01T00:00:00Z"}],
        "next": None,
    },
)
CANCELLED: ApiResponse = (200, {"execution_id": ID, "cancelled": True, "previous_status": "RUNNING"})
RECORD = {
    "execution_id": {"S": ID},
    "status": {"S": "COMPLETED"},
    "created_at": {"S": "2026-01-01T00:00:00.000Z"},
    "finished_at": {"S": "2026-01-01T00:00:09.000Z"},
    "expires_at": {"N": "99999999999"},
    "owner_execution_arn": {"S": f"{MACHINE.replace(':stateMachine:', ':execution:')}:{ID}-1"},
}
# Arguments and responses of the API. `doctor` and `listen` call more services than the
# scripted stack has, and have tests of their own.
CASES: dict[str, tuple[list[str], list[ApiResponse]]] = {
    "submit": (["bot", "a=b"], [ACCEPTED]),
    "status": ([ID], [(200, status_document())]),
    "list": ([], [LISTED]),
    "cancel": ([ID, "--yes"], [CANCELLED]),
    "logs": ([ID], []),
    "open": ([ID], []),
    "redeliver": ([ID, "--yes"], []),
    "erase": ([ID, "--yes"], []),
    "deliveries": ([], []),
    "resend": ([execution_id(1)], []),
    "webhook-test": (["https://hooks.example.com/"], []),
    "webhook-secret": (["hooks.example.com"], []),
    "rotate-webhook-secret": (["--yes"], []),
    "completion": (["bash"], []),
}


@pytest.fixture
def deployed(stack: DeployedStack) -> DeployedStack:
    stack.outputs = WEBHOOK_OUTPUTS | {"WebhookSecretArn": "secret"}
    stack.table_items = [RECORD]
    stack.deliveries = [item(1, "failed")]
    stack.secret_text = to_secret_text([MasterKey("a-key", time.time() - 172_800)])
    stack.deliver = lambda _payload: {
        "resent": True,
        "outcome": "COMPLETED",
        "delivered": True,
        "host": "a.test",
    }
    stack.resources = {"StartLogs": ("AWS::Logs::LogGroup", "start-logs")}
    stack.log_events = {"start-logs": [[event(1_767_225_601_000, line("start"))]]}
    return stack


def test_each_command_has_a_case() -> None:
    assert {*CASES} == {*COMMANDS} - {"doctor", "listen"}


@pytest.mark.parametrize("command", CASES)
def test_with_json_and_quiet_a_command_prints_json_and_nothing_else(
    deployed: DeployedStack, command: str
) -> None:
    arguments, responses = CASES[command]
    deployed.api_responses = responses or deployed.api_responses
    result = run(command, *arguments, "--json", "--quiet", on=deployed)
    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize(
    "command", ["status", "redeliver", "erase", "resend", "webhook-test", "webhook-secret"]
)
def test_quiet_text_has_no_messages_and_no_columns_of_spaces(deployed: DeployedStack, command: str) -> None:
    arguments, responses = CASES[command]
    deployed.api_responses = responses or deployed.api_responses
    result = run(command, *arguments, "-q", on=deployed)
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout.partition("{")[0]
    assert text
    assert "  " not in text
