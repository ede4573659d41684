"""What holds for every execution on the deployed stack: keys, duplicates, sizes, the API's manners."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.test_outcomes import starts_of
from tests.e2e.test_triggers import SLOW, finish
from tests.support.waiting import until
from waterhook.timestamps import to_epoch_s

pytestmark = pytest.mark.e2e

KIB = 1024


def test_the_same_key_and_request_are_one_execution_however_often_they_are_sent(
    stack: StackClient, marker: str
) -> None:
    def send(_: int) -> str:
        return stack.submit("support-chat", {"marker": marker}, idempotency_key=marker)

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, range(16)))
    assert len(ids) == 1
    stack.wait_for_notification(ids.pop())
    again = stack.submit("support-chat", {"marker": marker}, idempotency_key=marker)
    [event] = stack.peek(again)
    accepted_ms = round((to_epoch_s(event["data"]["timing"]["accepted_at"]) or 0.0) * 1000)
    assert event["id"] == f"{again}/{accepted_ms}/COMPLETED"
    assert starts_of(stack, marker) == 1


def test_the_same_key_with_another_request_is_a_conflict(stack: StackClient, marker: str) -> None:
    stack.submit("instant", {"marker": marker}, idempotency_key=marker)
    answer = stack.post("instant", {"input_data": {"another": True}}, idempotency_key=marker)
    assert answer.status_code == 409
    assert "idempotency_key" in answer.json()["detail"]


def test_a_duplicate_execution_names_its_owner_while_that_runs_and_ends_as_it_did_afterwards(
    stack: StackClient, marker: str
) -> None:
    input_data = {"marker": marker, "simulate": SLOW}
    request = {"chatbot_id": "support-chat", "input_data": input_data, "idempotency_key": marker}
    first = stack.start_execution(request)
    until(lambda: starts_of(stack, marker))
    second = stack.wait_for_end(stack.start_execution(request))
    assert second["error"] == "Waterhook.Duplicate"
    cause = json.loads(second["cause"])
    assert cause["owner_execution_arn"] == first

    finish(stack, cause["execution_id"])
    output = json.loads(stack.wait_for_end(first)["output"])
    third = stack.wait_for_end(stack.start_execution(request))
    assert third["status"] == "SUCCEEDED"
    assert json.loads(third["output"])["final_output_json"] == output["final_output_json"]

    conflicting = stack.wait_for_end(stack.start_execution({**request, "input_data": {}}))
    assert conflicting["error"] == "Waterhook.IdempotencyConflict"
    assert len(stack.peek(output["execution_id"])) == 1
    assert starts_of(stack, marker) == 1


def test_a_duplicate_delivery_of_an_event_starts_nothing(stack: StackClient, marker: str) -> None:
    event = {"event_id": marker, "request": {"chatbot_id": "instant", "input_data": {"marker": marker}}}
    runs = [stack.wait_for_end(stack.start_execution(event)) for _ in range(2)]
    assert [run["status"] for run in runs] == ["SUCCEEDED", "SUCCEEDED"]
    assert runs[0]["output"] == runs[1]["output"]
    assert starts_of(stack, marker) == 1


def test_an_execution_is_visible_right_after_its_202(stack: StackClient) -> None:
    for _ in range(5):
        answer = stack.post("support-chat", {"input_data": {}})
        assert answer.status_code == 202
        accepted = answer.json()
        read = stack.get(accepted["execution_id"])
        assert read.status_code == 200
        assert int(read.headers["Retry-After"]) >= 1
        assert accepted["status_url"].endswith(f"/v1/executions/{accepted['execution_id']}")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"input_data": []}, 400, "input_data: expected object, got list"),
        ({"input_data": {}, "timeout_seconds": 0}, 400, "seconds from 1 to 2592000, got 0"),
        ("{nonsense", 400, "body: invalid JSON at line 1, column 2. Send a JSON object such as"),
        ("", 400, "body: empty. Send a JSON object such as"),
        ({"input_data": {"text": "x" * (241 * KIB)}}, 413, "at most 245760 are allowed"),
        ({"input_data": {}, "chatbot_id": "another"}, 400, "chatbot_id: "),
    ],
    ids=["list", "timeout", "no JSON", "empty", "too large", "two chatbots"],
)
def test_the_api_says_what_is_wrong_and_starts_nothing(
    stack: StackClient, body: Any, status: int, detail: str
) -> None:
    answer = stack.post("support-chat", body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_what_is_unknown_is_404_and_without_a_key_nothing_is_said(stack: StackClient) -> None:
    assert stack.get("0" * 32).status_code == 404
    assert "detail" in stack.get("0" * 32).json()
    url = f"{stack.outputs.api_url}/v1/executions/{'0' * 32}"
    assert httpx.get(url, trust_env=False).status_code == 403
    assert httpx.get(url, headers={"x-api-key": "wrong"}, trust_env=False).status_code == 403


def test_no_payload_of_an_execution_comes_near_a_limit(stack: StackClient) -> None:
    filler = {"text": "é" * (110 * KIB), "simulate": {"output_kib": 31}}
    execution_id = stack.submit("support-chat", filler, metadata={"note": "m" * 4000})
    stack.wait_for_notification(execution_id)
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    stack.wait_for_end(arn)
    history = stack.history(arn)
    sizes = [(event["type"], size_bytes(text)) for event in history for text in texts(event)]
    print(f"\n{len(history)} events, largest payload {max(size for _, size in sizes)} bytes")
    assert max(size for _, size in sizes) < 256 * KIB
    entered = [details for event in history if (details := event.get("stateEnteredEventDetails"))]
    states = [size_bytes(state["input"]) for state in entered if state["name"] in {"Follow", "Wait", "Poll"}]
    print(f"state of the loop: {max(states)} bytes at most")
    assert max(states) < 8 * KIB


def size_bytes(text: str) -> int:
    """The bytes of a payload as AWS counts them: in UTF-8, where MiniStack writes escapes."""
    try:
        return len(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode())
    except ValueError:
        return len(text.encode())


def texts(event: Any) -> list[str]:
    """Every input, output and parameter that an event of the history carries."""
    details = [value for name, value in event.items() if name.endswith("Details")]
    return [value for detail in details for value in detail.values() if isinstance(value, str)]


def test_without_dynamodb_the_output_is_dropped_once_it_was_notified(stack: StackClient) -> None:
    execution_id = stack.submit("instant", deliver_to=["sns"])
    assert stack.wait_for_notification(execution_id)["data"]["final_output"]
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    assert "final_output_json" in json.loads(stack.wait_for_end(arn)["output"])
    item = stack.item(execution_id)
    assert item is not None
    assert item["status"] == "COMPLETED"
    assert "final_output_json" not in item


def test_without_sns_nothing_is_published(stack: StackClient) -> None:
    execution_id = stack.submit("instant", deliver_to=["dynamodb"])
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    stack.wait_for_end(arn)
    item = stack.item(execution_id)
    assert item is not None
    assert item["final_output_json"]
    assert stack.peek(execution_id) == []
