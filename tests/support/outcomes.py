"""Every outcome of an execution that was accepted with METADATA: its record, and the loop state that ends it."""

from dataclasses import replace
from typing import Any

from tests.fakes.clock import NOW, Clock
from tests.support.builders import ID, OWNER, UPSTREAM_ID, history, record, request, running_state
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.notifications.notifier import Notifier
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

METADATA = {"order": 7, "customer": "Müller 🙂"}
OUTPUT = '{"answer":"because","n":12345678901234567890,"ratio":1.0}'


def accepted(**changes: Any) -> ExecutionRecord:
    return record(request(metadata=METADATA), **changes)


def started(**changes: Any) -> ExecutionRecord:
    return accepted(
        status=Status.RUNNING,
        start_attempts=1,
        waterflai_execution_id=UPSTREAM_ID,
        started_at=to_rfc3339(NOW + 1),
        **changes,
    )


POLLED = history(status_requests=3, polls=2, follows=1)
DONE_AT = {"completed_at": "2026-01-01T00:00:59.000Z"}
OUTCOMES: dict[str, tuple[ExecutionRecord, LoopState]] = {
    "completed": (
        started(),
        running_state(history=POLLED).ended(Status.COMPLETED, final_output_json=OUTPUT, **DONE_AT),
    ),
    "completed_with_a_large_output": (
        started(),
        running_state(history=POLLED).ended(
            Status.COMPLETED, output_ref=f"s3://results/executions/{ID}/final_output.json", **DONE_AT
        ),
    ),
    "completed_with_an_output_too_large": (
        started(),
        running_state(history=POLLED).ended(Status.COMPLETED, output_error="too_large", **DONE_AT),
    ),
    "completed_without_an_output": (
        started(),
        running_state(history=POLLED).ended(Status.COMPLETED, output_error="missing", **DONE_AT),
    ),
    "failed": (
        started(),
        running_state(history=POLLED).ended(
            Status.FAILED, code="failed", message="node 3: no credit", **DONE_AT
        ),
    ),
    "cancelled": (
        started(),
        running_state(history=POLLED).ended(
            Status.CANCELLED, code="cancelled", message="cancelled at Waterflai", **DONE_AT
        ),
    ),
    "timed_out": (
        started(),
        running_state(history=POLLED).ended(
            Status.TIMED_OUT, code="deadline", message="cancelled at its deadline"
        ),
    ),
    "lost": (
        started(),
        running_state(history=POLLED).ended(
            Status.LOST, code="not_found", message="Waterflai no longer has this job (HTTP 404)"
        ),
    ),
    "rejected": (
        accepted(),
        running_state(waterflai_execution_id=None).ended(
            Status.REJECTED, code="refused", message="Waterflai refused the start: HTTP 404: no such chatbot"
        ),
    ),
    "uncertain": (
        accepted(status=Status.STARTING, start_attempts=1),
        running_state(waterflai_execution_id=None).ended(
            Status.UNCERTAIN,
            code="start_uncertain",
            message="HTTP 504; Waterflai may be running this job, and it was not started a second time",
        ),
    ),
    "error": (
        started(),
        running_state(history=POLLED).ended(
            Status.ERROR,
            code="fault",
            message=f"Waterhook failed (Lambda.Unknown); see the history of the state machine execution {OWNER}",
        ),
    ),
}


def final_record(name: str) -> ExecutionRecord:
    """Return the record after the notify step has written the outcome, a minute after NOW."""
    stored, ended = OUTCOMES[name]
    unused: Any = None
    notifier = Notifier(unused, unused, retention_s=30 * 24 * 3600, clock=Clock(NOW + 60))
    # DynamoDB has one type of numbers.
    return ExecutionRecord.from_item(replace(stored, **notifier.final_attributes(ended)).to_item())
