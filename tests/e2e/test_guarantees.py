"""Guarantees for every execution on the deployed stack: duplicates, errors of the API, delivery."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.executions import LONG_JOB, finish_job, owner_arn, starts_of
from tests.support.waiting import until
from waterhook.timestamps import to_epoch_s

pytestmark = pytest.mark.e2e

KIB = 1024


def test_concurrent_requests_with_the_same_key_are_one_execution(stack: StackClient, marker: str) -> None:
    def send(_: int) -> str:
        return stack.submit("support-chat", {"marker": marker}, idempotency_key=marker)

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, range(16)))
    assert len(ids) == 1
    stack.wait_for_notification(ids.pop())
    execution_id = stack.submit("support-chat", {"marker": marker}, idempotency_key=marker)
    [event] = stack.peek(execution_id)
    accepted_ms = round((to_epoch_s(event["data"]["timing"]["accepted_at"]) or 0.0) * 1000)
    assert event["id"] == f"{execution_id}/{accepted_ms}/COMPLETED"
    assert starts_of(stack, marker) == 1


def test_a_duplicate_execution_names_its_owner_and_after_the_end_ends_as_the_owner_did(
    stack: StackClient, marker: str
) -> None:
    input_data = {"marker": marker, "simulate": LONG_JOB}
    request = {"chatbot_id": "support-chat", "input_data": input_data, "idempotency_key": marker}
    owner = stack.start_execution(request)
    until(lambda: starts_of(stack, marker))
    duplicate = stack.wait_for_end(stack.start_execution(request))
    assert duplicate["error"] == "Waterhook.Duplicate"
    cause = json.loads(duplicate["cause"])
    assert cause["owner_execution_arn"] == owner

    finish_job(stack, cause["execution_id"])
    output = json.loads(stack.wait_for_end(owner)["output"])
    late_duplicate = stack.wait_for_end(stack.start_execution(request))
    assert late_duplicate["status"] == "SUCCEEDED"
    assert json.loads(late_duplicate["output"])["final_output_json"] == output["final_output_json"]

    conflicting = stack.wait_for_end(stack.start_execution({**request, "input_data": {}}))
    assert conflicting["error"] == "Waterhook.IdempotencyConflict"
    assert len(stack.peek(output["execution_id"])) == 1
    assert starts_of(stack, marker) == 1


def test_a_second_delivery_of_an_event_starts_no_job(stack: StackClient, marker: str) -> None:
    event = {"event_id": marker, "request": {"chatbot_id": "instant", "input_data": {"marker": marker}}}
    runs = [stack.wait_for_end(stack.start_execution(event)) for _ in range(2)]
    assert [run["status"] for run in runs] == ["SUCCEEDED", "SUCCEEDED"]
    assert runs[0]["output"] == runs[1]["output"]
    assert starts_of(stack, marker) == 1


def test_an_execution_is_readable_as_soon_as_it_is_accepted(stack: StackClient) -> None:
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
def test_the_api_returns_the_reason_for_refusing_a_request(
    stack: StackClient, body: Any, status: int, detail: str
) -> None:
    answer = stack.post("support-chat", body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_an_unknown_execution_is_404_and_a_request_without_an_api_key_403(stack: StackClient) -> None:
    assert stack.get("0" * 32).status_code == 404
    assert "detail" in stack.get("0" * 32).json()
    url = f"{stack.outputs.api_url}/v1/executions/{'0' * 32}"
    assert httpx.get(url, trust_env=False).status_code == 403
    assert httpx.get(url, headers={"x-api-key": "wrong"}, trust_env=False).status_code == 403


def test_without_dynamodb_delivery_the_output_is_deleted_after_its_notification(stack: StackClient) -> None:
    execution_id = stack.submit("instant", deliver_to=["sns"])
    assert stack.wait_for_notification(execution_id)["data"]["final_output"]
    description = stack.wait_for_end(owner_arn(stack, execution_id))
    assert "final_output_json" in json.loads(description["output"])
    record = stack.item(execution_id)
    assert record is not None
    assert record["status"] == "COMPLETED"
    assert "final_output_json" not in record


def test_without_sns_delivery_no_notification_is_published(stack: StackClient) -> None:
    execution_id = stack.submit("instant", deliver_to=["dynamodb"])
    stack.wait_for_end(owner_arn(stack, execution_id))
    record = stack.item(execution_id)
    assert record is not None
    assert record["final_output_json"]
    assert stack.peek(execution_id) == []
