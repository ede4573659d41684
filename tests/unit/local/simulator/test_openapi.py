"""The simulator's responses match its openapi.yaml."""

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
from tests.unit.local.simulator.simulator_client import UNKNOWN_ID, Response, Upstream, running, start_body

DOCUMENT: dict[str, Any] = yaml.safe_load(Path("local/simulator/openapi.yaml").read_text())
BY_NAME = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}

formats = FormatChecker(())


@formats.checks("date-time", raises=ValueError)
def is_timestamp(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@formats.checks("uri", raises=ValueError)
def is_address(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).hostname)


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole, format_checker=formats).iter_errors(value)]


def schema_reference(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def problems_of(operation: str, response: Response) -> list[str]:
    described = BY_NAME[operation][2]["responses"][str(response.status)]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    schema = described["content"][response.headers["content-type"].partition(";")[0]]["schema"]
    return problems(schema, response.body.decode() if schema == {"type": "string"} else response.json)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running() as server:
        yield server


def test_the_document_is_valid_and_uses_each_component() -> None:
    text = json.dumps(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for kind in ("schemas", "responses", "parameters"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text or f"`#/components/{kind}/{name}`" in text


def test_the_described_operations_are_served(upstream: Upstream) -> None:
    assert sorted(BY_NAME) == sorted(Operation)
    for name, (method, path, _) in BY_NAME.items():
        before = upstream.requests()["received"][name]
        upstream.call(method, path.replace("{execution_id}", UNKNOWN_ID), headers={})
        assert upstream.requests()["received"][name] == before + 1


@pytest.mark.parametrize("chatbot_id", sorted(set(CHATBOTS) - {"answer-lost"}))
def test_each_response_is_as_described(upstream: Upstream, chatbot_id: str) -> None:
    upstream.set_speed(1)
    started = upstream.call("POST", f"/v1/executions/{chatbot_id}/async", start_body())
    assert problems_of("start", started) == []
    path = f"/v1/executions/{started.json['execution_id']}"
    fields = set(DOCUMENT["components"]["schemas"]["Status"]["properties"])
    # In the queue, while it runs, and at its end. Then cancel it, before or after its end.
    for speed in (1, 10, 1_000):
        upstream.set_speed(speed)
        status = upstream.call("GET", path)
        assert problems_of("status", status) == []
        assert set(status.json) | {"final_output"} == fields
    cancelled = upstream.call("DELETE", path)
    assert problems_of("cancel", cancelled) == []
    assert set(cancelled.json) == set(DOCUMENT["components"]["schemas"]["Cancellation"]["properties"])
    assert problems_of("status", upstream.call("GET", path)) == []


def test_each_event_is_as_described(upstream: Upstream) -> None:
    upstream.set_speed(50)
    used_names = set()
    for chatbot_id in ("support-chat", "always-fails"):
        response = upstream.call("GET", f"/v1/executions/{upstream.start(chatbot_id)}/stream")
        assert problems_of("stream", response) == []
        for line in response.body.decode().split("\n\n")[:-1]:
            event = json.loads(line.removeprefix("data: "))
            assert problems(schema_reference("Event"), event) == []
            used_names |= {*event, event["type"]}
    described = DOCUMENT["components"]["schemas"]["Event"]["properties"]
    assert used_names == {*described, *described["type"]["enum"]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"{}", 422),
        (b" " * 2_000_000, 413),
        (start_body(faults=[{"on": "start", "kind": "status_code", "code": 429}]), 429),
    ],
    ids=["malformed", "incomplete", "too large", "too many"],
)
def test_a_refused_start_is_as_described(upstream: Upstream, body: bytes, code: int) -> None:
    response = upstream.call("POST", "/v1/executions/instant/async", body)
    assert response.status == code
    assert problems_of("start", response) == []


@pytest.mark.parametrize("operation", ["start", "status", "cancel", "stream"])
def test_each_refusal_is_as_described(upstream: Upstream, operation: str) -> None:
    method, path, _ = BY_NAME[operation]
    path = path.replace("{execution_id}", UNKNOWN_ID).replace("{chatbot_id}", "unpublished")
    body = start_body() if method == "POST" else None
    for response, code in (
        (upstream.call(method, path, body), 404),
        (upstream.call(method, path, body, {}), 401),
    ):
        assert response.status == code
        assert problems_of(operation, response) == []


@pytest.mark.parametrize("kind", ["wrong_types", "unknown_status"])
def test_a_status_that_breaks_the_description_is_detected(upstream: Upstream, kind: str) -> None:
    broken = upstream.start("instant", faults=[{"on": "status", "kind": kind}])
    assert problems_of("status", upstream.call("GET", f"/v1/executions/{broken}")) != []
