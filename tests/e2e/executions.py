"""Executions on a deployed stack: what tests submit, and how their records, jobs and payloads are read."""

import json
from typing import Any

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client
from tests.support.waiting import until

LONG_JOB = {"seconds": 120, "nodes": 12}
"""For `input_data.simulate`: the job runs until a test cancels or finishes it."""
NO_STREAM = {"on": "stream", "kind": "status_code", "code": 404}
"""A fault: the job's stream does not exist."""


def owner_arn(stack: StackClient, execution_id: str) -> str:
    """Return the ARN of the state machine execution that owns the record."""
    record = until(lambda: stack.item(execution_id))
    return str(record["owner_execution_arn"])


def is_running(stack: StackClient, execution_id: str) -> bool:
    return bool(stack.get(execution_id).json().get("status") == "RUNNING")


def is_started(stack: StackClient, execution_id: str) -> bool:
    """Return whether the start request has been sent and its outcome is known."""
    return stack.get(execution_id).json().get("status") not in {None, "ACCEPTED", "STARTING"}


def put_event(stack: StackClient, detail_type: str, detail: Any) -> str:
    """Put an event on the bus. Returns the id that EventBridge assigned."""
    events = aws_client(stack, "events")
    entry: Any = {
        "Source": "shop",
        "DetailType": detail_type,
        "Detail": json.dumps(detail, ensure_ascii=False),
    }
    answer = events.put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0
    return str(answer["Entries"][0]["EventId"])


def published_one_event(stack: StackClient, execution_id: str) -> bool:
    """Return whether all notifications are equal: a DELETE and the loop may publish the same one at the same time."""
    return len({json.dumps(event, sort_keys=True) for event in stack.peek(execution_id)}) == 1


# ---- The job at the simulator ------------------------------------------------------------------------------------


def starts_of(stack: StackClient, marker: str) -> int:
    """Return how many start requests carried this `input_data.marker`."""
    starts = stack.waterflai("requests")["starts"]
    return sum((start["input_data"] or {}).get("marker") == marker for start in starts)


def job_of(stack: StackClient, execution_id: str) -> Any:
    """Return the status document of the job, with the number of requests for it by operation under `received`."""
    job_id = until(lambda: (stack.item(execution_id) or {}).get("waterflai_execution_id"))
    jobs = stack.waterflai("executions")["executions"]
    [job] = [job for job in jobs if job["execution_id"] == job_id]
    return job


def job_status(stack: StackClient, execution_id: str) -> str:
    return str(job_of(stack, execution_id)["status"])


def finish_job(stack: StackClient, execution_id: str) -> None:
    """End the job now, with the outcome that it would have had."""
    job_id = job_of(stack, execution_id)["execution_id"]
    assert stack.waterflai("finish", {"execution_id": job_id}) == {"finished": True}


# ---- Payloads ----------------------------------------------------------------------------------------------------


def size_bytes(payload: str) -> int:
    """Return the size of a payload as AWS counts it: in UTF-8. MiniStack writes JSON escapes instead."""
    try:
        return len(json.dumps(json.loads(payload), ensure_ascii=False, separators=(",", ":")).encode())
    except ValueError:
        return len(payload.encode())


def payloads(event: Any) -> list[str]:
    """Return every input, output and parameter in one event of a state machine's history."""
    details = [value for name, value in event.items() if name.endswith("Details")]
    return [value for detail in details for value in detail.values() if isinstance(value, str)]
