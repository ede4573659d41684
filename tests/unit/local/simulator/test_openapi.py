"""The simulator's description of the API, held against what the simulator says."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from local.simulator.chatbots import CHATBOTS
from local.simulator.fault_rules import Operation
from tests.unit.local.simulator.simulator_client import UNKNOWN_ID, Answer, Upstream, as_body, running

DOCUMENT: dict[str, Any] = yaml.safe_load(Path("local/simulator/openapi.yaml").read_text())
BY_NAME = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}

formats = FormatChecker(())


@formats.checks("date-time", raises=ValueError)
def is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@formats.checks("uri", raises=ValueError)
def is_address(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).hostname)


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole, format_checker=formats).iter_errors(value)]


def named(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def problems_of(operation: str, answer: Answer) -> list[str]:
    described = BY_NAME[operation][2]["responses"][str(answer.status)]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    schema = described["content"][answer.headers["content-type"].partition(";")[0]]["schema"]
    return problems(schema, answer.body.decode() if schema == {"type": "string"} else answer.json)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running() as server:
        yield server


def test_the_description_is_sound() -> None:
    text = json.dumps(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for kind in ("schemas", "responses", "parameters"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text or f"`#/components/{kind}/{name}`" in text


def test_the_operations_described_are_those_served(upstream: Upstream) -> None:
    assert sorted(BY_NAME) == sorted(Operation)
    for name, (method, path, _) in BY_NAME.items():
        before = upstream.requests()["received"][name]
        upstream.call(method, path.replace("{execution_id}", UNKNOWN_ID), headers={})
        assert upstream.requests()["received"][name] == before + 1


@pytest.mark.parametrize("chatbot_id", sorted(set(CHATBOTS) - {"answer-lost"}))
def test_every_answer_is_as_described(upstream: Upstream, chatbot_id: str) -> None:
    upstream.set_speed(1)
    started = upstream.call("POST", f"/v1/executions/{chatbot_id}/async", as_body())
    assert problems_of("start", started) == []
    path = f"/v1/executions/{started.json['execution_id']}"
    fields = set(DOCUMENT["components"]["schemas"]["Status"]["properties"])
    # In the queue, running, and at the end; then cancelled, or too late for that.
    for speed in (1, 10, 1_000):
        upstream.set_speed(speed)
        status = upstream.call("GET", path)
        assert problems_of("status", status) == []
        assert set(status.json) | {"final_output"} == fields
    cancelled = upstream.call("DELETE", path)
    assert problems_of("cancel", cancelled) == []
    assert set(cancelled.json) == set(DOCUMENT["components"]["schemas"]["Cancellation"]["properties"])
    assert problems_of("status", upstream.call("GET", path)) == []


def test_every_event_is_as_described(upstream: Upstream) -> None:
    upstream.set_speed(50)
    seen = set()
    for chatbot_id in ("support-chat", "always-fails"):
        answer = upstream.call("GET", f"/v1/executions/{upstream.start(chatbot_id)}/stream")
        assert problems_of("stream", answer) == []
        for line in answer.body.decode().split("\n\n")[:-1]:
            event = json.loads(line.removeprefix("data: "))
            assert problems(named("Event"), event) == []
            seen |= {*event, event["type"]}
    described = DOCUMENT["components"]["schemas"]["Event"]["properties"]
    assert seen == {*described, *described["type"]["enum"]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"{}", 422),
        (b" " * 2_000_000, 413),
        (as_body(faults=[{"on": "start", "kind": "status_code", "code": 429}]), 429),
    ],
    ids=["malformed", "incomplete", "too large", "too many"],
)
def test_a_refused_start_is_as_described(upstream: Upstream, body: bytes, code: int) -> None:
    answer = upstream.call("POST", "/v1/executions/instant/async", body)
    assert answer.status == code
    assert problems_of("start", answer) == []


@pytest.mark.parametrize("operation", ["start", "status", "cancel", "stream"])
def test_every_refusal_is_as_described(upstream: Upstream, operation: str) -> None:
    method, path, _ = BY_NAME[operation]
    path = path.replace("{execution_id}", UNKNOWN_ID).replace("{chatbot_id}", "unpublished")
    body = as_body() if method == "POST" else None
    for answer, code in (
        (upstream.call(method, path, body), 404),
        (upstream.call(method, path, body, {}), 401),
    ):
        assert answer.status == code
        assert problems_of(operation, answer) == []


@pytest.mark.parametrize("kind", ["wrong_types", "nulls", "unknown_status"])
def test_a_document_that_is_not_as_described_is_noticed(upstream: Upstream, kind: str) -> None:
    broken = upstream.start("instant", faults=[{"on": "status", "kind": kind}])
    assert problems_of("status", upstream.call("GET", f"/v1/executions/{broken}")) != []
