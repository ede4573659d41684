"""Creates the AWS resources that `sam deploy` needs, and reads the outputs of the deployed stack."""

from dataclasses import dataclass
from pathlib import Path

import boto3

from . import environment
from .sam import ARTIFACTS_BUCKET, STACK_NAME
from .stack_outputs import StackOutputs

# FollowConcurrency of the local stack, part of the 32 concurrent executions in environment.py.
FOLLOW_CONCURRENCY = 12
SECRET_NAME = "waterhook/local/waterflai-api-key"  # noqa: S105  # the name of the secret
CA_BUNDLE_NAME = "waterhook/local/webhook-ca-bundle"


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """The ARNs of the secrets that the parameters of the stack name."""

    api_key_secret_arn: str
    ca_bundle_arn: str


def session() -> boto3.Session:
    """Return a session with the local root credentials. Its clients need the local `endpoint_url`."""
    return boto3.Session(
        aws_access_key_id=environment.CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=environment.REGION,
    )


def create_prerequisites(endpoint_url: str, waterflai_api_key: str, ca_pem: str) -> Prerequisites:
    """Create the bucket for `sam deploy`, the secret with the API key of Waterflai and the one with the CA bundle."""
    aws = session()
    aws.client("s3", endpoint_url=endpoint_url).create_bucket(Bucket=ARTIFACTS_BUCKET)
    secrets = aws.client("secretsmanager", endpoint_url=endpoint_url)
    return Prerequisites(
        api_key_secret_arn=secrets.create_secret(Name=SECRET_NAME, SecretString=waterflai_api_key)["ARN"],
        ca_bundle_arn=secrets.create_secret(Name=CA_BUNDLE_NAME, SecretString=ca_pem)["ARN"],
    )


def reserve_follow_concurrency(endpoint_url: str, concurrency: int) -> None:
    """Reserve concurrency for the follow function, which MiniStack does not read from the template; 0 for none.

    Without it the follow function could use all concurrency, and poll and notify would wait until its jobs end.
    """
    if concurrency == 0:
        return
    aws = session()
    stacks = aws.client("cloudformation", endpoint_url=endpoint_url)
    follow = stacks.describe_stack_resource(StackName=STACK_NAME, LogicalResourceId="FollowFunction")
    name = follow["StackResourceDetail"]["PhysicalResourceId"]
    functions = aws.client("lambda", endpoint_url=endpoint_url)
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=concurrency)


def read_stack_outputs(endpoint_url: str, waterflai_base_url: str, authority: Path) -> StackOutputs:
    """Return the addresses and names of the deployed stack, valid on this computer.

    `authority` is the folder of the authority that the stack trusts.
    """
    aws = session()
    outputs = cloudformation_outputs(endpoint_url)
    key_id = outputs.get("ApiKeyId")
    api_key = ""
    if key_id:
        keys = aws.client("apigateway", endpoint_url=endpoint_url)
        api_key = keys.get_api_key(apiKey=key_id, includeValue=True)["value"]
    return StackOutputs(
        endpoint_url=endpoint_url,
        region=environment.REGION,
        api_url=local_api_url(endpoint_url, outputs["ApiUrl"]),
        api_key=api_key,
        state_machine_arn=outputs["StateMachineArn"],
        topic_arn=outputs["TopicArn"],
        results_queue_url=outputs.get("ResultsQueueUrl", ""),
        table_name=outputs["TableName"],
        waterflai_base_url=waterflai_base_url,
        # Empty if webhooks are off.
        webhook_queue_url=outputs.get("WebhookQueueUrl", ""),
        webhook_dead_letter_queue_url=outputs.get("WebhookDeadLetterQueueUrl", ""),
        webhook_table_name=outputs.get("WebhookTableName", ""),
        webhook_secret_arn=outputs.get("WebhookSecretArn", ""),
        authority_path=str(authority),
    )


def cloudformation_outputs(endpoint_url: str) -> dict[str, str]:
    """Return the outputs of the deployed stack by their names in the template."""
    stacks = session().client("cloudformation", endpoint_url=endpoint_url)
    (stack,) = stacks.describe_stacks(StackName=STACK_NAME)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def local_api_url(endpoint_url: str, api_url: str) -> str:
    """Return the URL of the API by path, because the host `{api}.execute-api…` resolves only on AWS."""
    host, stage = api_url.removeprefix("https://").split("/", 1)
    return f"{endpoint_url}{environment.API_PATH_PREFIX}/{host.split('.', 1)[0]}/{stage}"
