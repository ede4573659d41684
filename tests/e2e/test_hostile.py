"""Ids of an attacker, by every trigger: refused, or one segment of one path upstream, and never a line of a log."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote, urlsplit

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client, physical_id
from tests.e2e.conftest import home_of
from tests.e2e.executions import is_running, owner_arn, put_event
from tests.e2e.traces import function_logs
from tests.support.waiting import until
from waterhook.domain.trigger_input import derive_execution_id

pytestmark = pytest.mark.e2e

FORGED = '{"level":"ERROR","message":"forged"}'
HOSTILE = [
    "..",
    "../../_control/reset",
    "a/b",
    "%2e%2e%2f_control",
    "..%2f..%2f",
    "a;b?c#d",
    "a\nb",
    f"a\r\n{FORGED}",
    "\x00\x1b[2J",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt",
    "\N{GRINNING FACE}",
    "x" * 2048,
]
# Valid names of chatbots, so they are requested. The upstream has none of them.
VALID_NAMES = {
    "../../_control/reset",
    "a/b",
    "%2e%2e%2f_control",
    "..%2f..%2f",
    "a;b?c#d",
    "\N{GRINNING FACE}",
}
EXECUTION_REQUEST = re.compile(
    r"(GET|POST|DELETE) /v1/executions/[^/?#\s]+(/async|/stream)? (\d{3}|unanswered)"
)
CONTROL_REQUEST = re.compile(r"(GET|POST) /_control/(requests|executions|finish|faults|speed|key) 200")


def send(stack: StackClient, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """Send a request with exactly this path, which no client normalizes. Returns status code and body."""
    address = urlsplit(stack.outputs.api_url)
    headers = {"x-api-key": stack.outputs.api_key, "User-Agent": FORGED, "X-Request-Id": FORGED}

    def response() -> tuple[int, str] | None:
        connection = http.client.HTTPConnection(address.netloc, timeout=35)
        with closing(connection):
            connection.request(method, f"{address.path}/v1/executions/{path}", body, headers)
            answer = connection.getresponse()
            # 429: all functions are busy with other tests.
            return None if answer.status == 429 else (answer.status, answer.read().decode())

    return until(response)


def requests_upstream() -> list[str]:
    """Return the lines of the upstream's log: one for each request."""
    log = (home_of() / "log" / "waterflai.log").read_text(encoding="utf-8")
    return log.splitlines()


def test_an_id_of_any_text_is_refused_or_one_segment_of_a_path(stack: StackClient, marker: str) -> None:
    request = json.dumps({"input_data": {"marker": marker}})
    accepted = []
    for text in HOSTILE:
        segment = quote(text, safe="")
        status, body = send(stack, "POST", f"{segment}/async", request)
        # The local API Gateway decodes an id before it looks for its route: one with a slash or a ? has none.
        assert status in {400, 403, 404, *({202} if text in VALID_NAMES else ())}, (text, body)
        accepted += [json.loads(body)["execution_id"]] if status == 202 else []
        for method in ("GET", "DELETE"):
            status, body = send(stack, method, segment)
            assert status in {400, 403, 404}, (text, body)
    assert accepted

    def outcome_of(text: str) -> str:
        description = stack.wait_for_end(
            stack.start_execution({"chatbot_id": text, "input_data": {"marker": marker}})
        )
        return str(json.loads(description["cause"])["status"])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(outcome_of, HOSTILE[:5] + HOSTILE[7:8])) == {"REJECTED"}
    detail = {"chatbot_id": HOSTILE[7], "input_data": {"marker": marker}, "idempotency_key": HOSTILE[1]}
    by_event = put_event(stack, "Waterflai Execution Requested", detail)
    detail = {
        "chatbot_id": HOSTILE[1],
        "input_data": {"marker": marker},
        "idempotency_key": HOSTILE[10] + marker,
    }
    put_event(stack, "Waterflai Execution Requested", detail)
    for execution_id in (
        *accepted,
        derive_execution_id("events", by_event),
        derive_execution_id("events", HOSTILE[10] + marker),
    ):
        event = stack.wait_for_notification(execution_id)
        assert event["data"]["status"] == "REJECTED"

    unexpected = [
        line
        for line in requests_upstream()
        if not EXECUTION_REQUEST.fullmatch(line) and not CONTROL_REQUEST.fullmatch(line)
    ]
    assert unexpected == []
    assert any("..%2F..%2F_control%2Freset/async 404" in line for line in requests_upstream())
    # No id and no header has added a line to a log.
    lines = [text for _, text in function_logs(stack)]
    assert [text for text in lines if text.lstrip().startswith(FORGED[:30])] == []
    assert not any("forged" in text for text in lines if not text.startswith("{"))


def test_an_execution_id_of_the_upstream_with_a_path_requests_no_other_path(stack: StackClient) -> None:
    path = "../../_control/reset"
    answer = {
        "on": "start",
        "kind": "status_code",
        "code": 202,
        "body": json.dumps({"execution_id": path}),
    }
    execution_id = stack.submit("support-chat", {"simulate": {"faults": [answer]}})
    until(lambda: is_running(stack, execution_id))
    stack.delete(execution_id)
    assert f"DELETE /v1/executions/{quote(path, safe='')} 404" in requests_upstream()
    assert not any(line.endswith("/_control/reset 200") for line in requests_upstream())
    stack.stepfunctions.stop_execution(executionArn=owner_arn(stack, execution_id))


def test_a_caller_cannot_read_or_cancel_executions_of_another_one(stack: StackClient) -> None:
    gateway = aws_client(stack, "apigateway")
    key = gateway.create_api_key(name="another caller", enabled=True)
    gateway.create_usage_plan_key(
        usagePlanId=physical_id(stack, "ApiUsagePlan"), keyId=key["id"], keyType="API_KEY"
    )
    # No webhook is sent, because the outcome is not among the events.
    webhook = {"url": "https://localhost/token-of-the-url", "events": ["lost"]}
    execution_id = stack.submit("instant", idempotency_key="the key of two", webhook=webhook)
    headers, api_url = {"x-api-key": key["value"]}, stack.outputs.api_url
    for method in ("GET", "DELETE"):
        answer = stack.http.request(method, f"{api_url}/v1/executions/{execution_id}", headers=headers)
        assert answer.status_code == 404
        assert "token-of-the-url" not in answer.text
    assert stack.get(execution_id).json()["webhook"]["url"] == webhook["url"]
    answer = stack.http.get(f"{api_url}/v1/executions", headers=headers)
    assert answer.json() == {"executions": [], "next": None}
    # The same idempotency key of another caller is another execution.
    answer = stack.http.post(
        f"{api_url}/v1/executions/instant/async",
        headers=headers | {"Idempotency-Key": "the key of two"},
        json={"input_data": {"another": "request"}},
    )
    assert answer.status_code == 202
    assert answer.json()["execution_id"] != execution_id
