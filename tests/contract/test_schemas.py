"""The JSON Schemas in schemas/ are up to date, complete, and describe exactly what the code accepts and publishes."""

import copy
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.schemas import FOLDER, read_document, schemas, to_text
from tests.fakes.clock import NOW
from tests.support import outcomes, samples
from tests.support.builders import DEFAULTS, SOURCE, running_record
from tests.support.schemas import Validator, published, read, strict
from waterhook.domain.request import DELIVERY_TARGETS, MAX_TIMEOUT_S, Request
from waterhook.domain.status import Status
from waterhook.domain.status_document import OutputError
from waterhook.domain.webhook import EVENTS
from waterhook.domain.webhook_url import WebhookRules
from waterhook.errors import InvalidRequestError
from waterhook.json_text import to_json
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import clip
from waterhook.timestamps import to_rfc3339

NAMES = ["request", "notification", "webhook"]
# `progress` is best effort: the stream and the status document do not always have these.
OPTIONAL = {"data.progress", "data.node_id", "data.event"}
# Any JSON.
FREE_FORM = {"data.final_output", "data.metadata"}
HAS_JOB = {Status.COMPLETED, Status.FAILED, Status.LOST}


# The files


def test_the_files_are_up_to_date() -> None:
    expected = {name: to_text(schema) for name, schema in schemas(read_document()).items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert found == expected, "run `make schemas`"


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_complete(name: str) -> None:
    schema = read(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    nodes = list(walk(schema))
    references = {node["$ref"] for node in nodes if "$ref" in node}
    assert references == {f"#/$defs/{name}" for name in schema["$defs"]}
    assert not any({"discriminator", "allOf"} & node.keys() for node in nodes)
    for node in nodes:
        if "pattern" in node:
            re.compile(node["pattern"])
            # Not every validator has these.
            assert not re.search(r"\(\?|\\p|\\u|\\x", node["pattern"])


@pytest.mark.parametrize("name", NAMES)
def test_each_definition_and_field_of_a_schema_has_a_description(name: str) -> None:
    schema = read(name)
    described = [schema, *schema["$defs"].values()]
    assert all(entry["title"] and entry["description"] for entry in described)
    fields = [field for entry in described for field in entry.get("properties", {}).values()]
    assert all("description" in field or "$ref" in field for field in fields)


# Events


def branches(name: str) -> dict[str, Validator]:
    """Return a validator for each branch of a schema, by the type of the event."""
    schema = read(name)
    found = {}
    for branch in schema["oneOf"]:
        (definition,) = (schema["$defs"][branch["$ref"].removeprefix("#/$defs/")],)
        found[definition["properties"]["type"]["const"]] = Validator(
            {**branch, "$defs": schema["$defs"]}, validate_formats=True
        )
    return found


@pytest.mark.parametrize(
    ("schema", "name"),
    [("notification", name) for name in samples.NOTIFICATIONS]
    + [("webhook", name) for name in samples.WEBHOOKS]
    + [("webhook", name) for name in samples.NOTIFICATIONS if "large_output" not in name],
)
def test_a_sample_is_valid_in_the_branch_of_its_type_only(schema: str, name: str) -> None:
    event = samples.read(name)
    strict(schema).validate(event)
    jsonschema.validate(event, read(schema), cls=jsonschema.Draft202012Validator)
    assert [kind for kind, branch in branches(schema).items() if branch.is_valid(event)] == [event["type"]]


def test_each_type_of_event_has_a_branch_and_a_sample() -> None:
    types = {notification_events.event_type(status) for status in Status if status.is_final}
    types.add(notification_events.PROGRESS_TYPE)
    assert (
        branches("notification").keys()
        == types
        == {samples.read(name)["type"] for name in samples.NOTIFICATIONS}
    )
    assert branches("webhook").keys() == types | {"waterhook.webhook.test"}


def test_a_notification_always_has_its_output_and_never_a_link() -> None:
    assert not published("notification").is_valid(samples.read("webhook-thin"))
    assert not strict("notification").is_valid(samples.read("webhook-full-with-link"))


def test_a_webhook_with_an_output_in_s3_has_its_link_unless_it_is_thin() -> None:
    event = samples.read("webhook-full-with-link")
    assert published("webhook").is_valid(event)
    del event["data"]["final_output_url"]
    assert not published("webhook").is_valid(event)
    del event["data"]["final_output"]
    assert published("webhook").is_valid(event)


@pytest.mark.parametrize("name", samples.NOTIFICATIONS)
def test_an_event_of_a_later_version_is_valid_in_the_published_schema_only(name: str) -> None:
    for place in ([], ["data"], ["data", "timing"], ["data", "usage"], ["data", "error"]):
        event = samples.read(name)
        node = event
        for part in place:
            node = node.get(part)
        if node is not None:
            node["added_later"] = 1
            assert published("notification").is_valid(event)
            assert not strict("notification").is_valid(event)


@pytest.mark.parametrize("name", [*samples.NOTIFICATIONS, "webhook-full-with-link"])
def test_an_event_with_a_missing_field_or_a_value_of_another_type_is_not_valid(name: str) -> None:
    schema = published("webhook" if name.startswith("webhook") else "notification")
    event = samples.read(name)
    for path in paths(event):
        place = ".".join(path)
        if place not in OPTIONAL:
            assert not schema.is_valid(changed(event, path, missing=True)), place
        if place not in FREE_FORM:
            assert not schema.is_valid(changed(event, path, other_type(event, path))), place


@pytest.mark.parametrize("name", samples.NOTIFICATIONS)
def test_an_event_of_an_unknown_or_another_status_is_not_valid(name: str) -> None:
    event = samples.read(name)
    others = {"PAUSED", "completed", *Status} - {event["data"]["status"]}
    types = {"waterhook.execution.paused", "", *(notification_events.event_type(status) for status in Status)}
    assert not any(
        published("notification").is_valid(changed(event, ["data", "status"], other)) for other in others
    )
    assert not any(
        published("notification").is_valid(changed(event, ["type"], other))
        for other in types - {event["type"]}
    )


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("failed", ["data", "final_output"], {}),
        ("failed", ["data", "error"], None),
        ("completed", ["data", "error"], {"code": "failed", "message": "why"}),
        ("completed", ["data", "final_output"], None),
        ("completed", ["data", "output_error"], "missing"),
        ("completed_without_an_output", ["data", "output_error"], "lazy"),
        ("completed_with_a_large_output", ["data", "final_output"], {}),
        ("completed_with_a_large_output", ["data", "output_error"], "missing"),
        ("rejected", ["data", "waterflai_execution_id"], "11111111-2222-4333-8444-555555555555"),
        ("lost", ["data", "waterflai_execution_id"], None),
        ("progress", ["data", "sequence"], 0),
        ("progress", ["data", "progress"], 101),
        ("completed", ["time"], "yesterday"),
        ("completed", ["id"], "completed"),
    ],
)
def test_an_event_that_contradicts_its_outcome_is_not_valid(
    name: str, path: list[str], value: object
) -> None:
    assert not published("notification").is_valid(changed(samples.read(name), path, value))


utf8_text = st.text(st.characters(codec="utf-8"), max_size=30)
ids = st.text("aZ0-._~!/%äß語🙂", min_size=1, max_size=20).filter(lambda text: text not in {".", ".."})
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | utf8_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(utf8_text, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(utf8_text, json_values, max_size=3)
times = st.floats(0, 4e9).map(to_rfc3339)


@st.composite
def final_records(draw: st.DrawFn) -> ExecutionRecord:
    """Return a record that the notify step could have written."""
    record = outcomes.final_record(draw(st.sampled_from(samples.OUTCOMES)))
    is_empty = record.final_output_json is None
    changes: dict[str, Any] = {
        "chatbot_id": draw(ids),
        "metadata_json": to_json(draw(json_objects)),
        "created_at": draw(times),
        "finished_at": draw(times),
        "timing": draw(st.none() | st.fixed_dictionaries({"completed_at": times})),
        "usage": {
            "polls": draw(st.integers(0, 10**6)),
            "follow_seconds": draw(st.floats(0, 1e7)),
            "estimated_cost_usd": draw(st.floats(0, 100)),
        },
    }
    if record.status is not Status.REJECTED:
        changes["waterflai_execution_id"] = draw(ids)
        changes["started_at"] = draw(st.none() | times)
    if record.status not in HAS_JOB:
        # An invalid request has no chatbot, and a job that was not started has no id.
        changes |= draw(st.sampled_from([{}, {"chatbot_id": None}, {"waterflai_execution_id": None}]))
    if record.error is not None:
        changes["error"] = {"code": draw(ids), "message": clip(draw(st.text(max_size=3_000)))}
    if not is_empty:
        changes["final_output_json"] = to_json(draw(json_values.filter(lambda value: value is not None)))
    if record.output_error is not None:
        changes["output_error"] = draw(st.sampled_from(OutputError))
    return replace(record, **changes)


@given(final_records(), st.booleans())
def test_the_event_of_any_final_record_is_valid(record: ExecutionRecord, is_thin: bool) -> None:
    event = notification_events.outcome_event(record, SOURCE)
    strict("notification").validate(json.loads(event))
    link = None if is_thin or record.output_ref is None else "https://results.s3.amazonaws.com/a?b=c"
    body = notification_events.outcome_event(record, SOURCE, has_output=not is_thin, output_url=link)
    strict("webhook").validate(json.loads(body))


@given(
    ids,
    json_objects,
    st.integers(1, 10**6),
    st.fixed_dictionaries(
        {}, optional={"progress": st.floats(0, 100), "node_id": utf8_text, "event": utf8_text}
    ),
)
def test_each_progress_event_is_valid(
    chatbot_id: str, metadata: dict[str, Any], sequence: int, change: dict[str, Any]
) -> None:
    record = running_record(
        chatbot_id=chatbot_id, metadata_json=to_json(metadata), progress_sequence=sequence
    )
    event = json.loads(notification_events.progress_event(record, SOURCE, change, NOW))
    strict("notification").validate(event)
    strict("webhook").validate(event)


# Requests

RULES = replace(DEFAULTS, webhook_rules=WebhookRules(("*",)), has_result_bus=True)
URLS = st.sampled_from(
    [
        "HTTPS://hooks.example.com:8443/a/b?c=d&e=%20",
        "https://[2001:4860:4860::8888]/",
        "https://[::::]/",
        "https://hooks.example.com:99999/",
        "https://-.example.com",
        "https://1.2.3",
        "https://localhost/",
        "http://hooks.example.com/",
        "https://hooks.example.com/#a",
        "https://ada@hooks.example.com/",
        "https://hooks.example.com\\a",
        "https://hooks.example.com/ä",
        "https://hooks.example.com/%2",
        "https://hooks.example.com:a/",
        "https:///a",
        "",
    ]
)
VALID = {
    "chatbot_id": ids,
    "input_data": json_objects,
    "idempotency_key": st.none() | ids | st.just("a b"),
    "timeout_seconds": st.none() | st.integers(1, MAX_TIMEOUT_S) | st.just(60.0),
    "metadata": st.none() | json_objects,
    "deliver_to": st.none() | st.lists(st.sampled_from(DELIVERY_TARGETS), min_size=1, max_size=3),
    "progress_events": st.none() | st.booleans(),
    "webhook": st.none()
    | st.just(value=False)
    | st.fixed_dictionaries(
        {"url": st.just("https://hooks.example.com/a")},
        optional={
            "events": st.none() | st.lists(st.sampled_from(EVENTS), min_size=1, max_size=3),
            "payload": st.sampled_from([None, "full", "thin"]),
        },
    ),
    "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": json_values,
}
DOUBTFUL = {
    "chatbot_id": utf8_text | st.sampled_from([".", "..", "a b", "x" * 200, "x" * 201]),
    "input_data": st.just({"a": "b" * 250_000}),
    "idempotency_key": utf8_text | st.sampled_from(["x" * 200, "x" * 201]),
    "timeout_seconds": st.sampled_from([0, MAX_TIMEOUT_S + 1, 60.5, 1e300, 10**30, True]),
    "metadata": st.just({"a": "b" * 5_000}),
    "deliver_to": st.lists(st.sampled_from([*DELIVERY_TARGETS, "s3"]), max_size=3),
    "webhook": st.just(value=True)
    | st.fixed_dictionaries({"url": URLS | utf8_text.map("https://hooks.example.com/".__add__)})
    | st.fixed_dictionaries(
        {"url": st.just("https://hooks.example.com/a")},
        optional={
            "events": st.lists(st.sampled_from([*EVENTS, "paused"]), max_size=2),
            "payload": st.just("half"),
            "secret": st.just("a"),
        },
    ),
    "timeout": st.integers(),
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid request in which up to two fields are replaced or removed."""
    optional = {name: VALID[name] for name in VALID.keys() - {"chatbot_id", "input_data"}}
    required = {name: VALID[name] for name in ("chatbot_id", "input_data")}
    request: dict[str, Any] = draw(st.fixed_dictionaries(required, optional=optional))
    for name in draw(st.lists(st.sampled_from([*VALID, *DOUBTFUL]), max_size=2)):
        request[name] = draw(DOUBTFUL.get(name, json_values) | json_values)
        if draw(st.integers(0, 4)) == 0:
            del request[name]
    return request


# Rules that a schema can't express. docs/contract.md lists them.
BEYOND_A_SCHEMA = re.compile(
    r"nested too deeply|surrogate pair|a number that JSON can't carry|bytes, at most"
    r"|webhook\.url: (the host|the port|the address|the IPv6 address|an IPv4 address)"
    r"|progress_events: no target"
)


def refusal(raw: object) -> str | None:
    """Return why a request is refused, or None."""
    try:
        Request.from_dict(raw, RULES)
    except InvalidRequestError as error:
        return str(error)
    return None


@settings(max_examples=200)
@given(requests() | json_values)
def test_a_request_is_accepted_if_and_only_if_it_is_valid(raw: Any) -> None:
    why = refusal(raw)
    if why is None:
        published("request").validate(raw)
    elif published("request").is_valid(raw):
        chatbot = raw["chatbot_id"]
        assert BEYOND_A_SCHEMA.search(why) or is_unprintable_to_python_only(chatbot), why


def is_unprintable_to_python_only(text: str) -> bool:
    """Whether a text has a character beyond the basic plane, or one that Unicode has not assigned."""
    return any(
        ord(letter) > 0xFFFF or unicodedata.category(letter) == "Cn"
        for letter in text
        if not letter.isprintable()
    )


def test_the_pattern_of_a_chatbot_excludes_unprintable_characters_only() -> None:
    pattern = read("request")["$defs"]["ChatbotId"]["pattern"]
    letters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    excluded = {letter for letter in letters if not re.search(pattern, letter)}
    unprintable = {letter for letter in letters if not letter.isprintable() or letter == " "}
    assert excluded <= unprintable
    assert all(unicodedata.category(letter) == "Cn" for letter in unprintable - excluded)


def test_the_enumerations_are_those_of_the_code() -> None:
    components = read_document()["components"]["schemas"]
    enumerations = {name: schema["enum"] for name, schema in components.items() if "enum" in schema}
    assert set(enumerations["DeliveryTarget"]) == set(DELIVERY_TARGETS)
    assert enumerations["WebhookEventName"] == list(EVENTS)
    assert set(enumerations["OutputError"]) == {*OutputError, "not_stored"}
    assert enumerations["Status"] == list(Status)


# Helpers


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a document."""
    if isinstance(node, dict):
        yield node
    for entry in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(entry)


def paths(event: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each field of an event, without what is inside free-form fields."""
    for name, value in event.items():
        path = (*prefix, name)
        yield path
        if isinstance(value, dict) and ".".join(path) not in FREE_FORM:
            yield from paths(value, path)


def changed(
    event: dict[str, Any], path: Any, value: object = None, *, missing: bool = False
) -> dict[str, Any]:
    """Return a copy with another value of a field, or without it."""
    result = copy.deepcopy(event)
    node = result
    for part in path[:-1]:
        node = node[part]
    if missing:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return result


def other_type(event: dict[str, Any], path: tuple[str, ...]) -> object:
    """Return a value of another JSON type than the field has."""
    value: Any = event
    for part in path:
        value = value[part]
    return next(other for other in itertools.chain([[], "text"]) if not isinstance(value, type(other)))
