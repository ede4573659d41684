"""The notify step: notifications of the contract, faults that a Catch passed on, and redelivery."""

import json
import time
from typing import Any

import pytest

from functions.notify import app
from tests.contract.template import ROOT
from tests.fakes.aws import Table, Topic
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.build import build_notifier
from tests.support.builders import (
    DEFAULTS,
    ID,
    OTHER,
    OWNER,
    SOURCE,
    STARTED_AT,
    UPSTREAM_ID,
    final_attributes,
    history,
    record,
    request,
    request_dict,
    running_record,
    running_state,
)
from tests.support.invoke import Invoke, log_of
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.steps.notify import FaultReporter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

GOLDEN = ROOT / "tests" / "contract" / "golden"
KEYED = request_dict(idempotency_key="order-7")
FAULT = {"fault": "Lambda.Unknown", "outcome": "ERROR", "next": "notify"}


def reporter(table: Table) -> FaultReporter:
    return FaultReporter(table.records, DEFAULTS, Clock(NOW + 60))


def report(table: Table, topic: Topic, state: dict[str, Any], owner: str = OWNER) -> dict[str, Any]:
    reported = reporter(table).loop_state(state, owner=owner, started_at=STARTED_AT)
    return build_notifier(table, topic).notify(reported, owner)


# The contract: one golden file for each outcome

ORDER = {"order": 7, "customer": "Müller 🙂"}
OUTPUT = '{"answer":"because","n":12345678901234567890,"ratio":1.0}'


def accepted(**changes: Any) -> ExecutionRecord:
    return record(request(metadata=ORDER), **changes)


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


def test_there_is_a_golden_file_for_every_outcome() -> None:
    outcomes = {status.value.lower() for status in Status if status.is_final}
    assert outcomes <= set(OUTCOMES)
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_notification_equals_its_golden_file(table: Table, topic: Topic, name: str) -> None:
    stored, ended = OUTCOMES[name]
    table.put(stored)
    build_notifier(table, topic).notify(ended, OWNER)
    (message,) = topic.messages()
    # Only the indentation differs from the published text.
    shown = json.dumps(json.loads(message), indent=2, ensure_ascii=False) + "\n"
    assert shown == (GOLDEN / f"{name}.json").read_text()


# Faults of Waterhook


def test_the_error_of_a_fault_names_the_state_machine_execution(table: Table, topic: Topic) -> None:
    table.put(running_record())
    output = report(table, topic, running_state(history=POLLED).to_dict() | FAULT)
    assert (output["error_name"], output["error"]["code"]) == ("Waterhook.Error", "fault")
    assert "Lambda.Unknown" in output["error"]["message"]
    assert OWNER in output["error"]["message"]
    assert json.loads(topic.messages()[0])["data"]["usage"]["polls"] == 3


def test_a_fault_without_a_record_is_notified(table: Table, topic: Topic) -> None:
    output = report(table, topic, {"input": request_dict(metadata=ORDER)} | FAULT)
    data = json.loads(topic.messages()[0])["data"]
    assert (data["status"], data["chatbot_id"], data["metadata"]) == ("ERROR", "support-chat", ORDER)
    assert table.only().execution_id == output["execution_id"]


@pytest.mark.parametrize("body", [None, [], {"chatbot_id": 5}, {"request": [], "event_id": "\ud800"}])
def test_a_fault_with_an_invalid_input_is_notified(table: Table, topic: Topic, body: object) -> None:
    report(table, topic, {"input": body} | FAULT)
    assert json.loads(topic.messages()[0])["data"]["status"] == "ERROR"


def test_a_fault_without_an_input_is_notified(table: Table, topic: Topic) -> None:
    report(table, topic, dict(FAULT))
    assert len(topic.messages()) == 1


@pytest.mark.parametrize(
    "stored",
    [accepted(), accepted(status=Status.STARTING, start_attempts=1), started()],
    ids=lambda one: one.status,
)
def test_a_fault_of_start_is_written_to_the_record_that_start_had_claimed(
    table: Table, topic: Topic, stored: ExecutionRecord
) -> None:
    table.put(stored)
    report(table, topic, {"input": {"execution_id": ID, "request": request_dict(metadata=ORDER)}} | FAULT)
    data = json.loads(topic.messages()[0])["data"]
    # While a record is STARTING, its job may be running.
    outcome = "UNCERTAIN" if stored.status is Status.STARTING else "ERROR"
    assert (data["execution_id"], data["status"]) == (ID, outcome)
    assert data["waterflai_execution_id"] == stored.waterflai_execution_id
    assert len(table.all()) == 1


def test_a_fault_of_start_after_a_lost_answer_is_uncertain(table: Table) -> None:
    table.put(record(start_attempts=1, perhaps_started=True))
    state = {"fault": "RuntimeError", "input": {"execution_id": ID, "request": request_dict()}}
    job = reporter(table).loop_state(state, owner=OWNER, started_at=STARTED_AT)
    assert (job.outcome, (job.error or {})["code"]) == ("UNCERTAIN", "start_uncertain")


def test_a_fault_of_a_duplicate_does_not_change_the_first_execution(table: Table, topic: Topic) -> None:
    state = {"input": KEYED} | FAULT
    report(table, topic, state)
    first = table.only()
    topic.messages()
    table.set(first.execution_id, status="RUNNING")
    output = report(table, topic, state, owner=OTHER)
    assert output["error_name"] == "Waterhook.Duplicate"
    assert (topic.messages(), table.only().status) == ([], Status.RUNNING)


def test_a_fault_after_the_outcome_does_not_change_it(table: Table, topic: Topic) -> None:
    table.put(running_record(**final_attributes(Status.COMPLETED)))
    output = report(table, topic, running_state().to_dict() | FAULT)
    assert (output["outcome"], len(topic.messages())) == (Status.COMPLETED, 1)


def test_a_long_fault_is_shortened_in_the_notification(table: Table, topic: Topic) -> None:
    table.put(running_record())
    report(table, topic, running_state().to_dict() | FAULT | {"fault": "x\n" * 100_000})
    assert len(topic.messages()[0]) < 8_000


def test_an_unknown_next_step_is_named_in_the_error(table: Table, topic: Topic) -> None:
    table.put(running_record())
    state = running_state().to_dict() | {
        "fault": "Waterhook.NoSuchStep",
        "outcome": "ERROR",
        "next": "notify",
    }
    assert "NoSuchStep" in report(table, topic, state)["error"]["message"]


def test_a_report_that_is_killed_at_any_step_and_repeated_is_one_record_and_one_event(
    table: Table, topic: Topic
) -> None:
    def attempt(counter: StepCounter, key: str) -> None:
        client = CountedClient(table.client, counter)
        state = {"input": request_dict(idempotency_key=key)} | FAULT
        reporting = FaultReporter(table.records_over(client), DEFAULTS, Clock(NOW + 60))
        reported = reporting.loop_state(state, owner=OWNER, started_at=STARTED_AT)
        build_notifier(
            table, topic, records=table.records_over(client), sns=CountedClient(topic.sns, counter)
        ).notify(reported, OWNER)

    rehearsal = StepCounter()
    attempt(rehearsal, "rehearsal")
    topic.messages()
    for at, step in enumerate(rehearsal.steps):
        with pytest.raises(Killed):
            attempt(StepCounter(kill_at=at), f"key-{at}")
        attempt(StepCounter(), f"key-{at}")
        messages = topic.messages()
        assert len(set(messages)) == 1, step
    assert len(table.all()) == len(rehearsal.steps) + 1


# The handler


def event(state: dict[str, Any], owner: str = OWNER) -> dict[str, Any]:
    return {"state": state, "execution": {"arn": owner, "started_at": STARTED_AT}}


def test_the_function_writes_publishes_and_returns_the_outcome(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    table.put(running_record(expires_at=9_000_000_000))
    ended = running_state().ended(Status.COMPLETED, final_output_json=OUTPUT)
    output = invoke(app, event(ended.to_dict()))
    (message,) = topic.messages()
    assert f'"final_output":{OUTPUT},' in message
    assert json.loads(message)["source"] == SOURCE
    assert (output["outcome"], output["next"], output["final_output_json"]) == ("COMPLETED", "done", OUTPUT)
    assert json.loads(json.dumps(output)) == output


def test_the_function_sets_the_expiry_from_the_retention_setting(invoke: Invoke, table: Table) -> None:
    table.put(running_record(expires_at=9_000_000_000))
    invoke(app, event(running_state().ended(Status.LOST).to_dict()), WATERHOOK_RETENTION_DAYS="7")
    stored = table.only()
    assert stored.finished_at is not None
    assert stored.expires_at - int(time.time()) == pytest.approx(7 * 24 * 3600, abs=60)


def test_the_function_redelivers_the_same_notification(invoke: Invoke, table: Table, topic: Topic) -> None:
    table.put(running_record(expires_at=9_000_000_000))
    invoke(app, event(running_state().ended(Status.COMPLETED, final_output_json=OUTPUT).to_dict()))
    answer = invoke(app, {"redeliver": {"execution_id": ID}})
    first, again = topic.messages()
    assert again == first
    assert json.loads(json.dumps(answer)) == {
        "execution_id": ID,
        "redelivered": True,
        "outcome": "COMPLETED",
        "event_id": f"{ID}/1767225600000/COMPLETED",
        "published_to": ["sns"],
    }


@pytest.mark.parametrize("body", [{}, None, "id", {"execution_id": {"a": 1}}])
def test_the_function_refuses_a_redelivery_without_an_execution_id(invoke: Invoke, body: object) -> None:
    answer = invoke(app, {"redeliver": body})
    assert (answer["redelivered"], answer["outcome"]) == (False, None)


def test_the_log_of_a_redelivery_contains_the_id_and_no_data(invoke: Invoke, table: Table) -> None:
    failed = final_attributes(
        Status.FAILED, error={"code": "a", "message": "card k4711"}, expires_at=9_000_000_000
    )
    table.put(running_record(metadata_json='{"order":"k0815"}', **failed))
    with log_of(app) as log:
        assert invoke(app, {"redeliver": {"execution_id": "k4711\nforged"}})["redelivered"] is False
        assert invoke(app, {"redeliver": {"execution_id": ID}})["redelivered"] is True
    assert f'"execution_id":"{ID}"' in log.getvalue()
    for secret in ("k4711", "k0815", "forged"):
        assert secret not in log.getvalue()
