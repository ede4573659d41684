"""One key, one remote job, for every trigger: at the same time, repeated, after a failure, after expiry."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.test_outcomes import starts_of
from waterhook.domain.trigger_input import derive_execution_id

pytestmark = pytest.mark.e2e

SOON = {"seconds": 1, "queue_seconds": 0}
# What an execution ends with that is not the first of its key: as the first did, or naming it while that runs.
LIKE_THE_FIRST, WHILE_IT_RUNS = "Waterhook.Failed", "Waterhook.Duplicate"

type Wrap = Callable[[dict[str, Any], str], dict[str, Any]]


@dataclass(frozen=True)
class Door:
    """A door behind the state machine: how its executions carry a request and a key, and the id that makes."""

    name: str
    source: str
    wrap: Wrap
    key: Callable[[str], str]


def schedule(marker: str) -> dict[str, str]:
    return {
        "arn": f"arn:aws:scheduler:us-east-1:000000000000:schedule/default/{marker}",
        "time": "2026-01-01T00:00:00Z",
    }


# An event's own id and a key given to the state machine itself: tests/e2e/test_guarantees.py.
DOORS = [
    Door(
        "an event with a key",
        "events",
        lambda request, key: {"event_id": f"not {key}", "request": {**request, "idempotency_key": key}},
        str,
    ),
    Door(
        "a schedule",
        "schedule",
        lambda request, key: {"schedule": schedule(key), "request": request},
        lambda key: "{arn}@{time}".format(**schedule(key)),
    ),
]


def expire(stack: StackClient, execution_id: str) -> None:
    """Let the record's time be over, as TTL finds it some day."""
    stack.dynamodb.update_item(
        TableName=stack.outputs.table_name,
        Key={"execution_id": {"S": execution_id}},
        UpdateExpression="SET expires_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_key_is_one_job_until_it_expires_behind_the_state_machine(
    stack: StackClient, marker: str, door: Door
) -> None:
    request = {"chatbot_id": "always-fails", "input_data": {"marker": marker, "simulate": SOON}}
    execution_id = derive_execution_id(door.source, door.key(marker))

    def end(request: dict[str, Any]) -> str | None:
        run = stack.wait_for_end(stack.start_execution(door.wrap(request, marker)))
        assert json.loads(run["cause"])["execution_id"] == execution_id
        return run["error"]

    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(end, [request, request]))
    assert LIKE_THE_FIRST in at_once
    assert set(at_once) <= {LIKE_THE_FIRST, WHILE_IT_RUNS}
    assert end(request) == LIKE_THE_FIRST
    assert end({**request, "input_data": {"marker": marker}}) == "Waterhook.IdempotencyConflict"
    assert starts_of(stack, marker) == 1
    assert len(stack.peek(execution_id)) == 1

    expire(stack, execution_id)
    assert end(request) == LIKE_THE_FIRST
    assert starts_of(stack, marker) == 2


def test_a_key_is_one_job_until_it_expires_at_the_api(stack: StackClient, marker: str) -> None:
    given = {"marker": marker, "simulate": SOON}

    def submit() -> str:
        return stack.submit("always-fails", given, idempotency_key=marker)

    execution_id = submit()
    stack.wait_for_status(execution_id, "FAILED")
    assert submit() == execution_id
    assert stack.post("always-fails", {"input_data": {}}, idempotency_key=marker).status_code == 409
    assert starts_of(stack, marker) == 1
    first = stack.execution_arn(execution_id)

    expire(stack, execution_id)
    assert submit() == execution_id
    stack.wait_for_status(execution_id, "FAILED")
    assert starts_of(stack, marker) == 2
    # Step Functions still holds the name of the first, so this one has another.
    owner = stack.item(execution_id)
    assert owner is not None
    assert owner["owner_execution_arn"] != first
