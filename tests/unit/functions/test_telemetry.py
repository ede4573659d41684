"""Log lines and metrics of all functions: one line for each invocation, and no data of the customer."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from functions.api import app as api
from functions.cancel import app as cancel
from functions.follow import app as follow
from functions.notify import app as notify
from functions.poll import app as poll
from functions.reconcile import app as reconcile
from functions.start import app as start
from tests.contract.markdown import table as table_of
from tests.contract.template import ROOT
from tests.fakes.aws import Machine, Secret, Table
from tests.fakes.lambda_context import Context
from tests.fakes.scripted_server import ScriptedServer, reply, sse
from tests.support.builders import (
    ID,
    KEY,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    request_dict,
    running_record,
    running_state,
)
from tests.support.captured_logs import CapturedLogs, metrics_of
from tests.support.invoke import Invoke, log_of
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.observability.metrics import Metric

ALL = (api, cancel, follow, notify, poll, reconcile, start)
CANARIES = {
    name: f"canary-{name}" for name in ("input", "output", "metadata", "message", "key", "node", "query")
}
REQUEST = request_dict(
    input_data={CANARIES["input"]: CANARIES["input"]},
    metadata={CANARIES["metadata"]: CANARIES["metadata"]},
)
DOCUMENT = {"status": "COMPLETED", "progress": 100, "final_output": {"text": CANARIES["output"]}}
RUNNING = {"status": "RUNNING", "progress": 40, "current_node": CANARIES["node"]}
EVENT_ID = "7bf73129-1428-4cd3-a780-95db273d1602"
REQUEST_ID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
FAR = 9_000_000_000


class LongContext(Context):
    """A context with time for a whole follow."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 880_000


type LogsOf = Callable[..., CapturedLogs]


@pytest.fixture
def logs_of(invoke: Invoke, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> LogsOf:
    """Return a function that invokes a handler with a scripted upstream and returns its logs and metrics."""
    monkeypatch.setattr("tests.support.invoke.CONTEXT", LongContext())

    def run(app: Any, event: dict[str, Any], *steps: Any) -> CapturedLogs:
        with ExitStack() as stack:
            log = stack.enter_context(log_of(app))
            server = stack.enter_context(ScriptedServer(list(steps)))
            capsys.readouterr()
            invoke(app, event, WATERFLAI_BASE_URL=server.url)
            return CapturedLogs.read(log.getvalue() + capsys.readouterr().out)

    return run


def step(state: LoopState) -> dict[str, Any]:
    return {"state": state.to_dict(), "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def begin(execution_input: object) -> dict[str, Any]:
    return {"input": execution_input, "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def http(method: str, path: str, resource: str, body: object = None) -> dict[str, Any]:
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {"x-api-key": CANARIES["key"], "Idempotency-Key": CANARIES["key"]},
        "queryStringParameters": {"chatbot_id": CANARIES["query"]} if method == "GET" else None,
        "pathParameters": {"id": path.split("/")[3]} if "{id}" in resource else None,
        "requestContext": {"requestId": REQUEST_ID, "path": path, "identity": {"apiKeyId": "abc"}},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def running(**changes: Any) -> LoopState:
    return running_state(deadline=FAR, chatbot_id="support-chat", **changes)


def completed() -> LoopState:
    return running().ended(Status.COMPLETED, final_output_json=json.dumps(DOCUMENT["final_output"]))


def stopped(machine: Machine) -> dict[str, Any]:
    arn = machine.client.start_execution(
        stateMachineArn=machine.arn, name="stopped", input=json.dumps(REQUEST)
    )["executionArn"]
    machine.client.stop_execution(executionArn=arn, cause=CANARIES["message"])
    return {"arn": arn, "status": "ABORTED", "event_id": EVENT_ID}


EXECUTIONS = "/v1/executions"
ITEM = f"{EXECUTIONS}/{{id}}"
REFUSAL = {"detail": f"{CANARIES['message']} {KEY}"}


def every_kind_of_invocation(
    logs_of: LogsOf, table: Table, machine: Machine
) -> Iterator[tuple[str, CapturedLogs]]:
    """Yield name and logs of invocations of every function, with canaries in each field of the customer."""
    event = {"event_id": EVENT_ID, "request": REQUEST}
    yield "start", logs_of(start, begin(event), reply(202, {"execution_id": UPSTREAM_ID}))
    bad = begin({"request": REQUEST | {CANARIES["input"]: 1}})
    yield "start", logs_of(start, bad)
    yield "start", logs_of(start, begin(REQUEST | {"idempotency_key": "other"}), reply(500, REFUSAL))
    yield "poll", logs_of(poll, step(running(follow_refused=True)), reply(200, RUNNING))
    yield "poll", logs_of(poll, step(running()), reply(200, DOCUMENT))
    failed = {"status": "FAILED", "error_message": f"{CANARIES['message']} {KEY}"}
    yield "poll", logs_of(poll, step(running()), reply(200, failed))
    yield "poll", logs_of(poll, step(running()), reply(401, REFUSAL))
    yield "poll", logs_of(poll, step(running()), reply(500, REFUSAL))
    yield "poll", logs_of(poll, step(running()), reply(200, CANARIES["output"]))
    done = {"type": "execution_completed", "final_output": CANARIES["output"]}
    yield "follow", logs_of(follow, step(running()), sse(done), reply(200, DOCUMENT))
    yield "follow", logs_of(follow, step(running()), sse(done), reply(500, REFUSAL), reply(200, DOCUMENT))
    yield "follow", logs_of(follow, step(running()), reply(503, REFUSAL), reply(200, RUNNING))
    yield "cancel", logs_of(cancel, step(running(next=NextStep.CANCEL)), reply(200, {"cancelled": True}))
    yield "cancel", logs_of(cancel, step(running(next=NextStep.CANCEL)), reply(502, REFUSAL))
    table.put(running_record(expires_at=FAR, metadata_json=json.dumps(REQUEST["metadata"])))
    yield "notify", logs_of(notify, step(completed()))
    yield "notify", logs_of(notify, {"redeliver": {"execution_id": ID}})
    error = running(execution_id="1" * 32).ended(Status.FAILED, code="failed", message=CANARIES["message"])
    table.put(running_record(execution_id="1" * 32, expires_at=FAR))
    yield "notify", logs_of(notify, step(error))
    yield "reconcile", logs_of(reconcile, stopped(machine))
    path = f"{EXECUTIONS}/support-chat/async"
    body = {name: REQUEST[name] for name in ("input_data", "metadata")}
    accepted = logs_of(api, http("POST", path, f"{ITEM}/async", body))
    yield "api", accepted
    (line,) = accepted.lines
    yield "api", logs_of(api, http("GET", f"{EXECUTIONS}/{line['execution_id']}", ITEM))
    yield "api", logs_of(api, http("GET", EXECUTIONS, EXECUTIONS))
    yield "api", logs_of(api, http("DELETE", f"{EXECUTIONS}/{line['execution_id']}", ITEM))
    yield "api", logs_of(api, http("GET", f"{EXECUTIONS}/{CANARIES['query']}", ITEM))
    yield "api", logs_of(api, http("POST", path, f"{ITEM}/async", {"input_data": CANARIES["input"]}))


def test_every_invocation_logs_one_line_of_documented_fields_without_customer_data(
    logs_of: LogsOf, table: Table, machine: Machine
) -> None:
    document = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    fields = {row[0] for row in table_of(document, "Log field")}
    logged, names, texts = set[str](), set[str](), ""
    for name, logs in every_kind_of_invocation(logs_of, table, machine):
        (line,) = logs.of(name)
        assert all(entry["level"] == "WARNING" for entry in logs.lines if entry is not line)
        assert len(logs.emf_lines) <= 1
        for blob in logs.emf_lines:
            assert {metric for metric, _ in metrics_of(blob)} <= set(Metric)
            assert blob["stack"] == "tests"
        logged |= line.keys()
        names.add(name)
        texts += logs.text
    assert names == {app.__name__.split(".")[1] for app in ALL}
    assert logged <= fields
    for canary in (*CANARIES.values(), KEY):
        assert canary not in texts


def test_the_correlation_id_of_a_line_identifies_the_caller(
    logs_of: LogsOf, table: Table, machine: Machine
) -> None:
    """It is the ARN of the state machine execution, the id of the event or the id of the API request."""
    event = {"event_id": EVENT_ID, "request": REQUEST}
    (line,) = logs_of(start, begin(event), reply(202, {"execution_id": UPSTREAM_ID})).lines
    assert (line["correlation_id"], line["event_id"]) == (OWNER, EVENT_ID)
    assert (line["waterflai_execution_id"], line["chatbot_id"]) == (UPSTREAM_ID, "support-chat")
    ended = stopped(machine)
    (line,) = logs_of(reconcile, ended).lines
    assert (line["correlation_id"], line["execution_arn"]) == (EVENT_ID, ended["arn"])
    assert line["outcome"] == Status.CANCELLED
    (line,) = logs_of(api, http("GET", EXECUTIONS, EXECUTIONS)).lines
    assert (line["correlation_id"], line["route"], line["http_status"]) == (
        REQUEST_ID,
        "GET /v1/executions",
        200,
    )


def test_the_line_of_a_poll_has_the_next_step_and_the_latency_of_waterflai(logs_of: LogsOf) -> None:
    logs = logs_of(poll, step(running(follow_refused=True)), reply(200, RUNNING))
    (line,) = logs.lines
    assert (line["execution_id"], line["waterflai_execution_id"]) == (ID, UPSTREAM_ID)
    assert (line["chatbot_id"], line["outcome"], line["next"]) == ("support-chat", "RUNNING", "wait")
    assert line["wait_seconds"] > 0
    assert line["latency_ms"] > 0
    assert logs.metrics.keys() == {
        "FollowRefused",
        "UpstreamErrors",
        "UpstreamLatency",
        "SecondsWithoutProgress",
    }


def test_a_repeated_notify_does_not_count_its_outcome_again(logs_of: LogsOf, table: Table) -> None:
    table.put(running_record(expires_at=FAR))
    first = logs_of(notify, step(completed())).metrics
    assert {"OutcomeCompleted", "Polls", "FollowSeconds", "EstimatedCost"} <= first.keys()
    assert logs_of(notify, step(completed())).metrics == {}


def test_an_api_key_that_is_still_refused_after_reading_the_secret_is_counted(logs_of: LogsOf) -> None:
    assert "UpstreamUnauthorized" in logs_of(poll, step(running()), reply(401, REFUSAL)).metrics


def test_a_request_beyond_the_limit_is_counted_as_queued(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_of(start) as log, ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        for key in ("one", "two"):
            execution_input = begin(REQUEST | {"idempotency_key": key})
            invoke(start, execution_input, WATERFLAI_BASE_URL=server.url, WATERHOOK_MAX_RUNNING="1")
    metrics = CapturedLogs.read(log.getvalue() + capsys.readouterr().out).metrics
    assert (metrics["Started"], metrics["StartsQueued"]) == ([1], [1])


def test_a_function_that_raises_logs_its_execution_and_its_fault_without_its_input(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"execution_id": ID, "result": CANARIES["output"]}
    with log_of(poll) as log, pytest.raises(KeyError):
        invoke(poll, {"state": broken, "execution": {"arn": OWNER}})
    logs = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    (line,) = logs.lines
    assert (line["level"], line["execution_id"], line["fault"]) == ("ERROR", ID, "KeyError")
    assert CANARIES["output"] not in logs.text


def test_a_malformed_secret_is_counted_and_named_in_the_line_of_a_poll(
    logs_of: LogsOf, secret: Secret
) -> None:
    secret.rotate(json.dumps({"apiKey": CANARIES["key"]}))
    logs = logs_of(poll, step(running()))
    assert logs.metrics["DependencyFaults"] == [1]
    [line] = logs.of("poll")
    assert line["dependency_fault"] == "KeyUnavailableError"
    assert CANARIES["key"] not in logs.text
