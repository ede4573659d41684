"""Checks the secret that contains the API key of Waterflai."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import KeyUnavailableError, aws_error_code
from waterhook.upstream.api_key import ApiKey
from waterhook_cli.checks.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_CREATE = "aws secretsmanager create-secret --name waterflai-api-key --secret-string KEY"
# What is wrong, and the hint, by error code. {name} is the name of the secret.
_UNREADABLE = {
    "ResourceNotFoundException": (
        "does not exist",
        f"Create a secret, then deploy with its ARN as WaterflaiApiKeySecretArn: {_CREATE}",
    ),
    "InvalidRequestException": (
        "can't be read: it may be marked for deletion",
        "Restore the secret: aws secretsmanager restore-secret --secret-id {name}",
    ),
}


def check_secret(secretsmanager: "SecretsManagerClient", arn: str, region: str) -> Iterator[Finding]:
    """Check that the functions can read a key from the secret. No finding contains the key."""
    name = secret_name(arn)
    put_hint = f"Store the key: {put_command(arn)}"
    if arn.split(":")[3:4] != [region]:
        yield Finding.problem(
            f"the secret {name} is in another region than the stack, but the functions read it from {region}",
            f"Create a secret in {region}, then deploy with its ARN as WaterflaiApiKeySecretArn: "
            f"{_CREATE} --region {region}",
        )
    try:
        response: Mapping[str, Any] = secretsmanager.get_secret_value(SecretId=arn)
    except ClientError as error:
        code = aws_error_code(error)
        if code not in _UNREADABLE:
            raise
        problem, hint = _UNREADABLE[code]
        yield Finding.problem(f"the secret {name} {problem}", hint.format(name=name))
        return
    text = response.get("SecretString")
    if text is None:
        yield Finding.problem(f"the secret {name} contains bytes, not text", put_hint)
    elif not text.strip():
        yield Finding.problem(f"the secret {name} is empty", put_hint)
    elif read_key(secretsmanager, arn) is None:
        yield Finding.problem(
            f'the secret {name} contains neither a key as plain text nor {{"api_key": "..."}} as JSON',
            put_hint,
        )
    elif text != text.strip() or _is_padded_in_json(text):
        yield Finding.warning(
            f"the secret {name} has white space around its key. Waterhook ignores it, other programs may not",
            f"`echo` adds a newline. Store the key again without it: {put_command(arn)}",
        )
    else:
        yield Finding.ok(f"the secret {name} contains a key")


def read_key(secretsmanager: "SecretsManagerClient", arn: str) -> str | None:
    """Return the key as the functions read it; None if they can't read a key."""
    try:
        return ApiKey(arn, secretsmanager).get()
    except KeyUnavailableError:
        return None


def secret_name(arn: str) -> str:
    """Return the name of a secret: the last part of its ARN without the hyphen and six characters that AWS adds."""
    return arn.rpartition(":")[2][:-7]


def put_command(arn: str) -> str:
    """Return the AWS CLI command that stores a key in the secret."""
    return f"aws secretsmanager put-secret-value --secret-id {secret_name(arn)} --secret-string KEY"


def _is_padded_in_json(text: str) -> bool:
    try:
        key = json.loads(text)["api_key"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(key, str) and key != key.strip()
