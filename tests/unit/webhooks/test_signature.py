"""Keys of hosts and signatures: the test vectors of RFC 5869, and the text that Standard Webhooks signs."""

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from waterhook.webhooks.signature import derive_key, hkdf_sha256, shown_secret, signature_header

MASTER = "the-master-key-of-a-stack"
WEBHOOK_ID = "0f0f/1767225600000/COMPLETED"
BODY = b'{"id":"\xc3\xa4"}'


@pytest.mark.parametrize(
    ("key_material", "salt", "info", "length", "output"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                "cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_hkdf_has_the_results_of_the_rfc(
    key_material: str, salt: str, info: str, length: int, output: str
) -> None:
    derived = hkdf_sha256(
        bytes.fromhex(key_material), salt=bytes.fromhex(salt), info=bytes.fromhex(info), length=length
    )
    assert derived.hex() == output


@pytest.mark.parametrize("master", [MASTER, "schlüssel", "x" * 200])
def test_the_key_of_a_host_is_that_of_another_implementation(master: str) -> None:
    other = HKDF(SHA256(), 32, salt=None, info=b"waterhook/webhook/v1/hooks.example.com")
    assert derive_key(master, "hooks.example.com") == other.derive(master.encode())


def test_each_host_and_each_master_key_has_its_own_key() -> None:
    keys = [derive_key(master, host) for master in (MASTER, "another") for host in ("a.example", "b.example")]
    assert len(set(keys)) == 4


def test_a_signature_covers_id_timestamp_and_body() -> None:
    key = derive_key(MASTER, "hooks.example.com")
    header = signature_header([key], webhook_id=WEBHOOK_ID, timestamp=1767225600, body=BODY)
    signed = b"0f0f/1767225600000/COMPLETED.1767225600." + BODY
    assert header == "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_several_keys_sign_in_their_order() -> None:
    keys = [derive_key(master, "hooks.example.com") for master in ("new", "old")]
    one_by_one = [signature_header([key], webhook_id=WEBHOOK_ID, timestamp=1, body=BODY) for key in keys]
    assert signature_header(iter(keys), webhook_id=WEBHOOK_ID, timestamp=1, body=BODY) == " ".join(one_by_one)


def test_an_id_with_a_dot_is_refused() -> None:
    # "a.1" with the timestamp 2 and "a" with the timestamp 1 would sign the same text, with other bodies.
    with pytest.raises(ValueError, match="contains a dot"):
        signature_header([b"key"], webhook_id="a.1", timestamp=2, body=BODY)


def test_without_a_key_there_is_no_signature() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        signature_header([], webhook_id=WEBHOOK_ID, timestamp=1, body=BODY)


def test_a_secret_is_shown_with_its_prefix() -> None:
    key = derive_key(MASTER, "hooks.example.com")
    prefix, _, text = shown_secret(key).partition("_")
    assert (prefix, b64decode(text, validate=True)) == ("whsec", key)
