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

# Four bytes in UTF-8, a character that JSON escapes, and a control character that it does not escape.
LETTERS = ["🦆", '"', "\x7f"]


def test_the_output_of_a_completed_execution_has_no_error() -> None:
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
def test_every_other_outcome_has_an_error_name_and_a_cause(status: Status) -> None:
    output = state_machine_output.outcome_output(final_record(status))
    assert (output["outcome"], output["next"], output["error_name"]) == (status, "done", status.error_name)
    cause = json.loads(output["cause"])
    assert next(iter(cause)) == "message"
    assert cause["message"] == f"execution {ID} ended {status.value}: it {status.value.lower()}"
    assert (cause["execution_id"], cause["waterflai_execution_id"]) == (ID, UPSTREAM_ID)


def test_an_outcome_without_an_error_has_a_cause() -> None:
    output = state_machine_output.outcome_output(final_record(Status.CANCELLED, error=None))
    assert json.loads(output["cause"])["message"].endswith("no error message")


@pytest.mark.parametrize("letter", LETTERS)
def test_the_longest_cause_is_below_the_limit_of_step_functions(letter: str) -> None:
    output = state_machine_output.outcome_output(largest_record(letter))
    assert len(output["cause"]) <= MAX_CAUSE_CHARS / 2
    assert len(json.dumps(output)) < MAX_STATE_BYTES / 2


def test_the_largest_output_is_below_the_limit_of_step_functions() -> None:
    quotes = json.dumps('"' * (MAX_INLINE_BYTES // 2 - 1))
    one = replace(largest_record("🦆"), status=Status.COMPLETED, error=None, final_output_json=quotes)
    assert len(json.dumps(state_machine_output.outcome_output(one)).encode()) < MAX_STATE_BYTES / 2


def test_a_deeply_nested_output_is_carried_as_text() -> None:
    deep = "[" * 15_000 + "]" * 15_000
    output = state_machine_output.outcome_output(final_record(final_output_json=deep))
    assert output["final_output_json"] == deep
    assert not is_nested_too_deeply(output)
    assert f'"final_output":{deep},' in notification_events.outcome_event(
        final_record(final_output_json=deep), SOURCE
    )


def test_a_duplicate_of_a_finished_execution_has_the_same_output() -> None:
    for status in FINAL:
        assert state_machine_output.duplicate_output(
            final_record(status)
        ) == state_machine_output.outcome_output(final_record(status))


def test_a_duplicate_of_a_running_execution_fails_and_names_the_owner() -> None:
    output = state_machine_output.duplicate_output(running_record())
    assert (output["error_name"], output["next"], output["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert output["outcome"] != Status.COMPLETED
    assert OWNER in json.loads(output["cause"])["message"]


def test_a_conflict_of_keys_reveals_nothing_of_the_first_request() -> None:
    output = state_machine_output.conflict_output(record(request(metadata={"secret": "k4711"})))
    assert (output["error_name"], output["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert output["outcome"] != Status.COMPLETED
    assert "k4711" not in json.dumps(output)
