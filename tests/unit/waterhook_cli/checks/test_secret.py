"""The check of the secret."""

import json

import pytest

from tests.fakes.aws import Secret
from tests.support.builders import KEY, REGION
from tests.unit.waterhook_cli.checks.helpers import OK, PROBLEM, WARNING, only
from waterhook_cli.checks.finding import Level
from waterhook_cli.checks.secret import check_secret


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        (KEY, OK, "contains a key"),
        (json.dumps({"api_key": KEY}), OK, "contains a key"),
        (f"{KEY}\n", WARNING, "white space around"),
        (f" {KEY}", WARNING, "white space around"),
        (json.dumps({"api_key": f"{KEY}\n"}), WARNING, "white space around"),
        (" \n", PROBLEM, "is empty"),
        (json.dumps({"key": KEY}), PROBLEM, "neither a key"),
        ("{", PROBLEM, "neither a key"),
        ("two\nlines", PROBLEM, "neither a key"),
        ("schlüssel", PROBLEM, "neither a key"),
    ],
)
def test_a_secret_without_a_usable_key_is_reported(
    secret: Secret, text: str, level: Level, message: str
) -> None:
    secret.rotate(text)
    finding = only(check_secret(secret.client, secret.arn, REGION))
    assert (finding.level, message in finding.message) == (level, True)
    assert text.strip() not in finding.message + finding.hint or not text.strip() or text == "{"


def test_a_secret_with_bytes_is_a_problem(secret: Secret) -> None:
    secret.client.put_secret_value(SecretId=secret.arn, SecretBinary=b"key")
    assert "bytes" in only(check_secret(secret.client, secret.arn, REGION)).message


def test_a_deleted_secret_is_reported(secret: Secret) -> None:
    secret.client.delete_secret(SecretId=secret.arn)
    assert "marked for deletion" in only(check_secret(secret.client, secret.arn, REGION)).message
    secret.client.delete_secret(SecretId=secret.arn, ForceDeleteWithoutRecovery=True)
    assert "does not exist" in only(check_secret(secret.client, secret.arn, REGION)).message


def test_a_secret_in_another_region_is_reported(secret: Secret) -> None:
    first, *_ = check_secret(secret.client, secret.arn, "eu-west-1")
    assert "another region" in first.message
