"""The AWS account of a deployed stack: service clients, resource names and stack outputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from local.local_aws import aws_resources
from local.local_aws.sam import STACK_NAME
from local.local_aws.stack_client import StackClient


def aws_client(stack: StackClient, service: str) -> Any:
    return _client(stack.outputs.endpoint_url, service)


@cache
def _client(endpoint_url: str, service: str) -> Any:
    # Creating a client takes a tenth of a second of the processor.
    return aws_resources.session().client(service, endpoint_url=endpoint_url)  # type: ignore[call-overload]


def physical_id(stack: StackClient, logical_id: str, stack_name: str = STACK_NAME) -> str:
    """Return the name or ARN of a resource of the template."""
    resource = aws_client(stack, "cloudformation").describe_stack_resource(
        StackName=stack_name, LogicalResourceId=logical_id
    )
    return str(resource["StackResourceDetail"]["PhysicalResourceId"])


def stack_output(stack: StackClient, key: str, stack_name: str = STACK_NAME) -> str:
    """Return the value of a CloudFormation output."""
    (deployed,) = aws_client(stack, "cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    return next(str(entry["OutputValue"]) for entry in deployed["Outputs"] if entry["OutputKey"] == key)


@contextmanager
def changed_environment(stack: StackClient, logical_id: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Inside the block, new containers of a function have these variables. All its earlier containers end."""
    functions, name = aws_client(stack, "lambda"), physical_id(stack, logical_id)
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": before | variables})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})
