"""The commands of the documents, as they stand there, on the local AWS: deployed, subscribed, sent and heard."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from local.local_aws import aws_resources
from local.local_aws.shell_environment import shell_lines
from local.local_aws.stack_client import StackClient
from tests.contract.markdown import Block, block
from tests.contract.template import ROOT
from tests.e2e.account import aws, output
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.e2e

type Shell = Callable[[Block], str]


@pytest.fixture(scope="module")
def shell(stack: StackClient, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs a block in the checkout, in a shell that has evaluated `make env`; returns what it printed."""
    home = tmp_path_factory.mktemp("home")
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    local = Path(os.environ["WATERHOOK_TEST_STACK"])
    named = aws_resources.cloudformation_outputs(stack.outputs.endpoint_url)
    prepared = "\n".join(shell_lines(stack.outputs, named, local, env))
    # The SAM CLI leaves folders there, and polls every few seconds.
    env |= {"TMPDIR": str(home), "__SAM_CLI_APP_DIR": str(home)}
    prepared += "\nexport SAM_CLI_POLL_DELAY=0.2"

    def run(one: Block) -> str:
        command = ["bash", "-euo", "pipefail", "-c", f"{prepared}\n{one.text}"]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
        )
        assert done.returncode == 0, f"{one.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def deployed(stack: StackClient, shell: Shell) -> Iterator[None]:
    """The recipes that hear, all at once, since what takes time is the SAM CLI; gone again after the test.

    For one test only: then one process deploys them, however many run the tests.
    """
    recipes = [
        block("docs/recipes.md", "Email"),
        block("docs/recipes.md", "Queue"),
        block("docs/recipes.md", "Function"),
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(shell, recipes))
    yield
    # Else the function would be called for every test that comes.
    for name in ("waterhook-mail", "waterhook-queue", "waterhook-function"):
        aws(stack, "cloudformation").delete_stack(StackName=name)


def subscribers(stack: StackClient) -> set[tuple[str, str]]:
    listed = stack.sns.list_subscriptions_by_topic(TopicArn=stack.outputs.topic_arn)["Subscriptions"]
    return {(each["Protocol"], each["Endpoint"]) for each in listed}


@pytest.mark.usefixtures("deployed")
def test_queue_and_function_hear_what_their_filters_let_through(stack: StackClient, shell: Shell) -> None:
    assert {protocol for protocol, _ in subscribers(stack)} >= {"email", "sqs", "lambda"}
    simulate = {"simulate": {"seconds": 1, "queue_seconds": 0}}
    heard = stack.submit("support-chat", simulate, progress_events=True)
    other = stack.submit("instant")
    failed = stack.submit("always-fails")
    for execution_id in (heard, other, failed):
        stack.wait_for_notification(execution_id)

    group = output(stack, "LogGroupName", of="waterhook-function")

    def logged() -> str:
        events = aws(stack, "logs").filter_log_events(logGroupName=group)["events"]
        return "\n".join(event["message"] for event in events)

    until(lambda: all(re.search(rf"{one}/\d{{13}}/COMPLETED", logged()) for one in (heard, other)))
    assert failed not in logged()
    assert not re.search(rf"{heard}/\d{{13}}/progress", logged())

    queue = output(stack, "QueueUrl", of="waterhook-queue")
    bodies: list[str] = []

    def received() -> bool:
        # The second command of the recipe takes them; other tests of the run send here, too.
        told = json.loads(shell(block("docs/recipes.md", "Queue", 1)))
        for message in told.get("Messages", []):
            bodies.append(message["Body"])
            stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return any(heard in body for body in bodies)

    until(received)  # ten at a time, behind what other tests made
    events = [json.loads(body) for body in bodies]
    assert any(re.fullmatch(rf"{heard}/\d{{13}}/COMPLETED", event["id"]) for event in events)
    assert {event["data"]["chatbot_id"] for event in events} <= {"support-chat", "report-flow"}
    assert "waterhook.execution.progress" not in {event["type"] for event in events}


def test_a_key_is_made_that_is_rotated_and_that_waterhook_s_services_may_use(
    stack: StackClient, shell: Shell
) -> None:
    shell(block("docs/recipes.md", "A key of your own"))
    keys, arn = aws(stack, "kms"), output(stack, "KeyArn", of="waterhook-key")
    try:
        assert keys.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"] is True
        assert keys.describe_key(KeyId="alias/waterhook")["KeyMetadata"]["Arn"] == arn
        policy = json.loads(keys.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])
        groups = {
            group
            for statement in policy["Statement"]
            if statement["Sid"] == "EncryptLogGroups"
            for group in statement["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
        }
        prefix = "arn:aws:logs:us-east-1:000000000000:log-group:"
        assert groups == {f"{prefix}waterhook-*", f"{prefix}/aws/vendedlogs/states/waterhook-*"}
    finally:
        aws(stack, "cloudformation").delete_stack(StackName="waterhook-key")


def test_the_command_of_the_guide_subscribes_an_email_address(stack: StackClient, shell: Shell) -> None:
    made = json.loads(shell(block("docs/deploy.md", "4. Subscribe", 1)))
    assert made["SubscriptionArn"]
    assert ("email", "you@example.com") in subscribers(stack)


def test_the_commands_of_the_quick_start_start_executions_and_read_a_notification(shell: Shell) -> None:
    answer = {"answer": "Waterflai runs chatflows and workflows."}
    assert json.loads(shell(block("docs/quick-start.md", "Send a request"))) == answer
    assert json.loads(shell(block("docs/quick-start.md", "Send a request", 1)))["status"] == "ACCEPTED"
    (message, *_) = json.loads(shell(block("docs/quick-start.md", "Read the notification")))["Messages"]
    assert json.loads(message["Body"])["type"].startswith("waterhook.execution.")


def test_the_commands_of_an_operator_find_what_there_is(stack: StackClient, shell: Shell) -> None:
    execution_id = stack.submit("instant")
    stack.wait_for_notification(execution_id)
    assert execution_id in shell(block("docs/operations.md", "Publishing again"))
    shell(block("docs/runbook/NotifyAlarm.md", "When it is over"))
    running = json.loads(shell(block("docs/operations.md", "Deleting a stack")))
    assert {run["status"] for run in running["executions"]} <= {"RUNNING"}


def test_the_commands_that_start_an_execution_start_one(stack: StackClient, shell: Shell) -> None:
    request = json.loads((ROOT / "events" / "request.json").read_text(encoding="utf-8"))
    first = json.loads(shell(block("README.md", "One request, one notification")))
    second = json.loads(shell(block("docs/recipes.md", "From the API")))
    assert stack.wait_for_notification(first["execution_id"])["data"]["metadata"] == {"ticket": "T-1001"}
    assert stack.wait_for_notification(second["execution_id"])["data"]["status"] == "COMPLETED"

    began = json.loads(shell(block("docs/recipes.md", "Start the state machine directly")))
    run = stack.wait_for_end(began["executionArn"])
    assert json.loads(run["output"])["chatbot_id"] == request["chatbot_id"]

    put = json.loads(shell(block("docs/recipes.md", "From EventBridge")))
    assert put["FailedEntryCount"] == 0

    def started() -> int:
        starts = stack.waterflai("requests")["starts"]
        return sum(start["input_data"] == request["input_data"] for start in starts)

    until(lambda: started() >= 2)  # by both of the last doors


@pytest.fixture(scope="module")
def parent(stack: StackClient) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs a request in the state machine of events/parent.asl.yaml; returns that machine's output."""
    text = (ROOT / "events" / "parent.asl.yaml").read_text(encoding="utf-8")
    for name, value in {"Partition": "aws", "StateMachineArn": stack.outputs.state_machine_arn}.items():
        text = text.replace(f"${{{name}}}", value)
    machine = stack.stepfunctions.create_state_machine(
        name=f"parent-{uuid4().hex}",
        definition=json.dumps(yaml.safe_load(text)),
        roleArn="arn:aws:iam::000000000000:role/parent",
    )["stateMachineArn"]

    def run(request: dict[str, Any]) -> dict[str, Any]:
        started = stack.stepfunctions.start_execution(stateMachineArn=machine, input=json.dumps(request))
        ended = stack.wait_for_end(started["executionArn"])
        assert ended["status"] == "SUCCEEDED", ended
        output: dict[str, Any] = json.loads(ended["output"])
        return output | {"states": stack.states(started["executionArn"])}

    return run


def test_a_parent_gets_the_output_of_a_completed_execution(parent: Callable[..., dict[str, Any]]) -> None:
    got = parent({"chatbot_id": "instant", "input_data": {}})
    assert got["final_output"] == {"answer": "Done."}
    assert got["states"][-1] == "Use the output"


def test_a_parent_gets_a_reference_to_an_output_too_large_for_a_state(
    stack: StackClient, parent: Callable[..., dict[str, Any]]
) -> None:
    got = parent({"chatbot_id": "big-output", "input_data": {"simulate": {"seconds": 0, "queue_seconds": 0}}})
    assert got["states"][-1] == "Pass the reference on"
    assert got["final_output"] is None
    bucket, _, key = got["output_ref"].removeprefix("s3://").partition("/")
    stored = aws(stack, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert len(json.dumps(json.loads(stored))) > 100 * 1024


def test_a_parent_gets_the_reason_for_a_missing_output(parent: Callable[..., dict[str, Any]]) -> None:
    simulate = {"seconds": 0, "queue_seconds": 0, "faults": [{"on": "status", "kind": "no_output"}]}
    got = parent({"chatbot_id": "support-chat", "input_data": {"simulate": simulate}})
    assert (got["output_error"], got["states"][-1]) == ("missing", "Continue without an output")


def test_a_parent_gets_the_cause_of_a_failure(parent: Callable[..., dict[str, Any]]) -> None:
    got = parent({"chatbot_id": "always-fails", "input_data": {}})
    assert got["states"][-1] == "Continue without an output"
    # On AWS the error is States.TaskFailed and the name is in the cause; the local AWS passes the name through.
    assert "Waterhook.Failed" in json.dumps(got)
    assert "the model did not answer" in got["cause"]
