"""Signatures of webhook requests, after the Standard Webhooks specification.

Each host has a key of its own, which is derived from a master key of the stack. With the key of its host, a receiver
can compute neither the master key nor the key of another host.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable

KEY_BYTES = 32
_INFO = b"waterhook/webhook/v1/"
_SHA256_BYTES = 32


def hkdf_sha256(key_material: bytes, *, salt: bytes = b"", info: bytes, length: int) -> bytes:
    """Return `length` bytes that are derived from `key_material`. Source: RFC 5869, HKDF with SHA-256."""
    # HMAC pads its key with zeros, so an empty salt is the same as the default salt of the RFC.
    pseudorandom_key = hmac.digest(salt, key_material, hashlib.sha256)
    block, output = b"", b""
    for number in range(1, -(-length // _SHA256_BYTES) + 1):
        block = hmac.digest(pseudorandom_key, block + info + bytes([number]), hashlib.sha256)
        output += block
    return output[:length]


def derive_key(master: str, host: str) -> bytes:
    """Return the signing key of a host, 32 bytes.

    `host` is a lower-case ASCII name or an IP address, without port and trailing dot, as in `WebhookUrl.host`.
    """
    return hkdf_sha256(master.encode(), info=_INFO + host.encode(), length=KEY_BYTES)


def signature_header(keys: Iterable[bytes], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature per key, in the order of `keys`.

    Raises ValueError if there is no key, or if the id contains a dot, which separates the signed fields.
    """
    if "." in webhook_id:
        raise ValueError("webhook_id: contains a dot, which separates the fields of the signed text")
    content = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = [b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    if not signatures:
        raise ValueError("keys: a signature needs at least one key")
    return " ".join(f"v1,{signature}" for signature in signatures)


def shown_secret(key: bytes) -> str:
    """Return a signing key as the text that receivers configure: `whsec_` and base64."""
    return f"whsec_{b64encode(key).decode()}"
