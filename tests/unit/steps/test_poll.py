"""The poll function: one status request, and the recovery of an upstream id that start could not save."""

import importlib
import json
from typing import Any

import pytest

from functions.poll import app
from tests.fakes.aws import Bucket, FailingClient, RepeatingClient, Secret, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support.builders import (
    ID,
    KEY,
    OTHER,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    final_attributes,
    record,
    running_record,
    running_state,
)
from tests.support.invoke import Invoke
from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.poll import UpstreamIdRecovery
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339

UNSAVED = running_state(unsaved=True)


def saver(table: Table, client: Any = None) -> UpstreamIdRecovery:
    return UpstreamIdRecovery(lambda: table.records_over(client or table.client), Clock(NOW + 5))


def test_an_id_that_start_could_not_save_is_saved_later(table: Table) -> None:
    table.put(record(status=Status.STARTING))
    saved = saver(table).save(UNSAVED, OWNER)
    assert saved.unsaved is False
    stored = table.get(ID)
    assert (stored.status, stored.waterflai_execution_id, stored.started_at) == (
        Status.RUNNING,
        UPSTREAM_ID,
        to_rfc3339(NOW + 5),
    )


@pytest.mark.parametrize("operation", ["get_item", "update_item"])
def test_an_id_that_the_table_refuses_is_saved_at_the_next_poll(table: Table, operation: str) -> None:
    table.put(record(status=Status.STARTING))
    failing = FailingClient(table.client, {operation: client_error("ThrottlingException")})
    assert saver(table, failing).save(UNSAVED, OWNER) == UNSAVED
    assert saver(table).save(UNSAVED, OWNER).unsaved is False


@pytest.mark.parametrize("cancelled_at", [None, to_rfc3339(NOW)], ids=["", "cancelled"])
def test_an_id_that_was_saved_meanwhile_is_not_written_again(table: Table, cancelled_at: str | None) -> None:
    stored = table.put(running_record(cancel_requested=cancelled_at))
    saved = saver(table).save(UNSAVED, OWNER)
    assert (saved.unsaved, saved.cancel_requested) == (False, cancelled_at is not None)
    assert table.get(ID) == stored


def test_a_job_whose_record_is_final_has_the_outcome_of_the_record(table: Table) -> None:
    stored = table.put(running_record(**final_attributes(Status.CANCELLED)))
    saved = saver(table).save(UNSAVED, OWNER)
    assert (saved.outcome, saved.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert table.get(ID) == stored


def test_a_cancel_request_is_read_where_botocore_repeats_the_write_of_the_id(table: Table) -> None:
    table.put(record(status=Status.STARTING, cancel_requested=to_rfc3339(NOW)))
    saved = saver(table, RepeatingClient(table.client)).save(UNSAVED, OWNER)
    assert (saved.unsaved, saved.cancel_requested) == (False, True)
    assert table.get(ID).waterflai_execution_id == UPSTREAM_ID


def test_an_id_whose_record_is_erased_during_the_write_stays_unsaved(table: Table) -> None:
    stored = table.put(record(status=Status.STARTING))
    client = RepeatingClient(table.client, lambda: table.delete(stored))
    assert saver(table, client).save(UNSAVED, OWNER) == UNSAVED


def test_the_record_of_another_execution_is_not_changed(table: Table) -> None:
    stored = table.put(record(status=Status.STARTING))
    saver(table).save(UNSAVED, OTHER)
    assert table.get(ID) == stored


def test_an_erased_record_stays_erased(table: Table) -> None:
    saver(table).save(UNSAVED, OWNER)
    assert table.all() == []


def event(loop_state: LoopState, owner: str = OWNER) -> dict[str, Any]:
    return {"state": loop_state.to_dict(), "execution": {"arn": owner, "started_at": STARTED_AT}}


def poll(invoke: Invoke, server: ScriptedServer, loop_state: LoopState | None = None) -> dict[str, Any]:
    state = invoke(app, event(loop_state or running_state(deadline=9e9)), WATERFLAI_BASE_URL=server.url)
    assert json.loads(json.dumps(state)) == state
    return state


def test_the_function_requests_the_status_over_http(invoke: Invoke) -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING", "progress": 40.0})]) as server:
        state = poll(invoke, server)
    (sent,) = server.requests
    assert (sent.method, sent.target, sent.headers["x-api-key"]) == (
        "GET",
        f"/v1/executions/{UPSTREAM_ID}",
        KEY,
    )
    assert (state["outcome"], state["next"], state["history"]["progress"]) == ("RUNNING", "wait", 40.0)


def test_the_function_returns_the_output_as_unchanged_text(invoke: Invoke) -> None:
    output = '{ "n" : 12345678901234567890, "f": 1.0, "e":1e400, "t":"\\ud83d 🙂" }'
    with ScriptedServer([reply(200, '{"status":"COMPLETED","final_output":' + output + "}")]) as server:
        state = poll(invoke, server)
    assert state["result"]["final_output_json"] == output


def test_the_function_stores_a_large_output_in_the_bucket(invoke: Invoke, bucket: Bucket) -> None:
    output = '"' + "ß" * 20_000 + '"'
    with ScriptedServer([reply(200, '{"final_output":' + output + ',"status":"COMPLETED"}')]) as server:
        state = poll(invoke, server)
    assert bucket.text(state["result"]["output_ref"]) == output
    assert len(json.dumps(state)) < 2048


def test_the_function_counts_a_failed_status_request(invoke: Invoke) -> None:
    with ScriptedServer([reply(500, {"detail": "x"})]) as server:
        state = poll(invoke, server)
    assert (state["outcome"], state["next"], state["history"]["errors"]) == ("RUNNING", "wait", 1)


def test_the_function_saves_the_id_that_start_could_not_save_and_requests_the_status(
    invoke: Invoke, table: Table
) -> None:
    table.put(record(status=Status.STARTING, expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, running_state(deadline=9e9, unsaved=True))
    assert "unsaved" not in state
    assert state["history"]["status_requests"] == 1
    assert ExecutionsTable(table.name, table.client).get(ID, NOW) is not None
    assert table.only().status is Status.RUNNING


def test_the_function_counts_an_unreadable_secret_as_a_fault(invoke: Invoke, secret: Secret) -> None:
    secret.rotate('{"apiKey": "in the wrong field"}')
    with ScriptedServer([]) as server:
        state = poll(invoke, server)
    assert (state["outcome"], state["next"], state["history"]["faults"]) == ("RUNNING", "wait", 1)
    assert "wrong field" not in json.dumps(state)


def test_a_container_starts_though_the_secret_is_malformed(invoke: Invoke, secret: Secret) -> None:
    """An exception would make Lambda repeat the initialisation, and fail the step."""
    secret.rotate("{")
    for function in ("poll", "follow", "cancel"):
        module = importlib.import_module(f"functions.{function}.app")
        with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
            poll(invoke, server)
            # A new container does this first.
            assert getattr(Dependencies(module.telemetry), f"{function}_step")


def test_the_function_leads_to_a_cancel_that_was_requested_before_the_id_was_saved(
    invoke: Invoke, table: Table
) -> None:
    table.put(record(status=Status.STARTING, cancel_requested=to_rfc3339(NOW), expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, running_state(deadline=9e9, unsaved=True))
    assert (state["next"], state["cancel_requested"]) == ("cancel", True)


# A record that is final


FINAL = running_record(**final_attributes(Status.CANCELLED, expires_at=9_000_000_000))


@pytest.mark.parametrize("changes", [{}, {"unsaved": True}], ids=["", "unsaved"])
def test_the_function_ends_the_loop_where_the_record_is_final(
    invoke: Invoke, table: Table, changes: dict[str, Any]
) -> None:
    """The caller's DELETE was answered CANCELLED, while the upstream still returns RUNNING."""
    stored = table.put(FINAL)
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, running_state(deadline=9e9, **changes))
    assert (state["outcome"], state["next"]) == ("CANCELLED", "notify")
    assert table.only() == stored


def test_without_a_final_record_the_job_is_polled_again(invoke: Invoke, table: Table) -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        assert poll(invoke, server)["next"] == "wait"
    table.put(running_record(expires_at=9_000_000_000, progress_events=True))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        assert poll(invoke, server)["next"] == "wait"


class Reads:
    """A client that counts its reads and fails each one."""

    def __init__(self) -> None:
        self.count = 0

    def get_item(self, **_: Any) -> dict[str, Any]:
        self.count += 1
        raise client_error("ThrottlingException")


def test_after_a_failed_read_the_record_is_not_read_for_a_minute() -> None:
    clock, reads = Clock(), Reads()
    client: Any = reads
    check = FinalRecordCheck(lambda: ExecutionsTable("executions", client), clock)
    for _ in range(3):
        assert check.end_if_final(running_state(), clock.now) == running_state()
    assert reads.count == 1
    clock.advance(60)
    check.end_if_final(running_state(), clock.now)
    assert reads.count == 2


def test_after_a_slow_status_request_the_record_is_not_read() -> None:
    clock, reads = Clock(), Reads()
    client: Any = reads
    FinalRecordCheck(lambda: ExecutionsTable("executions", client), clock).end_if_final(
        running_state(), clock.now - 16
    )
    assert reads.count == 0


# Progress


EAGER = running_state(deadline=9e9, progress_events=True)
FORTY = reply(200, {"status": "RUNNING", "progress": 40.0})


def test_progress_is_published_where_the_request_has_progress_events(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    table.put(running_record(expires_at=9_000_000_000, progress_events=True))
    with ScriptedServer([FORTY]) as server:
        state = poll(invoke, server, EAGER)
        poll(invoke, server, LoopState.from_dict(state))
    (message,) = topic.messages()
    assert json.loads(message)["data"]["progress"] == 40.0
    assert table.only().progress == 40.0


@pytest.mark.parametrize(
    ("loop_state", "answer"),
    [
        (running_state(deadline=9e9), FORTY),
        (EAGER, reply(200, {"status": "RUNNING"})),
        (EAGER, reply(200, {"status": "COMPLETED", "progress": 100.0, "final_output": {}})),
        (EAGER, reply(500)),
    ],
    ids=["not requested", "no progress", "final status", "failed request"],
)
def test_no_progress_is_published_without_new_progress_or_the_request_for_it(
    invoke: Invoke, table: Table, topic: Topic, loop_state: LoopState, answer: Any
) -> None:
    stored = table.put(running_record(expires_at=9_000_000_000))
    with ScriptedServer([answer]) as server:
        poll(invoke, server, loop_state)
    assert (topic.messages(), table.only()) == ([], stored)


def test_a_topic_that_fails_does_not_fail_a_poll_with_progress(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    table.put(running_record(expires_at=9_000_000_000, progress_events=True))
    topic.sns.delete_topic(TopicArn=topic.arn)
    with ScriptedServer([FORTY]) as server:
        state = poll(invoke, server, EAGER)
    assert (state["next"], state["history"]["progress"]) == ("wait", 40.0)
