"""`make smoke-aws` deletes all of its stack, and reports each resource that it can not delete."""

import json
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import FailingClient, client_error
from tests.smoke.stack_deletion import DELETE_S, STOP_S, StackDeletion
from tests.support.builders import REGION

STACK = "waterhook-smoke-0f0f0f0f"
ID = f"arn:aws:cloudformation:{REGION}:123456789012:stack/{STACK}/1"
WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}}
EXPIRED = client_error("ExpiredTokenException", 403)


def missing(stack: str) -> ClientError:
    answer: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack with id {stack} does not exist"}}
    return ClientError(answer, "DescribeStacks")


def event(stack: str, name: str, kind: str, status: str, **more: str) -> dict[str, str]:
    return {
        "StackId": stack,
        "LogicalResourceId": name,
        "ResourceType": kind,
        "ResourceStatus": status,
        **more,
    }


class Stacks:
    """CloudFormation with one stack. A deletion does not end while a state machine execution runs.

    `outcomes` are the results of its deletions, in order. A deletion ends after one read of the status.
    """

    def __init__(self, resources: dict[str, list[tuple[str, str, str]]], states: Any, machine: str) -> None:
        self.status = "CREATE_COMPLETE"
        self.outcomes = ["DELETE_COMPLETE"]
        self.events: dict[str, list[dict[str, str]]] = {ID: []}
        self._resources = resources
        self._states, self._machine = states, machine

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        if StackName not in {STACK, ID} or (StackName == STACK and self.status == "DELETE_COMPLETE"):
            raise missing(StackName)
        status = self.status
        running = self._states.list_executions(stateMachineArn=self._machine, statusFilter="RUNNING")
        if self.status == "DELETE_IN_PROGRESS" and not running["executions"]:
            self.status = self.outcomes.pop(0)
        return {"Stacks": [{"StackId": ID, "StackName": STACK, "StackStatus": status}]}

    def delete_stack(self, *, StackName: str) -> None:  # noqa: N803
        assert StackName == ID
        self.status = "DELETE_IN_PROGRESS"

    def get_paginator(self, name: str) -> "Pages":
        return Pages(self, name)

    def page(self, name: str, stack: str) -> dict[str, Any]:
        if name == "describe_stack_events":
            return {"StackEvents": self.events[stack][::-1]}
        return {
            "StackResourceSummaries": [
                {"LogicalResourceId": logical, "ResourceType": kind, "PhysicalResourceId": physical}
                for logical, kind, physical in self._resources[stack]
            ]
        }


class Pages:
    def __init__(self, stacks: Stacks, name: str) -> None:
        self._stacks, self._name = stacks, name

    def paginate(self, *, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        return [self._stacks.page(self._name, StackName)]


class Cloud:
    """An account with a deployed stack, a fake clock, and the printed lines."""

    session: Any = None

    def __init__(self, executions: int = 0) -> None:
        # Unique names, because all tests of the process share the account.
        self.names = names = {
            kind: f"{kind}-{uuid4().hex}" for kind in ("records", "outputs", "letters", "logs")
        }
        states, dynamodb = self._real("stepfunctions"), self._real("dynamodb")
        machine = states.create_state_machine(
            name=f"machine-{uuid4().hex}",
            definition=json.dumps(WAITING),
            roleArn="arn:aws:iam::123456789012:role/machine",
        )["stateMachineArn"]
        for number in range(executions):
            states.start_execution(stateMachineArn=machine, name=f"n{number}")
        dynamodb.create_table(
            TableName=names["records"],
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        self._real("s3").create_bucket(Bucket=names["outputs"])
        self._real("s3").put_object(Bucket=names["outputs"], Key="output", Body=b"{}")
        queue = self._real("sqs").create_queue(QueueName=names["letters"])["QueueUrl"]
        self._real("logs").create_log_group(logGroupName=names["logs"])
        resources = {
            ID: [
                ("Machine", "AWS::StepFunctions::StateMachine", machine),
                ("Function", "AWS::Lambda::Function", "function"),
                ("Logs", "AWS::Logs::LogGroup", names["logs"]),
                ("OtherLogs", "AWS::Logs::LogGroup", "gone"),
                ("Queue", "AWS::SQS::Queue", queue),
                ("Table", "AWS::DynamoDB::Table", names["records"]),
                ("Bucket", "AWS::S3::Bucket", names["outputs"]),
                ("Other", "AWS::SQS::Queue", ""),
            ],
        }
        self.machine = machine
        self.stacks = Stacks(resources, states, machine)
        self.faults: dict[str, dict[str, Exception]] = {}
        self.printed: list[str] = []
        self.now = 0.0
        self.deletion = StackDeletion(self, self.printed.append, sleep=self.pause, clock=lambda: self.now)  # type: ignore[arg-type]

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def client(self, service: str) -> Any:
        real = self.stacks if service == "cloudformation" else self._real(service)
        return FailingClient(real, self.faults.get(service, {}))

    def left(self) -> list[str]:
        """Return the kinds of resources that still exist."""
        existing = [
            *self._listed("dynamodb", "list_tables", "TableNames"),
            *(bucket["Name"] for bucket in self._real("s3").list_buckets()["Buckets"]),
            *(group["logGroupName"] for group in self._listed("logs", "describe_log_groups", "logGroups")),
            *(url.rpartition("/")[2] for url in self._listed("sqs", "list_queues", "QueueUrls")),
        ]
        kinds = [kind for kind, name in self.names.items() if name in existing]
        return kinds + ([STACK] if self.stacks.status != "DELETE_COMPLETE" else [])

    def _listed(self, service: str, operation: str, name: str) -> list[Any]:
        pages = self._real(service).get_paginator(operation).paginate()
        return [entry for page in pages for entry in page.get(name, [])]

    def running(self) -> int:
        answer = self._real("stepfunctions").list_executions(
            stateMachineArn=self.machine, statusFilter="RUNNING"
        )
        return len(answer["executions"])

    @staticmethod
    def _real(service: str) -> Any:
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


pytestmark = pytest.mark.usefixtures("aws")


def test_a_stack_is_deleted_with_its_retained_resources() -> None:
    cloud = Cloud()
    cloud.deletion.delete(STACK)
    assert cloud.left() == cloud.deletion.errors == cloud.printed == []


def test_running_executions_are_stopped_before_the_stack_is_deleted() -> None:
    cloud = Cloud(executions=120)  # more than one page
    cloud.deletion.delete(STACK)
    assert cloud.left() == cloud.deletion.errors == []
    assert cloud.running() == 0
    assert cloud.printed == ["Stopped 120 running executions"]


def test_the_wait_for_a_deletion_is_bounded_if_executions_cannot_be_stopped() -> None:
    cloud = Cloud(executions=1)
    cloud.faults["stepfunctions"] = {"stop_execution": client_error("AccessDeniedException")}
    cloud.deletion.delete(STACK)
    stopping, deleting = cloud.deletion.errors
    assert stopping.startswith(f"stop the executions of {cloud.machine}: ")
    assert "AccessDeniedException" in stopping
    assert deleting == f"delete stack {STACK}: its status is DELETE_IN_PROGRESS after {DELETE_S:.0f} s"
    assert DELETE_S <= cloud.now < DELETE_S + 60
    assert cloud.left() == [STACK]  # the other resources are deleted


def test_throttled_stops_are_retried_for_a_bounded_time() -> None:
    cloud = Cloud(executions=2)
    cloud.faults["stepfunctions"] = {"stop_execution": client_error("ThrottlingException")}
    cloud.stacks.outcomes = []
    with cloud.deletion.step("stop"):
        cloud.deletion._stop_executions(cloud.machine)  # noqa: SLF001
    assert cloud.deletion.errors == [f"stop: 2 executions still run after {STOP_S:.0f} s"]
    assert STOP_S <= cloud.now < STOP_S + 60


def test_a_failed_deletion_is_retried_once_after_its_reason_is_printed() -> None:
    cloud = Cloud()
    cloud.stacks.outcomes = ["DELETE_FAILED", "DELETE_COMPLETE"]
    cloud.stacks.events[ID] = [
        event(
            ID,
            "Table",
            "AWS::DynamoDB::Table",
            "DELETE_FAILED",
            ResourceStatusReason="it is\nin use",
        )
    ]
    cloud.deletion.delete(STACK)
    assert cloud.printed == ["  Table (AWS::DynamoDB::Table) DELETE_FAILED: it is in use"]
    assert cloud.left() == cloud.deletion.errors == []


def test_the_retained_resources_are_deleted_also_if_the_deletion_fails_twice() -> None:
    cloud = Cloud()
    cloud.stacks.outcomes = ["DELETE_FAILED", "DELETE_FAILED"]
    cloud.deletion.delete(STACK)
    assert cloud.deletion.errors == [f"delete stack {STACK}: its status is DELETE_FAILED"]
    assert cloud.left() == [STACK]


@pytest.mark.parametrize(
    ("service", "operation"),
    [("dynamodb", "delete_table"), ("s3", "delete_objects"), ("sqs", "delete_queue")],
)
def test_a_failed_deletion_of_a_resource_is_reported_and_does_not_stop_the_others(
    service: str, operation: str
) -> None:
    cloud = Cloud()
    cloud.faults[service] = {operation: client_error("AccessDenied")}
    cloud.deletion.delete(STACK)
    (fault,) = cloud.deletion.errors
    assert fault.startswith("delete AWS::")
    assert "AccessDenied" in fault
    assert len(cloud.left()) == 1


def test_an_object_that_s3_refuses_to_delete_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud()
    refusal = {"Errors": [{"Key": "output", "Code": "AccessDenied", "Message": "denied by a policy"}]}
    real = cloud.client

    def client(service: str) -> Any:
        aws = real(service)
        if service == "s3":
            monkeypatch.setattr(aws, "delete_objects", lambda **_: refusal, raising=False)
        return aws

    monkeypatch.setattr(cloud, "client", client)
    cloud.deletion.delete(STACK)
    assert cloud.deletion.errors == [
        f"delete AWS::S3::Bucket {cloud.names['outputs']}: 1 objects: AccessDenied: denied by a policy"
    ]


def test_a_stack_that_was_never_created_is_no_error() -> None:
    cloud = Cloud()
    cloud.deletion.delete("waterhook-smoke-ffffffff")
    assert cloud.deletion.errors == []
    assert cloud.deletion.stack is None


def test_each_step_that_fails_with_expired_credentials_is_reported_and_can_be_repeated() -> None:
    cloud = Cloud(executions=1)
    lookups: dict[str, Exception] = {
        "describe_stacks": EXPIRED,
        "delete_stack": EXPIRED,
        "get_paginator": EXPIRED,
    }
    cloud.faults = {"cloudformation": lookups}
    cloud.deletion.delete(STACK)
    assert [fault.partition(":")[0] for fault in cloud.deletion.errors] == [
        f"look up stack {STACK}",
        f"list the resources of stack {STACK}",
        f"delete stack {STACK}",
        f"list what stack {STACK} has retained",
    ]
    assert all("ExpiredTokenException" in fault for fault in cloud.deletion.errors)
    cloud.faults = {}
    cloud.deletion.errors.clear()
    cloud.deletion.delete(STACK)
    assert cloud.left() == cloud.deletion.errors == []


def test_credentials_that_expire_during_the_deletion_end_the_wait_and_name_the_remaining_resources() -> None:
    cloud = Cloud()
    delete_stack = cloud.stacks.delete_stack

    def expire(**arguments: str) -> None:
        delete_stack(**arguments)
        services = ("dynamodb", "s3", "sqs")
        cloud.faults = {
            name: {"delete_table": EXPIRED, "get_paginator": EXPIRED, "delete_queue": EXPIRED}
            for name in services
        }
        cloud.faults["cloudformation"] = {"describe_stacks": EXPIRED}

    cloud.stacks.delete_stack = expire  # type: ignore[method-assign]
    cloud.deletion.delete(STACK)
    assert cloud.now < 120
    named = " ".join(cloud.deletion.errors)
    for left in (STACK, "records", "outputs", "letters"):
        assert left in named
    # CloudFormation finds a deleted stack by its id.
    cloud.faults, cloud.stacks.delete_stack = {}, delete_stack  # type: ignore[method-assign]
    cloud.stacks.status, cloud.stacks.outcomes = "DELETE_COMPLETE", ["DELETE_COMPLETE"]
    again = StackDeletion(cloud, cloud.printed.append, sleep=cloud.pause, clock=lambda: cloud.now)  # type: ignore[arg-type]
    again.delete(cloud.deletion.stack or "")
    assert cloud.left() == again.errors == []


def test_the_failures_of_a_deployment_are_listed_oldest_first_without_their_consequences() -> None:
    cloud = Cloud()
    cloud.stacks.events[ID] = [
        event(ID, STACK, "AWS::CloudFormation::Stack", "CREATE_IN_PROGRESS", PhysicalResourceId=ID),
        event(ID, "Rule", "AWS::Events::Rule", "DELETE_FAILED", ResourceStatusReason="in use"),
        event(ID, "Queue", "AWS::SQS::Queue", "CREATE_FAILED"),
        event(ID, "Table", "AWS::DynamoDB::Table", "CREATE_FAILED", ResourceStatusReason="limit"),
        event(
            ID,
            "Bucket",
            "AWS::S3::Bucket",
            "CREATE_FAILED",
            ResourceStatusReason="Resource creation cancelled",
        ),
    ]
    assert cloud.deletion.failed_events(ID) == [
        "Queue (AWS::SQS::Queue) CREATE_FAILED: no reason given",
        "Table (AWS::DynamoDB::Table) CREATE_FAILED: limit",
    ]
