"""Calls of the API from the terminal: tried again where that is safe, and signed for who asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

from tests.support.builders import ID
from waterhook_cli.api_client import Api
from waterhook_cli.errors import ExitCode, Problem

URL = "https://abc.execute-api.eu-west-1.amazonaws.com/live"
GONE = EndpointConnectionError(endpoint_url=URL)
HUNG_UP = ConnectionClosedError(endpoint_url=URL)


@dataclass(frozen=True)
class Answer:
    status_code: int
    text: str = "{}"


class Wire:
    """Answers in order; the last one is repeated."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[AWSRequest] = []
        self.pauses: list[float] = []

    def send(self, request: AWSRequest) -> Answer:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def api(self) -> Api:
        sign = SigV4Auth(Credentials("AKID", "secret"), "execute-api", "eu-west-1").add_auth
        return Api(URL, sign, self.send, pause=self.pauses.append)

    def headers(self, name: str) -> set[str]:
        return {request.headers[name] for request in self.requests}


@pytest.mark.parametrize("trouble", [GONE, HUNG_UP, Answer(429), Answer(503), Answer(504)])
def test_what_passes_is_tried_again(trouble: Answer | Exception) -> None:
    wire = Wire(trouble, trouble, Answer(202, '{"status": "ACCEPTED"}'))
    assert wire.api().submit("bot", {}, None).status == "ACCEPTED"
    assert len(wire.requests) == 3
    assert wire.pauses == [0.5, 2.0]


@pytest.mark.parametrize("given", ["mine", None])
def test_a_start_is_tried_again_with_the_same_key_or_it_would_be_two(given: str | None) -> None:
    wire = Wire(GONE, Answer(202))
    wire.api().submit("bot", {"input_data": {}}, given)
    (key,) = wire.headers("Idempotency-Key")
    assert key == given if given else key


@pytest.mark.parametrize(
    ("text", "sent"),
    [("я🦆", '{"input_data":{"t":["я🦆",1]}}'), ("\ud800", '{"input_data":{"t":["\\ud800",1]}}')],
)
def test_a_request_is_sent_in_utf_8_and_without_spaces(text: str, sent: str) -> None:
    wire = Wire(Answer(202))
    wire.api().submit("bot", {"input_data": {"t": [text, 1]}}, None)
    assert wire.requests[0].data == sent.encode()


@pytest.mark.parametrize("code", [400, 403, 404, 409, 413, 500, 502])
def test_what_does_not_pass_is_not_tried_again(code: int) -> None:
    wire = Wire(Answer(code, '{"detail": "no"}'))
    with pytest.raises(Problem, match="no"):
        wire.api().cancel(ID)
    assert len(wire.requests) == 1
    assert wire.pauses == []


def test_a_start_that_may_have_happened_tells_the_key_that_finds_it() -> None:
    wire = Wire(HUNG_UP)
    with pytest.raises(Problem, match="can't be reached") as caught:
        wire.api().submit("bot", {}, None)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    (key,) = wire.headers("Idempotency-Key")
    assert f"--key {key}" in caught.value.do
    assert len(wire.requests) == 3


def test_a_start_that_was_refused_did_not_happen() -> None:
    wire = Wire(Answer(403, '{"message": "Forbidden"}'))
    with pytest.raises(Problem) as caught:
        wire.api().submit("bot", {}, None)
    assert "--key" not in caught.value.do


@pytest.mark.parametrize("said", ["", "<html>", "[1]", "null", '{"detail": null}', "[" * 100_000])
def test_an_answer_that_makes_no_sense_is_told_in_words(said: str) -> None:
    with pytest.raises(Problem, match="the API answered 500"):
        Wire(Answer(500, said)).api().status(ID)


def signed(request: AWSRequest) -> Mapping[str, Any]:
    scope = request.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ")
    return dict(part.split("=", 1) for part in scope.split(", "))


def test_a_request_is_signed_for_the_api_in_its_region_with_its_body() -> None:
    wire = Wire(Answer(202))
    wire.api().submit("a/b", {"n": 1}, "k")
    (request,) = wire.requests
    assert request.url == f"{URL}/v1/executions/a%2Fb/async"
    assert signed(request)["Credential"].startswith("AKID/")
    assert signed(request)["Credential"].endswith("/eu-west-1/execute-api/aws4_request")
    assert {"host", "x-amz-date", "idempotency-key"} <= set(signed(request)["SignedHeaders"].split(";"))
