"""What the deliver function needs in AWS, simulated by moto, and the certificate authority of its receivers."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from local.local_aws.local_authority import LocalAuthority
from local.webhook_receiver import WebhookReceiver
from tests.fakes.aws import Queue, WebhookTable
from waterhook.webhooks.signature import derive_key, shown_secret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

MASTER_KEY = "master-key-of-the-stack"


@dataclass(frozen=True)
class WebhookStack:
    """Table, queues and secrets of webhooks that only one test uses. Receivers on loopback are allowed."""

    table: WebhookTable
    queue: Queue
    dead_letters: Queue
    keys_arn: str
    bundle_arn: str
    authority: LocalAuthority

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the deliver function."""
        return {
            "WATERHOOK_WEBHOOK_ALLOWED_HOSTS": "localhost",
            "WATERHOOK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
            "WATERHOOK_WEBHOOK_QUEUE_URL": self.queue.url,
            "WATERHOOK_WEBHOOK_TABLE": self.table.name,
            "WATERHOOK_WEBHOOK_DEAD_LETTER_QUEUE_URL": self.dead_letters.url,
            "WATERHOOK_WEBHOOK_SECRET_ARN": self.keys_arn,
            "WATERHOOK_WEBHOOK_CA_BUNDLE_ARN": self.bundle_arn,
            "WATERHOOK_WEBHOOK_CONCURRENCY": "10",
        }

    def receiver(self) -> WebhookReceiver:
        """Return a receiver that the deliver function trusts, with the secret of its host."""
        return WebhookReceiver(self.authority, secret=shown_secret(derive_key(MASTER_KEY, "localhost")))


@pytest.fixture(scope="session")
def receiver_authority() -> LocalAuthority:
    return LocalAuthority.create()


@pytest.fixture
def webhook_stack(
    webhook_table: WebhookTable,
    messaging: "tuple[SNSClient, SQSClient]",
    secretsmanager: "SecretsManagerClient",
    receiver_authority: LocalAuthority,
) -> WebhookStack:
    sqs = messaging[1]
    queue, dead_letters = (Queue(sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"], sqs) for _ in range(2))
    keys, bundle = (
        secretsmanager.create_secret(Name=uuid4().hex, SecretString=text)["ARN"]
        for text in (json.dumps({"key": MASTER_KEY}), receiver_authority.certificate_pem)
    )
    return WebhookStack(webhook_table, queue, dead_letters, keys, bundle, receiver_authority)
