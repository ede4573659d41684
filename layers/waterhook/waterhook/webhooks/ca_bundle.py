"""Certificates of private authorities, for receivers that have no certificate of a public one."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import DependencyUnavailableError, aws_error_code

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


def read_ca_bundle(secret_arn: str, client: "SecretsManagerClient") -> str:
    """Return the PEM certificates that a secret holds as text. Raises DependencyUnavailableError."""
    try:
        return client.get_secret_value(SecretId=secret_arn).get("SecretString", "")
    except (ClientError, BotoCoreError) as error:
        message = f"{secret_arn}: Secrets Manager failed: {aws_error_code(error)}"
        raise DependencyUnavailableError(message) from error
