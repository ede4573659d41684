"""`waterhook logs`."""

import json
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.fakes.aws import client_error
from tests.fakes.clock import Clock
from tests.fakes.deployed_stack import STACK_NAME, DeployedStack
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import COMMAND, environment, run
from tests.unit.waterhook_cli.log_events import event, line, state_event
from waterhook.timestamps import to_rfc3339
from waterhook_cli.commands.logs import Retry, period_ms
from waterhook_cli.execution_records import RecordSummary
from waterhook_cli.output import Output

ACCEPTED_MS = 1_767_225_600_000
DAY_MS = 86_400_000
ARN = "arn:aws:states:us-east-1:123456789012:execution:shop"


def record(**changes: Any) -> dict[str, Any]:
    texts = {
        "execution_id": ID,
        "status": "COMPLETED",
        "created_at": "2026-01-01T00:00:00.000Z",
        "finished_at": "2026-01-01T00:00:09.000Z",
        "owner_execution_arn": f"{ARN}:{ID}-1",
    }
    return {name: {"S": value} for name, value in (texts | changes).items() if value is not None}


@pytest.fixture
def logs(stack: DeployedStack) -> DeployedStack:
    """A stack with an execution whose lines are in three log groups."""
    stack.table_items = [record()]
    stack.resources = {
        "StartLogs": ("AWS::Logs::LogGroup", "start-logs"),
        "NotifyLogs": ("AWS::Logs::LogGroup", "notify-logs"),
        "StateMachineLogs": ("AWS::Logs::LogGroup", "machine-logs"),
        "Table": ("AWS::DynamoDB::Table", "table"),
    }
    stack.log_events = {
        "start-logs": [[], [event(ACCEPTED_MS + 1000, line("start", outcome="RUNNING"), "1")]],
        "notify-logs": [[event(ACCEPTED_MS + 3000, line("notify", "WARNING", outcome="COMPLETED"), "3")]],
        "machine-logs": [[event(ACCEPTED_MS + 2000, state_event("TaskStateEntered", name="Notify"), "2")]],
    }
    return stack


def test_the_lines_of_all_functions_and_of_the_state_machine_are_merged(logs: DeployedStack) -> None:
    result = run("logs", ID, on=logs)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "2026-01-01T00:00:01.000Z\tstart\tINFO\tstart\toutcome=RUNNING",
        "2026-01-01T00:00:02.000Z\tstate-machine\tINFO\tTaskStateEntered\tname=Notify",
        "2026-01-01T00:00:03.000Z\tnotify\tWARNING\tnotify\toutcome=COMPLETED",
    ]
    for request in logs.log_requests:
        assert (request["startTime"], request["filterPattern"]) == (ACCEPTED_MS - 60_000, f'"{ID}"')


def test_in_a_table_the_lines_are_aligned(logs: DeployedStack) -> None:
    result = run("logs", ID, "--output", "table", on=logs)
    assert result.stdout.splitlines() == [
        "2026-01-01T00:00:01.000Z  start          INFO     start  outcome=RUNNING",
        "2026-01-01T00:00:02.000Z  state-machine  INFO     TaskStateEntered  name=Notify",
        "2026-01-01T00:00:03.000Z  notify         WARNING  notify  outcome=COMPLETED",
    ]


def test_as_json_each_line_is_an_event_of_cloudwatch_logs(logs: DeployedStack) -> None:
    printed = [json.loads(text) for text in run("logs", ID, "--json", on=logs).stdout.splitlines()]
    assert [one["logGroupName"] for one in printed] == ["start-logs", "machine-logs", "notify-logs"]
    assert printed[0] == {"logGroupName": "start-logs", **logs.log_events["start-logs"][1][0]}


def test_a_line_can_t_write_control_characters(logs: DeployedStack) -> None:
    unsafe = "\x1b]0;title\x07"
    fields = line(unsafe, unsafe, **{unsafe: unsafe})
    logs.log_events["start-logs"] = [[event(ACCEPTED_MS, f"{unsafe} {ID}"), event(ACCEPTED_MS, fields)]]
    for form in ("table", "text", "json"):
        assert not set("\x1b\x07") & set(run("logs", ID, "--output", form, on=logs).stdout)


def test_an_execution_of_an_event_is_also_found_by_its_name(logs: DeployedStack) -> None:
    logs.table_items = [record(owner_execution_arn=f"{ARN}:a-name_of-events")]
    logs.log_events["machine-logs"] = [[event(ACCEPTED_MS, '{"execution_arn": "x:a-name_of-events"}')]]
    assert len(run("logs", ID, on=logs).stdout.splitlines()) == 3
    assert logs.log_requests[0]["filterPattern"] == f'?"{ID}" ?"a-name_of-events"'


def test_a_period_limits_the_lines(logs: DeployedStack) -> None:
    run("logs", ID, "--since", "2026-01-02", "--until", "2026-01-03", on=logs)
    request = logs.log_requests[0]
    assert (request["startTime"], request["endTime"]) == (ACCEPTED_MS + DAY_MS, ACCEPTED_MS + 2 * DAY_MS - 1)
    assert run("logs", ID, "--until", "2026-01-03", "--tail", on=logs).exit_code == 2


@pytest.mark.parametrize(
    ("finished_at", "since", "until", "days"),
    [
        (None, None, None, (0, None)),
        ("2026-01-02T00:00:00Z", None, None, (0, 5)),
        ("2026-01-02T00:00:00Z", 3, None, (3, None)),
        ("2026-01-02T00:00:00Z", None, 8, (0, 8)),
        (None, 3, 8, (3, 8)),
    ],
)
def test_the_period_of_an_ended_execution_ends_after_its_webhooks(
    finished_at: str | None, since: int | None, until: int | None, days: tuple[int, int | None]
) -> None:
    def day(number: int | None) -> datetime | None:
        return None if number is None else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)

    summary = RecordSummary(ID, "RUNNING", "2026-01-01T00:01:00Z", finished_at=finished_at)
    first, last = period_ms(summary, day(since), day(until), now=0)
    start_day, end_day = days
    assert first == ACCEPTED_MS + start_day * DAY_MS
    assert last == (None if end_day is None else ACCEPTED_MS + end_day * DAY_MS - 1)


def test_without_a_record_the_lines_of_the_last_days_are_printed(logs: DeployedStack) -> None:
    logs.table_items = []
    assert len(run("logs", ID, on=logs).stdout.splitlines()) == 3
    age_ms = time.time() * 1000 - logs.log_requests[0]["startTime"]
    assert 6.9 < age_ms / 86_400_000 < 7.1


def test_an_unknown_execution_is_an_error_with_a_hint(logs: DeployedStack) -> None:
    logs.table_items, logs.log_events = [], {}
    result = run("logs", ID, "--stack", STACK_NAME, on=logs)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "LogRetentionDays" in result.stderr
    assert result.stderr.endswith(f"waterhook logs {ID} --since 30d --stack {STACK_NAME}\n")


def test_an_execution_without_lines_is_explained(logs: DeployedStack) -> None:
    logs.log_events = {}
    result = run("logs", ID, on=logs)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Lines are deleted after 14 days (LogRetentionDays)" in result.stderr
    assert "No lines in this period" in run("logs", ID, "--since", "1h", on=logs).stderr


def test_tail_of_an_execution_that_ended_long_ago_ends_immediately(logs: DeployedStack) -> None:
    result = run("logs", ID, "--tail", on=logs)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert len(logs.log_requests) == 4  # one of them for a second page


def test_ctrl_c_ends_tail(logs: DeployedStack) -> None:
    logs.table_items = [record(status="RUNNING", finished_at=None, created_at=to_rfc3339(time.time()))]
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*COMMAND, "logs", ID, "--tail", "-q"],
            cwd=folder,
            env=environment(logs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        read = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, "Traceback" in stderr) == (130, "", False)
    assert all(read)


def test_a_temporary_failure_of_a_read_is_tried_again_for_two_minutes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock(0.0)
    retry = Retry(Output(), clock)

    def failing() -> str:
        raise client_error("ThrottlingException")

    assert [retry.call(failing, "default") for _ in range(3)] == ["default"] * 3
    assert capsys.readouterr().err.count("trying again") == 1
    assert retry.call(lambda: "read", "default") == "read"
    assert retry.call(failing, "default") == "default"
    clock.advance(121)
    with pytest.raises(type(client_error("ThrottlingException"))):
        retry.call(failing, "default")


def test_an_error_that_is_not_temporary_ends_tail() -> None:
    def denied() -> str:
        raise client_error("AccessDeniedException")

    with pytest.raises(type(client_error("AccessDeniedException"))):
        Retry(Output()).call(denied, "default")
