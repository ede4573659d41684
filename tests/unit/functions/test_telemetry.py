"""All functions at work: each says one line, and no word of what an execution takes in or gives back."""

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
from tests.support.builders import ID, KEY, OWNER, STARTED_AT, UPSTREAM_ID, job, request_dict, running_record
from tests.support.captured_logs import CapturedLogs, metrics_of
from tests.support.invoke import Invoke, log_of
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.observability.metrics import Metric

ALL = (api, cancel, follow, notify, poll, reconcile, start)
CANARIES = {
    name: f"canary-{name}" for name in ("input", "output", "metadata", "message", "key", "node", "query")
}
GIVEN = request_dict(
    input_data={CANARIES["input"]: CANARIES["input"]},
    metadata={CANARIES["metadata"]: CANARIES["metadata"]},
)
DOCUMENT = {"status": "COMPLETED", "progress": 100, "final_output": {"said": CANARIES["output"]}}
RUNNING = {"status": "RUNNING", "progress": 40, "current_node": CANARIES["node"]}
EVENT_ID = "7bf73129-1428-4cd3-a780-95db273d1602"
REQUEST_ID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
FAR = 9_000_000_000


class Patient(Context):
    """Follow looks at how long it may take."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 880_000


type Hear = Callable[..., CapturedLogs]


@pytest.fixture
def hear(invoke: Invoke, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hear:
    """Call a function against an upstream that answers so, and return all that it said."""
    monkeypatch.setattr("tests.support.invoke.CONTEXT", Patient())

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


def begin(given: object) -> dict[str, Any]:
    return {"input": given, "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def http(method: str, path: str, resource: str, body: object = None) -> dict[str, Any]:
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {"x-api-key": CANARIES["key"], "Idempotency-Key": CANARIES["key"]},
        "queryStringParameters": {"q": CANARIES["query"]} if method == "GET" else None,
        "pathParameters": {"id": path.split("/")[3]} if "{id}" in resource else None,
        "requestContext": {"requestId": REQUEST_ID, "path": path, "identity": {"apiKeyId": "abc"}},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def running(**changes: Any) -> LoopState:
    return job(deadline=FAR, chatbot_id="support-chat", **changes)


def completed() -> LoopState:
    return running().ended(Status.COMPLETED, final_output_json=json.dumps(DOCUMENT["final_output"]))


def stopped(machine: Machine) -> dict[str, Any]:
    arn = machine.client.start_execution(
        stateMachineArn=machine.arn, name="stopped", input=json.dumps(GIVEN)
    )["executionArn"]
    machine.client.stop_execution(executionArn=arn, cause=CANARIES["message"])
    return {"arn": arn, "status": "ABORTED", "event_id": EVENT_ID}


EXECUTIONS = "/v1/executions"
ITEM = f"{EXECUTIONS}/{{id}}"
REFUSAL = {"detail": f"{CANARIES['message']} {KEY}"}


def every_way(hear: Hear, table: Table, machine: Machine) -> Iterator[tuple[str, CapturedLogs]]:
    """Every function, well and ill, with canaries in all that is the customer's."""
    event = {"event_id": EVENT_ID, "request": GIVEN}
    yield "start", hear(start, begin(event), reply(202, {"execution_id": UPSTREAM_ID}))
    bad = begin({"request": GIVEN | {CANARIES["input"]: 1}})
    yield "start", hear(start, bad)
    yield "start", hear(start, begin(GIVEN | {"idempotency_key": "other"}), reply(500, REFUSAL))
    yield "poll", hear(poll, step(running(follow_refused=True)), reply(200, RUNNING))
    yield "poll", hear(poll, step(running()), reply(200, DOCUMENT))
    yield "poll", hear(poll, step(running()), reply(401, REFUSAL))
    yield "poll", hear(poll, step(running()), reply(200, CANARIES["output"]))
    done = {"type": "execution_completed", "final_output": CANARIES["output"]}
    yield "follow", hear(follow, step(running()), sse(done), reply(200, DOCUMENT))
    yield "follow", hear(follow, step(running()), reply(503, REFUSAL), reply(200, RUNNING))
    yield "cancel", hear(cancel, step(running(next=NextStep.CANCEL)), reply(200, {"cancelled": True}))
    yield "cancel", hear(cancel, step(running(next=NextStep.CANCEL)), reply(502, REFUSAL))
    table.put(running_record(expires_at=FAR, metadata_json=json.dumps(GIVEN["metadata"])))
    yield "notify", hear(notify, step(completed()))
    yield "notify", hear(notify, {"redeliver": {"execution_id": ID}})
    yield "reconcile", hear(reconcile, stopped(machine))
    path = f"{EXECUTIONS}/support-chat/async"
    body = {name: GIVEN[name] for name in ("input_data", "metadata")}
    accepted = hear(api, http("POST", path, f"{ITEM}/async", body))
    yield "api", accepted
    (line,) = accepted.lines
    yield "api", hear(api, http("GET", f"{EXECUTIONS}/{line['execution_id']}", ITEM))
    yield "api", hear(api, http("GET", EXECUTIONS, EXECUTIONS))
    yield "api", hear(api, http("DELETE", f"{EXECUTIONS}/{line['execution_id']}", ITEM))
    yield "api", hear(api, http("GET", f"{EXECUTIONS}/{CANARIES['query']}", ITEM))
    yield "api", hear(api, http("POST", path, f"{ITEM}/async", {"input_data": CANARIES["input"]}))


def test_every_function_says_one_documented_line_and_no_payload(
    hear: Hear, table: Table, machine: Machine
) -> None:
    document = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    fields = {row[0] for row in table_of(document, "Log field")}
    logged, verbs, heard = set[str](), set[str](), ""
    for verb, said in every_way(hear, table, machine):
        (line,) = said.of(verb)
        assert all(entry["level"] == "WARNING" for entry in said.lines if entry is not line)
        assert len(said.emf_lines) <= 1
        for blob in said.emf_lines:
            assert {name for name, _ in metrics_of(blob)} <= set(Metric)
            assert blob["stack"] == "tests"
        logged |= line.keys()
        verbs.add(verb)
        heard += said.text
    assert verbs == {app.__name__.split(".")[1] for app in ALL}
    assert logged <= fields
    for canary in (*CANARIES.values(), KEY):
        assert canary not in heard


def test_a_line_is_bound_to_what_called_the_function(hear: Hear, table: Table, machine: Machine) -> None:
    """By the state machine's execution, the event or the request: each is what the caller's own log has."""
    event = {"event_id": EVENT_ID, "request": GIVEN}
    (line,) = hear(start, begin(event), reply(202, {"execution_id": UPSTREAM_ID})).lines
    assert (line["correlation_id"], line["event_id"]) == (OWNER, EVENT_ID)
    assert (line["waterflai_execution_id"], line["chatbot_id"]) == (UPSTREAM_ID, "support-chat")
    ended = stopped(machine)
    (line,) = hear(reconcile, ended).lines
    assert (line["correlation_id"], line["execution_arn"]) == (EVENT_ID, ended["arn"])
    assert line["outcome"] == Status.CANCELLED
    (line,) = hear(api, http("GET", EXECUTIONS, EXECUTIONS)).lines
    assert (line["correlation_id"], line["route"], line["http_status"]) == (
        REQUEST_ID,
        "GET /v1/executions",
        200,
    )


def test_a_step_of_the_loop_says_what_comes_next_and_how_long_waterflai_took(hear: Hear) -> None:
    said = hear(poll, step(running(follow_refused=True)), reply(200, RUNNING))
    (line,) = said.lines
    assert (line["execution_id"], line["waterflai_execution_id"]) == (ID, UPSTREAM_ID)
    assert (line["chatbot_id"], line["outcome"], line["next"]) == ("support-chat", "RUNNING", "wait")
    assert line["wait_seconds"] > 0
    assert line["latency_ms"] > 0
    assert said.metrics.keys() == {
        "FollowRefused",
        "UpstreamErrors",
        "UpstreamLatency",
        "SecondsWithoutProgress",
    }


def test_an_outcome_is_counted_once_however_often_notify_is_called(hear: Hear, table: Table) -> None:
    table.put(running_record(expires_at=FAR))
    first = hear(notify, step(completed())).metrics
    assert {"OutcomeCompleted", "Polls", "FollowSeconds", "EstimatedCost"} <= first.keys()
    assert hear(notify, step(completed())).metrics == {}


def test_a_refused_key_is_counted_where_the_key_in_the_secret_is_refused_too(hear: Hear) -> None:
    assert "UpstreamUnauthorized" in hear(poll, step(running()), reply(401, REFUSAL)).metrics


def test_a_request_beyond_the_cap_is_counted_as_queued(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_of(start) as log, ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        for key in ("one", "two"):
            given = begin(GIVEN | {"idempotency_key": key})
            invoke(start, given, WATERFLAI_BASE_URL=server.url, WATERHOOK_MAX_RUNNING="1")
    figures = CapturedLogs.read(log.getvalue() + capsys.readouterr().out).metrics
    assert (figures["Started"], figures["StartsQueued"]) == ([1], [1])


def test_a_function_that_raises_says_so_with_its_execution_and_without_a_word_of_its_input(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"execution_id": ID, "result": CANARIES["output"]}
    with log_of(poll) as log, pytest.raises(KeyError):
        invoke(poll, {"state": broken, "execution": {"arn": OWNER}})
    said = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    (line,) = said.lines
    assert (line["level"], line["execution_id"], line["fault"]) == ("ERROR", ID, "KeyError")
    assert CANARIES["output"] not in said.text


def test_a_fault_of_the_secret_is_counted_and_named_in_the_line_of_the_poll(
    hear: Hear, secret: Secret
) -> None:
    secret.rotate(json.dumps({"apiKey": CANARIES["key"]}))
    said = hear(poll, step(running()))
    assert said.metrics["DependencyFaults"] == [1]
    [line] = said.of("poll")
    assert line["dependency_fault"] == "KeyUnavailableError"
    assert CANARIES["key"] not in said.text
