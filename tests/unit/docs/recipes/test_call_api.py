"""The recipe of a signed call signs the request with the credentials of the caller."""

import subprocess
import sys

import pytest

from tests.contract.template import ROOT
from tests.fakes.scripted_server import ScriptedServer, reply

SCRIPT = ROOT / "docs" / "recipes" / "call_api.py"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_REGION", raising=False)


def call(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=30
    )


def test_a_request_is_signed_for_the_api_in_its_region() -> None:
    with ScriptedServer([reply(202, {"execution_id": "0f"})]) as api:
        done = call("POST", f"{api.url}/live/v1/executions/support-chat/async", '{"input_data": {}}')
    assert done.stdout == '202 {"execution_id": "0f"}\n', done.stderr
    (request,) = api.requests
    assert (request.method, request.target) == ("POST", "/live/v1/executions/support-chat/async")
    assert request.json == {"input_data": {}}
    signature = request.headers["authorization"]
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-central-1/execute-api/aws4_request, " in signature
    assert "x-amz-date" in request.headers
    assert "wJalrXUtnFEMI" not in str(request.headers)


URL = "https://abc.execute-api.eu-central-1.amazonaws.com/live/v1/executions"


@pytest.mark.parametrize(
    ("unset", "env", "words", "message"),
    [
        ([], {}, [], "usage: call_api.py METHOD URL [BODY]"),
        ([], {}, ["GET", "/v1/executions"], "'/v1/executions' is not the URL of an API: is API_URL set?"),
        (["AWS_DEFAULT_REGION"], {}, ["GET", "http://127.0.0.1:1/"], "no AWS region: set AWS_REGION"),
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], {}, ["GET", URL], "no AWS credentials: log in"),
        (
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"],
            {"AWS_REGION": "eu-central-1"},
            ["GET", "https://api.example.com/v1/executions"],
            "no AWS credentials: log in",
        ),
        (["AWS_SECRET_ACCESS_KEY"], {}, ["GET", URL], "AWS credentials can't be used: Partial credentials"),
        ([], {"AWS_PROFILE": "missing"}, ["GET", "http://127.0.0.1:1/"], "The config profile (missing)"),
        ([], {}, ["GET", "http://127.0.0.1:1/live"], "no answer from http://127.0.0.1:1/live: "),
    ],
)
def test_a_missing_setting_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, unset: list[str], env: dict[str, str], words: list[str], message: str
) -> None:
    for name in [*unset, "AWS_REGION"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = call(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_aws_region_sets_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with ScriptedServer([reply(200, {})]) as api:
        done = call("GET", f"{api.url}/live/v1/executions")
    assert done.returncode == 0, done.stderr
    assert "/eu-west-1/execute-api/" in api.requests[0].headers["authorization"]


def test_a_refusal_is_printed_unchanged() -> None:
    with ScriptedServer([reply(403, {"detail": "access denied"})]) as api:
        done = call("GET", f"{api.url}/live/v1/executions")
    assert done.stdout == '403 {"detail": "access denied"}\n', done.stderr
    assert api.requests[0].body == b""
