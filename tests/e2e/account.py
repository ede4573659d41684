"""The account that a stack is deployed in: its services, and what the stack has made there."""

from typing import Any

from local.local_aws import aws_resources
from local.local_aws.sam import STACK_NAME
from local.local_aws.stack_client import StackClient


def aws(stack: StackClient, service: str) -> Any:
    """A client of that service."""
    return aws_resources.session().client(service, endpoint_url=stack.outputs.endpoint_url)  # type: ignore[call-overload]


def physical(stack: StackClient, logical: str, within: str = STACK_NAME) -> str:
    """The name or ARN of a resource of the stack `within`."""
    resource = aws(stack, "cloudformation").describe_stack_resource(
        StackName=within, LogicalResourceId=logical
    )
    return str(resource["StackResourceDetail"]["PhysicalResourceId"])


def output(stack: StackClient, key: str, of: str = STACK_NAME) -> str:
    """What the stack `of` puts out under that key."""
    (deployed,) = aws(stack, "cloudformation").describe_stacks(StackName=of)["Stacks"]
    return next(str(entry["OutputValue"]) for entry in deployed["Outputs"] if entry["OutputKey"] == key)
