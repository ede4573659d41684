"""API key of the upstream: read from Secrets Manager, kept in memory, and shown in no text."""

import json

import pytest

from tests.fakes.aws import FailingClient, Secret, client_error
from tests.support.builders import KEY
from waterhook.errors import KeyUnavailableError
from waterhook.upstream.api_key import ApiKey


def test_a_plain_text_secret_is_the_key(secret: Secret) -> None:
    assert ApiKey(secret.arn, secret.client).get() == KEY


@pytest.mark.parametrize(
    "value", [f"  {KEY}\n", json.dumps({"api_key": KEY}), json.dumps({"x": 1, "api_key": f" {KEY} "})]
)
def test_spaces_and_json_around_a_key_are_removed(secret: Secret, value: str) -> None:
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
def test_a_secret_that_is_not_a_valid_header_is_refused_without_its_value(secret: Secret, value: str) -> None:
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


def test_an_error_of_secrets_manager_is_named(secret: Secret) -> None:
    client = FailingClient(secret.client, {"get_secret_value": client_error("AccessDeniedException")})
    with pytest.raises(KeyUnavailableError, match="AccessDeniedException"):
        ApiKey(secret.arn, client).get()  # type: ignore[arg-type]


def test_the_key_is_read_once(secret: Secret) -> None:
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


def test_a_failed_refresh_keeps_the_key_and_returns_false(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    secret.client.delete_secret(SecretId=secret.arn, ForceDeleteWithoutRecovery=True)
    # The 401 of the upstream must not become a fault of Waterhook.
    assert key.refresh() is False
    assert key.get() == KEY


def test_no_text_of_the_object_contains_the_key(secret: Secret) -> None:
    key = ApiKey(secret.arn, secret.client)
    key.get()
    assert KEY not in f"{key!r} {key!s} {[key]}"
