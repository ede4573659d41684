"""The fixtures of the simulated AWS, for every test in this folder."""

from tests.support import properties
from tests.support.aws import (
    aws,
    bucket,
    dynamodb,
    machine,
    messaging,
    s3,
    secret,
    secretsmanager,
    stepfunctions,
    table,
    topic,
)
from tests.support.invoke import invoke

__all__ = [
    "aws",
    "bucket",
    "dynamodb",
    "invoke",
    "machine",
    "messaging",
    "s3",
    "secret",
    "secretsmanager",
    "stepfunctions",
    "table",
    "topic",
]

properties.load()
