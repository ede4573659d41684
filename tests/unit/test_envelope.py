"""What is said of a finished execution: the same words each time, and no number in them changed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import ID, OWNER, SOURCE, UPSTREAM_ID, record, request, running_record, verdict
from tests.support.clock import NOW
from waterhook import envelope
from waterhook.models import MAX_MESSAGE_CHARS, Status, iso
from waterhook.record import Record
from waterhook.request import MAX_METADATA_BYTES

FINAL = [status for status in Status if status.is_final]
# https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
MAX_CAUSE_CHARS = 32_768
MAX_STATE_BYTES = MAX_SNS_BYTES = 256 * 1024


def final(status: Status = Status.COMPLETED, **changes: Any) -> Record:
    return running_record(**(verdict(status) | {"final_output_json": None} | changes))


def read(one: Record) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(envelope.event(one, SOURCE))
    return event


@pytest.mark.parametrize("status", FINAL)
def test_every_outcome_has_its_type_and_its_id(status: Status) -> None:
    event = read(final(status))
    assert event["type"] == f"waterhook.execution.{status.value.lower()}"
    assert event["id"] == f"{ID}/{status.value}"
    assert event["data"]["status"] == status.value


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
        iso(NOW + 60),
        SOURCE,
    )


@pytest.mark.parametrize(
    "output",
    ['{"n":12345678901234567890}', '{"f":1.0}', '{"f":1e400}', '{ "t" : "\\ud83d" }', "[ ]", '"🙂"', "0"],
)
def test_an_output_is_spliced_in_as_the_text_it_came_as(output: str) -> None:
    assert f'"final_output":{output},' in envelope.event(final(final_output_json=output), SOURCE)


def test_an_output_cannot_break_out_of_its_place() -> None:
    text = '{"x":"}},\\"status\\":\\"FAILED\\""}'
    event = read(final(final_output_json=text))
    assert event["data"]["final_output"] == json.loads(text)
    assert event["data"]["status"] == "COMPLETED"


def test_no_output_is_null() -> None:
    assert read(final(Status.FAILED))["data"]["final_output"] is None


def test_a_stored_output_is_referred_to_by_a_claim_check() -> None:
    event = read(final(output_ref="s3://bucket/key"))
    assert event["dataref"] == "s3://bucket/key"
    assert event["data"]["final_output"] is None


def test_an_output_that_is_missing_says_why() -> None:
    assert read(final(output_error="too_large"))["data"]["output_error"] == "too_large"


def test_an_invalid_request_has_an_event_too() -> None:
    rejected = Record.accepted(ID, None, NOW, owner=OWNER, source="states", deliver_to=("sns",))
    event = read(Record(**_fields(rejected) | verdict(Status.REJECTED)))
    assert (event["data"]["chatbot_id"], event["data"]["metadata"]) == (None, {})


def _fields(one: Record) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Record.__dataclass_fields__}


def test_two_events_of_one_record_are_the_same_bytes_however_the_table_orders_its_maps() -> None:
    error, usage = {"code": "a", "message": "b"}, {"polls": 3, "follow_seconds": 1.5}
    one = final(Status.FAILED, error=error, usage=usage)
    other = final(
        Status.FAILED,
        error=dict(reversed(error.items())),
        usage=dict(reversed(usage.items())),
    )
    assert envelope.event(one, SOURCE) == envelope.event(other, SOURCE)


def test_the_largest_event_fits_through_sns() -> None:
    crowded = final(
        Status.FAILED,
        chatbot_id="🙂" * 200,
        waterflai_execution_id="🙂" * 200,
        final_output_json='"' + "ß" * (16 * 1024 - 1) + '"',
        metadata_json=json.dumps({"m": "x" * (MAX_METADATA_BYTES - 10)}),
        error={"code": "failed", "message": "🙂" * MAX_MESSAGE_CHARS},
    )
    assert len(envelope.event(crowded, SOURCE).encode()) < MAX_SNS_BYTES / 2


@pytest.mark.parametrize("status", FINAL)
def test_filters_see_type_status_and_chatbot(status: Status) -> None:
    assert envelope.message_attributes(final(status)) == {
        "type": {"DataType": "String", "StringValue": f"waterhook.execution.{status.value.lower()}"},
        "status": {"DataType": "String", "StringValue": status.value},
        "chatbot_id": {"DataType": "String", "StringValue": "support-chat"},
    }


def test_a_filter_attribute_without_a_value_is_left_out() -> None:
    assert set(envelope.message_attributes(final(Status.REJECTED, chatbot_id=None))) == {"type", "status"}


def test_a_completed_execution_succeeds_with_its_output() -> None:
    ending = envelope.summary(final(final_output_json='{"a":1.0}', usage={"polls": 3}))
    assert (ending["outcome"], ending["next"], ending["final_output_json"], ending["usage"]) == (
        "COMPLETED",
        "done",
        '{"a":1.0}',
        {"polls": 3},
    )
    assert not {"error_name", "cause"} & set(ending)


@pytest.mark.parametrize("status", [status for status in FINAL if status is not Status.COMPLETED])
def test_every_other_execution_fails_with_a_name_and_a_cause(status: Status) -> None:
    ending = envelope.summary(final(status))
    assert (ending["outcome"], ending["next"], ending["error_name"]) == (status, "done", status.error_name)
    cause = json.loads(ending["cause"])
    assert next(iter(cause)) == "message"
    assert cause["message"] == f"execution {ID} ended {status.value}: it {status.value.lower()}"
    assert (cause["execution_id"], cause["waterflai_execution_id"]) == (ID, UPSTREAM_ID)


def test_an_outcome_without_a_reason_has_a_cause_all_the_same() -> None:
    ending = envelope.summary(final(Status.CANCELLED, error=None))
    assert json.loads(ending["cause"])["message"].endswith("no reason was given")


def test_the_longest_cause_is_one_that_step_functions_takes() -> None:
    crowded = final(
        Status.FAILED,
        chatbot_id="🙂" * 200,
        waterflai_execution_id="🙂" * 200,
        metadata_json=json.dumps({"m": "x" * (MAX_METADATA_BYTES - 10)}),
        error={"code": "failed", "message": "🙂" * MAX_MESSAGE_CHARS},
    )
    ending = envelope.summary(crowded)
    assert len(ending["cause"]) <= MAX_CAUSE_CHARS
    assert len(json.dumps(ending)) < MAX_STATE_BYTES / 2


@pytest.mark.parametrize("status", Status)
def test_a_summary_is_plain_json(status: Status) -> None:
    ending = envelope.summary(final(status))
    assert json.loads(json.dumps(ending)) == ending


def test_a_duplicate_of_a_finished_execution_ends_as_that_did() -> None:
    for status in FINAL:
        assert envelope.duplicate(final(status)) == envelope.summary(final(status))


def test_a_duplicate_of_a_live_execution_fails_and_names_the_owner() -> None:
    ending = envelope.duplicate(running_record())
    assert (ending["error_name"], ending["next"], ending["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert ending["outcome"] != Status.COMPLETED
    assert OWNER in json.loads(ending["cause"])["message"]


def test_a_key_used_for_another_request_fails_without_telling_what_that_was() -> None:
    ending = envelope.idempotency_conflict(record(request(metadata={"secret": "4711"})))
    assert (ending["error_name"], ending["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert ending["outcome"] != Status.COMPLETED
    assert "4711" not in json.dumps(ending)


@given(st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=10), max_size=4))
def test_joining_json_texts_makes_the_object_they_are_members_of(members: dict[str, Any]) -> None:
    texts = {name: json.dumps(value) for name, value in members.items()}
    assert json.loads(envelope.joined(texts)) == members
