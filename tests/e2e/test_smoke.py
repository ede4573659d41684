"""`make smoke-aws` against the local AWS: it leaves nothing in the account."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid

import pytest

from local.local_aws import aws_resources, environment
from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient
from tests.smoke.stack_deletion import StackDeletion
from tests.support.waiting import until
from waterhook_cli.stack import Account

pytestmark = pytest.mark.e2e


def run_smoke_test(stack: StackClient, *options: str) -> subprocess.CompletedProcess[str]:
    with start_smoke_test(stack, *options) as running:
        output, errors = running.communicate(timeout=240)
    return subprocess.CompletedProcess(running.args, running.returncode, output, errors)


def start_smoke_test(stack: StackClient, *options: str) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": stack.outputs.endpoint_url,
        "WATERFLAI_API_KEY": SIMULATOR_API_KEY,
        "PYTHONPATH": str(environment.ROOT / "layers" / "waterhook"),
    }
    argv = [sys.executable, "-m", "tests.smoke", "--base-url", stack.outputs.waterflai_base_url, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=environment.ROOT, env=env, stdout=pipe, stderr=pipe, text=True)


def wait_for_an_execution(stack: StackClient, smoke_test: subprocess.Popen[str], chatbot: str) -> None:
    """Return once an execution of the chatbot runs in the state machine of a smoke test."""
    states = aws_resources.session().client("stepfunctions", endpoint_url=stack.outputs.endpoint_url)

    def is_running() -> bool:
        assert smoke_test.poll() is None, "it has ended"
        machines = [machine["stateMachineArn"] for machine in states.list_state_machines()["stateMachines"]]
        running = [
            entry["executionArn"]
            for arn in machines
            if "waterhook-smoke" in arn
            for entry in states.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
        ]
        return any(chatbot in states.describe_execution(executionArn=arn)["input"] for arn in running)

    until(is_running)


def remaining_resources(stack: StackClient, output: str) -> list[str]:
    """Return the names of the resources that the smoke test with this output created and did not delete."""
    names_of_stacks = re.findall(r"^Stack (waterhook-smoke-[0-9a-f]{8});", output, re.MULTILINE)
    assert len(names_of_stacks) == 1
    session = aws_resources.session()

    def names(service: str, operation: str, key: str, *fields: str) -> list[str]:
        client = session.client(service, endpoint_url=stack.outputs.endpoint_url)  # type: ignore[call-overload]
        entries = getattr(client, operation)().get(key, [])
        return [str(entry if not fields else [entry.get(field) for field in fields]) for entry in entries]

    return [
        name
        for listed in (
            names("cloudformation", "list_stacks", "StackSummaries", "StackName", "StackStatus"),
            names("dynamodb", "list_tables", "TableNames"),
            names("s3", "list_buckets", "Buckets", "Name"),
            names("sqs", "list_queues", "QueueUrls"),
            names("secretsmanager", "list_secrets", "SecretList", "Name"),
            names("logs", "describe_log_groups", "logGroups", "logGroupName"),
        )
        for name in listed
        if names_of_stacks[0] in name and "DELETE_COMPLETE" not in name
    ]


def test_a_smoke_test_runs_one_execution_and_leaves_nothing(stack: StackClient) -> None:
    done = run_smoke_test(stack, "--chatbot", "instant")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"type": "waterhook.execution.completed"' in done.stdout
    assert SIMULATOR_API_KEY not in done.stdout
    assert remaining_resources(stack, done.stdout) == []


def test_a_refused_deployment_leaves_nothing(stack: StackClient) -> None:
    done = run_smoke_test(stack, "--chatbot", "instant", "--parameter", "ShortestWaitSeconds=0")
    assert done.returncode == 1
    assert "sam deploy failed" in done.stderr
    assert "Not done in the clean-up" not in done.stdout
    assert remaining_resources(stack, done.stdout) == []


def test_a_failed_deployment_is_explained_by_the_events_of_its_stack(stack: StackClient) -> None:
    aws = Account(aws_resources.session(), stack.outputs.endpoint_url)
    name = f"failing-{uuid.uuid4().hex}"
    wrong = {
        "Type": "AWS::SSM::Parameter",
        "Properties": {"Type": "String", "Name": "aws-wrong", "Value": "1"},
    }
    stacks = aws.client("cloudformation")
    stack_id = stacks.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Wrong": wrong}}))
    deletion = StackDeletion(aws, print)
    try:
        (failure,) = until(lambda: deletion.failed_events(stack_id["StackId"]), 30)
    finally:
        deletion.delete(name)
    assert failure.startswith("Wrong (AWS::SSM::Parameter) CREATE_FAILED")
    assert deletion.errors == []


def test_ctrl_c_while_an_execution_waits_leaves_nothing(stack: StackClient) -> None:
    with start_smoke_test(stack, "--chatbot", "endless") as running:
        wait_for_an_execution(stack, running, "endless")
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Interrupted" in errors
    assert "Not done in the clean-up" not in output
    assert remaining_resources(stack, output) == []
