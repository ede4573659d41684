"""Each role is enough for its step and for nothing more: on a stack whose local AWS enforces permissions."""

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws, physical

pytestmark = pytest.mark.e2e


def decision(stack: StackClient, logical: str, action: str, resource: str) -> str:
    iam = aws(stack, "iam")
    arn = iam.get_role(RoleName=physical(stack, logical))["Role"]["Arn"]
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=[action], ResourceArns=[resource])
    return str(answer["EvaluationResults"][0]["EvalDecision"])


def test_every_role_is_enough_for_its_step(strict: StackClient) -> None:
    done = strict.submit("support-chat", {"simulate": {"seconds": 1}}, progress_events=True)
    # One after the other at first: on a busy machine five cold starts at once outlast a short deadline.
    strict.wait_for_status(done, "COMPLETED")
    overdue = strict.submit("endless", timeout_seconds=12)
    strict.wait_for_status(overdue, "RUNNING")
    large = strict.submit("big-output", {"simulate": {"output_kib": 300, "seconds": 1}})
    cancelled = strict.submit("endless")
    stopped = strict.submit("endless")
    for execution_id in (cancelled, stopped):
        strict.wait_for_status(execution_id, "RUNNING")
    assert strict.delete(cancelled).json()["cancelled"] is True
    arn = strict.execution_arn(stopped)
    assert arn is not None
    strict.stepfunctions.stop_execution(executionArn=arn)
    expected = {
        done: "COMPLETED",
        large: "COMPLETED",
        overdue: "TIMED_OUT",
        cancelled: "CANCELLED",
        stopped: "CANCELLED",
    }
    for execution_id, status in expected.items():
        strict.wait_for_status(execution_id, status)
    assert strict.get(large).json()["final_output_url"]
    listed = strict.list_executions(limit=100).json()["executions"]
    assert set(expected) <= {entry["execution_id"] for entry in listed}


def test_a_role_without_one_of_its_policies_is_not_enough(strict: StackClient) -> None:
    iam, role, policy = (
        aws(strict, "iam"),
        physical(strict, "NotifyRole"),
        physical(strict, "PublishPolicy"),
    )
    iam.detach_role_policy(RoleName=role, PolicyArn=policy)
    try:
        execution_id = strict.submit("instant")
        strict.wait_for_status(execution_id, "COMPLETED")
        # The outcome is written, and cannot be published: notify is retried.
        assert strict.peek(execution_id) == []
        assert "notified_at" not in (strict.item(execution_id) or {})
    finally:
        iam.attach_role_policy(RoleName=role, PolicyArn=policy)
    assert strict.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("role", "action", "logical"),
    [("StateMachineRole", "lambda:InvokeFunction", name) for name in ("StartFunction", "NotifyFunction")],
)
def test_the_machine_may_call_its_steps(strict: StackClient, role: str, action: str, logical: str) -> None:
    name = physical(strict, logical)
    arn = aws(strict, "lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    assert decision(strict, role, action, arn) == "allowed"


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("StateMachineRole", "dynamodb:GetItem"),
        ("StateMachineRole", "sns:Publish"),
        ("StartRole", "sns:Publish"),
        ("StartRole", "states:StartExecution"),
        ("PollRole", "dynamodb:DeleteItem"),
        ("NotifyRole", "secretsmanager:GetSecretValue"),
        ("ApiRole", "lambda:InvokeFunction"),
        ("FollowRole", "states:StopExecution"),
        ("ReconcileRole", "states:StartExecution"),
    ],
)
def test_no_role_may_do_more(strict: StackClient, role: str, action: str) -> None:
    assert decision(strict, role, action, "*") == "implicitDeny"


def test_the_machine_may_call_no_other_function(strict: StackClient) -> None:
    name = physical(strict, "ApiFunction")
    arn = aws(strict, "lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    assert decision(strict, "StateMachineRole", "lambda:InvokeFunction", arn) == "implicitDeny"
