"""The recipe of a signed call: what the API gets is signed for it, with the caller's own credentials."""

import subprocess
import sys

import pytest

from tests.infra.template import ROOT
from tests.support.server import Server, reply

SCRIPT = ROOT / "docs" / "recipes" / "call_api.py"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def call(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=30
    )


def test_a_request_is_signed_for_the_api_in_its_region_and_its_body_with_it() -> None:
    with Server([reply(202, {"execution_id": "0f"})]) as api:
        done = call("POST", f"{api.url}/live/v1/executions/support-chat/async", '{"input_data": {}}')
    assert done.stdout == '202 {"execution_id": "0f"}\n', done.stderr
    (received,) = api.received
    assert (received.method, received.target) == ("POST", "/live/v1/executions/support-chat/async")
    assert received.json == {"input_data": {}}
    signature = received.headers["authorization"]
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-central-1/execute-api/aws4_request, " in signature
    assert "x-amz-date" in received.headers
    assert "wJalrXUtnFEMI" not in str(received.headers)


def test_a_refusal_is_told_as_it_came() -> None:
    with Server([reply(403, {"detail": "you may not ask"})]) as api:
        done = call("GET", f"{api.url}/live/v1/executions")
    assert done.stdout == '403 {"detail": "you may not ask"}\n', done.stderr
    assert api.received[0].body == b""
