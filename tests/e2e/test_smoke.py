"""`make smoke-aws`, against the local AWS: what it does to an account is what it says."""

import os
import subprocess
import sys

import boto3
import pytest

from local.runner import account, environment
from local.runner.client import StackClient
from local.runner.services import SIMULATOR_API_KEY

pytestmark = pytest.mark.e2e


def smoke(stack: StackClient, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": stack.outputs.endpoint_url,
        "WATERFLAI_API_KEY": SIMULATOR_API_KEY,
        "PYTHONPATH": str(environment.ROOT / "layers" / "waterhook"),
    }
    argv = [sys.executable, "-m", "local.smoke", "--base-url", stack.outputs.waterflai_base_url, *words]
    return subprocess.run(
        argv, cwd=environment.ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )


def left(session: boto3.Session, stack: StackClient) -> list[str]:
    """Everything in the account that a smoke test could have made."""

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
        if "waterhook-smoke" in name and "DELETE_COMPLETE" not in name
    ]


def test_a_smoke_test_runs_one_execution_and_leaves_nothing(stack: StackClient) -> None:
    done = smoke(stack, "--chatbot", "instant")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"type": "waterhook.execution.completed"' in done.stdout
    assert SIMULATOR_API_KEY not in done.stdout
    assert left(account.session(), stack) == []
