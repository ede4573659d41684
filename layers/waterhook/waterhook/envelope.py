"""What Waterhook says of a finished execution, always read from its record: the same words each time."""

import json
import re
from collections.abc import Mapping
from typing import Any

from waterhook.models import Next, Status, epoch, iso
from waterhook.record import Record
from waterhook.request import compact

PROGRESS_TYPE = "waterhook.execution.progress"
DUPLICATE = "Waterhook.Duplicate"
IDEMPOTENCY_CONFLICT = "Waterhook.IdempotencyConflict"
# SNS and SQS take the characters of XML 1.0; SQS refuses a message with any other or replaces them.
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def event(record: Record, source: str) -> str:
    """Return the CloudEvents 1.0 notification of a final record as JSON text.

    `final_output` goes in as the text it came as, so no number in it changes. Characters that SNS and SQS do not
    carry are written as JSON escapes: a parser reads the same value. Two calls give the same bytes.
    """
    data = {
        "execution_id": compact(record.execution_id),
        "waterflai_execution_id": compact(record.waterflai_execution_id),
        "chatbot_id": compact(record.chatbot_id),
        "status": compact(record.status),
        "final_output": _carried(record.final_output_json or "null"),
        # A map comes out of DynamoDB in any order.
        "error": compact(record.error, sort_keys=True),
        "metadata": _carried(record.metadata_json),
        "timing": compact(_timing(record)),
        "usage": compact(record.usage or {}, sort_keys=True),
    }
    if record.output_error:
        data["output_error"] = compact(record.output_error)
    attributes = {
        "specversion": compact("1.0"),
        "id": compact(event_id(record)),
        "source": compact(source),
        "type": compact(event_type(record.status)),
        "subject": compact(record.execution_id),
        "time": compact(record.finished_at),
        "datacontenttype": compact("application/json"),
    }
    if record.output_ref:
        # The claim check extension of CloudEvents: where the part of the data is that did not fit.
        attributes["dataref"] = compact(record.output_ref)
    return joined(attributes | {"data": joined(data)})


def event_id(record: Record) -> str:
    """Return the CloudEvents id of a final record's event: the same each time this event is published.

    An idempotency key that is used again, after its record expired or was erased, has the same execution id. The
    time of acceptance, in ms, keeps the events of the two apart.
    """
    return f"{_occurrence(record)}/{record.status}"


def event_type(status: Status) -> str:
    """Return the CloudEvents type of a status: `waterhook.execution.timed_out`."""
    return f"waterhook.execution.{status.lower()}"


def progress_event(record: Record, source: str, change: Mapping[str, Any], now: float) -> str:
    """Return the CloudEvents notification of progress; `sequence` orders these, since SNS does not."""
    return compact(
        {
            "specversion": "1.0",
            "id": f"{_occurrence(record)}/progress/{record.progress_sequence}",
            "source": source,
            "type": PROGRESS_TYPE,
            "subject": record.execution_id,
            "time": iso(now),
            "datacontenttype": "application/json",
            "data": {
                "execution_id": record.execution_id,
                "waterflai_execution_id": record.waterflai_execution_id,
                "chatbot_id": record.chatbot_id,
                "status": record.status,
                "sequence": record.progress_sequence,
                **change,
                "metadata": record.metadata,
            },
        }
    )


def message_attributes(record: Record) -> dict[str, Any]:
    """Return the SNS attributes that filter policies see; one without a value is left out, as SNS demands."""
    return _attributes(event_type(record.status), record)


def progress_attributes(record: Record) -> dict[str, Any]:
    """Return the SNS attributes of a progress event."""
    return _attributes(PROGRESS_TYPE, record)


def _attributes(kind: str, record: Record) -> dict[str, Any]:
    values = {"type": kind, "status": str(record.status), "chatbot_id": record.chatbot_id}
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}


def summary(record: Record) -> dict[str, Any]:
    """Return what the state machine ends with: its output when COMPLETED, else also the error it fails with."""
    said = {
        "execution_id": record.execution_id,
        "waterflai_execution_id": record.waterflai_execution_id,
        "chatbot_id": record.chatbot_id,
        "status": record.status,
        "final_output_json": record.final_output_json,
        "output_ref": record.output_ref,
        "output_error": record.output_error,
        "error": record.error,
        "metadata": record.metadata,
        "timing": _timing(record),
        "usage": record.usage,
    }
    result = {name: value for name, value in said.items() if value is not None}
    if record.status is Status.COMPLETED:
        return result | {"outcome": record.status, "next": Next.DONE}
    reason = (record.error or {}).get("message") or "no reason was given"
    message = f"execution {record.execution_id} ended {record.status}: {reason}"
    return failure(record.status.error_name, message, result, record.status)


def failure(
    name: str, message: str, result: dict[str, Any], outcome: Status = Status.ERROR
) -> dict[str, Any]:
    """Return what the state machine fails with; the cause is JSON that begins with a sentence.

    Step Functions takes 32,768 characters of it. Escaped like the rest, a message in another script than
    Latin would be six to twelve times as long, and nobody could read it.
    """
    said = {"message": message, **{key: value for key, value in result.items() if key != "error"}}
    cause = json.dumps(said, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return result | {"outcome": outcome, "next": Next.DONE, "error_name": name, "cause": cause}


def duplicate(record: Record) -> dict[str, Any]:
    """Return how an execution ends that found the request to be another's: as that one did, or naming it."""
    if record.status.is_final:
        return summary(record)
    owner = record.owner_execution_arn
    return failure(
        DUPLICATE,
        f"the same request is already being run as {record.execution_id} by {owner}",
        {"execution_id": record.execution_id, "owner_execution_arn": owner},
    )


def idempotency_conflict(record: Record) -> dict[str, Any]:
    """Return how an execution ends whose key belongs to a different request."""
    return failure(
        IDEMPOTENCY_CONFLICT,
        f"the idempotency key was used for another request, {record.execution_id}; use a new key for a new request",
        {"execution_id": record.execution_id},
    )


def joined(members: dict[str, str]) -> str:
    """Return a JSON object from names and values that are JSON text already."""
    return "{" + ",".join(f"{compact(name)}:{value}" for name, value in members.items()) + "}"


def _carried(text: str) -> str:
    """Return JSON text with an escape for each character that SNS or SQS refuses; they occur in strings only."""
    return _NOT_IN_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _occurrence(record: Record) -> str:
    """Return what no other record ever has, not even a later one of the same id."""
    return f"{record.execution_id}/{round((epoch(record.created_at) or 0.0) * 1000)}"


def _timing(record: Record) -> dict[str, Any]:
    """Return the four moments a subscriber asks for; `completed_at` is by the upstream's clock."""
    return {
        "accepted_at": record.created_at,
        "started_at": record.started_at,
        "completed_at": (record.timing or {}).get("completed_at"),
        "finished_at": record.finished_at,
    }
