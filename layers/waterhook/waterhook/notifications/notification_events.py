"""CloudEvents of an execution, built from its record alone: two calls return the same bytes."""

import re
from collections.abc import Mapping
from typing import Any

from waterhook.domain.status import Status
from waterhook.json_text import join_members, to_json
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_epoch_s, to_rfc3339

PROGRESS_TYPE = "waterhook.execution.progress"
# SNS and SQS take the characters of XML 1.0; SQS refuses a message with any other or replaces them.
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def outcome_event(record: ExecutionRecord, source: str) -> str:
    """Return the CloudEvents 1.0 notification of a final record as JSON text.

    `final_output` goes in as the text it came as, so no number in it changes. Characters that SNS and SQS do not
    carry are written as JSON escapes: a parser reads the same value. Two calls give the same bytes.
    """
    data = {
        "execution_id": to_json(record.execution_id),
        "waterflai_execution_id": to_json(record.waterflai_execution_id),
        "chatbot_id": to_json(record.chatbot_id),
        "status": to_json(record.status),
        "final_output": _carried(record.final_output_json or "null"),
        # A map comes out of DynamoDB in any order.
        "error": to_json(record.error, sort_keys=True),
        "metadata": _carried(record.metadata_json),
        "timing": to_json(timing_of(record)),
        "usage": to_json(record.usage or {}, sort_keys=True),
    }
    if record.output_error:
        data["output_error"] = to_json(record.output_error)
    attributes = {
        "specversion": to_json("1.0"),
        "id": to_json(event_id(record)),
        "source": to_json(source),
        "type": to_json(event_type(record.status)),
        "subject": to_json(record.execution_id),
        "time": to_json(record.finished_at),
        "datacontenttype": to_json("application/json"),
    }
    if record.output_ref:
        # The claim check extension of CloudEvents: where the part of the data is that did not fit.
        attributes["dataref"] = to_json(record.output_ref)
    return join_members(attributes | {"data": join_members(data)})


def event_id(record: ExecutionRecord) -> str:
    """Return the CloudEvents id of a final record's event: the same each time this event is published.

    An idempotency key that is used again, after its record expired or was erased, has the same execution id. The
    time of acceptance, in ms, keeps the events of the two apart.
    """
    return f"{_occurrence(record)}/{record.status}"


def event_type(status: Status) -> str:
    """Return the CloudEvents type of a status: `waterhook.execution.timed_out`."""
    return f"waterhook.execution.{status.lower()}"


def progress_event(record: ExecutionRecord, source: str, change: Mapping[str, Any], now: float) -> str:
    """Return the CloudEvents notification of progress; `sequence` orders these, since SNS does not."""
    return to_json(
        {
            "specversion": "1.0",
            "id": f"{_occurrence(record)}/progress/{record.progress_sequence}",
            "source": source,
            "type": PROGRESS_TYPE,
            "subject": record.execution_id,
            "time": to_rfc3339(now),
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


def outcome_attributes(record: ExecutionRecord) -> dict[str, Any]:
    """Return the SNS attributes that filter policies see; one without a value is left out, as SNS demands."""
    return _attributes(event_type(record.status), record)


def progress_attributes(record: ExecutionRecord) -> dict[str, Any]:
    """Return the SNS attributes of a progress event."""
    return _attributes(PROGRESS_TYPE, record)


def _attributes(kind: str, record: ExecutionRecord) -> dict[str, Any]:
    values = {"type": kind, "status": str(record.status), "chatbot_id": record.chatbot_id}
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}


def _carried(text: str) -> str:
    """Return JSON text with an escape for each character that SNS or SQS refuses; they occur in strings only."""
    return _NOT_IN_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _occurrence(record: ExecutionRecord) -> str:
    """Return what no other record ever has, not even a later one of the same id."""
    return f"{record.execution_id}/{round((to_epoch_s(record.created_at) or 0.0) * 1000)}"


def timing_of(record: ExecutionRecord) -> dict[str, Any]:
    """Return the four moments a subscriber asks for; `completed_at` is by the upstream's clock."""
    return {
        "accepted_at": record.created_at,
        "started_at": record.started_at,
        "completed_at": (record.timing or {}).get("completed_at"),
        "finished_at": record.finished_at,
    }
