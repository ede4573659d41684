"""`waterhook listen` at the deployed stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from local.local_aws.local_authority import LocalAuthority
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import WebhookReceiver
from local.webhook_receiver.stack_receiver import secret_of_host
from tests.contract.template import ROOT
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.e2e

QUICK = {"simulate": {"seconds": 0.2, "queue_seconds": 0}}


def queues(stack: StackClient) -> list[str]:
    return stack.sqs.list_queues(QueueNamePrefix="waterhook-listen-").get("QueueUrls", [])


def test_a_notification_is_forwarded_as_a_signed_webhook_with_a_link_to_its_output(
    stack: StackClient,
) -> None:
    environ = os.environ | {
        "WATERHOOK_LOCAL": os.environ["WATERHOOK_TEST_STACK"],
        "PYTHONPATH": str(ROOT / "layers" / "waterhook"),
    }
    authority = LocalAuthority.load(Path(stack.outputs.authority_path))
    secret = secret_of_host(stack.outputs, "localhost")
    options = ["--chatbot", "big-output", "--type", "completed", "--count", "1", "--json"]
    with WebhookReceiver(authority, secret=secret, tls=False) as receiver:
        command = [sys.executable, "-m", "waterhook_cli", "listen", *options]
        process = subprocess.Popen(
            [*command, "--forward-to", f"http://localhost:{receiver.port}/hook"],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while "Waiting" not in (line := process.stderr.readline()):
            assert line
        stack.submit("big-output", QUICK)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        (received,) = receiver.requests
    assert process.returncode == 0, stderr
    assert received.verified, received.verification
    event, forwarded = json.loads(stdout), received.event
    link = forwarded["data"].pop("final_output_url")
    assert forwarded == event
    assert received.webhook_id == event["id"]
    assert httpx.get(link).json()["answer"] == "A long one."
    until(lambda: not queues(stack))  # those of other tests are removed soon
