"""Calls of the stack's API: retries, idempotency keys, signatures and errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials

from tests.fakes.scripted_server import ScriptedServer, Step, closed_port, hang_up, reply
from tests.support.builders import ID
from waterhook_cli.api_client import ApiClient, http_sender
from waterhook_cli.errors import AccessDeniedError, CommandError, ExitCode

ACCEPTED = reply(202, {"status": "ACCEPTED"})


def client(url: str, delays_s: list[float] | None = None) -> ApiClient:
    sign = SigV4Auth(Credentials("AKID", "secret"), "execute-api", "eu-west-1").add_auth
    return ApiClient(url, sign, http_sender(url, 5), sleep=(delays_s if delays_s is not None else []).append)


@contextmanager
def api(*steps: Step) -> Iterator[tuple[ApiClient, ScriptedServer, list[float]]]:
    """A client, the API that it calls, and the delays in seconds before its retries."""
    delays_s: list[float] = []
    with ScriptedServer(list(steps)) as server:
        yield client(server.url, delays_s), server, delays_s


def keys_of(server: ScriptedServer) -> set[str]:
    return {request.headers["idempotency-key"] for request in server.requests}


@pytest.mark.parametrize("failure", [hang_up, reply(429), reply(503), reply(504)])
def test_a_temporary_failure_is_retried(failure: Step) -> None:
    with api(failure, failure, ACCEPTED) as (client, server, delays_s):
        assert client.submit("bot", {}, None).status == "ACCEPTED"
    assert len(server.requests) == 3
    assert delays_s == [0.5, 2.0]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 500, 502])
def test_another_error_is_not_retried(status: int) -> None:
    with api(reply(status, {"detail": "no"})) as (client, server, delays_s), pytest.raises(CommandError):
        client.cancel(ID)
    assert len(server.requests) == 1
    assert delays_s == []


@pytest.mark.parametrize("key", ["mine", None])
def test_a_start_is_retried_with_the_same_key_so_that_it_starts_one_execution(key: str | None) -> None:
    with api(hang_up, ACCEPTED) as (client, server, _):
        client.submit("bot", {"input_data": {}}, key)
    (sent,) = keys_of(server)
    assert len(server.requests) == 2
    assert sent == key if key else sent


def test_an_api_that_cannot_be_reached_is_an_error_after_three_attempts() -> None:
    delays_s: list[float] = []
    with closed_port() as port, pytest.raises(CommandError, match="can't be reached") as caught:
        client(f"http://127.0.0.1:{port}", delays_s).status(ID)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert delays_s == [0.5, 2.0]


def test_the_error_of_a_start_that_may_have_been_received_has_the_key_that_finds_it() -> None:
    with api(hang_up) as (client, server, _), pytest.raises(CommandError, match="be reached") as caught:
        client.submit("bot", {}, None)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    (key,) = keys_of(server)
    assert f"--key {key}" in caught.value.hint


def test_the_error_of_a_start_that_was_denied_has_no_key() -> None:
    denied = reply(403, {"message": "Forbidden"})
    with api(denied) as (client, _, _), pytest.raises(AccessDeniedError, match="Forbidden") as caught:
        client.submit("bot", {}, None)
    assert "--key" not in caught.value.hint


@pytest.mark.parametrize("body", ["", "<html>", "[1]", "null", '{"detail": null}', "[" * 100_000])
def test_an_error_without_a_readable_body_is_reported_with_its_status(body: str) -> None:
    with (
        api(reply(500, body)) as (client, _, _),
        pytest.raises(CommandError, match="API returned status 500"),
    ):
        client.status(ID)


@pytest.mark.parametrize(
    ("text", "sent"),
    [("я🦆", '{"input_data":{"t":["я🦆",1]}}'), ("\ud800", '{"input_data":{"t":["\\ud800",1]}}')],
)
def test_a_request_is_sent_in_utf_8_and_without_spaces(text: str, sent: str) -> None:
    with api(ACCEPTED) as (client, server, _):
        client.submit("bot", {"input_data": {"t": [text, 1]}}, None)
    assert server.requests[0].body == sent.encode()


def test_a_request_is_signed_for_the_api_in_its_region() -> None:
    with api(ACCEPTED) as (client, server, _):
        client.submit("a/b", {"n": 1}, "k")
    (request,) = server.requests
    assert request.target == "/v1/executions/a%2Fb/async"
    scope = request.headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ")
    signature = dict(part.split("=", 1) for part in scope.split(", "))
    assert signature["Credential"].startswith("AKID/")
    assert signature["Credential"].endswith("/eu-west-1/execute-api/aws4_request")
    assert {"host", "x-amz-date", "idempotency-key"} <= set(signature["SignedHeaders"].split(";"))
