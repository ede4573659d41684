"""Every way an execution can end, through both doors, on the deployed stack."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Case:
    """A request, what becomes of it, and how many jobs it makes upstream."""

    name: str
    chatbot_id: str
    outcome: str
    error: str | None = None
    starts: int = 1
    request: dict[str, Any] = field(default_factory=dict)
    says: str = ""


CASES = [
    Case("completed", "support-chat", "COMPLETED"),
    Case("completed at once", "instant", "COMPLETED"),
    Case("failed", "always-fails", "FAILED", "Waterhook.Failed", says="the model did not answer"),
    Case("cancelled upstream", "cancelled-upstream", "CANCELLED", "Waterhook.Cancelled"),
    Case(
        "overdue",
        "endless",
        "TIMED_OUT",
        "Waterhook.TimedOut",
        request={"timeout_seconds": 10},
        says="deadline",
    ),
    Case(
        "unknown chatbot",
        "no-such-chatbot",
        "REJECTED",
        "Waterhook.Rejected",
        starts=0,
        says="Chatbot not found",
    ),
    Case("answer to the start lost", "answer-lost", "UNCERTAIN", "Waterhook.Uncertain", says="504"),
]


def starts_of(stack: StackClient, marker: str) -> int:
    """How many jobs the upstream made for the request that carries the marker."""
    starts = stack.waterflai("requests")["starts"]
    return sum((start["input_data"] or {}).get("marker") == marker for start in starts)


@pytest.mark.parametrize("door", ["api", "states"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_outcome_is_notified_once_and_ends_the_machine_as_documented(
    either_stack: StackClient, marker: str, case: Case, door: str
) -> None:
    stack = either_stack
    request = {"input_data": {"marker": marker}, "metadata": {"marker": marker}, **case.request}
    if door == "api":
        input_data = request.pop("input_data")
        execution_id = stack.submit(case.chatbot_id, input_data, **request)
        arn = stack.execution_arn(execution_id)
        assert arn is not None
    else:
        arn = stack.start_execution({"chatbot_id": case.chatbot_id, **request})
    run = stack.wait_for_end(arn)

    ending = json.loads(run["cause"]) if case.error else json.loads(run["output"])
    execution_id = ending["execution_id"]
    assert run["status"] == ("FAILED" if case.error else "SUCCEEDED")
    assert run.get("error") == case.error

    event = stack.wait_for_notification(execution_id)
    assert len(stack.peek(execution_id)) == 1
    assert re.fullmatch(rf"{execution_id}/\d{{13}}/{case.outcome}", event["id"])
    assert event["type"] == f"waterhook.execution.{case.outcome.lower()}"
    assert event["data"]["status"] == case.outcome
    assert event["data"]["metadata"] == {"marker": marker}
    assert case.says in ((event["data"]["error"] or {}).get("message") or "")
    assert (event["data"]["final_output"] is None) == (case.outcome != "COMPLETED")

    item = stack.item(execution_id)
    assert item is not None
    assert item["status"] == case.outcome
    assert item["notified_at"]
    assert item["expires_at"] > item["deadline"] - 3600
    assert starts_of(stack, marker) == case.starts


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"chatbot_id": "support-chat", "input_data": []}, "input_data: expected object, got list"),
        ({"input_data": {}}, "chatbot_id: missing, expected string"),
        (
            {"chatbot_id": "support-chat", "input_data": {}, "timeout_second": 1},
            "timeout_second: unknown field",
        ),
        ("start it, please", "request: expected object, got string"),
    ],
)
def test_an_invalid_request_from_any_other_door_is_rejected_and_starts_nothing(
    stack: StackClient, request_: Any, says: str
) -> None:
    before = len(stack.waterflai("requests")["starts"])
    run = stack.wait_for_end(stack.start_execution(request_))
    assert run["error"] == "Waterhook.Rejected"
    cause = json.loads(run["cause"])
    assert says in cause["message"]
    event = stack.wait_for_notification(cause["execution_id"])
    assert event["data"]["error"]["code"] == "invalid_request"
    assert says in event["data"]["error"]["message"]
    started = [start["chatbot_id"] for start in stack.waterflai("requests")["starts"][before:]]
    assert "start it, please" not in started


def test_the_final_output_arrives_as_the_upstream_wrote_it(stack: StackClient) -> None:
    output = {"big": 12345678901234567890, "one": 1.0, "deep": [[[[[[{"é": "😀"}]]]]]], "nothing": None}
    execution_id = stack.submit("instant", {"simulate": {"output": output}})
    event = stack.wait_for_notification(execution_id)
    assert json.dumps(event["data"]["final_output"]) == json.dumps(output)
    assert json.dumps(stack.get(execution_id).json()["final_output"]) == json.dumps(output)


def test_an_output_too_large_to_travel_waits_in_s3_with_a_link_to_it(stack: StackClient) -> None:
    execution_id = stack.submit("big-output", {"simulate": {"output_kib": 300, "seconds": 0.2}})
    event = stack.wait_for_notification(execution_id)
    assert event["data"]["final_output"] is None
    assert event["dataref"].startswith("s3://")
    document = stack.get(execution_id).json()
    fetched = stack.http.get(document["final_output_url"])
    assert fetched.status_code == 200
    assert len(fetched.content) >= 300 * 1024
    assert fetched.json()["answer"] == "A long one."
