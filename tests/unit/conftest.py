"""Fixtures of the simulated AWS and of TLS for all unit tests."""

from tests.fakes.aws import (
    aws,
    bucket,
    dynamodb,
    machine,
    messaging,
    queue,
    s3,
    secret,
    secretsmanager,
    stepfunctions,
    table,
    topic,
    webhook_table,
)
from tests.fakes.webhook_stack import receiver_authority, webhook_stack
from tests.support import properties
from tests.support.invoke import invoke
from tests.support.tls import authority, over_tls, trusted, trusted_tls

__all__ = [
    "authority",
    "aws",
    "bucket",
    "dynamodb",
    "invoke",
    "machine",
    "messaging",
    "over_tls",
    "queue",
    "receiver_authority",
    "s3",
    "secret",
    "secretsmanager",
    "stepfunctions",
    "table",
    "topic",
    "trusted",
    "trusted_tls",
    "webhook_stack",
    "webhook_table",
]

properties.load()
