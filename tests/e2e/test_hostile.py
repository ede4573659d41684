"""Ids as an attacker would choose them, at every door: refused, or one segment of one path; never a line of a log."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote, urlsplit

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws, physical
from tests.e2e.conftest import home_of
from tests.e2e.test_triggers import put_event, running
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
# What of these may be the name of a chatbot, and is asked for as such; the upstream has none of them.
PECULIAR = {"../../_control/reset", "a/b", "%2e%2e%2f_control", "..%2f..%2f", "a;b?c#d", "\N{GRINNING FACE}"}
ONE_SEGMENT = re.compile(r"(GET|POST|DELETE) /v1/executions/[^/?#\s]+(/async|/stream)? (\d{3}|unanswered)")
OUR_OWN = re.compile(r"(GET|POST) /_control/(requests|executions|finish|faults|speed|key) 200")


def ask(stack: StackClient, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """The answer to a path that goes out as it is written here: no client tidies it up."""
    address = urlsplit(stack.outputs.api_url)
    headers = {"x-api-key": stack.outputs.api_key, "User-Agent": FORGED, "X-Request-Id": FORGED}

    def once() -> tuple[int, str] | None:
        connection = http.client.HTTPConnection(address.netloc, timeout=35)
        with closing(connection):
            connection.request(method, f"{address.path}/v1/executions/{path}", body, headers)
            answer = connection.getresponse()
            # Where all functions are busy with other tests.
            return None if answer.status == 429 else (answer.status, answer.read().decode())

    status, said = until(once)
    return status, said


def requests_upstream() -> list[str]:
    """Every request that reached the upstream, as its log has it."""
    log = (home_of() / "log" / "waterflai.log").read_text(encoding="utf-8")
    return log.splitlines()


def test_an_id_of_any_text_is_refused_or_one_segment_of_one_path(stack: StackClient, marker: str) -> None:
    request = json.dumps({"input_data": {"marker": marker}})
    accepted = []
    for text in HOSTILE:
        segment = quote(text, safe="")
        status, said = ask(stack, "POST", f"{segment}/async", request)
        # The local API Gateway decodes an id before it looks for its route: one with a slash or a ? has none.
        assert status in {400, 403, 404, *({202} if text in PECULIAR else ())}, (text, said)
        accepted += [json.loads(said)["execution_id"]] if status == 202 else []
        for method in ("GET", "DELETE"):
            status, said = ask(stack, method, segment)
            assert status in {400, 403, 404}, (text, said)
    assert accepted

    def by_hand(text: str) -> str:
        run = stack.wait_for_end(
            stack.start_execution({"chatbot_id": text, "input_data": {"marker": marker}})
        )
        return str(json.loads(run["cause"])["status"])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(by_hand, HOSTILE[:5] + HOSTILE[7:8])) == {"REJECTED"}
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

    odd = [
        line
        for line in requests_upstream()
        if not ONE_SEGMENT.fullmatch(line) and not OUR_OWN.fullmatch(line)
    ]
    assert odd == []
    assert any("..%2F..%2F_control%2Freset/async 404" in line for line in requests_upstream())
    # Every line that a function wrote is its own, whatever was in an id or in a header.
    lines = [text for _, text in function_logs(stack)]
    assert [text for text in lines if text.lstrip().startswith(FORGED[:30])] == []
    assert not any("forged" in text for text in lines if not text.startswith("{"))


def test_an_id_that_the_upstream_made_up_leads_nowhere_else(stack: StackClient) -> None:
    climbing = "../../_control/reset"
    answer = {
        "on": "start",
        "kind": "status_code",
        "code": 202,
        "body": json.dumps({"execution_id": climbing}),
    }
    execution_id = stack.submit("support-chat", {"simulate": {"faults": [answer]}})
    until(lambda: running(stack, execution_id))
    stack.delete(execution_id)
    assert f"DELETE /v1/executions/{quote(climbing, safe='')} 404" in requests_upstream()
    assert not any(line.endswith("/_control/reset 200") for line in requests_upstream())
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    stack.stepfunctions.stop_execution(executionArn=arn)


def test_another_caller_sees_and_cancels_nothing_of_the_first(stack: StackClient) -> None:
    gateway = aws(stack, "apigateway")
    key = gateway.create_api_key(name="another caller", enabled=True)
    gateway.create_usage_plan_key(
        usagePlanId=physical(stack, "ApiUsagePlan"), keyId=key["id"], keyType="API_KEY"
    )
    mine = stack.submit("instant", idempotency_key="the key of two")
    headers, api_url = {"x-api-key": key["value"]}, stack.outputs.api_url
    for method in ("GET", "DELETE"):
        answer = stack.http.request(method, f"{api_url}/v1/executions/{mine}", headers=headers)
        assert answer.status_code == 404
    answer = stack.http.get(f"{api_url}/v1/executions", headers=headers)
    assert answer.json() == {"executions": [], "next": None}
    # Nor do their idempotency keys meet.
    theirs = stack.http.post(
        f"{api_url}/v1/executions/instant/async",
        headers=headers | {"Idempotency-Key": "the key of two"},
        json={"input_data": {"another": "request"}},
    )
    assert theirs.status_code == 202
    assert theirs.json()["execution_id"] != mine
