"""The status documents that the API returns."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from waterhook.api.callers import Caller
from waterhook.api.live_status import LiveStatus
from waterhook.domain.status import Status
from waterhook.domain.status_document import OutputError, StatusDocument
from waterhook.domain.trigger_input import trigger_name
from waterhook.json_text import join_members, to_json
from waterhook.steps import wait_reason
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.results_bucket import ResultsBucket

if TYPE_CHECKING:
    from waterhook.api.webhook_status import DeliverySource


class StatusDocuments:
    """Builds status documents from records, the progress of running jobs, and deliveries of webhooks."""

    def __init__(
        self,
        live_status: Callable[[], LiveStatus],
        results: ResultsBucket,
        deliveries: Callable[[], "DeliverySource | None"],
    ) -> None:
        """`live_status` is called only for a job with progress, `deliveries` only for an execution with a webhook.

        `deliveries` returns None if webhooks are off.
        """
        self._live_status = live_status
        self._results = results
        self._deliveries = deliveries

    def document(self, record: ExecutionRecord, caller: Caller, *, with_progress: bool = True) -> str:
        """Return the status document for a caller as JSON text: the fields of Waterflai's document, then our own.

        Without `with_progress`, Waterflai is not called, and the progress is that of the record. Then only the webhook
        of a final record needs a call to AWS. Raises RecordUnavailableError if it fails.
        """
        timing = record.timing or {}
        is_live = with_progress and record.waterflai_execution_id
        live = (self._live_status().read(record) if is_live else None) or StatusDocument()
        is_completed = record.status is Status.COMPLETED
        values = {
            "execution_id": record.execution_id,
            "status": record.status,
            "progress": 100.0
            if is_completed
            else (live.progress if live.progress is not None else record.progress),
            "current_node": live.current_node,
            "completed_nodes": live.completed_nodes,
            "total_nodes": live.total_nodes,
            "upstream_status": live.unknown_status,
            "error_message": (record.error or {}).get("message"),
            "created_at": record.created_at,
            "started_at": record.started_at,
            "completed_at": timing.get("completed_at") or record.finished_at,
            "chatbot_id": record.chatbot_id,
            "trigger": trigger_name(record.source),
            "waterflai_execution_id": record.waterflai_execution_id,
            "error": record.error,
            "output_error": record.output_error or _not_stored(record),
            "final_output_url": self._results.presign(record.output_ref) if record.output_ref else None,
            "cancel_requested": record.cancel_requested,
            "waiting": wait_reason.public_waiting(record),
            "notified_at": record.notified_at,
            "webhook": self._public_webhook(record, caller),
            "usage": record.usage,
        }
        if caller.is_operator:
            values["caller"] = record.caller
        members = {name: to_json(value) for name, value in values.items()}
        members |= {"final_output": record.final_output_json or "null", "metadata": record.metadata_json}
        return join_members(members)

    def _public_webhook(self, record: ExecutionRecord, caller: Caller) -> Mapping[str, Any] | None:
        if record.webhook is None:
            return None
        from waterhook.api.webhook_status import public_webhook

        return public_webhook(record, self._deliveries(), shows_url=caller.started(record.caller))


def _not_stored(record: ExecutionRecord) -> str | None:
    """Return `not_stored` for a completed record whose output was removed after the notification, else None."""
    has_output = record.final_output_json is not None or record.output_ref is not None
    dropped = record.status is Status.COMPLETED and not has_output and "dynamodb" not in record.deliver_to
    return OutputError.NOT_STORED if dropped else None
