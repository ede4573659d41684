"""Each role allows its step and nothing more, on a stack whose local AWS enforces permissions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import boto3
import pytest

from local.local_aws import aws_resources
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import OK, WebhookReceiver, status
from local.webhook_receiver.stack_receiver import receiver_for
from tests.e2e.account import aws_client, physical_id
from tests.e2e.conftest import OPERATOR_ROLE
from tests.e2e.executions import owner_arn
from tests.e2e.webhooks import invoke_deliver, received, wait_for_outcomes
from tests.support.waiting import until
from waterhook.domain.trigger_input import derive_execution_id

pytestmark = pytest.mark.e2e


def decision(stack: StackClient, role: str, action: str, resource: str) -> str:
    """Return what the policy simulator decides for a role of the template."""
    iam = aws_client(stack, "iam")
    arn = iam.get_role(RoleName=physical_id(stack, role))["Role"]["Arn"]
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=[action], ResourceArns=[resource])
    return str(answer["EvaluationResults"][0]["EvalDecision"])


def test_each_role_allows_its_step(strict: StackClient) -> None:
    with receiver_for(strict.outputs) as receiver, receiver_for(strict.outputs, host="127.0.0.1") as failing:
        failing.answers.for_path("/", status(503), OK)
        run_with_webhooks(strict, receiver, failing)


def is_notified(stack: StackClient, execution_id: str) -> bool:
    """Return whether every target has received the outcome."""
    return "notified_at" in (stack.item(execution_id) or {})


def run_with_webhooks(strict: StackClient, receiver: WebhookReceiver, failing: WebhookReceiver) -> None:
    """Run executions that need every permission, each with a webhook. The one to `failing` succeeds after a retry."""
    webhook = {"url": receiver.url}
    everywhere = ["sns", "dynamodb", "eventbridge"]
    done = strict.submit(
        "support-chat",
        {"simulate": {"seconds": 1}},
        progress_events=True,
        deliver_to=everywhere,
        webhook=webhook | {"events": ["completed", "progress"]},
    )
    # One after the other at first: on a loaded machine, five cold starts at the same time outlast a short deadline.
    strict.wait_for_status(done, "COMPLETED")
    overdue = strict.submit("endless", timeout_seconds=12, webhook=webhook)
    strict.wait_for_status(overdue, "RUNNING")
    large = strict.submit(
        "big-output", {"simulate": {"output_kib": 300, "seconds": 1}}, webhook={"url": failing.url}
    )
    cancelled = strict.submit("endless", webhook=webhook, deliver_to=everywhere)
    stopped = strict.submit("endless", webhook=webhook, deliver_to=everywhere)
    for execution_id in (cancelled, stopped):
        strict.wait_for_status(execution_id, "RUNNING")
    assert strict.delete(cancelled).json()["cancelled"] is True
    strict.stepfunctions.stop_execution(executionArn=owner_arn(strict, stopped))
    expected = {
        done: "COMPLETED",
        large: "COMPLETED",
        overdue: "TIMED_OUT",
        cancelled: "CANCELLED",
        stopped: "CANCELLED",
    }
    for execution_id, outcome in expected.items():
        strict.wait_for_status(execution_id, outcome)
    for execution_id in (done, cancelled, stopped):
        until(partial(is_notified, strict, execution_id))
    assert strict.get(large).json()["final_output_url"]
    listed = strict.list_executions(limit=100).json()["executions"]
    assert set(expected) <= {entry["execution_id"] for entry in listed}

    assert invoke_deliver(strict, {"resend": {"execution_id": done}})["resent"]
    assert invoke_deliver(strict, {"sweep": {}})["is_complete"]
    for execution_id, outcome in expected.items():
        at, attempts = (failing, 2) if execution_id == large else (receiver, 1 + (execution_id == done))
        sent = wait_for_outcomes(at, execution_id, attempts)
        assert {webhook.event["data"]["status"] for webhook in sent} == {outcome}
        assert all(webhook.verified for webhook in sent)
    link = received(failing, large)[-1].event["data"]["final_output_url"]
    assert strict.http.get(link).status_code == 200


def test_a_role_without_one_of_its_policies_cannot_do_its_step(strict: StackClient) -> None:
    iam, role, policy = (
        aws_client(strict, "iam"),
        physical_id(strict, "NotifyRole"),
        physical_id(strict, "PublishPolicy"),
    )
    iam.detach_role_policy(RoleName=role, PolicyArn=policy)
    try:
        execution_id = strict.submit("instant")
        strict.wait_for_status(execution_id, "COMPLETED")
        # The outcome is in the record but cannot be published, so notify is retried.
        assert strict.peek(execution_id) == []
        assert "notified_at" not in (strict.item(execution_id) or {})
    finally:
        iam.attach_role_policy(RoleName=role, PolicyArn=policy)
    assert strict.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"


@contextmanager
def session_of_role(stack: StackClient, path: str, name: str) -> Iterator[StackClient]:
    """Create a role that may call the API, and yield a client that sends requests in a session of it."""
    iam = aws_client(stack, "iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
    role, policy = (
        json.dumps({"Version": "2012-10-17", "Statement": [statement]}) for statement in (trust, allowed)
    )
    arn = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=role)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="call-the-api", PolicyDocument=policy)
    assumed = aws_client(stack, "sts").assume_role(RoleArn=arn, RoleSessionName="eve")["Credentials"]
    session = boto3.Session(
        assumed["AccessKeyId"],
        assumed["SecretAccessKey"],
        assumed["SessionToken"],
        stack.outputs.region,
    )
    try:
        with StackClient(stack.outputs, session) as client:
            yield client
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="call-the-api")
        iam.delete_role(RoleName=name)


def test_only_the_role_of_operators_sees_an_execution_of_another_trigger(
    strict: StackClient, marker: str
) -> None:
    request = {"chatbot_id": "endless", "input_data": {}, "idempotency_key": marker}
    arn = strict.start_execution(request)
    execution_id = derive_execution_id("states", marker)
    until(lambda: (strict.item(execution_id) or {}).get("waterflai_execution_id"))
    _, _, named = OPERATOR_ROLE.partition(":role")
    path, _, name = named.rpartition("/")
    with (
        session_of_role(strict, "/", "another-role") as another,
        session_of_role(strict, f"{path}/", name) as operator,
    ):
        assert (another.get(execution_id).status_code, another.delete(execution_id).status_code) == (404, 404)
        assert another.list_executions().json() == {"executions": [], "next": None}
        own = another.submit("instant")

        shown = operator.get(execution_id).json()
        assert (shown["status"], shown["trigger"], shown["caller"]) == ("RUNNING", "state_machine", None)
        (entry,) = until(
            lambda: operator.list_executions(trigger="state_machine", chatbot_id="endless", limit=1).json()[
                "executions"
            ]
        )
        assert entry["execution_id"] == execution_id
        caller = operator.get(own).json()["caller"]
        assert caller.endswith(":assumed-role/another-role")
        entries = until(lambda: operator.list_executions(caller=caller).json()["executions"])
        assert [entry["execution_id"] for entry in entries] == [own]

        assert operator.delete(execution_id).json()["cancelled"] is True
    event = strict.wait_for_notification(execution_id)
    assert event["data"]["error"] == {"code": "cancelled", "message": "cancelled by an operator"}
    assert strict.wait_for_end(arn)["error"] == "Waterhook.Cancelled"


def test_a_role_allows_the_actions_of_its_step_only(strict: StackClient) -> None:
    functions = {
        name: aws_client(strict, "lambda").get_function(FunctionName=physical_id(strict, name))
        for name in ("StartFunction", "NotifyFunction", "ApiFunction")
    }
    invocations = {
        name: decision(
            strict,
            "StateMachineRole",
            "lambda:InvokeFunction",
            function["Configuration"]["FunctionArn"],
        )
        for name, function in functions.items()
    }
    assert invocations == {
        "StartFunction": "allowed",
        "NotifyFunction": "allowed",
        "ApiFunction": "implicitDeny",
    }
    actions_of_other_steps = [
        ("StateMachineRole", "dynamodb:GetItem"),
        ("StateMachineRole", "sns:Publish"),
        ("StartRole", "sns:Publish"),
        ("StartRole", "states:StartExecution"),
        ("PollRole", "dynamodb:DeleteItem"),
        ("NotifyRole", "secretsmanager:GetSecretValue"),
        ("ApiRole", "lambda:InvokeFunction"),
        ("FollowRole", "states:StopExecution"),
        ("ReconcileRole", "states:StartExecution"),
        ("DeliverRole", "sns:Publish"),
        ("DeliverRole", "states:StartExecution"),
        ("DeliverRole", "s3:PutObject"),
    ]
    for role, action in actions_of_other_steps:
        assert decision(strict, role, action, "*") == "implicitDeny", (role, action)


def test_only_deliver_reads_the_secret_of_webhooks_and_not_the_api_key(strict: StackClient) -> None:
    secrets = aws_client(strict, "secretsmanager")
    api_key = secrets.describe_secret(SecretId=aws_resources.SECRET_NAME)["ARN"]
    decisions = {
        role: [
            decision(strict, role, "secretsmanager:GetSecretValue", arn)
            for arn in (api_key, strict.outputs.webhook_secret_arn)
        ]
        for role in ("ApiRole", "StartRole", "FollowRole", "PollRole", "NotifyRole", "ReconcileRole")
    }
    reads_key = {role for role, (key, _) in decisions.items() if key == "allowed"}
    assert {secret for _, secret in decisions.values()} == {"implicitDeny"}
    assert "NotifyRole" not in reads_key
    assert "StartRole" in reads_key
    of_deliver = [
        decision(strict, "DeliverRole", "secretsmanager:GetSecretValue", arn)
        for arn in (api_key, strict.outputs.webhook_secret_arn)
    ]
    assert of_deliver == ["implicitDeny", "allowed"]
