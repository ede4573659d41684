"""Events and outputs of a finished execution: the same text each time, with no number changed."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from tests.fakes.clock import NOW
from tests.support.builders import (
    ID,
    OWNER,
    SOURCE,
    UPSTREAM_ID,
    final_attributes,
    record,
    request,
    running_record,
)
from tests.support.json_values import any_text
from waterhook.domain.request import MAX_METADATA_BYTES
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.json_text import is_nested_too_deeply, to_json
from waterhook.notifications import cloudevents, execution_output
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import MAX_MESSAGE_CHARS
from waterhook.timestamps import to_rfc3339

FINAL = [status for status in Status if status.is_final]
# https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
MAX_CAUSE_CHARS = 32_768
MAX_STATE_BYTES = MAX_SNS_BYTES = 256 * 1024


def final(status: Status = Status.COMPLETED, **changes: Any) -> ExecutionRecord:
    return running_record(**(final_attributes(status) | {"final_output_json": None} | changes))


def read(one: ExecutionRecord) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(cloudevents.outcome_event(one, SOURCE))
    return event


@pytest.mark.parametrize("status", FINAL)
def test_every_outcome_has_its_type_and_its_id(status: Status) -> None:
    event = read(final(status))
    assert event["type"] == f"waterhook.execution.{status.value.lower()}"
    assert event["id"] == f"{ID}/1767225600000/{status.value}"
    assert event["data"]["status"] == status.value


def test_a_key_that_is_used_again_a_millisecond_later_has_events_with_other_ids() -> None:
    first, again = (final(created_at=to_rfc3339(NOW + seconds)) for seconds in (0.0, 0.001))
    assert first.execution_id == again.execution_id
    assert cloudevents.event_id(first) != cloudevents.event_id(again)
    ids = {json.loads(cloudevents.progress_event(one, SOURCE, {}, NOW))["id"] for one in (first, again)}
    assert len(ids) == 2


def test_an_event_has_every_attribute_of_the_contract_and_no_other() -> None:
    event = read(final())
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
def test_an_output_is_spliced_in_as_the_text_it_came_as(output: str) -> None:
    assert f'"final_output":{output},' in cloudevents.outcome_event(final(final_output_json=output), SOURCE)


def test_an_output_cannot_break_out_of_its_place() -> None:
    text = '{"x":"}},\\"status\\":\\"FAILED\\""}'
    event = read(final(final_output_json=text))
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
@pytest.mark.parametrize("place", ["value", "name"])
@pytest.mark.parametrize("field", ["final_output", "metadata"])
def test_a_character_that_sns_and_sqs_refuse_is_published_as_a_json_escape(
    field: str, place: str, raw: str, published: str
) -> None:
    """The characters of XML 1.0: tab, line feed, carriage return, from U+0020 without surrogates, U+FFFE and U+FFFF."""

    def written(text: str) -> str:
        return f'{{ "{text}":\t1.0}}' if place == "name" else f'["{text}",\n1e400]'

    changes: dict[str, Any] = {f"{field}_json": written(raw)}
    text = cloudevents.outcome_event(final(**changes), SOURCE)
    assert f'"{field}":{written(published)},' in text
    assert json.loads(text)["data"][field] == json.loads(written(raw))


@given(any_text)
def test_no_character_outside_of_xml_is_ever_published(some: str) -> None:
    output = json.dumps({some: [some]}, ensure_ascii=False)
    event = cloudevents.outcome_event(final(final_output_json=output), SOURCE)
    assert json.loads(event)["data"]["final_output"] == {some: [some]}
    assert all(
        letter in "\t\n\r" or " " <= letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" or letter > "\uffff"
        for letter in event
    )


def test_no_output_is_null() -> None:
    assert read(final(Status.FAILED))["data"]["final_output"] is None


def test_a_stored_output_is_referred_to_by_a_claim_check() -> None:
    event = read(final(output_ref="s3://bucket/key"))
    assert event["dataref"] == "s3://bucket/key"
    assert event["data"]["final_output"] is None


def test_a_missing_output_has_a_reason() -> None:
    assert read(final(output_error="too_large"))["data"]["output_error"] == "too_large"


def test_an_invalid_request_has_an_event_too() -> None:
    rejected = ExecutionRecord.accepted(ID, None, NOW, owner=OWNER, source="states", deliver_to=("sns",))
    event = read(ExecutionRecord(**_fields(rejected) | final_attributes(Status.REJECTED)))
    assert (event["data"]["chatbot_id"], event["data"]["metadata"]) == (None, {})


def _fields(one: ExecutionRecord) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ExecutionRecord.__dataclass_fields__}


def test_two_events_of_one_record_are_the_same_bytes_however_the_table_orders_its_maps() -> None:
    error, usage = {"code": "a", "message": "b"}, {"polls": 3, "follow_seconds": 1.5}
    one = final(Status.FAILED, error=error, usage=usage)
    other = final(
        Status.FAILED,
        error=dict(reversed(error.items())),
        usage=dict(reversed(usage.items())),
    )
    assert cloudevents.outcome_event(one, SOURCE) == cloudevents.outcome_event(other, SOURCE)


def largest(letter: str, **changes: Any) -> ExecutionRecord:
    """A record whose parts are as large as they may be, all in one script."""
    room = MAX_METADATA_BYTES - len('{"m":""}')
    metadata = {"m": letter * (room // (len(json.dumps(letter, ensure_ascii=False).encode()) - 2))}
    return final(
        Status.FAILED,
        chatbot_id="🙂" * 200,
        waterflai_execution_id="🙂" * 200,
        metadata_json=to_json(request(metadata=metadata).metadata),
        error={"code": "failed", "message": letter * MAX_MESSAGE_CHARS},
        **changes,
    )


# One to four bytes in UTF-8, and characters that JSON escapes.
LETTERS = ["x", "я", "語", "🦆", '"', "\\", "\x7f"]


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("piece", ["x", '\\"', "\\u0000", "\uffff", "🦆"], ids=ascii)
def test_the_largest_event_fits_through_sns(letter: str, piece: str) -> None:
    output = '"' + piece * ((MAX_INLINE_BYTES - 2) // len(piece.encode())) + '"'
    event = cloudevents.outcome_event(largest(letter, final_output_json=output), SOURCE)
    assert len(event.encode()) < MAX_SNS_BYTES / 2


@pytest.mark.parametrize("status", FINAL)
def test_filters_see_type_status_and_chatbot(status: Status) -> None:
    assert cloudevents.outcome_attributes(final(status)) == {
        "type": {"DataType": "String", "StringValue": f"waterhook.execution.{status.value.lower()}"},
        "status": {"DataType": "String", "StringValue": status.value},
        "chatbot_id": {"DataType": "String", "StringValue": "support-chat"},
    }


def test_a_filter_attribute_without_a_value_is_left_out() -> None:
    assert set(cloudevents.outcome_attributes(final(Status.REJECTED, chatbot_id=None))) == {"type", "status"}


def test_a_completed_execution_succeeds_with_its_output() -> None:
    output = execution_output.outcome_output(final(final_output_json='{"a":1.0}', usage={"polls": 3}))
    assert (output["outcome"], output["next"], output["final_output_json"], output["usage"]) == (
        "COMPLETED",
        "done",
        '{"a":1.0}',
        {"polls": 3},
    )
    assert not {"error_name", "cause"} & set(output)


@pytest.mark.parametrize("status", [status for status in FINAL if status is not Status.COMPLETED])
def test_every_other_execution_fails_with_a_name_and_a_cause(status: Status) -> None:
    output = execution_output.outcome_output(final(status))
    assert (output["outcome"], output["next"], output["error_name"]) == (status, "done", status.error_name)
    cause = json.loads(output["cause"])
    assert next(iter(cause)) == "message"
    assert cause["message"] == f"execution {ID} ended {status.value}: it {status.value.lower()}"
    assert (cause["execution_id"], cause["waterflai_execution_id"]) == (ID, UPSTREAM_ID)


def test_an_outcome_without_a_reason_has_a_cause_all_the_same() -> None:
    output = execution_output.outcome_output(final(Status.CANCELLED, error=None))
    assert json.loads(output["cause"])["message"].endswith("no reason was given")


@pytest.mark.parametrize("letter", LETTERS)
def test_the_longest_cause_is_one_that_step_functions_takes(letter: str) -> None:
    output = execution_output.outcome_output(largest(letter))
    assert len(output["cause"]) <= MAX_CAUSE_CHARS / 2
    assert len(json.dumps(output)) < MAX_STATE_BYTES / 2


def test_the_largest_output_of_the_state_machine_is_one_that_step_functions_takes() -> None:
    quotes = json.dumps('"' * (MAX_INLINE_BYTES // 2 - 1))
    one = replace(largest("🦆"), status=Status.COMPLETED, error=None, final_output_json=quotes)
    assert len(json.dumps(execution_output.outcome_output(one)).encode()) < MAX_STATE_BYTES / 2


def test_an_output_however_deep_adds_no_level_to_what_step_functions_carries() -> None:
    deep = "[" * 15_000 + "]" * 15_000
    output = execution_output.outcome_output(final(final_output_json=deep))
    assert output["final_output_json"] == deep
    assert not is_nested_too_deeply(output)
    assert f'"final_output":{deep},' in cloudevents.outcome_event(final(final_output_json=deep), SOURCE)


@pytest.mark.parametrize("status", Status)
def test_a_summary_is_plain_json(status: Status) -> None:
    output = execution_output.outcome_output(final(status))
    assert json.loads(json.dumps(output)) == output


def test_a_duplicate_of_a_finished_execution_ends_as_that_did() -> None:
    for status in FINAL:
        assert execution_output.duplicate_output(final(status)) == execution_output.outcome_output(
            final(status)
        )


def test_a_duplicate_of_a_live_execution_fails_and_names_the_owner() -> None:
    output = execution_output.duplicate_output(running_record())
    assert (output["error_name"], output["next"], output["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert output["outcome"] != Status.COMPLETED
    assert OWNER in json.loads(output["cause"])["message"]


def test_a_key_used_for_another_request_fails_without_revealing_that_request() -> None:
    output = execution_output.conflict_output(record(request(metadata={"secret": "k4711"})))
    assert (output["error_name"], output["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert output["outcome"] != Status.COMPLETED
    assert "k4711" not in json.dumps(output)
