"""Poll: one question; and the one write it may make, the upstream's id that start could not save."""

import importlib
import json
from typing import Any

import pytest

from functions.poll import app
from tests.fakes.aws import Bucket, Failing, Secret, Stuttering, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.scripted_server import ScriptedServer, hang_up, reply
from tests.support.builders import (
    ID,
    KEY,
    OTHER,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    final_attributes,
    job,
    record,
    running_record,
)
from tests.support.invoke import Invoke, log_of
from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.poll import UpstreamIdRecovery
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339

UNSAVED = job(unsaved=True)


def saver(table: Table, client: Any = None) -> UpstreamIdRecovery:
    return UpstreamIdRecovery(lambda: table.records_over(client or table.client), Clock(NOW + 5))


def test_an_id_that_start_could_not_save_is_saved_later(table: Table) -> None:
    table.put(record(status=Status.STARTING))
    got = saver(table).save(UNSAVED, OWNER)
    assert got.unsaved is False
    there = table.get(ID)
    assert (there.status, there.waterflai_execution_id, there.started_at) == (
        Status.RUNNING,
        UPSTREAM_ID,
        to_rfc3339(NOW + 5),
    )


@pytest.mark.parametrize("operation", ["get_item", "update_item"])
def test_a_table_still_in_trouble_is_tried_again_at_the_next_poll(table: Table, operation: str) -> None:
    table.put(record(status=Status.STARTING))
    failing = Failing(table.client, {operation: client_error("ThrottlingException")})
    assert saver(table, failing).save(UNSAVED, OWNER) == UNSAVED
    assert saver(table).save(UNSAVED, OWNER).unsaved is False


@pytest.mark.parametrize("cancelled_at", [None, to_rfc3339(NOW)], ids=["", "cancelled"])
def test_an_id_that_was_saved_meanwhile_is_done_with(table: Table, cancelled_at: str | None) -> None:
    there = table.put(running_record(cancel_requested=cancelled_at))
    got = saver(table).save(UNSAVED, OWNER)
    assert (got.unsaved, got.cancel_requested) == (False, cancelled_at is not None)
    assert table.get(ID) == there


def test_a_job_whose_record_was_concluded_meanwhile_ends_as_that_is(table: Table) -> None:
    there = table.put(running_record(**final_attributes(Status.CANCELLED)))
    got = saver(table).save(UNSAVED, OWNER)
    assert (got.outcome, got.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert table.get(ID) == there


def test_a_cancel_is_not_forgotten_where_botocore_repeats_the_write_of_the_id(table: Table) -> None:
    table.put(record(status=Status.STARTING, cancel_requested=to_rfc3339(NOW)))
    got = saver(table, Stuttering(table.client)).save(UNSAVED, OWNER)
    assert (got.unsaved, got.cancel_requested) == (False, True)
    assert table.get(ID).waterflai_execution_id == UPSTREAM_ID


def test_an_id_whose_record_is_erased_during_the_write_stays_unsaved(table: Table) -> None:
    there = table.put(record(status=Status.STARTING))
    client = Stuttering(table.client, lambda: table.delete(there))
    assert saver(table, client).save(UNSAVED, OWNER) == UNSAVED


def test_another_executions_record_is_left_alone(table: Table) -> None:
    there = table.put(record(status=Status.STARTING))
    saver(table).save(UNSAVED, OTHER)
    assert table.get(ID) == there


def test_an_erased_record_stays_erased(table: Table) -> None:
    saver(table).save(UNSAVED, OWNER)
    assert table.all() == []


def event(given: LoopState, owner: str = OWNER) -> dict[str, Any]:
    return {"state": given.to_dict(), "execution": {"arn": owner, "started_at": STARTED_AT}}


def poll(invoke: Invoke, server: ScriptedServer, given: LoopState | None = None) -> dict[str, Any]:
    state = invoke(app, event(given or job(deadline=9e9)), WATERFLAI_BASE_URL=server.url)
    assert json.loads(json.dumps(state)) == state
    return state


def test_the_function_asks_over_http(invoke: Invoke) -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING", "progress": 40.0})]) as server:
        state = poll(invoke, server)
    (got,) = server.requests
    assert (got.method, got.target, got.headers["x-api-key"]) == ("GET", f"/v1/executions/{UPSTREAM_ID}", KEY)
    assert (state["outcome"], state["next"], state["history"]["progress"]) == ("RUNNING", "wait", 40.0)


def test_the_function_brings_the_output_as_the_text_it_came_as(invoke: Invoke) -> None:
    output = '{ "n" : 12345678901234567890, "f": 1.0, "e":1e400, "t":"\\ud83d 🙂" }'
    with ScriptedServer([reply(200, '{"status":"COMPLETED","final_output":' + output + "}")]) as server:
        state = poll(invoke, server)
    assert state["result"]["final_output_json"] == output


def test_the_function_leaves_a_large_output_in_the_bucket(invoke: Invoke, bucket: Bucket) -> None:
    output = '"' + "ß" * 20_000 + '"'
    with ScriptedServer([reply(200, '{"final_output":' + output + ',"status":"COMPLETED"}')]) as server:
        state = poll(invoke, server)
    assert bucket.text(state["result"]["output_ref"]) == output
    assert len(json.dumps(state)) < 2048


@pytest.mark.parametrize(
    "step",
    [
        reply(500, {"detail": "x"}),
        reply(502, "<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
        reply(200, "<html>hello</html>"),
        reply(200, "[]"),
        reply(401, {"detail": "no"}),
        hang_up,
    ],
    ids=["500", "502 with HTML", "HTML", "a list", "401", "no answer"],
)
def test_the_function_takes_a_bad_minute_of_the_upstream_for_what_it_is(invoke: Invoke, step: Any) -> None:
    with ScriptedServer([step]) as server:
        state = poll(invoke, server)
    assert (state["outcome"], state["next"], state["history"]["errors"]) == ("RUNNING", "wait", 1)


def test_the_function_saves_the_id_that_start_could_not_and_asks_all_the_same(
    invoke: Invoke, table: Table
) -> None:
    table.put(record(status=Status.STARTING, expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, job(deadline=9e9, unsaved=True))
    assert "unsaved" not in state
    assert state["history"]["status_requests"] == 1
    assert ExecutionsTable(table.name, table.client).get(ID, NOW) is not None
    assert table.only().status is Status.RUNNING


def test_the_function_takes_a_secret_it_cannot_read_for_an_answer(invoke: Invoke, secret: Secret) -> None:
    secret.rotate('{"apiKey": "in the wrong field"}')
    with ScriptedServer([]) as server:
        state = poll(invoke, server)
    assert (state["outcome"], state["next"], state["history"]["faults"]) == ("RUNNING", "wait", 1)
    assert "wrong field" not in json.dumps(state)


def test_a_container_starts_with_a_secret_that_it_cannot_read(invoke: Invoke, secret: Secret) -> None:
    """Else Lambda would repeat the initialisation, and the step would fail."""
    secret.rotate("{")
    for function in ("poll", "follow", "cancel"):
        module = importlib.import_module(f"functions.{function}.app")
        with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
            poll(invoke, server)
            # What a new container does first.
            assert getattr(Dependencies(module.telemetry), f"{function}_step")


def test_the_log_of_a_poll_holds_neither_the_key_nor_the_output(invoke: Invoke) -> None:
    steps = (
        reply(200, {"status": "COMPLETED", "final_output": {"card": "k4711"}}),
        reply(200, {"status": "FAILED", "error_message": "card k4711"}),
        reply(500, {"detail": f"k4711 {KEY}"}),
    )
    with log_of(app) as log:
        for step in steps:
            with ScriptedServer([step]) as server:
                poll(invoke, server)
    assert log.getvalue().count('"message":"poll"') == 3
    for secret in (KEY, "k4711"):
        assert secret not in log.getvalue()


def test_a_cancel_that_came_before_the_id_was_saved_is_heard_once_it_is(table: Table) -> None:
    table.put(record(status=Status.STARTING, cancel_requested=to_rfc3339(NOW)))
    got = saver(table).save(UNSAVED, OWNER)
    assert (got.unsaved, got.cancel_requested) == (False, True)


def test_the_function_goes_on_to_the_cancel_that_its_caller_was_promised(
    invoke: Invoke, table: Table
) -> None:
    table.put(record(status=Status.STARTING, cancel_requested=to_rfc3339(NOW), expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, job(deadline=9e9, unsaved=True))
    assert (state["next"], state["cancel_requested"]) == ("cancel", True)


# A record that is final


FINAL = running_record(**final_attributes(Status.CANCELLED, expires_at=9_000_000_000))


@pytest.mark.parametrize("changes", [{}, {"unsaved": True}], ids=["", "unsaved"])
def test_the_function_ends_the_loop_of_a_record_that_is_final(
    invoke: Invoke, table: Table, changes: dict[str, Any]
) -> None:
    """The caller's DELETE was answered CANCELLED, and the upstream returns RUNNING all the same."""
    there = table.put(FINAL)
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        state = poll(invoke, server, job(deadline=9e9, **changes))
    assert (state["outcome"], state["next"]) == ("CANCELLED", "notify")
    assert table.only() == there


def test_a_record_that_is_not_final_or_gone_changes_nothing(invoke: Invoke, table: Table) -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        assert poll(invoke, server)["next"] == "wait"
    table.put(running_record(expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"status": "RUNNING"})]) as server:
        assert poll(invoke, server)["next"] == "wait"


class Reads:
    """A client that counts what is read, and fails at it."""

    def __init__(self) -> None:
        self.count = 0

    def get_item(self, **_: Any) -> dict[str, Any]:
        self.count += 1
        raise client_error("ThrottlingException")


def test_a_table_that_fails_disturbs_no_poll_and_is_left_alone_for_a_minute() -> None:
    clock, reads = Clock(), Reads()
    client: Any = reads
    check = FinalRecordCheck(lambda: ExecutionsTable("executions", client), clock)
    for _ in range(3):
        assert check.end_if_final(job(), clock.now) == job()
    assert reads.count == 1
    clock.advance(60)
    check.end_if_final(job(), clock.now)
    assert reads.count == 2


def test_after_a_slow_status_request_there_is_no_time_for_the_table() -> None:
    clock, reads = Clock(), Reads()
    client: Any = reads
    FinalRecordCheck(lambda: ExecutionsTable("executions", client), clock).end_if_final(job(), clock.now - 16)
    assert reads.count == 0


# Progress


EAGER = job(deadline=9e9, progress_events=True)
FORTY = reply(200, {"status": "RUNNING", "progress": 40.0})


def test_progress_is_relayed_to_whoever_asked_for_it(invoke: Invoke, table: Table, topic: Topic) -> None:
    table.put(running_record(expires_at=9_000_000_000))
    with ScriptedServer([FORTY]) as server:
        state = poll(invoke, server, EAGER)
        poll(invoke, server, LoopState.from_dict(state))
    (message,) = topic.messages()
    assert json.loads(message)["data"]["progress"] == 40.0
    assert table.only().progress == 40.0


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (job(deadline=9e9), FORTY),
        (EAGER, reply(200, {"status": "RUNNING"})),
        (EAGER, reply(200, {"status": "COMPLETED", "progress": 100.0, "final_output": {}})),
        (EAGER, reply(500)),
    ],
    ids=["nobody asked", "none to tell", "the end", "no answer"],
)
def test_no_progress_is_relayed_where_there_is_none_to_tell(
    invoke: Invoke, table: Table, topic: Topic, given: LoopState, answer: Any
) -> None:
    there = table.put(running_record(expires_at=9_000_000_000))
    with ScriptedServer([answer]) as server:
        poll(invoke, server, given)
    assert (topic.messages(), table.only()) == ([], there)


def test_a_topic_that_is_gone_does_not_stop_a_poll_with_progress_to_tell(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    table.put(running_record(expires_at=9_000_000_000))
    topic.sns.delete_topic(TopicArn=topic.arn)
    with ScriptedServer([FORTY]) as server:
        state = poll(invoke, server, EAGER)
    assert (state["next"], state["history"]["progress"]) == ("wait", 40.0)
