"""Each outcome of an execution on the deployed stack, by both triggers, followed and polled."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.executions import owner_arn, starts_of
from tests.support.schemas import strict

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Case:
    """A request, the expected outcome, and how many jobs it creates."""

    name: str
    chatbot_id: str
    outcome: str
    error: str | None = None
    starts: int = 1
    request: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    """Part of the error message in the notification."""


CASES = [
    Case("completed", "support-chat", "COMPLETED"),
    Case("completed immediately", "instant", "COMPLETED"),
    Case("failed", "always-fails", "FAILED", "Waterhook.Failed", message="the model did not answer"),
    Case("cancelled upstream", "cancelled-upstream", "CANCELLED", "Waterhook.Cancelled"),
    Case(
        "overdue",
        "endless",
        "TIMED_OUT",
        "Waterhook.TimedOut",
        request={"timeout_seconds": 15},
        message="deadline",
    ),
    Case(
        "unknown chatbot",
        "no-such-chatbot",
        "REJECTED",
        "Waterhook.Rejected",
        starts=0,
        message="Chatbot not found",
    ),
    Case("response to the start lost", "answer-lost", "UNCERTAIN", "Waterhook.Uncertain", message="504"),
]


def check(stack: StackClient, case: Case, trigger: str) -> None:
    """Run one execution to its end and compare machine, notification, record and start requests with the case."""
    marker = uuid4().hex
    request = {"input_data": {"marker": marker}, "metadata": {"marker": marker}, **case.request}
    if trigger == "API":
        arn = owner_arn(stack, stack.submit(case.chatbot_id, request.pop("input_data"), **request))
    else:
        arn = stack.start_execution({"chatbot_id": case.chatbot_id, **request})
    description = stack.wait_for_end(arn)
    result = json.loads(description["cause"] if case.error else description["output"])
    execution_id = result["execution_id"]
    assert description["status"] == ("FAILED" if case.error else "SUCCEEDED")
    assert description.get("error") == case.error

    event = stack.wait_for_notification(execution_id)
    strict("notification").validate(event)
    assert len(stack.peek(execution_id)) == 1
    assert re.fullmatch(rf"{execution_id}/\d{{13}}/{case.outcome}", event["id"])
    assert event["type"] == f"waterhook.execution.{case.outcome.lower()}"
    assert event["data"]["status"] == case.outcome
    assert event["data"]["metadata"] == {"marker": marker}
    assert case.message in ((event["data"]["error"] or {}).get("message") or "")
    assert (event["data"]["final_output"] is None) == (case.outcome != "COMPLETED")

    record = stack.item(execution_id)
    assert record is not None
    assert record["status"] == case.outcome
    assert record["notified_at"]
    assert record["expires_at"] > record["deadline"] - 3600
    assert starts_of(stack, marker) == case.starts


@pytest.mark.parametrize("stack_name", ["stack", "polling_stack"])
def test_each_outcome_is_published_once_and_ends_the_state_machine_as_documented(
    request: pytest.FixtureRequest, stack_name: str, subtests: pytest.Subtests
) -> None:
    stack: StackClient = request.getfixturevalue(stack_name)
    with ThreadPoolExecutor(4) as pool:
        checks = [
            (case, trigger, pool.submit(check, stack, case, trigger))
            for case, trigger in product(CASES, ("API", "state machine"))
        ]
        for case, trigger, future in checks:
            with subtests.test(f"{case.name}, {trigger}"):
                future.result()


@pytest.mark.parametrize(
    ("input_", "message"),
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
def test_an_invalid_input_of_the_state_machine_is_rejected_and_starts_no_job(
    stack: StackClient, input_: Any, message: str
) -> None:
    description = stack.wait_for_end(stack.start_execution(input_))
    assert description["error"] == "Waterhook.Rejected"
    cause = json.loads(description["cause"])
    assert message in cause["message"]
    event = stack.wait_for_notification(cause["execution_id"])
    assert event["data"]["error"]["code"] == "invalid_request"
    assert message in event["data"]["error"]["message"]
    record = stack.item(cause["execution_id"])
    assert record is None or "waterflai_execution_id" not in record


def test_the_final_output_arrives_as_the_upstream_wrote_it(stack: StackClient) -> None:
    output = {"big": 12345678901234567890, "one": 1.0, "deep": [[[[[[{"é": "😀"}]]]]]], "nothing": None}
    execution_id = stack.submit("instant", {"simulate": {"output": output}})
    event = stack.wait_for_notification(execution_id)
    assert json.dumps(event["data"]["final_output"]) == json.dumps(output)
    assert json.dumps(stack.get(execution_id).json()["final_output"]) == json.dumps(output)
