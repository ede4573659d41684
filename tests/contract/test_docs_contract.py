"""docs/contract.md lists exactly the fields, codes and limits of the code."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest
import yaml
from moto.events.models import EventPattern

from tests.contract.markdown import fences, names, table
from tests.contract.template import ROOT, of_type, source
from tests.fakes.clock import NOW
from tests.support import samples
from tests.support.builders import (
    DEFAULTS,
    OWNER,
    final_attributes,
    final_record,
    record,
    running_record,
)
from waterhook.api.api_settings import MAX_WAIT_S, MAX_WAITERS
from waterhook.api.callers import Caller
from waterhook.api.list_query import MAX_PAGE, PARAMETERS
from waterhook.api.status_documents import StatusDocuments
from waterhook.deadline_connection import MAX_INTERIM_ANSWERS
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S
from waterhook.domain.request import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, MAX_TIMEOUT_S, Request
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES, MAX_OUTPUT_BYTES
from waterhook.domain.trigger_input import TRIGGERS
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_retries import MAX_ATTEMPTS, MAX_RETRY_AFTER_S
from waterhook.domain.webhook_url import MAX_URL_CHARS
from waterhook.errors import (
    InvalidRequestError,
    PerhapsAcceptedError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.json_text import MAX_NESTING
from waterhook.notifications import notification_events, state_machine_output
from waterhook.notifications.delivery_targets import EVENT_SOURCE
from waterhook.notifications.progress_publisher import MIN_INTERVAL_S
from waterhook.settings import MAX_CONCURRENCY_LIMIT
from waterhook.steps import wait_reason
from waterhook.steps.follow_session import progress_change
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.results_bucket import PRESIGNED_SECONDS
from waterhook.text import MAX_ID_CHARS, MAX_MESSAGE_CHARS
from waterhook.upstream.event_stream import StreamEvent
from waterhook.upstream.responses import MAX_RESPONSE_BYTES, Response, error_from_response
from waterhook.upstream.sse import MAX_EVENT_BYTES
from waterhook.webhooks.sender import TIMEOUT_S

DOCUMENT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
API = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = API["components"]["schemas"]
# Meaning of an answer for a start, and the exception that the code raises for it.
MEANINGS = {
    "not accepted": UpstreamUnavailableError,
    "may be accepted": PerhapsAcceptedError,
    "refused": UpstreamRefusedError,
}
# Their content comes from customers and Waterflai, so the contract does not list it.
FREE_FORM = {"data.final_output", "data.metadata"}
FULL = running_record(
    **final_attributes(Status.COMPLETED)
    | {"final_output_json": "{}", "output_ref": "s3://a/b", "output_error": "missing", "usage": {"polls": 1}}
    | {"error": {"code": "a", "message": "b"}}
    | {"webhook": Webhook("https://hooks.example.com/"), "published_to": ("sns",)}
)


def listed(heading: str) -> set[str]:
    return {row[0] for row in table(DOCUMENT, heading)}


def leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the path of each field of an event, and of `data.error` itself because it may be null."""
    for name, value in document.items():
        path = f"{prefix}{name}"
        if not isinstance(value, Mapping) or path in FREE_FORM:
            yield path
        else:
            yield from {path} if path == "data.error" else ()
            yield from leaves(value, f"{path}.")


def test_the_fields_of_a_request_are_listed() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.from_dict({"nonsense": 1}, DEFAULTS)
    assert listed("Field") == set(str(caught.value).partition("known are ")[2].partition(";")[0].split(", "))
    assert listed("Field") - {"chatbot_id"} == SCHEMAS["Request"]["properties"].keys()
    required = {row[0] for row in table(DOCUMENT, "Field") if row[2] == "required"}
    assert required == {"chatbot_id", *SCHEMAS["Request"]["required"]}


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("Accepted", "Accepted"),
        ("Document", "Execution"),
        ("Cancelled", "Cancelled"),
        ("Listed", "ExecutionSummary"),
    ],
)
def test_the_fields_of_an_answer_are_listed(heading: str, schema: str) -> None:
    assert listed(heading) == SCHEMAS[schema]["properties"].keys()


def test_the_fields_of_a_status_document_are_listed() -> None:
    nothing: Any = None
    documents = StatusDocuments(nothing, nothing, nothing)
    record = running_record(waterflai_execution_id=None)
    document = json.loads(documents.document(record, Caller("an operator", is_operator=True)))
    assert document.keys() == listed("Document")
    assert document.keys() - json.loads(documents.document(record, Caller("another"))).keys() == {"caller"}


def test_the_fields_and_reasons_of_a_waiting_request_are_listed() -> None:
    waiting = wait_reason.public_waiting(
        record(waiting=wait_reason.waiting_attribute(wait_reason.WaitReason.QUEUED, "MaxRunning 2", NOW, 4))
    )
    reasons = SCHEMAS["WaitingReason"]["enum"]
    assert waiting is not None
    assert listed("Waiting") == waiting.keys() == SCHEMAS["Waiting"]["properties"].keys()
    assert [row[0] for row in table(DOCUMENT, "Reason")] == reasons == list(wait_reason.WaitReason)


def test_the_parameters_of_a_list_are_listed() -> None:
    described = API["paths"]["/v1/executions"]["get"]["parameters"]
    assert [row[0] for row in table(DOCUMENT, "List parameter")] == [*PARAMETERS]
    assert [entry["name"] for entry in described] == [*PARAMETERS]
    (trigger,) = (entry for entry in described if entry["name"] == "trigger")
    assert SCHEMAS[trigger["schema"]["$ref"].rpartition("/")[2]]["enum"] == [*TRIGGERS.values()]
    rows = table(DOCUMENT, "Value of `trigger`")
    assert {row[0]: row[1].strip("`") for row in rows} == {name: source for source, name in TRIGGERS.items()}


def test_each_error_of_the_api_is_listed() -> None:
    operations = [item[method] for item in API["paths"].values() for method in item if method != "parameters"]
    refusals = {
        code for operation in operations for code in operation["responses"] if not code.startswith("2")
    }
    assert listed("Answer") == refusals


def test_the_fields_of_a_notification_are_listed() -> None:
    events = map(samples.read, samples.OUTCOMES)
    assert listed("Notification") == {path for event in events for path in leaves(event)}


def test_the_fields_of_a_progress_event_are_listed() -> None:
    change = progress_change(StreamEvent("node_started", 40.0, "llm"))
    event = json.loads(notification_events.progress_event(running_record(), "/waterhook/tests", change, NOW))
    assert listed("Progress") == set(leaves(event))


def test_the_sns_attributes_are_listed() -> None:
    attributes = notification_events.outcome_attributes(FULL)
    assert {row[0]: row[1] for row in table(DOCUMENT, "SNS attribute")} == {
        name: attribute["DataType"] for name, attribute in attributes.items()
    }
    assert notification_events.progress_attributes(running_record()).keys() == attributes.keys()


def on_bus(event: str) -> Any:
    """Return the envelope that EventBridge makes for an event of EventBridgeTarget."""
    detail = json.loads(event)
    return {"source": EVENT_SOURCE, "detail-type": detail["type"], "resources": [OWNER], "detail": detail}


def test_the_event_patterns_select_what_their_rows_state() -> None:
    rows = {row[0]: json.loads(row[1].strip("`")) for row in table(DOCUMENT, "To receive")}
    failed = final_record(Status.FAILED)
    progress = notification_events.progress_event(failed, "/waterhook/NAME", {"progress": 5.0}, NOW)
    outcomes = {
        "failed": notification_events.outcome_event(failed, "/waterhook/NAME"),
        "another chatbot": notification_events.outcome_event(final_record(chatbot_id="x"), "/waterhook/NAME"),
        "another stack": notification_events.outcome_event(final_record(), "/waterhook/other"),
    }
    selected = {
        what: {
            name
            for name, event in {**outcomes, "progress": progress}.items()
            if EventPattern.load(json.dumps(pattern)).matches_event(on_bus(event))
        }
        for what, pattern in rows.items()
    }
    assert selected == {
        "all outcomes, without progress": outcomes.keys(),
        "failed executions": {"failed"},
        "outcomes of one chatbot": {"failed", "another stack"},
        "outcomes of one stack, on a bus of several": {"failed", "another chatbot"},
    }


def test_the_example_of_an_event_on_the_bus_has_the_fields_of_the_table() -> None:
    (text,) = (one.text for one in fences(DOCUMENT) if '"detail-type": "waterhook' in one.text)
    example = json.loads(text)
    assert listed("Event on the bus") <= example.keys()
    assert (example["source"], example["detail-type"]) == (EVENT_SOURCE, example["detail"]["type"])
    event = json.loads(notification_events.outcome_event(FULL, "/waterhook/waterhook"))
    assert example["detail"].keys() <= event.keys()
    assert example["detail"]["data"].keys() <= event["data"].keys()


def test_the_output_fields_of_the_state_machine_are_listed() -> None:
    assert listed("Output") == state_machine_output.outcome_output(FULL).keys()
    failed = state_machine_output.outcome_output(running_record(**final_attributes(Status.FAILED)))
    assert json.loads(failed["cause"]).keys() <= {"message", *listed("Output")}


def test_each_error_of_the_state_machine_is_listed() -> None:
    outcomes = {status.error_name for status in Status if status.is_final} - {Status.COMPLETED.error_name}
    assert listed("Error") == outcomes | {
        state_machine_output.DUPLICATE,
        state_machine_output.IDEMPOTENCY_CONFLICT,
    }


def test_each_error_code_is_listed_with_existing_outcomes() -> None:
    sources = [*(ROOT / "layers/waterhook/waterhook").rglob("*.py"), *(ROOT / "functions").glob("*/app.py")]
    used = {code for path in sources for code in codes(ast.parse(path.read_text(encoding="utf-8")))}
    assert listed("Code") == used
    outcomes = {name for row in table(DOCUMENT, "Code") for name in names(row[1])}
    assert outcomes == {status for status in Status if status.is_final} - {Status.COMPLETED}


def codes(tree: ast.Module) -> Iterator[str]:
    """Yield each error code that the code sets, in each form in which it is written."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=ast.Constant(value=str() as code)):
                yield code
            case ast.Dict(
                keys=[ast.Constant(value="code"), *_], values=[ast.Constant(value=str() as code), *_]
            ):
                yield code
            case ast.Tuple(
                elts=[ast.Attribute(value=ast.Name(id="Status")), ast.Constant(value=str() as code), _]
            ):
                yield code
            case ast.Call(
                func=ast.Name(id="UpstreamRefusedError"), args=[ast.Constant(value=str() as code), *_]
            ):
                yield code
            case ast.arguments(kwonlyargs=named, kw_defaults=defaults):
                for argument, default in zip(named, defaults, strict=True):
                    if argument.arg == "code" and isinstance(default, ast.Constant) and default.value:
                        yield str(default.value)


def test_the_meaning_of_each_status_code_is_listed() -> None:
    listed_codes = {
        int(code): next((kind for words, kind in MEANINGS.items() if words in row[1]), None)
        for row in table(DOCUMENT, "Waterflai answers")
        for code in re.findall(r"\b[3-5]\d\d\b", row[0])
    }
    meant = {status: type(error_from_response(Response(status, {}))) for status in range(300, 600)}
    assert {code for code, kind in meant.items() if kind is UpstreamUnavailableError} <= listed_codes.keys()
    assert {code: meant[code] for code in listed_codes} == listed_codes
    # The last rows are for all other codes.
    others = meant.keys() - listed_codes.keys()
    assert {meant[code] for code in others if code < 500} == {UpstreamRefusedError}
    assert {meant[code] for code in others if code >= 500} == {PerhapsAcceptedError}


def test_each_502_of_a_cancel_is_listed() -> None:
    texts = {
        text.value
        for node in ast.walk(
            ast.parse((ROOT / "layers/waterhook/waterhook/api/cancellation.py").read_text("utf-8"))
        )
        if isinstance(node, ast.JoinedStr) and isinstance(text := node.values[0], ast.Constant)
    }
    refusals = {str(text) for text in texts if str(text).startswith("Waterflai ")}
    rows = listed("`detail` begins with")
    assert len(rows) == len(refusals)
    assert all(any(text.startswith(row) for text in refusals) for row in rows)


def test_the_attributes_of_a_record_are_listed() -> None:
    # It is written and never read: only conditions of other writes use it.
    marks = {"repeated"}
    assert listed("Attribute") == {entry.name for entry in fields(ExecutionRecord)} | marks
    kinds = {row[0]: row[1] for row in table(DOCUMENT, "Attribute") if row[0] not in marks}
    item = FULL.to_item()
    assert item.keys() > {"final_output_json", "error", "usage", "deliver_to"}
    assert {name: kinds[name] for name in item} == {name: next(iter(value)) for name, value in item.items()}


def test_the_limits_of_the_code_are_listed() -> None:
    (api,) = of_type(source()["Resources"], "AWS::Serverless::Api").values()
    (throttling,) = api["Properties"]["MethodSettings"]
    caps = [source()["Parameters"][name]["MaxValue"] for name in ("MaxRunning", "MaxRunningPerChatbot")]
    assert caps == [MAX_CONCURRENCY_LIMIT, MAX_CONCURRENCY_LIMIT]
    assert {row[0]: row[1] for row in table(DOCUMENT, "Limit")} == {
        "a request": f"{MAX_REQUEST_BYTES // 1024} KiB",
        "nesting of a request": f"{MAX_NESTING} levels",
        "metadata": f"{MAX_METADATA_BYTES // 1024} KiB",
        "timeout_seconds": f"{MAX_TIMEOUT_S // 86400} days",
        "chatbot_id, idempotency_key": f"{MAX_ID_CHARS} characters",
        "an output in the notification and in the record": f"{MAX_INLINE_BYTES // 1024} KiB",
        "an output": f"{MAX_OUTPUT_BYTES // 1024**2} MiB",
        "error.message": f"{MAX_MESSAGE_CHARS:,} characters",
        "a link to an output": f"{PRESIGNED_SECONDS // 3600} hour",
        "a page of executions": f"{MAX_PAGE}",
        "progress events": f"{1 / MIN_INTERVAL_S:.0f} a second",
        "webhook.url": f"{MAX_URL_CHARS:,} characters",
        "an attempt of a webhook": f"{TIMEOUT_S:.0f} s",
        "attempts of a webhook": f"{MAX_ATTEMPTS}",
        "Retry-After of a receiver": f"{MAX_RETRY_AFTER_S // 3600} hours",
        "Retry-After of Waterflai": f"{RETRY_AFTER_LIMIT_S} s",
        "an answer of Waterflai, except status documents": f"{MAX_RESPONSE_BYTES // 1024} KiB",
        "an event of a stream": f"{MAX_EVENT_BYTES // 1024} KiB",
        "interim answers before an answer": f"{MAX_INTERIM_ANSWERS}",
        "requests to the API": (
            f"{throttling['ThrottlingRateLimit']} per second, bursts of {throttling['ThrottlingBurstLimit']}"
        ),
        "MaxRunning, MaxRunningPerChatbot": f"{MAX_CONCURRENCY_LIMIT:,}",
        "MaxWaitSeconds": f"{MAX_WAIT_S} s",
        "MaxWaiters": f"{MAX_WAITERS:,}",
    }
