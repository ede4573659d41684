"""The upstream's API key, from Secrets Manager into memory and nowhere else."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import KeyUnavailableError, aws_error_code

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_JSON_FIELD = "api_key"


class ApiKey:
    """The key of one secret: read once per container, read again after the upstream answers 401."""

    def __init__(self, secret_arn: str, client: "SecretsManagerClient") -> None:
        """Read nothing yet."""
        self._secret_arn = secret_arn
        self._client = client
        self._value: str | None = None

    def get(self) -> str:
        """Return the key.

        Raises KeyUnavailableError when the secret can't be read or holds no key that fits in a header.
        """
        if self._value is None:
            self._value = self._read()
        return self._value

    def preload(self) -> None:
        """Read the key early if possible. A secret that can't be read is for the call that needs the key."""
        with suppress(KeyUnavailableError):
            self.get()

    def refresh(self) -> bool:
        """Read the secret again and return whether it has changed: a rotated key is worth another attempt."""
        before = self._value
        try:
            self._value = self._read()
        except KeyUnavailableError:
            # The upstream's 401 is the answer then; it must not become a fault of ours.
            return False
        return self._value != before

    def _read(self) -> str:
        try:
            text = self._client.get_secret_value(SecretId=self._secret_arn).get("SecretString", "").strip()
        except (ClientError, BotoCoreError) as error:
            message = f"{self._secret_arn}: Secrets Manager failed: {aws_error_code(error)}"
            raise KeyUnavailableError(message) from error
        # The console's default is a JSON object of key/value pairs.
        if text.startswith("{"):
            try:
                text = str(json.loads(text).get(_JSON_FIELD) or "").strip()
            except ValueError:
                text = ""
        if not text or not (text.isascii() and text.isprintable()):
            message = (
                f"{self._secret_arn}: expected the API key as plain text or as {{{_JSON_FIELD!r}: …}} in JSON"
            )
            raise KeyUnavailableError(message)
        return text

    def __repr__(self) -> str:
        """Return a text without the key: a repr ends up in logs."""
        return f"ApiKey({self._secret_arn!r})"
