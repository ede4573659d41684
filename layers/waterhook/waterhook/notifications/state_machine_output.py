"""Outputs and errors with which a state machine execution ends."""

import json
from typing import Any

from waterhook.domain.loop_state import NextStep
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import timing_of
from waterhook.storage.execution_record import ExecutionRecord

DUPLICATE = "Waterhook.Duplicate"
IDEMPOTENCY_CONFLICT = "Waterhook.IdempotencyConflict"


def outcome_output(record: ExecutionRecord) -> dict[str, Any]:
    """Return the state machine's output. Unless COMPLETED, it includes the error with which the machine fails."""
    values = {
        "execution_id": record.execution_id,
        "waterflai_execution_id": record.waterflai_execution_id,
        "chatbot_id": record.chatbot_id,
        "status": record.status,
        "final_output_json": record.final_output_json,
        "output_ref": record.output_ref,
        "output_error": record.output_error,
        "error": record.error,
        "metadata": record.metadata,
        "timing": timing_of(record),
        "usage": record.usage,
    }
    result = {name: value for name, value in values.items() if value is not None}
    if record.status is Status.COMPLETED:
        return result | {"outcome": record.status, "next": NextStep.DONE}
    reason = (record.error or {}).get("message") or "no error message"
    message = f"execution {record.execution_id} ended {record.status}: {reason}"
    return failure_output(record.status.error_name, message, result, record.status)


def failure_output(
    name: str, message: str, result: dict[str, Any], outcome: Status = Status.ERROR
) -> dict[str, Any]:
    """Return the output and the error of a failed state machine. The cause is JSON that begins with `message`.

    Step Functions accepts 32,768 characters of cause. The cause is not escaped to ASCII: text in another script than
    Latin would be unreadable, and six to twelve times as long.
    """
    content = {"message": message, **{key: value for key, value in result.items() if key != "error"}}
    cause = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return result | {"outcome": outcome, "next": NextStep.DONE, "error_name": name, "cause": cause}


def duplicate_output(record: ExecutionRecord) -> dict[str, Any]:
    """Return the output of a duplicate execution: the outcome of the record, or an error that names its owner."""
    if record.status.is_final:
        return outcome_output(record)
    owner = record.owner_execution_arn
    return failure_output(
        DUPLICATE,
        f"the same request is already running as {record.execution_id} in {owner}",
        {"execution_id": record.execution_id, "owner_execution_arn": owner},
    )


def conflict_output(record: ExecutionRecord) -> dict[str, Any]:
    """Return the output of an execution whose idempotency key belongs to a different request."""
    return failure_output(
        IDEMPOTENCY_CONFLICT,
        f"the idempotency key was used for another request, {record.execution_id}; use a new key for a new request",
        {"execution_id": record.execution_id},
    )
