"""The CLI against the deployed stack."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from local.local_aws import aws_resources
from local.local_aws.sam import STACK_NAME
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import WebhookReceiver, status
from tests.contract.markdown import names, table
from tests.contract.template import ROOT
from tests.e2e.conftest import home_of, started_strict_stack
from tests.support.waiting import PATIENCE_S, until
from waterhook_cli.main import cli

pytestmark = pytest.mark.e2e

SLOW = {"simulate": {"seconds": 120, "nodes": 6, "queue_seconds": 0}}


@pytest.fixture(scope="module")
def home(stack: StackClient) -> Path:
    """The folder with the outputs file of this test run's stack."""
    assert stack.outputs.api_url
    return Path(os.environ["WATERHOOK_TEST_STACK"])


def run(home: Path, *arguments: str) -> Result:
    """Run the CLI in this process, which is faster than a new one."""
    env = {"WATERHOOK_LOCAL": str(home), "WATERHOOK_DEBUG": "1", "WATERHOOK_OUTPUT": None}
    runner = CliRunner(mix_stderr=False, env=env)
    return runner.invoke(cli, arguments, prog_name="waterhook")


def run_json(home: Path, *arguments: str) -> Any:
    """Run the CLI with --json; return what it printed after it succeeded."""
    result = run(home, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def start(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the CLI in a process of its own."""
    environ = os.environ | {"WATERHOOK_LOCAL": str(home), "PYTHONPATH": str(ROOT / "layers" / "waterhook")}
    command = [sys.executable, "-m", "waterhook_cli", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)


def test_following_prints_the_output_and_nothing_else_on_standard_output(
    home: Path,
) -> None:
    simulate = {"simulate": {"seconds": 2, "nodes": 3, "queue_seconds": 0}}
    process = start(home, "submit", "support-chat", "--input", json.dumps(simulate), "--follow")
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert json.loads(stdout) == {"answer": "Waterflai runs chatflows and workflows."}
    lines = stderr.splitlines()
    assert lines[0].startswith("the local stack waterhook-local")
    assert re.fullmatch(r" +\d+\.\d s  COMPLETED  100 %", lines[-2])
    assert lines[-1] == "COMPLETED"


def test_ctrl_c_ends_following_and_not_the_execution(home: Path, stack: StackClient) -> None:
    process = start(home, "submit", "support-chat", "--input", json.dumps(SLOW), "--follow")
    assert process.stderr is not None
    printed = ""
    while "RUNNING" not in printed:
        line = process.stderr.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGINT)
    stdout, rest = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (130, "")
    assert "The execution continues." in rest
    assert "Traceback" not in printed + rest
    match = re.search(r"waterhook cancel ([0-9a-f]{32})", rest)
    assert match is not None
    assert stack.get(match[1]).json()["status"] == "RUNNING"
    assert run(home, "cancel", match[1], "--yes").stdout == "CANCELLED. The status before was RUNNING.\n"
    assert run(home, "status", match[1], "--follow").exit_code == 1


def test_an_execution_is_submitted_read_listed_redelivered_and_erased(home: Path, stack: StackClient) -> None:
    submit = ["submit", "instant", "--metadata", '{"ticket": "T-1"}', "--key", f"day-{time.time_ns()}"]
    execution_id = run_json(home, *submit)["execution_id"]
    assert run_json(home, *submit)["execution_id"] == execution_id
    document = run_json(home, "status", execution_id, "--follow")
    assert (document["final_output"], document["metadata"]) == ({"answer": "Done."}, {"ticket": "T-1"})
    filters = ["--status", "completed", "--chatbot", "instant", "--trigger", "api", "--mine", "--after", "1h"]
    listed = run_json(home, "list", *filters, "--limit", "50")
    assert execution_id in [entry["execution_id"] for entry in listed["executions"]]
    stack.wait_for_notification(execution_id)
    matching = run_json(home, "redeliver", execution_id, "--since", "1h", "--dry-run")
    assert matching["executions"] == [{"execution_id": execution_id, "redelivered": False}]
    sent = run_json(home, "redeliver", execution_id, "--yes")["executions"]
    assert [(entry["execution_id"], entry["redelivered"]) for entry in sent] == [(execution_id, True)]
    first, second = stack.peek(execution_id)
    assert first == second
    erased = run_json(home, "erase", execution_id, "--yes")
    assert (erased["record"], erased["notified"]) == (True, True)
    assert run(home, "status", execution_id).exit_code == 3
    assert run(home, "erase", execution_id, "--yes").exit_code == 3


def test_a_running_execution_is_not_erased_and_an_ended_one_is_not_cancelled(home: Path) -> None:
    running = run_json(home, "submit", "support-chat", "--input", json.dumps(SLOW))["execution_id"]
    assert run(home, "erase", running, "--yes").exit_code == 1
    ended = run_json(home, "submit", "instant", "--follow")["execution_id"]
    late = run(home, "cancel", ended, "--yes", "--json")
    assert (late.exit_code, json.loads(late.stdout)["previous_status"]) == (1, "COMPLETED")
    assert run(home, "cancel", running, "--yes").exit_code == 0


def test_waiting_prints_the_outcome_or_the_command_that_follows_the_execution(home: Path) -> None:
    waited = run(home, "submit", "instant", "--wait", "message=a=b")
    assert (waited.exit_code, json.loads(waited.stdout)) == (0, {"answer": "Done."}), waited.stderr
    slow = run(home, "submit", "support-chat", "--input", json.dumps(SLOW), "--wait", "1")
    running = slow.stdout.strip()
    assert (slow.exit_code, f"\nwaterhook status {running} --follow\n" in slow.stderr) == (6, True)
    assert run(home, "status", running, "--wait", "1").exit_code == 6
    assert run(home, "cancel", running, "--yes").exit_code == 0
    assert run(home, "status", running, "--wait").exit_code == 1


def test_the_log_lines_of_an_execution_are_followed_to_its_end(home: Path) -> None:
    execution_id = run_json(home, "submit", "instant", "message=a=b", "count:=2")["execution_id"]
    tail = run(home, "logs", execution_id, "--tail")
    assert tail.exit_code == 0, tail.stderr
    lines = [text.split("\t") for text in tail.stdout.splitlines()]
    assert {"api", "start", "notify"} <= {source for _, source, *_ in lines}
    assert "outcome=COMPLETED" in next(details for *_, message, details in lines if message == "notify")
    again = run(home, "logs", execution_id, "--json").stdout.splitlines()
    assert len(again) >= len(lines)
    assert all(execution_id in json.loads(text)["message"] for text in again)
    linked = run(home, "open", execution_id)
    assert (linked.exit_code, f"waterhook logs {execution_id}\n" in linked.stderr) == (4, True)


def delivery_of(home: Path, execution_id: str) -> Any:
    """Return the delivery of an execution; None before its first attempt."""
    deliveries = run_json(home, "deliveries", execution_id)["deliveries"]
    return deliveries[0] if deliveries else None


def test_a_webhook_is_submitted_listed_tested_and_resent(
    home: Path, receiver: WebhookReceiver, marker: str
) -> None:
    # 404 concerns one webhook only. Other codes would hold back the webhooks of other tests.
    receiver.answers.for_path(f"/{marker}", status(404))
    url = receiver.url_of(f"/{marker}?token=not-shown")
    options = ["--webhook", url, "--webhook-events", "completed", "--webhook-payload", "thin"]
    execution_id = run_json(home, "submit", "instant", *options)["execution_id"]
    until(lambda: (delivery_of(home, execution_id) or {}).get("last_code"))
    delivery = delivery_of(home, execution_id)
    assert (delivery["status"], delivery["host"], delivery["last_code"]) == ("pending", "localhost", 404)
    listed = run_json(home, "deliveries", "--host", "localhost", "--limit", "1000")["deliveries"]
    assert execution_id in [entry["execution_id"] for entry in listed]
    shown = run(home, "status", execution_id).stdout
    assert "webhook\tpending, " in shown
    assert "not-shown" not in shown
    tested = run(home, "webhook-test", url)
    assert (tested.exit_code, "localhost answered 404" in tested.stdout) == (1, True)

    receiver.answers.for_path(f"/{marker}")
    until(lambda: run_json(home, "resend", execution_id)["executions"][0]["resent"])
    until(lambda: delivery_of(home, execution_id)["status"] == "delivered")
    outcomes = [one for one in receiver.requests if one.webhook_id == delivery["event_id"]]
    assert len(outcomes) >= 2
    assert all(one.verified for one in outcomes)
    assert "final_output" not in outcomes[-1].event["data"]
    assert run(home, "resend", execution_id).exit_code == 0
    receiver_got = len(outcomes)
    until(
        lambda: (
            len([one for one in receiver.requests if one.webhook_id == delivery["event_id"]]) > receiver_got
        )
    )
    assert run(home, "resend", "0" * 32).exit_code == 1

    tested = run(home, "webhook-test", url)
    assert (tested.exit_code, "localhost answered 200" in tested.stdout) == (0, True)
    refused = run(home, "webhook-test", "https://10.255.255.1/")
    assert (refused.exit_code, "WebhookAllowedHosts" in refused.stdout) == (1, True)
    secrets = run_json(home, "webhook-secret", "localhost")["secrets"]
    assert receiver.secret in [secret["secret"] for secret in secrets]


def test_after_a_rotation_both_secrets_are_printed(polling_stack: StackClient) -> None:
    # No test of this stack verifies signatures. Functions use the new secret minutes later.
    assert polling_stack.outputs.webhook_secret_arn
    home = home_of("-polling")
    before = run_json(home, "webhook-secret", "127.0.0.1")["secrets"]
    assert run(home, "rotate-webhook-secret", "--yes", "--force").exit_code == 0
    new, old, *_ = run_json(home, "webhook-secret", "127.0.0.1")["secrets"]
    assert (new["signs_until"], old["secret"]) == (None, before[0]["secret"])
    assert new["secret"] != old["secret"]


def levels(findings: list[dict[str, str]], check: str) -> set[str]:
    return {finding["level"] for finding in findings if finding["check"] == check}


def test_doctor_runs_every_check(home: Path) -> None:
    result = run(home, "doctor", "--json")
    printed = json.loads(result.stdout)
    # Subscriptions, dead letters and records may be those of other tests. The other checks depend on the stack only.
    assert result.exit_code == (5 if printed["count"]["problem"] else 0)
    for check in ("the stack", "the API", "the secret", "Waterflai", "concurrency"):
        assert levels(printed["findings"], check) == {"ok"}, printed
    for check in ("subscriptions", "event bus for results", "alarms", "dead letters", "webhooks", "records"):
        assert levels(printed["findings"], check), printed
        assert "unknown" not in levels(printed["findings"], check), printed


class LimitedUser:
    """An IAM user with given permissions, on the stack that enforces them."""

    def __init__(self, endpoint_url: str) -> None:
        self._iam = aws_resources.session().client("iam", endpoint_url=endpoint_url)
        self._iam.create_user(UserName="limited")
        key = self._iam.create_access_key(UserName="limited")["AccessKey"]
        self._env = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_ENDPOINT_URL": endpoint_url,
        }

    def allow(self, actions: set[str]) -> None:
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._iam.put_user_policy(UserName="limited", PolicyName="allowed", PolicyDocument=policy)

    def run(self, *arguments: str) -> Result:
        return CliRunner(mix_stderr=False, env=self._env).invoke(cli, [*arguments, "--stack", STACK_NAME])


# MiniStack checks this permission when a function's concurrency is read, and none for the account's settings.
LOCAL_NAMES = {"lambda:PutFunctionConcurrency"}


def documented(command: str) -> set[str]:
    """The actions that docs/security.md lists for a command."""
    document = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = {row[0]: set(names(row[1])) for row in table(document, "Command")}
    return {action for action in rows["any"] | rows[command] if ":" in action}


def test_the_documented_permissions_suffice_and_a_missing_one_is_reported() -> None:
    user = LimitedUser(started_strict_stack().endpoint_url)
    user.allow(documented("doctor") - {"secretsmanager:GetSecretValue", "dynamodb:Scan"} | LOCAL_NAMES)
    findings = json.loads(user.run("doctor", "--json").stdout)["findings"]
    assert {finding["check"] for finding in findings if finding["level"] == "unknown"} == {
        "the secret",
        "records",
    }, findings
    # The API itself can't be reached: its URL on AWS does not resolve.
    assert {"the API"} <= {finding["check"] for finding in findings if finding["level"] == "problem"}
    assert any("you are not allowed to (GetSecretValue)" in finding["what"] for finding in findings)
    user.allow(documented("doctor") | LOCAL_NAMES)
    findings = json.loads(user.run("doctor", "--json").stdout)["findings"]
    assert [finding for finding in findings if finding["level"] == "unknown"] == []
    user.allow(documented("listen") - {"sns:Subscribe"})
    result = user.run("listen")
    assert (result.exit_code, "not allowed: sns:Subscribe" in result.stderr) == (4, True), result.stderr
    user.allow(documented("listen"))
    with StackClient(started_strict_stack()) as client:
        client.submit("support-chat", {"simulate": {"seconds": 2, "queue_seconds": 0}})
        result = user.run("listen", "--count", "1")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1), result.stderr
    assert "remove" not in result.stderr
    unknown_id = "0" * 32
    for command, *options in (("redeliver", "--yes"), ("erase", "--yes"), ("logs",), ("open",)):
        user.allow(documented(command))
        result = user.run(command, unknown_id, *options)
        assert result.exit_code == 3, result.stderr
    for arguments, exit_code, word in (
        (["deliveries", unknown_id], 0, ""),
        (["deliveries"], 0, ""),
        (["resend", unknown_id], 1, "no such execution"),
        (["resend", "--failed", "--host", "no.example.com", "--yes"], 0, ""),
        (["webhook-test", "https://127.0.0.1:1/"], 1, "127.0.0.1 accepts no connection"),
    ):
        user.allow(documented(arguments[0]))
        result = user.run(*arguments)
        assert (result.exit_code, word in result.stdout) == (exit_code, True), result.stderr
    user.allow(documented("erase"))
    result = user.run("redeliver", "--undelivered", "--yes")
    assert (result.exit_code, "not allowed: Scan" in result.stderr) == (4, True)
