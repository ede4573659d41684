"""Outputs of the state machine for a finished execution, a duplicate and a conflict of keys."""

import json
from dataclasses import replace

import pytest

from tests.support.builders import (
    ID,
    OWNER,
    SOURCE,
    UPSTREAM_ID,
    final_record,
    largest_record,
    record,
    request,
    running_record,
)
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.json_text import is_nested_too_deeply
from waterhook.notifications import notification_events, state_machine_output

FINAL = [status for status in Status if status.is_final]

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
MAX_CAUSE_CHARS = 32_768
MAX_STATE_BYTES = 256 * 1024

# One to four bytes in UTF-8, and characters that JSON escapes.
LETTERS = ["x", "я", "語", "🦆", '"', "\\", "\x7f"]


def test_a_completed_execution_succeeds_with_its_output() -> None:
    output = state_machine_output.outcome_output(
        final_record(final_output_json='{"a":1.0}', usage={"polls": 3})
    )
    assert (output["outcome"], output["next"], output["final_output_json"], output["usage"]) == (
        "COMPLETED",
        "done",
        '{"a":1.0}',
        {"polls": 3},
    )
    assert not {"error_name", "cause"} & set(output)


@pytest.mark.parametrize("status", [status for status in FINAL if status is not Status.COMPLETED])
def test_every_other_execution_fails_with_a_name_and_a_cause(status: Status) -> None:
    output = state_machine_output.outcome_output(final_record(status))
    assert (output["outcome"], output["next"], output["error_name"]) == (status, "done", status.error_name)
    cause = json.loads(output["cause"])
    assert next(iter(cause)) == "message"
    assert cause["message"] == f"execution {ID} ended {status.value}: it {status.value.lower()}"
    assert (cause["execution_id"], cause["waterflai_execution_id"]) == (ID, UPSTREAM_ID)


def test_an_outcome_without_a_reason_has_a_cause_all_the_same() -> None:
    output = state_machine_output.outcome_output(final_record(Status.CANCELLED, error=None))
    assert json.loads(output["cause"])["message"].endswith("no error message")


@pytest.mark.parametrize("letter", LETTERS)
def test_the_longest_cause_is_one_that_step_functions_takes(letter: str) -> None:
    output = state_machine_output.outcome_output(largest_record(letter))
    assert len(output["cause"]) <= MAX_CAUSE_CHARS / 2
    assert len(json.dumps(output)) < MAX_STATE_BYTES / 2


def test_the_largest_output_of_the_state_machine_is_one_that_step_functions_takes() -> None:
    quotes = json.dumps('"' * (MAX_INLINE_BYTES // 2 - 1))
    one = replace(largest_record("🦆"), status=Status.COMPLETED, error=None, final_output_json=quotes)
    assert len(json.dumps(state_machine_output.outcome_output(one)).encode()) < MAX_STATE_BYTES / 2


def test_an_output_however_deep_adds_no_level_to_what_step_functions_carries() -> None:
    deep = "[" * 15_000 + "]" * 15_000
    output = state_machine_output.outcome_output(final_record(final_output_json=deep))
    assert output["final_output_json"] == deep
    assert not is_nested_too_deeply(output)
    assert f'"final_output":{deep},' in notification_events.outcome_event(
        final_record(final_output_json=deep), SOURCE
    )


@pytest.mark.parametrize("status", Status)
def test_a_summary_is_plain_json(status: Status) -> None:
    output = state_machine_output.outcome_output(final_record(status))
    assert json.loads(json.dumps(output)) == output


def test_a_duplicate_of_a_finished_execution_ends_as_that_did() -> None:
    for status in FINAL:
        assert state_machine_output.duplicate_output(
            final_record(status)
        ) == state_machine_output.outcome_output(final_record(status))


def test_a_duplicate_of_a_live_execution_fails_and_names_the_owner() -> None:
    output = state_machine_output.duplicate_output(running_record())
    assert (output["error_name"], output["next"], output["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert output["outcome"] != Status.COMPLETED
    assert OWNER in json.loads(output["cause"])["message"]


def test_a_key_used_for_another_request_fails_without_revealing_that_request() -> None:
    output = state_machine_output.conflict_output(record(request(metadata={"secret": "k4711"})))
    assert (output["error_name"], output["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert output["outcome"] != Status.COMPLETED
    assert "k4711" not in json.dumps(output)
