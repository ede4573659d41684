"""Requests: which are accepted, and the messages of those that are refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given

from tests.support.builders import DEFAULTS, request, request_dict
from tests.support.json_values import any_json, any_request, any_text
from waterhook.domain.request import (
    MAX_METADATA_BYTES,
    MAX_REQUEST_BYTES,
    MAX_TIMEOUT_S,
    Request,
    RequestDefaults,
)
from waterhook.domain.webhook import Webhook
from waterhook.errors import InvalidRequestError, RequestTooLargeError
from waterhook.json_text import MAX_NESTING, to_json

OPTIONAL = ("timeout_seconds", "deliver_to", "metadata", "progress_events", "idempotency_key")
optional_fields = attrgetter(*OPTIONAL)

TIMEOUT = f"timeout_seconds: expected whole number of seconds from 1 to {MAX_TIMEOUT_S}"


def message_for(raw: object) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        Request.from_dict(raw, DEFAULTS)
    return str(caught.value)


def test_missing_fields_get_the_defaults_of_the_deployment() -> None:
    parsed = Request.from_dict(request_dict(), RequestDefaults(timeout_s=77, deliver_to=("dynamodb",)))
    assert optional_fields(parsed) == (
        77,
        ("dynamodb",),
        {},
        False,
        None,
    )


def test_null_in_an_optional_field_means_the_default() -> None:
    assert request(**dict.fromkeys(OPTIONAL)) == request()


def test_the_fields_of_a_request_take_precedence_over_the_defaults() -> None:
    parsed = request(
        timeout_seconds=5,
        deliver_to=["sns"],
        metadata={"order": 7},
        progress_events=True,
        idempotency_key="order 7/ß",
    )
    assert optional_fields(parsed) == (
        5,
        ("sns",),
        {"order": 7},
        True,
        "order 7/ß",
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], "list"),
        (None, "null"),
        ("x", "string"),
        (1, "number"),
        (1.5, "number"),
        (True, "boolean"),
    ],
)
def test_input_data_of_another_type_is_refused_with_the_name_of_its_json_type(
    value: object, kind: str
) -> None:
    assert message_for(request_dict(input_data=value)) == f"input_data: expected object, got {kind}"


@pytest.mark.parametrize("raw", [None, [], "x", 1, True, 1.5])
def test_a_request_that_is_not_an_object_is_refused(raw: object) -> None:
    assert message_for(raw).startswith("request: expected object, got ")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("chatbot_id", None, "chatbot_id: expected string, got null"),
        ("chatbot_id", 5, "chatbot_id: expected string, got number"),
        ("chatbot_id", "", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "x" * 201, "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a b", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", ".", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "..", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a\nb", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a\u2028b", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a\u200bb", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a\ud800b", "chatbot_id: expected 1 to 200"),
        ("chatbot_id", "a\ufdd0b", "chatbot_id: expected 1 to 200"),
        ("idempotency_key", "", "idempotency_key: expected 1 to 200"),
        ("idempotency_key", "x" * 201, "idempotency_key: expected 1 to 200"),
        ("idempotency_key", "a\x00", "idempotency_key: expected 1 to 200"),
        ("idempotency_key", "\udfff", "idempotency_key: expected 1 to 200"),
        ("idempotency_key", 7, "idempotency_key: expected string, got number"),
        ("timeout_seconds", 0, f"{TIMEOUT}, got 0"),
        ("timeout_seconds", -1, f"{TIMEOUT}, got -1"),
        ("timeout_seconds", MAX_TIMEOUT_S + 1, f"{TIMEOUT}, got 2592001"),
        ("timeout_seconds", 1.5, f"{TIMEOUT}, got 1.5"),
        ("timeout_seconds", "60", f"{TIMEOUT}, got string"),
        ("timeout_seconds", True, f"{TIMEOUT}, got boolean"),
        ("timeout_seconds", math.inf, f"{TIMEOUT}, got a number out of range"),
        ("timeout_seconds", math.nan, f"{TIMEOUT}, got nan"),
        ("timeout_seconds", 10**400, f"{TIMEOUT}, got a number out of range"),
        ("timeout_seconds", -(10**400), f"{TIMEOUT}, got a number out of range"),
        ("metadata", [], "metadata: expected object, got list"),
        ("metadata", {"a": "x" * MAX_METADATA_BYTES}, "metadata: 4104 bytes, at most 4096 are allowed"),
        ("deliver_to", "sns", "deliver_to: expected list, got string"),
        ("deliver_to", [], "deliver_to: expected a list of one or more of sns, dynamodb, eventbridge"),
        ("deliver_to", ["sqs"], "deliver_to: expected a list of one or more"),
        ("deliver_to", [["sns"]], "deliver_to: expected a list of one or more"),
        ("deliver_to", ["sns", None], "deliver_to: expected a list of one or more"),
        ("progress_events", 1, "progress_events: expected boolean, got number"),
        ("progress_events", "yes", "progress_events: expected boolean, got string"),
        ("callback_url", "https://x", "callback_url: unknown field; known are chatbot_id"),
    ],
)
def test_an_invalid_field_is_refused_with_its_name_and_the_expected_value(
    field: str, value: object, message: str
) -> None:
    assert message_for(request_dict(**{field: value})).startswith(message)


@pytest.mark.parametrize("field", ["chatbot_id", "input_data"])
def test_a_required_field_that_is_missing_is_named(field: str) -> None:
    raw = request_dict()
    del raw[field]
    assert message_for(raw).startswith(f"{field}: missing, expected ")


def test_all_invalid_fields_are_named_in_one_message() -> None:
    message = message_for({"chatbot_id": 1, "input_data": [], "timeout_seconds": "x", "other": 1})
    assert [part.split(":")[0] for part in message.split("; ") if ":" in part] == [
        "other",
        "chatbot_id",
        "input_data",
        "timeout_seconds",
    ]


def test_the_message_for_many_unknown_fields_is_limited() -> None:
    raw = {f"{index}" + "x" * 10_000: 1 for index in range(1000)}
    assert len(message_for(raw)) < 4000


def test_a_float_without_a_fraction_is_accepted_as_a_whole_number() -> None:
    parsed = request(timeout_seconds=60.0)
    assert parsed.timeout_seconds == 60
    assert isinstance(parsed.timeout_seconds, int)


def test_repeated_entries_of_deliver_to_are_merged() -> None:
    assert request(deliver_to=["sns", "dynamodb", "sns"]).deliver_to == ("sns", "dynamodb")


def test_the_field_that_step_functions_adds_to_a_nested_input_is_ignored() -> None:
    Request.from_dict(request_dict(AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID="arn:aws:x"), DEFAULTS)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("field", ["input_data", "metadata"])
def test_a_number_that_json_cannot_represent_is_refused(field: str, value: float) -> None:
    # json.loads reads 1e400 as infinity. Without this check, the POST to Waterflai would raise.
    assert "number" in message_for(request_dict(**{field: {"a": [value]}}))


@pytest.mark.parametrize("field", ["input_data", "metadata"])
def test_a_lone_surrogate_is_refused(field: str) -> None:
    assert "surrogate" in message_for(request_dict(**{field: {"a": "\ud83d"}}))


def test_a_value_nested_100000_levels_deep_is_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"d": value}
    assert "nested too deeply" in message_for(request_dict(input_data=value))


@pytest.mark.parametrize("field", ["input_data", "metadata"])
@pytest.mark.parametrize(
    "inner", [lambda value: {"d": value}, lambda value: [value]], ids=["object", "array"]
)
def test_a_request_may_be_nested_200_levels_deep_and_no_deeper(
    field: str, inner: Callable[[Any], Any]
) -> None:
    """The request and its field are the first two levels."""
    value: Any = "leaf"
    for _ in range(MAX_NESTING - 2):
        value = inner(value)
    assert request(**{field: {"d": value}}).chatbot_id
    message = message_for(request_dict(**{field: {"d": inner(value)}}))
    assert message.startswith(f"request: nested too deeply, more than {MAX_NESTING} levels; ")


def test_a_request_of_the_size_limit_is_accepted_and_one_byte_more_is_refused() -> None:
    empty = len(json.dumps(request_dict(input_data={"t": ""}), separators=(",", ":")))
    request(input_data={"t": "x" * (MAX_REQUEST_BYTES - empty)})
    message = message_for(request_dict(input_data={"t": "x" * (MAX_REQUEST_BYTES - empty + 1)}))
    sizes = f"request: {MAX_REQUEST_BYTES + 1} bytes, at most {MAX_REQUEST_BYTES} are allowed"
    assert message == f"{sizes}, counted as JSON in UTF-8 without spaces"


def test_the_size_of_a_request_is_counted_in_bytes() -> None:
    assert "bytes" in message_for(request_dict(input_data={"t": "ß" * (MAX_REQUEST_BYTES // 2)}))


def test_the_size_of_a_request_is_not_checked_without_a_limit() -> None:
    """A parsed number may be longer than its text: 1e5 becomes 100000.0."""
    raw = request_dict(input_data={"n": [1e5] * 40_000}, metadata={"n": [1e5] * 1000})
    with pytest.raises(RequestTooLargeError):
        Request.from_dict(raw, DEFAULTS)
    assert Request.from_dict(raw, DEFAULTS, limit_bytes=None).input_data == raw["input_data"]


@pytest.mark.parametrize("letter", ["x", "語", "🦆", '"', "\x01"])
def test_metadata_of_4_kib_is_accepted_in_every_script_and_one_byte_more_is_refused(letter: str) -> None:
    letter_bytes = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    room = MAX_METADATA_BYTES - len('{"t":""}')
    whole, rest = divmod(room, letter_bytes)
    fits = {"t": letter * whole + "x" * rest}
    assert request(metadata=fits).metadata == fits
    size = f"metadata: {MAX_METADATA_BYTES + 1} bytes, at most {MAX_METADATA_BYTES} are allowed"
    assert message_for(request_dict(metadata={"t": fits["t"] + "x"})).startswith(size)


WITH_BUS = replace(DEFAULTS, has_result_bus=True)


@given(any_json | any_request)
def test_any_json_value_is_a_valid_request_or_raises_invalid_request(raw: Any) -> None:
    try:
        parsed = Request.from_dict(raw, WITH_BUS)
    except InvalidRequestError as error:
        str(error).encode()
        return
    # An accepted request can be hashed, stored and sent.
    assert len(parsed.sha256) == 64
    to_json(parsed.metadata)
    to_json(parsed.input_data)
    assert 1 <= parsed.timeout_seconds <= MAX_TIMEOUT_S
    assert set(parsed.deliver_to) <= {"sns", "dynamodb", "eventbridge"}
    assert parsed.deliver_to


@given(any_text)
def test_an_accepted_chatbot_id_is_printable_and_has_no_space(chatbot_id: str) -> None:
    try:
        request(chatbot_id=chatbot_id)
    except InvalidRequestError:
        return
    assert chatbot_id.isprintable()
    assert " " not in chatbot_id


@pytest.mark.parametrize("chatbot_id", ["support-chat", "a/b", "a?b#c", "größe", "...", "x" * 200])
def test_an_unusual_chatbot_id_is_accepted(chatbot_id: str) -> None:
    assert request(chatbot_id=chatbot_id).chatbot_id == chatbot_id


def test_the_hash_does_not_depend_on_the_order_of_members() -> None:
    assert request(input_data={"a": 1, "b": {"c": 1, "d": 2}}).sha256 == (
        request(input_data={"b": {"d": 2, "c": 1}, "a": 1}).sha256
    )


def test_the_hash_contains_only_chatbot_id_and_input_data() -> None:
    assert request(metadata={"a": 1}, timeout_seconds=5, idempotency_key="k").sha256 == request().sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"chatbot_id": "other"},
        {"input_data": {}},
        {"input_data": {"question": "why? "}},
        {"input_data": {"question": ["why?"]}},
        {"input_data": {"question": "why?", "more": None}},
    ],
)
def test_another_chatbot_id_or_input_data_changes_the_hash(changes: dict[str, Any]) -> None:
    assert request(**changes).sha256 != request().sha256


def test_the_hash_is_the_same_as_in_earlier_versions() -> None:
    # Records outlive deployments. Another formula would turn every repeated request into a conflict.
    assert request().sha256 == "4414102f281f7545d628ddf81675a1c18596eeaf605e7999a7631b4e6636758d"


ALLOWING = RequestDefaults(
    timeout_s=60, deliver_to=("sns",), allowed_chatbots=frozenset({"support-chat", "report-flow"})
)


def test_an_allowed_chatbot_is_accepted() -> None:
    assert Request.from_dict(request_dict(chatbot_id="report-flow"), ALLOWING).chatbot_id == "report-flow"


@pytest.mark.parametrize("chatbot_id", ["other", "Support-Chat"])
def test_a_chatbot_that_is_not_allowed_is_refused_without_the_list_of_allowed_ones(chatbot_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not in AllowedChatbotIds") as caught:
        Request.from_dict(request_dict(chatbot_id=chatbot_id), ALLOWING)
    assert "report-flow" not in str(caught.value)


@pytest.mark.parametrize(
    "deliver_to",
    [["eventbridge"], ["dynamodb", "eventbridge"], ["eventbridge", "sns", "dynamodb"]],
    ids="+".join,
)
def test_a_request_lists_the_bus_in_any_combination(deliver_to: list[str]) -> None:
    parsed = Request.from_dict(request_dict(deliver_to=deliver_to), WITH_BUS)
    assert parsed.deliver_to == tuple(deliver_to)


def test_without_a_bus_a_request_that_lists_it_is_refused_with_the_parameter_to_set() -> None:
    assert message_for(request_dict(deliver_to=["sns", "eventbridge"])) == (
        "deliver_to: this deployment has no event bus for results; set its parameter ResultEventBusName, or leave out "
        "eventbridge"
    )


@pytest.mark.parametrize("target", ["sns", "eventbridge"])
def test_progress_events_are_accepted_with_a_target_that_receives_them(target: str) -> None:
    raw = request_dict(progress_events=True, deliver_to=[target, "dynamodb"])
    assert Request.from_dict(raw, WITH_BUS).progress_events


def test_progress_events_are_accepted_with_a_webhook_that_receives_them() -> None:
    raw = request_dict(progress_events=True, deliver_to=["dynamodb"])
    webhook = Webhook("https://hooks.example.com/", ("progress",), is_default=True)
    assert Request.from_dict(raw, replace(DEFAULTS, webhook=webhook)).progress_events


@pytest.mark.parametrize("webhook", [None, Webhook("https://hooks.example.com/", is_default=True)])
@pytest.mark.parametrize("deliver_to", [None, ["dynamodb"]])
def test_progress_events_that_no_target_would_receive_are_refused(
    webhook: Webhook | None, deliver_to: list[str] | None
) -> None:
    raw = request_dict(progress_events=True, deliver_to=deliver_to)
    defaults = replace(DEFAULTS, deliver_to=("dynamodb",), webhook=webhook)
    with pytest.raises(InvalidRequestError, match="progress_events: no target receives progress; add sns or"):
        Request.from_dict(raw, defaults)
