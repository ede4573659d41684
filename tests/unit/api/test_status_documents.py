"""Status documents: the fields of a record, the progress of a running job, and what each caller sees."""

import json
from dataclasses import replace
from typing import Any

import boto3
import pytest

from tests.fakes.clock import NOW
from tests.fakes.live_status import FakeLiveStatus
from tests.support.build import build_status_documents
from tests.support.builders import (
    CALLER,
    REGION,
    UPSTREAM_ID,
    final_attributes,
    record,
    request,
    running_record,
)
from waterhook.api.callers import Caller
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.trigger_input import TRIGGERS
from waterhook.domain.webhook import Webhook
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.timestamps import to_rfc3339

ADA = Caller(CALLER)
OPERATOR = Caller("arn:aws:sts::123456789012:assumed-role/ops", is_operator=True)


def document(
    one: ExecutionRecord, live: StatusDocument | None = None, caller: Caller = ADA, **more: Any
) -> dict[str, Any]:
    """Return the status document of a record. `live` is the document of Waterflai, `more` the bucket."""
    documents = build_status_documents(live_status=lambda: FakeLiveStatus(live), **more)
    shown: dict[str, Any] = json.loads(documents.document(one, caller))
    return shown


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.COMPLETED])
def test_a_status_document_has_exactly_the_fields_of_the_contract(status: Status) -> None:
    shown = document(running_record(status=status))
    assert set(shown) == {
        "execution_id",
        "status",
        "error_message",
        "created_at",
        "started_at",
        "completed_at",
        "chatbot_id",
        "trigger",
        "waterflai_execution_id",
        "error",
        "output_error",
        "progress",
        "current_node",
        "upstream_status",
        "completed_nodes",
        "total_nodes",
        "cancel_requested",
        "waiting",
        "final_output_url",
        "webhook",
        "notified_at",
        "usage",
        "final_output",
        "metadata",
    }
    assert (shown["status"], shown["waterflai_execution_id"]) == (status.value, UPSTREAM_ID)


def test_a_document_contains_neither_an_arn_nor_a_hash() -> None:
    text = build_status_documents().document(record(request(idempotency_key="k"), caller=CALLER), ADA)
    assert "arn:" not in text
    assert "sha256" not in text


def test_a_completed_execution_without_a_stored_output_has_the_output_error_not_stored() -> None:
    ended = running_record(**final_attributes(), deliver_to=("sns",), notified_at=to_rfc3339(NOW + 61))
    shown = document(ended)
    assert (shown["final_output"], shown["output_error"]) == (None, "not_stored")
    # Until the notification the record has the output. Another output error is not replaced.
    before = document(replace(ended, final_output_json="7", notified_at=None))
    assert (before["final_output"], before["output_error"]) == (7, None)
    assert document(replace(ended, output_error="missing"))["output_error"] == "missing"


@pytest.mark.parametrize(
    "stored",
    [
        running_record(deliver_to=("sns",)),
        running_record(**final_attributes(Status.FAILED), deliver_to=("sns",)),
        running_record(**final_attributes(), deliver_to=("sns",), output_ref="s3://results/x"),
    ],
    ids=["running", "failed", "in the bucket"],
)
def test_an_execution_that_is_missing_no_output_has_no_output_error(stored: ExecutionRecord) -> None:
    results = ResultsBucket("results", lambda: boto3.client("s3", region_name=REGION))
    assert document(stored, results=results)["output_error"] is None


def test_a_failed_execution_has_its_error_message() -> None:
    shown = document(running_record(**final_attributes(Status.FAILED)))
    assert shown["error_message"] == "it failed"
    assert shown["completed_at"] == to_rfc3339(NOW + 60)


def test_completed_at_is_the_time_of_the_upstream() -> None:
    one = running_record(**final_attributes(), timing={"completed_at": to_rfc3339(NOW + 59)})
    assert document(one)["completed_at"] == to_rfc3339(NOW + 59)


WAITING = {
    "reason": "upstream_busy",
    "since": to_rfc3339(NOW),
    "next_attempt_at": to_rfc3339(NOW + 45),
    "detail": "HTTP 429: slow down",
    "conflicts": 0,
}


def test_a_waiting_request_has_the_reason_and_the_next_attempt() -> None:
    assert document(record(waiting=WAITING))["waiting"] == {
        "reason": "upstream_busy",
        "since": to_rfc3339(NOW),
        "next_attempt_at": to_rfc3339(NOW + 45),
    }


@pytest.mark.parametrize(
    "one",
    [
        record(),
        running_record(waiting=WAITING),
        record(waiting=WAITING, status=Status.STARTING),
        record(**final_attributes(Status.REJECTED), waiting=WAITING),
    ],
    ids=lambda one: one.status,
)
def test_an_execution_that_does_not_wait_has_no_reason(one: ExecutionRecord) -> None:
    assert document(one)["waiting"] is None


# Live progress

LIVE = StatusDocument("COMPLETED", progress=40.0, current_node="b", completed_nodes=2, total_nodes=5)


def test_a_running_job_has_its_live_progress() -> None:
    result = document(running_record(progress=10.0), LIVE)
    assert (result["progress"], result["current_node"], result["completed_nodes"], result["total_nodes"]) == (
        40.0,
        "b",
        2,
        5,
    )


def test_a_live_final_status_does_not_change_the_status() -> None:
    result = document(running_record(), LIVE)
    assert (result["status"], result["final_output"], result["completed_at"]) == ("RUNNING", None, None)


@pytest.mark.parametrize(
    ("status", "expected"), [("EXPIRED", "EXPIRED"), ("RUNNING", None), ("completed", None), (None, None)]
)
def test_upstream_status_is_set_only_for_an_unknown_status(status: str | None, expected: str | None) -> None:
    assert document(running_record(), StatusDocument(status))["upstream_status"] == expected


def test_without_a_live_status_the_progress_is_that_of_the_record() -> None:
    result = document(running_record(progress=10.0), None)
    assert (result["status"], result["progress"], result["current_node"]) == ("RUNNING", 10.0, None)
    assert document(running_record(progress=10.0), StatusDocument())["progress"] == 10.0


def test_the_progress_of_a_completed_execution_is_100() -> None:
    stored = running_record(progress=10.0, **final_attributes())
    assert document(stored, None)["progress"] == 100.0
    failed = running_record(progress=10.0, **final_attributes(Status.FAILED))
    assert document(failed, None)["progress"] == 10.0


# Operators


def test_an_operator_does_not_see_the_webhook_url_of_another_caller() -> None:
    webhook = Webhook("https://hooks.example.com/token")
    for stored in (record(caller=CALLER, source="api", webhook=webhook), record(webhook=webhook)):
        shown = document(stored, caller=OPERATOR)["webhook"]
        assert (shown["url"], shown["status"]) == (None, "waiting")
    own = record(caller=OPERATOR.identity, source="api", webhook=webhook)
    assert document(own, caller=OPERATOR)["webhook"]["url"] == webhook.url


@pytest.mark.parametrize("source", TRIGGERS)
def test_an_operator_sees_the_caller_of_an_execution(source: str) -> None:
    caller = "another caller" if source == "api" else None
    shown = document(record(source=source, caller=caller), caller=OPERATOR)
    assert (shown["trigger"], shown["caller"]) == (TRIGGERS[source], caller)
