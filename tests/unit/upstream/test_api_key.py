"""The upstream's key: from Secrets Manager into memory and nowhere else."""

import json

import pytest

from tests.fakes.aws import Failing, Secret, client_error
from tests.support.builders import KEY
from waterhook.errors import KeyUnavailableError
from waterhook.upstream.api_key import ApiKey


def test_a_plain_text_secret_is_the_key(secret: Secret) -> None:
    assert ApiKey(secret.arn, secret.client).get() == KEY


@pytest.mark.parametrize(
    "value", [f"  {KEY}\n", json.dumps({"api_key": KEY}), json.dumps({"x": 1, "api_key": f" {KEY} "})]
)
def test_what_people_paste_around_a_key_is_not_part_of_it(secret: Secret, value: str) -> None:
    secret.rotate(value)
    assert ApiKey(secret.arn, secret.client).get() == KEY


@pytest.mark.parametrize(
    "value",
    [
        "  ",
        "{}",
        "{",
        '{"key":"not-shown"}',
        '{"api_key":null}',
        '{"api_key":""}',
        "two\nlines",
        "carriage\rreturn: injected",
        "schlüssel",
        "nul\x00byte",
    ],
)
def test_a_secret_that_fits_in_no_header_is_refused_without_being_quoted(secret: Secret, value: str) -> None:
    secret.rotate(value)
    with pytest.raises(KeyUnavailableError) as caught:
        ApiKey(secret.arn, secret.client).get()
    assert secret.arn in str(caught.value)
    for part in ("lines", "injected", "schl", "byte", "not-shown"):
        assert part not in str(caught.value)


def test_a_binary_secret_is_refused(secret: Secret) -> None:
    secret.client.put_secret_value(SecretId=secret.arn, SecretBinary=b"bytes")
    with pytest.raises(KeyUnavailableError):
        ApiKey(secret.arn, secret.client).get()


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "AccessDeniedException", "ResourceNotFoundException"]
)
def test_a_secret_that_is_not_readable_now_is_distinguished_from_a_fault(secret: Secret, code: str) -> None:
    client = Failing(secret.client, {"get_secret_value": client_error(code)})
    with pytest.raises(KeyUnavailableError, match=code):
        ApiKey(secret.arn, client).get()  # type: ignore[arg-type]


def test_the_key_is_read_once_and_kept(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    secret.rotate("another")
    assert key.get() == KEY


def test_a_refresh_reads_the_rotated_key_and_returns_true(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    secret.rotate("another")
    assert key.refresh() is True
    assert key.get() == "another"


def test_a_refresh_without_a_rotation_returns_false(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    assert key.refresh() is False
    assert key.get() == KEY


def test_a_failed_refresh_leaves_the_key_that_there_was(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    secret.client.delete_secret(SecretId=secret.arn, ForceDeleteWithoutRecovery=True)
    # A 401 of the upstream's must not become a fault of ours.
    assert key.refresh() is False
    assert key.get() == KEY


def test_nothing_printed_of_it_shows_the_key(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    assert KEY not in f"{key!r} {key!s} {[key]}"
