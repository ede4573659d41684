"""The commands in the documents, run unchanged on the local AWS."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from local.local_aws import aws_resources
from local.local_aws.sam import STACK_NAME
from local.local_aws.shell_environment import shell_lines
from local.local_aws.stack_client import StackClient
from local.webhook_receiver.stack_receiver import receiver_for
from tests.contract.markdown import Block, block
from tests.contract.template import ROOT
from tests.e2e.account import aws_client, stack_output
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.e2e

type Shell = Callable[[Block], str]


@pytest.fixture(scope="module")
def shell(stack: StackClient, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Return a function that runs a block in a shell after `make env`, and returns its standard output."""
    home = tmp_path_factory.mktemp("home")
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    local = Path(os.environ["WATERHOOK_TEST_STACK"])
    outputs = aws_resources.cloudformation_outputs(stack.outputs.endpoint_url)
    prepared = "\n".join(shell_lines(stack.outputs, outputs, local, env))
    # The SAM CLI creates temporary folders, and by default polls every few seconds.
    env |= {"TMPDIR": str(home), "__SAM_CLI_APP_DIR": str(home)}
    prepared += "\nexport SAM_CLI_POLL_DELAY=0.2"

    def run(commands: Block) -> str:
        command = ["bash", "-euo", "pipefail", "-c", f"{prepared}\n{commands.text}"]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
        )
        assert done.returncode == 0, f"{commands.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def deployed(stack: StackClient, shell: Shell) -> Iterator[None]:
    """Deploy the subscriber recipes at the same time, and delete them after the test.

    Only one test uses this fixture, so only one process deploys them.
    """
    recipes = [
        block("docs/recipes.md", "Email"),
        block("docs/recipes.md", "Queue"),
        block("docs/recipes.md", "Function"),
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(shell, recipes))
    yield
    # Otherwise each later notification would invoke the function.
    for name in ("waterhook-mail", "waterhook-queue", "waterhook-function"):
        aws_client(stack, "cloudformation").delete_stack(StackName=name)


def subscribers(stack: StackClient) -> set[tuple[str, str]]:
    listed = stack.sns.list_subscriptions_by_topic(TopicArn=stack.outputs.topic_arn)["Subscriptions"]
    return {(each["Protocol"], each["Endpoint"]) for each in listed}


@pytest.mark.usefixtures("deployed")
def test_queue_and_function_receive_what_their_filters_match(stack: StackClient, shell: Shell) -> None:
    assert {protocol for protocol, _ in subscribers(stack)} >= {"email", "sqs", "lambda"}
    simulate = {"simulate": {"seconds": 1, "queue_seconds": 0}}
    chat = stack.submit("support-chat", simulate, progress_events=True)
    other = stack.submit("instant")
    failed = stack.submit("always-fails")
    for execution_id in (chat, other, failed):
        stack.wait_for_notification(execution_id)

    group = stack_output(stack, "LogGroupName", "waterhook-function")

    def logged() -> str:
        events = aws_client(stack, "logs").filter_log_events(logGroupName=group)["events"]
        return "\n".join(event["message"] for event in events)

    until(lambda: all(re.search(rf"{id_}/\d{{13}}/COMPLETED", logged()) for id_ in (chat, other)))
    assert failed not in logged()
    assert not re.search(rf"{chat}/\d{{13}}/progress", logged())

    queue = stack_output(stack, "QueueUrl", "waterhook-queue")
    bodies: list[str] = []

    def take(messages: list[Any]) -> bool:
        """Delete the messages, also those of other tests. Returns whether the expected one has been among them."""
        for message in messages:
            bodies.append(message["Body"])
            stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return any(chat in body for body in bodies)

    # The second command of the recipe receives up to ten messages.
    take(json.loads(until(lambda: shell(block("docs/recipes.md", "Queue", 1))))["Messages"])
    until(lambda: take(stack.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])))
    events = [json.loads(body) for body in bodies]
    assert any(re.fullmatch(rf"{chat}/\d{{13}}/COMPLETED", event["id"]) for event in events)
    assert {event["data"]["chatbot_id"] for event in events} <= {"support-chat", "report-flow"}
    assert "waterhook.execution.progress" not in {event["type"] for event in events}


@pytest.fixture
def buses(stack: StackClient, shell: Shell) -> Iterator[str]:
    """Deploy the recipes of the bus, and a queue on the bus of the other account. Return the URL of that queue."""
    name = f"WaterhookStackName={STACK_NAME}"  # the commands have the name of a stack on AWS, or its default
    fifo = block("docs/recipes.md", "Event bus to a FIFO queue")
    receiver = block("docs/recipes.md", "Event bus of another account")
    sender = block("docs/recipes.md", "Event bus of another account", 1)
    with ThreadPoolExecutor() as pool:
        near = pool.submit(shell, replace(fifo, text=fifo.text.replace("WaterhookStackName=waterhook", name)))
        bus_arn = shell(receiver).split()[-1]
        shell(replace(sender, text=f"RECEIVING_BUS_ARN={bus_arn}\n{sender.text.strip()} {name}"))
        near.result()
    events, bus = aws_client(stack, "events"), bus_arn.rpartition("/")[2]
    url = stack.sqs.create_queue(QueueName="behind-the-bus")["QueueUrl"]
    arn = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="results", EventBusName=bus, EventPattern=json.dumps({"source": ["waterhook"]}))
    target: Any = {"Id": "queue", "Arn": arn, "InputPath": "$.detail"}
    events.put_targets(Rule="results", EventBusName=bus, Targets=[target])
    yield url
    for deployed_stack in ("waterhook-bus-account", "waterhook-bus-fifo"):
        aws_client(stack, "cloudformation").delete_stack(StackName=deployed_stack)


def test_rules_on_the_bus_receive_the_notification(stack: StackClient, buses: str) -> None:
    queue = stack_output(stack, "QueueUrl", "waterhook-bus-fifo")
    execution_id = stack.submit("instant", deliver_to=["sns", "eventbridge", "dynamodb"])
    other = stack.submit("instant")
    notification = stack.wait_for_notification(execution_id)
    stack.wait_for_notification(other)
    received: dict[str, list[Any]] = {queue: [], buses: []}

    def take(url: str) -> list[Any]:
        """Return the messages about the execution so far, and delete all."""
        new = stack.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages", [])
        for message in new:
            stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        received[url] += [message for message in new if execution_id in message["Body"]]
        assert not any(other in message["Body"] for message in new)
        return received[url]

    (near,), (far,) = until(lambda: take(queue)), until(lambda: take(buses))
    assert json.loads(near["Body"]) == json.loads(far["Body"]) == notification
    aws_client(stack, "lambda").invoke(
        FunctionName=stack_output(stack, "NotifyFunctionName"),
        Payload=json.dumps({"redeliver": {"execution_id": execution_id}}),
    )
    # The local AWS delivers a repetition. On AWS the queue drops it, because its deduplication id is the same.
    until(lambda: len(take(queue)) > 1)
    _, again = received[queue]
    assert again["Body"] == near["Body"]
    assert again["Attributes"]["MessageDeduplicationId"] == near["Attributes"]["MessageDeduplicationId"]


def test_the_kms_key_of_the_recipe_is_rotated_and_may_be_used_by_the_services(
    stack: StackClient, shell: Shell
) -> None:
    shell(block("docs/recipes.md", "A key of your own"))
    keys, arn = aws_client(stack, "kms"), stack_output(stack, "KeyArn", "waterhook-key")
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
        aws_client(stack, "cloudformation").delete_stack(StackName="waterhook-key")


def test_the_command_of_the_guide_subscribes_an_email_address(stack: StackClient, shell: Shell) -> None:
    subscription = json.loads(shell(block("docs/deploy.md", "4. Subscribe", 1)))
    assert subscription["SubscriptionArn"]
    assert ("email", "you@example.com") in subscribers(stack)


def test_the_commands_of_the_quick_start_start_executions_and_read_a_notification(
    stack: StackClient, shell: Shell
) -> None:
    answer = {"answer": "Waterflai runs chatflows and workflows."}
    assert json.loads(shell(block("docs/quick-start.md", "Send a request"))) == answer
    assert json.loads(shell(block("docs/quick-start.md", "Send a request", 1)))["status"] == "ACCEPTED"
    (message,) = json.loads(shell(block("docs/quick-start.md", "Read the notification")))["Messages"]
    # Another test may wait for this message.
    stack.sqs.change_message_visibility(
        QueueUrl=stack.outputs.results_queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )
    assert json.loads(message["Body"])["type"].startswith("waterhook.execution.")


def test_the_three_commands_of_the_readme_show_a_notification(stack: StackClient, shell: Shell) -> None:
    readme = block("README.md", "Try it on your laptop", 1)
    up, listen, submit = (line.partition("#")[0].rstrip() for line in readme.lines)
    assert up == "make up"
    with ThreadPoolExecutor() as pool:
        # The notification of another test may be the first one.
        printed = pool.submit(shell, replace(readme, text=f"{listen} --count 1"))
        until(lambda: any("waterhook-listen" in endpoint for _, endpoint in subscribers(stack)))
        assert re.fullmatch(r"[0-9a-f]{32}\n", shell(replace(readme, text=submit)))
        line = printed.result()
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}Z\t[A-Z_]+\t[0-9a-f]{32}\t.*\n", line)


def test_the_command_of_the_webhook_guide_leads_to_a_signed_webhook(stack: StackClient, shell: Shell) -> None:
    command = block("docs/webhooks.md", "Test on your laptop", 2)
    with receiver_for(stack.outputs) as receiver:
        text = f"WEBHOOK_URL='{receiver.url}'\n{command.text}"
        execution_id = json.loads(shell(replace(command, text=text)))["execution_id"]
        webhook = until(
            lambda: next((one for one in receiver.requests if one.webhook_id.startswith(execution_id)), None)
        )
    assert webhook.verified
    assert webhook.event["data"]["status"] == "COMPLETED"


def test_the_commands_of_an_operator_find_executions(stack: StackClient, shell: Shell) -> None:
    execution_id = stack.submit("instant")
    stack.wait_for_notification(execution_id)
    assert execution_id in shell(block("docs/operations.md", "Publishing again"))
    shell(block("docs/runbook/NotifyAlarm.md", "When it is over"))
    running = json.loads(shell(block("docs/operations.md", "Deleting a stack")))
    assert {run["status"] for run in running["executions"]} <= {"RUNNING"}


def test_each_command_that_starts_an_execution_starts_one(stack: StackClient, shell: Shell) -> None:
    request = json.loads((ROOT / "events" / "request.json").read_text(encoding="utf-8"))
    first = json.loads(shell(block("README.md", "One request, one notification")))
    second = json.loads(shell(block("docs/recipes.md", "From the API")))
    third = json.loads(shell(block("docs/recipes.md", "Wait for a short job")))
    assert stack.wait_for_notification(first["execution_id"])["data"]["metadata"] == {"ticket": "T-1001"}
    for answer in (second, third):
        assert stack.wait_for_notification(answer["execution_id"])["data"]["status"] == "COMPLETED"

    started_execution = json.loads(shell(block("docs/recipes.md", "Start the state machine directly")))
    run = stack.wait_for_end(started_execution["executionArn"])
    assert json.loads(run["output"])["chatbot_id"] == request["chatbot_id"]

    put = json.loads(shell(block("docs/recipes.md", "From EventBridge")))
    assert put["FailedEntryCount"] == 0

    def started() -> int:
        starts = stack.waterflai("requests")["starts"]
        return sum(start["input_data"] == request["input_data"] for start in starts)

    until(lambda: started() >= 2)  # from the state machine and from EventBridge


@pytest.fixture(scope="module")
def parent(stack: StackClient) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that runs a request in the state machine of events/parent.asl.yaml and returns its output."""
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
    result = parent({"chatbot_id": "instant", "input_data": {}})
    assert result["final_output"] == {"answer": "Done."}
    assert result["states"][-1] == "Use the output"


def test_a_parent_gets_a_reference_to_an_output_too_large_for_a_state(
    stack: StackClient, parent: Callable[..., dict[str, Any]]
) -> None:
    result = parent(
        {"chatbot_id": "big-output", "input_data": {"simulate": {"seconds": 0, "queue_seconds": 0}}}
    )
    assert result["states"][-1] == "Pass the reference on"
    assert result["final_output"] is None
    bucket, _, key = result["output_ref"].removeprefix("s3://").partition("/")
    stored = aws_client(stack, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert len(json.dumps(json.loads(stored))) > 100 * 1024


def test_a_parent_gets_the_reason_for_a_missing_output(parent: Callable[..., dict[str, Any]]) -> None:
    simulate = {"seconds": 0, "queue_seconds": 0, "faults": [{"on": "status", "kind": "no_output"}]}
    result = parent({"chatbot_id": "support-chat", "input_data": {"simulate": simulate}})
    assert (result["output_error"], result["states"][-1]) == ("missing", "Continue without an output")


def test_a_parent_gets_the_cause_of_a_failure(parent: Callable[..., dict[str, Any]]) -> None:
    result = parent({"chatbot_id": "always-fails", "input_data": {}})
    assert result["states"][-1] == "Continue without an output"
    # On AWS the error is States.TaskFailed and its cause contains the name. The local AWS has the name as the error.
    assert "Waterhook.Failed" in json.dumps(result)
    assert "the model did not answer" in result["cause"]
