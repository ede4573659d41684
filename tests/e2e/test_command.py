"""The command against the deployed stack: what a user at a terminal does in a day."""

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

from local.runner import account
from local.runner.client import StackClient
from local.runner.sam import STACK_NAME
from tests.e2e.conftest import started_strict_stack
from tests.infra.markdown import names, table
from tests.infra.template import ROOT
from tests.support.waiting import PATIENCE_S
from waterhook_cli.main import cli

pytestmark = pytest.mark.e2e

SLOW = {"simulate": {"seconds": 120, "nodes": 6, "queue_seconds": 0}}


@pytest.fixture(scope="module")
def home(stack: StackClient) -> Path:
    """The folder in which the stack of this run is written down."""
    assert stack.outputs.api_url
    return Path(os.environ["WATERHOOK_TEST_STACK"])


def run(home: Path, *words: str) -> Result:
    """A command line in this process, which saves the start of another."""
    runner = CliRunner(mix_stderr=False, env={"WATERHOOK_LOCAL": str(home), "WATERHOOK_DEBUG": "1"})
    return runner.invoke(cli, words, prog_name="waterhook")


def told(home: Path, *words: str) -> Any:
    """What a command line says in JSON, having ended well."""
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def start(home: Path, *words: str) -> "subprocess.Popen[str]":
    """A command line in a process of its own, as a shell would start it."""
    environ = os.environ | {"WATERHOOK_LOCAL": str(home), "PYTHONPATH": str(ROOT / "layers" / "waterhook")}
    command = [sys.executable, "-m", "waterhook_cli", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)


def test_an_execution_is_followed_to_its_end_and_its_output_is_all_there_is_on_standard_output(
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


def test_ctrl_c_ends_the_watching_and_not_the_execution(home: Path, stack: StackClient) -> None:
    process = start(home, "submit", "support-chat", "--input", json.dumps(SLOW), "--follow")
    assert process.stderr is not None
    said = ""
    while "RUNNING" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    stdout, rest = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (130, "")
    assert "It goes on." in rest
    assert "Traceback" not in said + rest
    found = re.search(r"waterhook cancel ([0-9a-f]{32})", rest)
    assert found is not None
    assert stack.get(found[1]).json()["status"] == "RUNNING"
    assert run(home, "cancel", found[1]).stdout == "CANCELLED, it was RUNNING\n"
    assert run(home, "status", found[1], "--follow").exit_code == 1


def test_an_execution_is_submitted_read_listed_published_again_and_erased(
    home: Path, stack: StackClient
) -> None:
    words = ["submit", "instant", "--metadata", '{"ticket": "T-1"}', "--key", f"day-{time.time_ns()}"]
    execution_id = told(home, *words)["execution_id"]
    assert told(home, *words)["execution_id"] == execution_id
    document = told(home, "status", execution_id, "--follow")
    assert (document["final_output"], document["metadata"]) == ({"answer": "At once."}, {"ticket": "T-1"})
    listed = told(home, "list", "--status", "completed", "--limit", "50")
    assert execution_id in [entry["execution_id"] for entry in listed["executions"]]
    stack.wait_for_notification(execution_id)
    found = told(home, "redeliver", execution_id, "--since", "1h", "--dry-run")
    assert found["executions"] == [{"execution_id": execution_id, "redelivered": False}]
    sent = told(home, "redeliver", execution_id, "--yes")["executions"]
    assert [(entry["execution_id"], entry["redelivered"]) for entry in sent] == [(execution_id, True)]
    first, second = stack.peek(execution_id)
    assert first == second
    erased = told(home, "erase", execution_id, "--yes")
    assert (erased["record"], erased["notified"]) == (True, True)
    assert run(home, "status", execution_id).exit_code == 3
    assert run(home, "erase", execution_id, "--yes").exit_code == 3


def test_one_that_runs_is_not_erased_and_one_that_has_ended_not_cancelled(home: Path) -> None:
    running = told(home, "submit", "support-chat", "--input", json.dumps(SLOW))["execution_id"]
    assert run(home, "erase", running, "--yes").exit_code == 1
    ended = told(home, "submit", "instant", "--follow")["execution_id"]
    late = run(home, "cancel", ended, "--json")
    assert (late.exit_code, json.loads(late.stdout)["previous_status"]) == (1, "COMPLETED")
    assert run(home, "cancel", running).exit_code == 0


def levels(findings: list[dict[str, str]], check: str) -> set[str]:
    return {finding["level"] for finding in findings if finding["check"] == check}


def test_doctor_looks_at_everything(home: Path) -> None:
    result = run(home, "doctor", "--json")
    said = json.loads(result.stdout)
    # Other tests may have left dead letters; what is asked about here is nobody's business but the stack's.
    assert result.exit_code == (5 if said["count"]["problem"] else 0)
    for check in ("the stack", "the API", "the secret", "Waterflai", "subscriptions", "concurrency"):
        assert levels(said["findings"], check) == {"ok"}, said
    for check in ("alarms", "dead letters", "records"):
        assert levels(said["findings"], check), said
        assert "unknown" not in levels(said["findings"], check), said


class Visitor:
    """Somebody with an account on the stack whose permissions are enforced, and with what is given to them."""

    def __init__(self, endpoint_url: str) -> None:
        self._iam = account.session().client("iam", endpoint_url=endpoint_url)
        self._iam.create_user(UserName="visitor")
        key = self._iam.create_access_key(UserName="visitor")["AccessKey"]
        self._env = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_ENDPOINT_URL": endpoint_url,
        }

    def may(self, actions: set[str]) -> None:
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._iam.put_user_policy(UserName="visitor", PolicyName="visit", PolicyDocument=policy)

    def run(self, *words: str) -> Result:
        return CliRunner(mix_stderr=False, env=self._env).invoke(cli, [*words, "--stack", STACK_NAME])


# MiniStack takes a look at a function's concurrency for a change of it, and knows no name for the account's settings.
LOCAL_NAMES = {"lambda:PutFunctionConcurrency"}


def documented(command: str) -> set[str]:
    """The actions that docs/security.md lists for it."""
    document = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = {row[0]: set(names(row[1])) for row in table(document, "Command")}
    return {action for action in rows["any"] | rows[command] if ":" in action}


def test_the_documented_permissions_are_enough_and_what_is_missing_is_said() -> None:
    visitor = Visitor(started_strict_stack().endpoint_url)
    visitor.may(documented("doctor") - {"secretsmanager:GetSecretValue", "dynamodb:Scan"} | LOCAL_NAMES)
    said = json.loads(visitor.run("doctor", "--json").stdout)["findings"]
    # The API's key is left out on purpose: by its name on AWS, the API is not there.
    assert {finding["check"] for finding in said if finding["level"] == "unknown"} == {
        "the API",
        "the secret",
        "records",
    }, said
    assert any("you are not allowed to (GetSecretValue)" in finding["what"] for finding in said)
    visitor.may(documented("doctor") | LOCAL_NAMES)
    said = json.loads(visitor.run("doctor", "--json").stdout)["findings"]
    assert {finding["check"] for finding in said if finding["level"] == "unknown"} == {"the API"}, said
    nobody = "0" * 32
    for command in ("redeliver", "erase"):
        visitor.may(documented(command))
        result = visitor.run(command, nobody, "--yes")
        assert result.exit_code == 3, result.stderr
    result = visitor.run("redeliver", "--undelivered", "--yes")
    assert (result.exit_code, "not allowed: Scan" in result.stderr) == (4, True)
