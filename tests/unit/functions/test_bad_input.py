"""Hundreds of bad inputs at each interface: the API, the state machine, Waterflai's answers and its event stream."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from functions.api import app as api
from tests.fakes.api_key import FakeKey
from tests.fakes.clock import Clock
from tests.fakes.lambda_context import CONTEXT
from tests.fakes.placeholders import NO_BUCKET, TELEMETRY, unused
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.fakes.upstream_client import FakeUpstream
from tests.invariants.dynamodb import Table
from tests.support.api_events import event
from tests.support.build import build_status_documents
from tests.support.builders import (
    CALLER,
    ID,
    KEY,
    MACHINE,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    api_settings,
    running_state,
)
from tests.support.builders import settings as deployed
from tests.support.example_counts import CountExample, count_example
from tests.support.json_values import any_json, any_object, any_request, any_text
from waterhook.api.list_query import PARAMETERS
from waterhook.api.service import ExecutionService
from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import NextStep
from waterhook.domain.status import Status
from waterhook.errors import StreamOverflowError, UpstreamError
from waterhook.steps.start import StartStep
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.execution_lists import ExecutionLists
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.upstream.client import WaterflaiClient
from waterhook.upstream.sse import SseDecoder

__all__ = ["count_example"]

MANY = settings(max_examples=400, suppress_health_check=list(HealthCheck))


class Listing(Table):
    """A table in memory whose lists are empty."""

    def query(self, **_: Any) -> dict[str, Any]:
        return {"Items": [], "ScannedCount": 0}


class Machines:
    """A Step Functions client that starts nothing."""

    @staticmethod
    def start_execution(**_: Any) -> dict[str, str]:
        return {"executionArn": OWNER}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ExecutionService:
    """Return the service of the API function, with a table in memory."""
    records: Any = Listing()
    machines: Any = Machines()
    built = ExecutionService(
        ExecutionsTable("executions", records),
        machines,
        deployed(state_machine_arn=MACHINE),
        Clock(),
        unused,
        lists=ExecutionLists("executions", records),
    )
    monkeypatch.setattr(api, "dependencies", Dependencies(api.telemetry))
    api.dependencies.service = built
    api.dependencies.status_documents = build_status_documents()
    api.dependencies.api_settings = api_settings(operators=(CALLER,))
    return built


# ---- Requests and inputs --------------------------------------------------------------------------------------

like_a_body = st.fixed_dictionaries(
    {"input_data": any_object | any_json},
    optional={
        "metadata": any_object | any_json,
        "timeout_seconds": st.integers(-1, 3_000_000) | any_json,
        "idempotency_key": any_text | any_json,
        "deliver_to": st.lists(st.sampled_from(["sns", "dynamodb", "eventbridge", "mail"]), max_size=3)
        | any_json,
        "progress_events": st.booleans() | any_json,
    },
)
bodies = (like_a_body | any_request | any_json).map(json.dumps) | any_text | st.none()
START = ("POST", "/v1/executions/support-chat/async")
GET, CANCEL, LIST = (
    ("GET", f"/v1/executions/{ID}"),
    ("DELETE", f"/v1/executions/{ID}"),
    ("GET", "/v1/executions"),
)
odd_paths = st.sampled_from(["/v1/executions/{}/async", "/v1/executions/{}", "{}"])
odd_calls = st.tuples(
    st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.builds(str.format, odd_paths, any_text)
)
calls = st.sampled_from([START, START, START, START, LIST, GET, CANCEL]) | odd_calls
names = st.sampled_from(["Idempotency-Key", "Content-Type", "x-api-key", "User-Agent"])
# The caller is an operator, so that every parameter is read.
queries = st.dictionaries(st.sampled_from(PARAMETERS), any_text | st.integers().map(str), max_size=2)


@MANY
@given(
    call=calls,
    body=bodies,
    headers=st.none() | st.dictionaries(names, any_text, max_size=2),
    query=st.none() | queries,
    encoded=st.sampled_from([False, False, False, True]),
)
@example(call=START, body="!", headers=None, query=None, encoded=True)
@example(call=START, body="/w==", headers=None, query=None, encoded=True)
@example(call=START, body="\ud800", headers={}, query=None, encoded=False)
@example(call=START, body="\ud800", headers={}, query=None, encoded=True)
@example(
    call=START, body='{"input_data":{}}', headers={"Idempotency-Key": "\ud800"}, query=None, encoded=False
)
def test_a_bad_request_gets_a_documented_status_and_a_detail(
    service: ExecutionService,
    count_example: CountExample,
    *,
    call: tuple[str, str],
    body: str | None,
    headers: dict[str, str] | None,
    query: dict[str, str] | None,
    encoded: bool,
) -> None:
    request = event(*call, body, isBase64Encoded=encoded, queryStringParameters=query)
    answer = api.handler(request | {"headers": headers}, CONTEXT)
    response = json.loads(answer["body"])
    count_example("requests at the API", str(answer["statusCode"]))
    assert answer["statusCode"] in {200, 202, 400, 404, 409, 413}, ascii((response, request))
    if answer["statusCode"] >= 400:
        assert list(response) == ["detail"]
        assert 0 < len(response["detail"]) < 4000


wrapped = st.fixed_dictionaries(
    {"request": any_request | like_a_body | any_json},
    optional={
        "execution_id": any_text | any_json,
        "event_id": any_text | any_json,
        "parameters": st.fixed_dictionaries({}, optional={"chatbot_id": any_text}) | any_json,
        "schedule": st.fixed_dictionaries({}, optional={"arn": any_json, "time": any_text}) | any_json,
        "chatbot_id": any_json,
    },
)


@MANY
@given(any_json | any_request | like_a_body.map(lambda body: body | {"chatbot_id": "support-chat"}) | wrapped)
def test_a_bad_input_of_an_execution_is_rejected_and_posts_nothing(
    count_example: CountExample, given_input: Any
) -> None:
    records: Any = Table()
    upstream = FakeUpstream()
    starter = StartStep(
        ExecutionsTable("executions", records), upstream, deployed(), Clock(), telemetry=TELEMETRY
    )
    state = starter.start(given_input, owner=OWNER, started_at=STARTED_AT)
    count_example("inputs of the state machine", state["outcome"])
    assert state["outcome"] in {"REJECTED", "RUNNING"}
    assert len(upstream.posted) == (state["outcome"] == "RUNNING")
    assert len(json.dumps(state)) < 8 * 1024


# ---- Answers and streams of the upstream ----------------------------------------------------------------------

like_an_answer = st.fixed_dictionaries(
    {},
    optional={
        "execution_id": st.just(UPSTREAM_ID) | any_text | any_json,
        "status": st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]) | any_json,
        "progress": st.floats() | any_json,
        "final_output": any_json,
        "error_message": any_text | any_json,
        "cleanup_after": st.datetimes().map(str) | any_json,
        "completed_at": st.datetimes().map(str) | any_json,
        "cancelled": st.booleans() | any_json,
        "previous_status": any_text | any_json,
        "total_nodes": st.integers() | any_json,
        "completed_nodes": st.integers() | any_json,
    },
)
documents = (like_an_answer | any_json).map(lambda value: json.dumps(value).encode())
cut_off = st.tuples(documents, st.integers(0, 60)).map(lambda both: both[0][: -both[1] or None])
soup = st.text('{}[]":,.0123456789-+eEtruefalsn \n\t\\u', max_size=60).map(str.encode)
answers = documents | cut_off | soup | st.binary(max_size=60)


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[ScriptedServer, WaterflaiClient]]:
    with ScriptedServer([reply()]) as server:
        yield server, WaterflaiClient(server.url, FakeKey(KEY))


def outcome_of(request: Callable[[], object]) -> str:
    try:
        request()
    except UpstreamError as error:
        return type(error).__name__
    return "taken"


@MANY
@given(answers, st.just(200) | st.sampled_from([202, 204, 302, 400, 404, 409, 429, 500, 503]))
def test_a_bad_answer_of_the_upstream_is_a_failed_request_or_an_outcome(
    upstream: tuple[ScriptedServer, WaterflaiClient], count_example: CountExample, body: bytes, code: int
) -> None:
    server, client = upstream
    server.steps = [reply(code, body)]
    poller = StatusPoller(client, NO_BUCKET, deployed(), Clock())
    polled = poller.poll(running_state())
    count_example("status documents", polled.outcome)
    assert polled.outcome in {Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    assert polled.next in {NextStep.WAIT, NextStep.NOTIFY}
    assert code in {200, 202} or polled.outcome is Status.RUNNING
    assert len(json.dumps(polled.to_dict())) < 8 * 1024
    for name, request in (
        ("answers to a start", lambda: client.start("support-chat", {})),
        ("answers to a cancel", lambda: client.cancel(UPSTREAM_ID)),
    ):
        count_example(name, outcome_of(request))


marks = [b"\r", b"\n", b"\r\n", b":", b" ", b"data", b"data:", b"data: {}\n\n", b"id:", b"event:", b"retry:"]
noise = st.lists(st.sampled_from([*marks, b"\xef\xbb\xbf", b"\x00"]) | st.binary(max_size=12), max_size=40)


@settings(MANY, max_examples=1000)
@given(noise, st.integers(1, 8), st.integers(12, 64))
def test_bad_bytes_of_a_stream_are_events_or_an_overflow(
    count_example: CountExample, pieces: list[bytes], chunk_bytes: int, limit_bytes: int
) -> None:
    decoder = SseDecoder(max_line_bytes=limit_bytes, max_event_bytes=limit_bytes)
    stream, result = b"".join(pieces), "without an event"
    try:
        for start in range(0, len(stream), chunk_bytes):
            for event in decoder.feed(stream[start : start + chunk_bytes]):
                result = "with events"
                assert len(event.data.encode()) <= 3 * limit_bytes
    except StreamOverflowError:
        result = "beyond a limit"
    count_example("bytes into the decoder of streams", result)
