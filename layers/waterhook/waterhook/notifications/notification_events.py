"""CloudEvents of an execution. They are built from the record alone, so two calls return the same bytes."""

import re
from collections.abc import Mapping
from typing import Any

from waterhook.domain.status import Status
from waterhook.json_text import join_members, to_json
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_epoch_s, to_rfc3339

# All types of events of executions begin with it.
TYPE_PREFIX = "waterhook.execution."
PROGRESS_TYPE = f"{TYPE_PREFIX}progress"
# Characters outside XML 1.0. SQS refuses or replaces them.
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def outcome_event(
    record: ExecutionRecord, source: str, *, has_output: bool = True, output_url: str | None = None
) -> str:
    """Return the CloudEvents 1.0 event of a final record as JSON text.

    Without `has_output` the event has no `final_output`. `output_url` is a link to an output in S3, for a receiver that
    has no access to the bucket. `final_output` is inserted as the text that was received, so its numbers don't change.
    Characters that SNS and SQS do not carry are written as JSON escapes, which parsers read as the same value.
    """
    data = {
        "execution_id": to_json(record.execution_id),
        "waterflai_execution_id": to_json(record.waterflai_execution_id),
        "chatbot_id": to_json(record.chatbot_id),
        "status": to_json(record.status),
        "final_output": _escape_for_sns(record.final_output_json or "null"),
        "final_output_url": to_json(output_url),
        # Sorted, because DynamoDB returns a map in any order.
        "error": to_json(record.error, sort_keys=True),
        "metadata": _escape_for_sns(record.metadata_json),
        "timing": to_json(timing_of(record)),
        "usage": to_json(record.usage or {}, sort_keys=True),
    }
    if record.output_error:
        data["output_error"] = to_json(record.output_error)
    if not has_output:
        del data["final_output"]
    if output_url is None:
        del data["final_output_url"]
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
        # The claim check extension of CloudEvents: the location of the output that is not in the event.
        attributes["dataref"] = to_json(record.output_ref)
    return join_members(attributes | {"data": join_members(data)})


def event_id(record: ExecutionRecord) -> str:
    """Return the CloudEvents id of a final record's event. It is the same each time this event is published.

    An idempotency key that is used again after its record expired or was erased gives the same execution id. The time
    of acceptance in the event id keeps the events of the two executions apart.
    """
    return f"{_record_id(record)}/{record.status}"


def progress_id(record: ExecutionRecord) -> str:
    """Return the CloudEvents id of the record's latest progress event."""
    return f"{_record_id(record)}/progress/{record.progress_sequence}"


def is_output_deleted(record: ExecutionRecord) -> bool:
    """Return whether the record of a completed job has lost its output, so that its event can't be built again.

    Without `dynamodb` in `deliver_to` an inline output is deleted when every target has received it.
    """
    has_output = record.final_output_json or record.output_ref or record.output_error
    return record.status is Status.COMPLETED and not has_output and "dynamodb" not in record.deliver_to


def event_type(status: Status) -> str:
    """Return the CloudEvents type of a status, for example `waterhook.execution.timed_out`."""
    return f"{TYPE_PREFIX}{status.lower()}"


def progress_event(record: ExecutionRecord, source: str, change: Mapping[str, Any], now: float) -> str:
    """Return the CloudEvents event of a change of progress. `sequence` gives the order, which SNS does not keep."""
    return to_json(
        {
            "specversion": "1.0",
            "id": progress_id(record),
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
    """Return the SNS message attributes for filter policies. SNS refuses empty values, so they are left out."""
    return _attributes(event_type(record.status), record)


def progress_attributes(record: ExecutionRecord) -> dict[str, Any]:
    """Return the SNS message attributes of a progress event."""
    return _attributes(PROGRESS_TYPE, record)


def _attributes(kind: str, record: ExecutionRecord) -> dict[str, Any]:
    values = {"type": kind, "status": str(record.status), "chatbot_id": record.chatbot_id}
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items() if value}


def _escape_for_sns(text: str) -> str:
    """Return JSON text with an escape for each character that SQS refuses. They occur in strings only."""
    return _NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _record_id(record: ExecutionRecord) -> str:
    """Return an id that no other record has, not even a later record of the same execution id."""
    return f"{record.execution_id}/{round((to_epoch_s(record.created_at) or 0.0) * 1000)}"


def timing_of(record: ExecutionRecord) -> dict[str, Any]:
    """Return the `timing` of an event. `completed_at` is from the upstream's clock, the other times from ours."""
    return {
        "accepted_at": record.created_at,
        "started_at": record.started_at,
        "completed_at": (record.timing or {}).get("completed_at"),
        "finished_at": record.finished_at,
    }
