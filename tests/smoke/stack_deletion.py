"""Deletes a deployed stack and the resources it retains. A step that fails is reported, and the next one runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from local.local_aws.errors import ToolError
from waterhook_cli.stack import Account, Stack, StackResource

# Maximum wait in seconds. CloudFormation's own timeout of a resource is shorter.
STOP_S = 300.0
DELETE_S = 1800.0
# StopExecution refills at 20 to 25 requests a second, by region.
_STOP_INTERVAL_S = 0.05
_POLL_S = 2.0
# Reconcile receives an event for each stopped execution and cancels its job.
_RECONCILE_S = 10.0
_MAX_ATTEMPTS = 3
_MAX_DELETIONS = 2
# Consecutive status requests that may fail before the wait for a deletion ends.
_MAX_READ_ERRORS = 5
_STATE_MACHINE = "AWS::StepFunctions::StateMachine"
# Resources that a deleted stack retains, and log groups, which a function may recreate while it ends.
RETAINED = (
    "AWS::DynamoDB::Table",
    "AWS::S3::Bucket",
    "AWS::SecretsManager::Secret",
    "AWS::SQS::Queue",
    "AWS::Logs::LogGroup",
)
_MISSING_CODES = {
    "ResourceNotFoundException",
    "NoSuchBucket",
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "StateMachineDoesNotExist",
    "StateMachineDeleting",
    "ExecutionDoesNotExist",
}


def error_code(error: ClientError) -> str:
    """Return the error code of an AWS response."""
    return str(error.response["Error"].get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """Return whether CloudFormation has no such stack. It has no error code of its own for that."""
    return "does not exist" in error.response["Error"].get("Message", "")


@dataclass(slots=True)
class StackDeletion:
    """The deletion of one stack. `errors` collects what failed, one line each; `stack` is the stack's id."""

    account: Account
    log: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    errors: list[str] = field(default_factory=list)
    stack: str | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Run a block and record an exception of it in `errors`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # the next step has to run after any error
            self.errors.append(f"{what}: {' '.join(str(error).split()) or type(error).__name__}")

    def delete(self, stack: str) -> None:
        """Stop the executions of a stack, delete it, then delete what it retains.

        `stack` is its name, or its id if it is deleted already.
        """
        name_or_id = stack
        with self.step(f"look up stack {stack}"):
            self.stack = self._stack_id(stack)
            if self.stack is None:
                return  # it was never created
            name_or_id = self.stack
        resources: list[StackResource] = []
        with self.step(f"list the resources of stack {stack}"):
            resources = self._resources(name_or_id)
        for machine in (
            each.physical_id for each in resources if each.type == _STATE_MACHINE and each.physical_id
        ):
            with self.step(f"stop the executions of {machine}"):
                self._stop_executions(machine)
        with self.step(f"delete stack {stack}"):
            self._delete_stack(name_or_id)
        if not resources:
            with self.step(f"list what stack {stack} has retained"):
                resources = self._resources(name_or_id)
        for each in resources:
            if each.type in RETAINED and each.physical_id:
                with self.step(f"delete {each.type} {each.physical_id}"):
                    self._delete_retained(each)

    def failed_events(self, stack: str, *, deleting: bool = False) -> list[str]:
        """Return the events of a stack that report a failure, oldest first."""
        failures: list[str] = []
        pages = self.account.client("cloudformation").get_paginator("describe_stack_events")
        events = [event for page in pages.paginate(StackName=stack) for event in page["StackEvents"]]
        for event in reversed(events):
            status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "no reason given")
            # A cancelled resource is a consequence of another one's failure.
            if not status.endswith("_FAILED") or reason.startswith("Resource creation cancelled"):
                continue
            if (status == "DELETE_FAILED") is deleting:
                resource = f"{event['LogicalResourceId']} ({event['ResourceType']})"
                failures.append(f"{resource} {status}: {' '.join(reason.split())}")
        return failures

    def _stack_id(self, stack: str) -> str | None:
        """Return the id of a stack, which is valid also after its deletion; None if there is no stack."""
        try:
            answer = self.account.client("cloudformation").describe_stacks(StackName=stack)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return str(answer["Stacks"][0]["StackId"])

    def _resources(self, stack: str) -> list[StackResource]:
        return Stack(stack, self.account, "", {}, {}).resources()

    def _stop_executions(self, machine: str) -> None:
        """Stop all executions of a state machine. It is not deleted before they have ended, and a Wait takes hours.

        Raises ToolError if some still run after STOP_S.
        """
        states, ends_at, stopped = self.account.client("stepfunctions"), self.clock() + STOP_S, set[str]()
        while running := self._running(states, machine):
            if self.clock() >= ends_at:
                raise ToolError(f"{len(running)} executions still run after {STOP_S:.0f} s")
            for arn in running:
                if self._stop(states, arn):
                    stopped.add(arn)
                self.sleep(_STOP_INTERVAL_S)
            self.sleep(_POLL_S)
        if stopped:
            self.log(f"Stopped {len(stopped)} running executions")
            self.sleep(_RECONCILE_S)

    @staticmethod
    def _running(states: Any, machine: str) -> list[str]:
        pages = states.get_paginator("list_executions").paginate(
            stateMachineArn=machine, statusFilter="RUNNING"
        )
        try:
            return [entry["executionArn"] for page in pages for entry in page["executions"]]
        except ClientError as error:
            if error_code(error) in _MISSING_CODES:
                return []
            raise

    @staticmethod
    def _stop(states: Any, arn: str) -> bool:
        """Return whether an execution was stopped; False if it is gone, or the request was throttled."""
        try:
            states.stop_execution(
                executionArn=arn, error="Waterhook.SmokeTest", cause="The stack is deleted."
            )
        except ClientError as error:
            if error_code(error) in _MISSING_CODES or "Throttl" in error_code(error):
                return False
            raise
        return True

    def _delete_stack(self, stack: str) -> None:
        """Delete a stack. A failed deletion is repeated once. Raises ToolError if the stack remains."""
        status = ""
        for _ in range(_MAX_DELETIONS):
            self.account.client("cloudformation").delete_stack(StackName=stack)
            status = self._wait_for_deletion(stack)
            if status == "DELETE_COMPLETE":
                return
            with self.step(f"read the events of {stack}"):
                for failure in self.failed_events(stack, deleting=True):
                    self.log(f"  {failure}")
        raise ToolError(f"its status is {status}")

    def _wait_for_deletion(self, stack: str) -> str:
        """Return the status in which a deletion ended. Raises ToolError if it has not after DELETE_S."""
        ends_at, read_errors, status = self.clock() + DELETE_S, 0, "unknown"
        while self.clock() < ends_at:
            try:
                status = self._status(stack)
                read_errors = 0
            except (ClientError, BotoCoreError):
                read_errors += 1
                if read_errors == _MAX_READ_ERRORS:
                    raise
            if status in {"DELETE_COMPLETE", "DELETE_FAILED"}:
                return status
            self.sleep(_POLL_S)
        raise ToolError(f"its status is {status} after {DELETE_S:.0f} s")

    def _status(self, stack: str) -> str:
        try:
            answer = self.account.client("cloudformation").describe_stacks(StackName=stack)
        except ClientError as error:
            if is_missing(error):
                return "DELETE_COMPLETE"
            raise
        return str(answer["Stacks"][0]["StackStatus"])

    def _delete_retained(self, resource: StackResource) -> None:
        """Delete what a stack has retained; a first deployment that failed has retained none of it."""
        deletions: dict[str, Callable[[str], object]] = {
            "AWS::DynamoDB::Table": lambda name: self.account.client("dynamodb").delete_table(TableName=name),
            "AWS::SQS::Queue": lambda url: self.account.client("sqs").delete_queue(QueueUrl=url),
            "AWS::S3::Bucket": self._delete_bucket,
            "AWS::SecretsManager::Secret": lambda arn: self.account.client("secretsmanager").delete_secret(
                SecretId=arn, ForceDeleteWithoutRecovery=True
            ),
            "AWS::Logs::LogGroup": lambda name: self.account.client("logs").delete_log_group(
                logGroupName=name
            ),
        }
        attempts = Retrying(
            retry=retry_if_exception_type(ClientError),
            stop=stop_after_attempt(_MAX_ATTEMPTS),
            wait=wait_fixed(_POLL_S),
            sleep=self.sleep,
            reraise=True,
        )
        for attempt in attempts:
            with attempt:
                try:
                    deletions[resource.type](resource.physical_id)
                except ClientError as error:
                    if error_code(error) not in _MISSING_CODES:
                        raise

    def _delete_bucket(self, name: str) -> None:
        """Delete a bucket with its objects. Raises ToolError where S3 refuses to delete one."""
        s3 = self.account.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            listed = [
                {"Key": entry["Key"], "VersionId": entry["VersionId"]}
                for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            ]
            if not listed:
                continue
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": listed, "Quiet": True})
            if errors := answer.get("Errors"):
                raise ToolError(f"{len(errors)} objects: {errors[0].get('Code')}: {errors[0].get('Message')}")
        s3.delete_bucket(Bucket=name)
