"""Waterflai's API key. It is read from Secrets Manager into memory and stored nowhere else."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import KeyUnavailableError, aws_error_code

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_JSON_FIELD = "api_key"


class ApiKey:
    """The key in one secret. Read once per container, and again after Waterflai answers 401."""

    def __init__(self, secret_arn: str, client: "SecretsManagerClient") -> None:
        """Read nothing yet. `secret_arn` names the secret."""
        self._secret_arn = secret_arn
        self._client = client
        self._value: str | None = None

    def get(self) -> str:
        """Return the key.

        Raises KeyUnavailableError if the secret can't be read or contains no key that is valid in an HTTP header.
        """
        if self._value is None:
            self._value = self._read()
        return self._value

    def preload(self) -> None:
        """Read the key early if possible. Errors are ignored: the call that needs the key raises them."""
        with suppress(KeyUnavailableError):
            self.get()

    def refresh(self) -> bool:
        """Read the secret again. Return whether the key has changed, so that another attempt may succeed."""
        before = self._value
        try:
            self._value = self._read()
        except KeyUnavailableError:
            # The caller then reports the 401 of Waterflai, not a failing AWS service.
            return False
        return self._value != before

    def _read(self) -> str:
        try:
            text = self._client.get_secret_value(SecretId=self._secret_arn).get("SecretString", "").strip()
        except (ClientError, BotoCoreError) as error:
            message = f"{self._secret_arn}: Secrets Manager failed: {aws_error_code(error)}"
            raise KeyUnavailableError(message) from error
        # A secret created in the console is by default a JSON object of key/value pairs.
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
        """Return a text without the key, because a repr may be logged."""
        return f"ApiKey({self._secret_arn!r})"
