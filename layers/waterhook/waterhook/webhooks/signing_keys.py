"""The master keys of webhook signatures: their format in Secrets Manager, their rotation, and their cache.

A request is signed with each key that is younger than a day, and with the newest older key. So a receiver can change
its secret within a day after a rotation, and never has to accept an unsigned request.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import SigningKeysInUseError, SigningKeysUnavailableError, aws_error_code
from waterhook.json_text import to_json
from waterhook.timestamps import to_epoch_s, to_rfc3339
from waterhook.webhooks.cached_secret import CachedSecret
from waterhook.webhooks.signature import derive_key

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MAX_KEYS = 3
# After a rotation, the previous key signs for this long.
OVERLAP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A master key. `created_at` is in epoch seconds, None for the key that the deployment generated."""

    key: str = field(repr=False)
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The current value of the secret: the keys, newest first, and the version of the secret."""

    keys: list[MasterKey]
    version_id: str


def master_keys(secret_text: str) -> list[MasterKey]:
    """Return the keys of the secret, newest first. A key without creation time is the oldest.

    Accepts `{"key": …}`, and `{"keys": [{"key": …, "created_at": RFC 3339 or null}, …]}` with one to three keys.
    Raises ValueError for other text. Neither the error nor its context contains any part of the text.
    """
    keys = _parse(secret_text)
    # Raised outside of an `except` block: the context of an error of `json` would contain the text.
    if keys is None:
        raise ValueError(f'expected {{"key": …}} or {{"keys": […]}} in JSON, with one to {MAX_KEYS} keys')
    return sorted(keys, key=lambda key: (key.created_at is not None, key.created_at), reverse=True)


def _parse(secret_text: str) -> list[MasterKey] | None:
    try:
        document = json.loads(secret_text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    entries = document.get("keys", [{"key": document.get("key")}])
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_KEYS:
        return None
    keys = [_parse_entry(entry) for entry in entries]
    return [key for key in keys if key is not None] if None not in keys else None


def _parse_entry(entry: Any) -> MasterKey | None:
    if not isinstance(entry, dict):
        return None
    key, created_at = entry.get("key"), entry.get("created_at")
    # Half of a surrogate pair is not printable, and can't be encoded.
    if not isinstance(key, str) or not key or not key.isprintable():
        return None
    if created_at is None:
        return MasterKey(key)
    seconds = to_epoch_s(created_at) if isinstance(created_at, str) else None
    return None if seconds is None else MasterKey(key, seconds)


def to_secret_text(keys: Sequence[MasterKey]) -> str:
    """Return the value of the secret for these keys, newest first. `master_keys` reads it."""
    return to_json({"keys": [{"key": key.key, "created_at": to_rfc3339(key.created_at)} for key in keys]})


def signs_until(newer: MasterKey) -> float | None:
    """Return when the predecessor of `newer` stops signing, in epoch seconds; None if it no longer signs."""
    return None if newer.created_at is None else newer.created_at + OVERLAP_S


def signing(keys: Sequence[MasterKey], now: float) -> list[MasterKey]:
    """Return the keys to sign with, of `keys`, newest first: all younger than a day, and the newest older one."""
    young = sum((until := signs_until(key)) is not None and now < until for key in keys)
    return list(keys[: young + 1])


def rotated(keys: Sequence[MasterKey], now: float, new_key: str, *, force: bool) -> list[MasterKey]:
    """Return the keys with the new one, newest first, without those that no longer sign.

    Raises SigningKeysInUseError if three keys sign and `force` is not set. With `force`, the oldest is removed.
    """
    alive = signing(keys, now)
    if len(alive) >= MAX_KEYS and not force:
        raise SigningKeysInUseError(
            f"{MAX_KEYS} keys are in use, and a rotation would remove the oldest. It is in use until "
            f"{to_rfc3339(signs_until(alive[-2]))}. Rotate after this time. To remove it now, add --force"
        )
    # The order of creation times must be the order of rotations, also if the clocks of two operators differ.
    created_at = max([now, *(key.created_at for key in alive if key.created_at is not None)])
    return [MasterKey(new_key, created_at), *alive][:MAX_KEYS]


def read_keys(secret_arn: str, client: "SecretsManagerClient") -> StoredKeys:
    """Return the keys of a secret. Raises SigningKeysUnavailableError if it can't be read or has another format."""
    try:
        response = client.get_secret_value(SecretId=secret_arn, VersionStage="AWSCURRENT")
    except (ClientError, BotoCoreError) as error:
        message = f"{secret_arn}: Secrets Manager failed: {aws_error_code(error)}"
        raise SigningKeysUnavailableError(message) from error
    try:
        return StoredKeys(master_keys(response.get("SecretString", "")), response["VersionId"])
    except ValueError as error:
        raise SigningKeysUnavailableError(f"{secret_arn}: {error}") from error


class SigningKeys:
    """The signing keys of each host. The secret is read once in five minutes, so a rotation takes effect by then."""

    def __init__(
        self, secret_arn: str, client: "SecretsManagerClient", clock: Callable[[], float] = time.time
    ) -> None:
        """Read nothing yet. `clock` returns epoch seconds."""
        self._secret_arn = secret_arn
        self._clock = clock
        self._keys = CachedSecret(lambda: read_keys(secret_arn, client).keys, clock)

    def keys_for(self, host: str) -> list[bytes]:
        """Return the keys to sign a request to this host with, newest first; `host` as for `derive_key`.

        Raises SigningKeysUnavailableError if the secret has never been readable. After that, cached keys are used.
        """
        return [derive_key(master.key, host) for master in signing(self._keys.get(), self._clock())]

    def __repr__(self) -> str:
        """Return a text without keys, because a repr may be logged."""
        return f"SigningKeys({self._secret_arn!r})"
