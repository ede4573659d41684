"""The text of outcome events: fields, unchanged outputs, escapes and sizes."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.fakes.clock import NOW
from tests.support.builders import DEFAULTS, ID, OWNER, SOURCE, final_attributes, final_record, largest_record
from tests.support.json_values import any_text
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

MAX_SNS_BYTES = 256 * 1024


def read(one: ExecutionRecord) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(notification_events.outcome_event(one, SOURCE))
    return event


def test_two_executions_of_one_key_have_different_event_ids() -> None:
    first, again = (final_record(created_at=to_rfc3339(NOW + seconds)) for seconds in (0.0, 0.001))
    assert first.execution_id == again.execution_id
    assert notification_events.event_id(first) != notification_events.event_id(again)
    ids = {
        json.loads(notification_events.progress_event(one, SOURCE, {}, NOW))["id"] for one in (first, again)
    }
    assert len(ids) == 2


def test_an_event_has_exactly_the_attributes_of_the_contract() -> None:
    event = read(final_record())
    assert list(event) == [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
    ]
    assert list(event["data"]) == [
        "execution_id",
        "waterflai_execution_id",
        "chatbot_id",
        "status",
        "final_output",
        "error",
        "metadata",
        "timing",
        "usage",
    ]
    assert (event["specversion"], event["subject"], event["time"], event["source"]) == (
        "1.0",
        ID,
        to_rfc3339(NOW + 60),
        SOURCE,
    )


@pytest.mark.parametrize(
    "output",
    ['{"n":12345678901234567890}', '{"f":1.0}', '{"f":1e400}', '{ "t" : "\\ud83d" }', "[ ]", '"🙂"', "0"],
)
def test_an_output_is_published_as_unchanged_text(output: str) -> None:
    assert f'"final_output":{output},' in notification_events.outcome_event(
        final_record(final_output_json=output), SOURCE
    )


def test_an_output_cannot_set_other_fields_of_the_event() -> None:
    text = '{"x":"}},\\"status\\":\\"FAILED\\""}'
    event = read(final_record(final_output_json=text))
    assert event["data"]["final_output"] == json.loads(text)
    assert event["data"]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("raw", "published"),
    [
        ("\ufffe", "\\ufffe"),
        ("\uffff", "\\uffff"),
        ("\ud800", "\\ud800"),
        ("a\uffff\ufffeb", "a\\uffff\\ufffeb"),
        ("\ufffd", "\ufffd"),
        ("\ue000", "\ue000"),
        ("\x7f\x85", "\x7f\x85"),
        ("\ufdd0", "\ufdd0"),
        ("\U0001ffff", "\U0001ffff"),
        ("🙂", "🙂"),
        ("\\ufffe", "\\ufffe"),
        ("\\u0000", "\\u0000"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("field", ["final_output", "metadata"])
def test_a_character_that_sns_and_sqs_refuse_is_published_as_a_json_escape(
    field: str, raw: str, published: str
) -> None:
    """The characters of XML 1.0: tab, line feed, carriage return, from U+0020 without surrogates, U+FFFE and U+FFFF."""

    def written(text: str) -> str:
        return f'{{ "{text}":\t["{text}",\n1e400]}}'

    changes: dict[str, Any] = {f"{field}_json": written(raw)}
    text = notification_events.outcome_event(final_record(**changes), SOURCE)
    assert f'"{field}":{written(published)},' in text
    assert json.loads(text)["data"][field] == json.loads(written(raw))


@given(any_text)
def test_an_event_has_only_characters_of_xml(some: str) -> None:
    output = json.dumps({some: [some]}, ensure_ascii=False)
    event = notification_events.outcome_event(final_record(final_output_json=output), SOURCE)
    assert json.loads(event)["data"]["final_output"] == {some: [some]}
    assert all(
        letter in "\t\n\r" or " " <= letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" or letter > "\uffff"
        for letter in event
    )


def test_the_output_of_a_failed_job_is_null() -> None:
    assert read(final_record(Status.FAILED))["data"]["final_output"] is None


def test_an_event_has_the_reference_to_a_stored_output() -> None:
    event = read(final_record(output_ref="s3://bucket/key"))
    assert event["dataref"] == "s3://bucket/key"
    assert event["data"]["final_output"] is None


def test_an_event_without_an_output_has_the_output_error() -> None:
    assert read(final_record(output_error="too_large"))["data"]["output_error"] == "too_large"


def test_an_invalid_request_has_an_event_without_a_chatbot() -> None:
    rejected = ExecutionRecord.accepted(ID, None, NOW, owner=OWNER, source="states", defaults=DEFAULTS)
    event = read(ExecutionRecord(**_fields(rejected) | final_attributes(Status.REJECTED)))
    assert (event["data"]["chatbot_id"], event["data"]["metadata"]) == (None, {})


def _fields(one: ExecutionRecord) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ExecutionRecord.__dataclass_fields__}


def test_the_order_of_maps_in_the_table_does_not_change_the_bytes_of_an_event() -> None:
    error, usage = {"code": "a", "message": "b"}, {"polls": 3, "follow_seconds": 1.5}
    one = final_record(Status.FAILED, error=error, usage=usage)
    other = final_record(
        Status.FAILED,
        error=dict(reversed(error.items())),
        usage=dict(reversed(usage.items())),
    )
    assert notification_events.outcome_event(one, SOURCE) == notification_events.outcome_event(other, SOURCE)


# Four bytes in UTF-8, a character that JSON escapes, and a control character that it does not escape.
LETTERS = ["🦆", '"', "\x7f"]


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("piece", ["x", '\\"', "\\u0000", "\uffff", "🦆"], ids=ascii)
def test_the_largest_event_is_below_the_limit_of_sns(letter: str, piece: str) -> None:
    output = '"' + piece * ((MAX_INLINE_BYTES - 2) // len(piece.encode())) + '"'
    event = notification_events.outcome_event(largest_record(letter, final_output_json=output), SOURCE)
    assert len(event.encode()) < MAX_SNS_BYTES / 2


def test_the_message_attributes_are_type_status_and_chatbot() -> None:
    assert notification_events.outcome_attributes(final_record(Status.TIMED_OUT)) == {
        "type": {"DataType": "String", "StringValue": "waterhook.execution.timed_out"},
        "status": {"DataType": "String", "StringValue": "TIMED_OUT"},
        "chatbot_id": {"DataType": "String", "StringValue": "support-chat"},
    }


def test_a_filter_attribute_without_a_value_is_left_out() -> None:
    assert set(notification_events.outcome_attributes(final_record(Status.REJECTED, chatbot_id=None))) == {
        "type",
        "status",
    }
