"""The secret with the master keys of webhooks, as an operator reads and replaces it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.webhooks.signing_keys import MasterKey, StoredKeys, read_keys, to_secret_text
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.stack import Stack
from waterhook_cli.webhook_stack import webhook_output

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# Label of a version before it becomes the current one. Secrets Manager may delete versions without a label.
_NEW = "WATERHOOK_NEW"


class WebhookKeyStore:
    """The current keys in Secrets Manager."""

    def __init__(self, secret_arn: str, client: "SecretsManagerClient") -> None:
        self._secret_arn = secret_arn
        self._client = client

    @classmethod
    def of_stack(cls, stack: Stack) -> Self:
        """Return the store of a stack. Raises CommandError if webhooks are switched off."""
        return cls(webhook_output(stack, "WebhookSecretArn"), stack.client("secretsmanager"))

    def read(self) -> StoredKeys:
        """Return the keys. Raises SigningKeysUnavailableError."""
        return read_keys(self._secret_arn, self._client)

    def replace(self, stored: StoredKeys, keys: Sequence[MasterKey]) -> None:
        """Replace the keys that `read` returned. Raises CommandError if another operator has replaced them.

        Secrets Manager moves the label AWSCURRENT only if it is still attached to the version that was read.
        """
        new_version = str(uuid4())  # botocore repeats a call with the same token, so it creates one version
        self._client.put_secret_value(
            SecretId=self._secret_arn,
            ClientRequestToken=new_version,
            SecretString=to_secret_text(keys),
            VersionStages=[_NEW],
        )
        try:
            self._client.update_secret_version_stage(
                SecretId=self._secret_arn,
                VersionStage="AWSCURRENT",
                MoveToVersionId=new_version,
                RemoveFromVersionId=stored.version_id,
            )
        except (ClientError, BotoCoreError) as error:
            self._raise_unless_replaced(stored.version_id, new_version, error)

    def _raise_unless_replaced(self, old_version: str, new_version: str, error: Exception) -> None:
        current = self.read().version_id
        if current == new_version:  # the response was lost, and the call was repeated
            return
        if current == old_version:
            raise error
        raise CommandError(
            ExitCode.UNSUCCESSFUL,
            "another rotation was made at the same time, and this one was not carried out",
            "The other one is enough if it had the same reason. Otherwise repeat the command.",
        ) from error
