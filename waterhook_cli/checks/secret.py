"""Checks the secret with Waterflai's API key."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import KeyUnavailableError, aws_error_code
from waterhook.upstream.api_key import ApiKey
from waterhook_cli.checks.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_UNREADABLE = {
    "ResourceNotFoundException": "does not exist",
    "InvalidRequestException": "can't be read: it may be marked for deletion",
}


def check_secret(secretsmanager: "SecretsManagerClient", arn: str, region: str) -> Iterator[Finding]:
    """Check that the functions find a key in the secret. No finding contains the key."""
    name = secret_name(arn)
    put_hint = f"Store the key: {put_command(arn)}"
    if arn.split(":")[3:4] != [region]:
        yield Finding.problem(
            f"the secret {name} is in another region than the stack, and the functions read it from {region}",
            f"Create one in {region} and deploy with its ARN as WaterflaiApiKeySecretArn.",
        )
    try:
        response: Mapping[str, Any] = secretsmanager.get_secret_value(SecretId=arn)
    except ClientError as error:
        code = aws_error_code(error)
        if code not in _UNREADABLE:
            raise
        yield Finding.problem(
            f"the secret {name} {_UNREADABLE[code]}",
            "Create one and deploy with its ARN as WaterflaiApiKeySecretArn, or restore this one: "
            f"aws secretsmanager restore-secret --secret-id {name}",
        )
        return
    text = response.get("SecretString")
    if text is None:
        yield Finding.problem(f"the secret {name} holds bytes, not text", put_hint)
    elif not text.strip():
        yield Finding.problem(f"the secret {name} is empty", put_hint)
    elif read_key(secretsmanager, arn) is None:
        yield Finding.problem(
            f'the secret {name} holds neither a key as plain text nor {{"api_key": "..."}} in JSON', put_hint
        )
    elif text != text.strip() or _is_padded_in_json(text):
        yield Finding.warning(
            f"the secret {name} has white space around its key: Waterhook ignores it, other programs may not",
            f"A newline often comes from `echo`; printf '%s' adds none. Store the key again: {put_command(arn)}",
        )
    else:
        yield Finding.ok(f"the secret {name} holds a key")


def read_key(secretsmanager: "SecretsManagerClient", arn: str) -> str | None:
    """Return the key as the functions read it, None where they would find none."""
    try:
        return ApiKey(arn, secretsmanager).get()
    except KeyUnavailableError:
        return None


def secret_name(arn: str) -> str:
    """Return a secret's name: the last part of its ARN, less the six random characters that AWS adds."""
    return arn.rpartition(":")[2][:-7]


def put_command(arn: str) -> str:
    """Return the AWS CLI command that stores another key in the secret."""
    return f"aws secretsmanager put-secret-value --secret-id {secret_name(arn)} --secret-string KEY"


def _is_padded_in_json(text: str) -> bool:
    try:
        key = json.loads(text)["api_key"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(key, str) and key != key.strip()
