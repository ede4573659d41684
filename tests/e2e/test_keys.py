"""One idempotency key, one job, for each trigger: concurrent, repeated, after a failure and after expiry."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.executions import owner_arn, starts_of
from waterhook.domain.trigger_input import derive_execution_id

pytestmark = pytest.mark.e2e

SHORT_JOB = {"seconds": 1, "queue_seconds": 0}
# How a duplicate ends: as the first execution did, or while that runs, with an error that names it.
AS_THE_FIRST, WHILE_IT_RUNS = "Waterhook.Failed", "Waterhook.Duplicate"

type Wrap = Callable[[dict[str, Any], str], dict[str, Any]]


@dataclass(frozen=True)
class Trigger:
    """A trigger of the state machine."""

    name: str
    source: str
    wrap: Wrap
    """Returns the input of the state machine for a request and a marker."""
    key: Callable[[str], str]
    """Returns the idempotency key of the input with this marker."""


def schedule(marker: str) -> dict[str, str]:
    return {
        "arn": f"arn:aws:scheduler:us-east-1:000000000000:schedule/default/{marker}",
        "time": "2026-01-01T00:00:00Z",
    }


# tests/e2e/test_guarantees.py has the other two: the event's own id, and a key in the input of the state machine.
TRIGGERS = [
    Trigger(
        "an event with a key",
        "events",
        lambda request, key: {"event_id": f"not {key}", "request": {**request, "idempotency_key": key}},
        str,
    ),
    Trigger(
        "a schedule",
        "schedule",
        lambda request, key: {"schedule": schedule(key), "request": request},
        lambda key: "{arn}@{time}".format(**schedule(key)),
    ),
]


def expire(stack: StackClient, execution_id: str) -> None:
    """Move the record's expiry into the past, as if DynamoDB had not deleted it yet."""
    stack.dynamodb.update_item(
        TableName=stack.outputs.table_name,
        Key={"execution_id": {"S": execution_id}},
        UpdateExpression="SET expires_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
def test_a_key_of_the_state_machine_is_one_job_until_it_expires(
    stack: StackClient, marker: str, trigger: Trigger
) -> None:
    request = {"chatbot_id": "always-fails", "input_data": {"marker": marker, "simulate": SHORT_JOB}}
    execution_id = derive_execution_id(trigger.source, trigger.key(marker))

    def error_of(request: dict[str, Any]) -> str | None:
        description = stack.wait_for_end(stack.start_execution(trigger.wrap(request, marker)))
        assert json.loads(description["cause"])["execution_id"] == execution_id
        return description["error"]

    with ThreadPoolExecutor(2) as pool:
        concurrent = list(pool.map(error_of, [request, request]))
    assert AS_THE_FIRST in concurrent
    assert set(concurrent) <= {AS_THE_FIRST, WHILE_IT_RUNS}
    assert error_of(request) == AS_THE_FIRST
    assert error_of({**request, "input_data": {"marker": marker}}) == "Waterhook.IdempotencyConflict"
    assert starts_of(stack, marker) == 1
    assert len(stack.peek(execution_id)) == 1

    expire(stack, execution_id)
    assert error_of(request) == AS_THE_FIRST
    assert starts_of(stack, marker) == 2


def test_a_key_of_the_api_is_one_job_until_it_expires(stack: StackClient, marker: str) -> None:
    def submit() -> str:
        input_data = {"marker": marker, "simulate": SHORT_JOB}
        return stack.submit("always-fails", input_data, idempotency_key=marker)

    execution_id = submit()
    stack.wait_for_status(execution_id, "FAILED")
    assert submit() == execution_id
    conflict = stack.post("always-fails", {"input_data": {}}, idempotency_key=marker)
    assert conflict.status_code == 409
    assert "idempotency_key" in conflict.json()["detail"]
    assert starts_of(stack, marker) == 1
    first_owner = owner_arn(stack, execution_id)

    expire(stack, execution_id)
    assert submit() == execution_id
    stack.wait_for_status(execution_id, "FAILED")
    assert starts_of(stack, marker) == 2
    # Step Functions still has an execution with the first name, so the second one has another name.
    assert owner_arn(stack, execution_id) != first_owner
