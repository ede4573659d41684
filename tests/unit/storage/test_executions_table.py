"""Executions table: which of two concurrent writes each condition lets through, in both orders."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.aws import FailingClient, RepeatingClient, Table, client_error
from tests.fakes.clock import NOW
from tests.support.builders import (
    ID,
    OTHER,
    OWNER,
    UPSTREAM_ID,
    final_attributes,
    record,
    request,
    running_record,
)
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.execution_record import UNFINISHED_GRACE_S, ExecutionRecord
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

FINAL_STATUSES = [status for status in Status if status.is_final]
UNFINISHED_STATUSES = [status for status in Status if not status.is_final]

texts = st.text(max_size=20)
flat_objects = st.dictionaries(
    texts, texts | st.integers(-(10**15), 10**15) | st.booleans() | st.none(), max_size=3
)
stored_records = st.builds(
    ExecutionRecord,
    execution_id=st.text(min_size=1, max_size=20),
    status=st.sampled_from(Status),
    owner_execution_arn=texts,
    source=texts,
    created_at=texts,
    deadline=st.integers(0, 10**10),
    expires_at=st.integers(0, 10**10),
    deliver_to=st.lists(st.sampled_from(["sns", "dynamodb"]), min_size=1, max_size=2).map(tuple),
    chatbot_id=st.none() | texts,
    request_sha256=st.none() | texts,
    metadata_json=st.dictionaries(texts, texts).map(json.dumps),
    progress_events=st.booleans(),
    caller=st.none() | texts,
    start_attempts=st.integers(0, 1000),
    first_attempt_at=st.none() | texts,
    perhaps_started=st.booleans(),
    waiting=st.none() | flat_objects,
    slots=st.none() | st.lists(texts, min_size=1, max_size=2).map(tuple),
    cancel_requested=st.none() | texts,
    waterflai_execution_id=st.none() | texts,
    started_at=st.none() | texts,
    finished_at=st.none() | texts,
    notified_at=st.none() | texts,
    error=st.none() | flat_objects,
    final_output_json=st.none() | st.sampled_from(["{}", '{"n":12345678901234567890,"f":1.0}', '"\\ud83d"']),
    output_ref=st.none() | texts,
    output_error=st.none() | texts,
    timing=st.none() | flat_objects,
    usage=st.none() | st.dictionaries(texts, st.integers() | st.floats(-1e9, 1e9).map(lambda n: round(n, 6))),
)


@given(stored_records)
def test_a_record_is_unchanged_after_it_was_stored_and_read(original: ExecutionRecord) -> None:
    read = ExecutionRecord.from_item(original.to_item())
    assert read == original
    assert {name: type(value) for name, value in (read.usage or {}).items()} == {
        # A float without a fraction is read as an integer. In JSON both are the same number.
        name: int if value == int(value) else type(value)
        for name, value in (original.usage or {}).items()
    }


def test_unknown_attributes_of_an_item_are_ignored(table: Table) -> None:
    table.put(record())
    table.set(ID, brand_new="x")
    assert table.get(ID) == record()


def test_metadata_may_be_nested_deeper_than_dynamodb_allows(table: Table) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(100):
        metadata = {"d": metadata}
    table.records.accept(record(request(metadata=metadata)), NOW)
    assert table.get(ID).metadata == metadata


def test_an_accepted_record_expires_a_month_after_its_deadline() -> None:
    current = record(request(timeout_seconds=100))
    assert current.deadline == int(NOW) + 100
    assert current.expires_at == current.deadline + UNFINISHED_GRACE_S
    assert (current.status, current.owner_execution_arn, current.start_attempts) == (
        Status.ACCEPTED,
        OWNER,
        0,
    )


def test_a_missing_record_is_none(table: Table) -> None:
    assert table.records.get("unknown", NOW) is None


def test_a_record_is_read_consistently(table: Table) -> None:
    """Moto has no replicas that lag behind, so this checks the request."""
    requests: list[dict[str, Any]] = []

    class RecordingClient:
        def get_item(self, **request: Any) -> dict[str, Any]:
            requests.append(request)
            return {}

    table.records_over(RecordingClient()).get(ID, NOW)
    assert [request["ConsistentRead"] for request in requests] == [True]


# Conditions never_seen and expired: two requests with the same key


def test_only_the_first_of_two_requests_with_the_same_key_is_accepted(table: Table) -> None:
    table.records.accept(record(), NOW)
    with pytest.raises(RecordConflictError):
        table.records.accept(record(owner_execution_arn=OTHER), NOW)
    assert table.get(ID).owner_execution_arn == OWNER


@pytest.mark.parametrize("status", Status)
def test_a_record_of_any_status_is_not_replaced_before_it_expires(table: Table, status: Status) -> None:
    table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.accept(record(owner_execution_arn=OTHER), NOW)


@pytest.mark.parametrize("fraction", [0.0, 0.999])
@pytest.mark.parametrize("second", [-1, 0, 1])
def test_get_and_accept_agree_on_when_a_record_expires(table: Table, second: int, fraction: float) -> None:
    expires_at = int(NOW)
    table.put(record(expires_at=expires_at))
    now = expires_at + second + fraction
    is_gone = table.records.get(ID, now) is None
    try:
        table.records.accept(record(owner_execution_arn=OTHER), now)
        is_free = True
    except RecordConflictError:
        is_free = False
    assert is_gone is is_free
    assert is_gone is (second > 0)


def test_an_expired_record_is_replaced_before_ttl_deletes_it(table: Table) -> None:
    table.put(running_record(expires_at=int(NOW) - 1, final_output_json="{}", notified_at=to_rfc3339(NOW)))
    table.records.accept(record(owner_execution_arn=OTHER), NOW)
    # No attribute of the old record is left.
    assert table.get(ID) == record(owner_execution_arn=OTHER)


# Condition still_accepted: a cancellation before the POST


def test_begin_start_changes_the_status_and_counts_the_attempt(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    assert (table.get(ID).status, table.get(ID).start_attempts) == (Status.STARTING, 1)


def test_a_start_does_not_begin_after_a_requested_cancellation(table: Table) -> None:
    first = table.put(record())
    table.set(ID, cancel_requested=to_rfc3339(NOW) or "")
    with pytest.raises(RecordConflictError):
        table.records.begin_start(first)
    assert table.status(ID) is Status.ACCEPTED


def test_a_cancellation_does_not_stop_a_start_that_has_begun(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    table.set(ID, cancel_requested=to_rfc3339(NOW) or "")
    table.records.save_start(first, UPSTREAM_ID, NOW)
    assert table.status(ID) is Status.RUNNING


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACCEPTED])
def test_a_start_begins_only_from_accepted(table: Table, status: Status) -> None:
    stored = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.begin_start(stored)
    assert table.get(ID) == stored


def test_only_one_of_two_starts_begins(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    with pytest.raises(RecordConflictError):
        table.records.begin_start(first)
    assert table.get(ID).start_attempts == 1


def test_a_start_recognizes_its_own_write_after_a_lost_response(table: Table) -> None:
    first = table.put(record())
    begun = table.records_over(RepeatingClient(table.client)).begin_start(first)
    assert begun == table.get(ID)
    assert (begun.status, begun.start_attempts) == (Status.STARTING, 1)


def test_a_start_has_begun_if_its_write_succeeded_in_spite_of_an_error_response(table: Table) -> None:
    first = table.put(record())
    lost = FailingClient(table.client, {"update_item": client_error("InternalServerError", 500)}, after=True)
    assert table.records_over(lost).begin_start(first) == table.get(ID)
    assert table.status(ID) is Status.STARTING


def test_begin_start_keeps_the_time_of_the_first_attempt_and_removes_the_reason_to_wait(
    table: Table,
) -> None:
    first = table.put(record(waiting={"reason": "queued"}))
    begun = table.records.begin_start(replace(first, first_attempt_at=to_rfc3339(NOW)))
    assert (begun.first_attempt_at, begun.waiting) == (to_rfc3339(NOW), None)
    again = table.records.begin_start(table.records.undo_start(begun))
    assert again.first_attempt_at == to_rfc3339(NOW)


def test_an_outcome_wins_over_a_start_whose_response_was_lost(table: Table) -> None:
    first = table.put(record())
    late = RepeatingClient(
        table.client, lambda: table.records.conclude(table.get(ID), final_attributes(Status.CANCELLED))
    )
    with pytest.raises(RecordConflictError):
        table.records_over(late).begin_start(first)
    assert table.status(ID) is Status.CANCELLED


def test_a_reason_to_wait_is_written_only_while_the_request_waits(table: Table) -> None:
    stored = table.put(record())
    assert table.records.wait(stored, {"reason": "queued"}).waiting == {"reason": "queued"}
    table.records.begin_start(stored)
    with pytest.raises(RecordConflictError):
        table.records.wait(stored, {"reason": "queued"})
    cancelled = table.put(record(cancel_requested=to_rfc3339(NOW)))
    with pytest.raises(RecordConflictError):
        table.records.wait(cancelled, {"reason": "queued"})


# Condition still_starting: an outcome during the POST


def test_save_start_stores_the_upstream_id_and_the_status_running(table: Table) -> None:
    first = table.put(record(status=Status.STARTING))
    table.records.save_start(first, UPSTREAM_ID, NOW + 1)
    current = table.get(ID)
    assert (current.status, current.waterflai_execution_id, current.started_at) == (
        Status.RUNNING,
        UPSTREAM_ID,
        "2026-01-01T00:00:01.000Z",
    )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTING])
def test_save_start_and_undo_start_change_only_a_starting_record(table: Table, status: Status) -> None:
    stored = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.save_start(stored, UPSTREAM_ID, NOW)
    with pytest.raises(RecordConflictError):
        table.records.undo_start(stored)
    assert table.get(ID) == stored


def test_an_undone_start_can_begin_again_and_counts_as_another_attempt(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    again = table.records.undo_start(begun)
    assert again.status is Status.ACCEPTED
    assert table.records.begin_start(again).start_attempts == 2


def test_undo_start_stores_the_reason_to_wait_and_whether_a_job_may_run(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    undone = table.records.undo_start(begun, {"reason": "retrying"}, perhaps_started=True)
    assert (undone.waiting, undone.perhaps_started) == ({"reason": "retrying"}, True)
    # The second attempt was not accepted. The first one may still have started a job.
    again = table.records.undo_start(table.records.begin_start(undone), {"reason": "upstream_busy"})
    assert (again.waiting, again.perhaps_started) == ({"reason": "upstream_busy"}, True)


def test_undo_start_recognizes_its_own_write_after_a_lost_response(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    undone = table.records_over(RepeatingClient(table.client)).undo_start(begun, {"reason": "retrying"})
    assert undone == table.get(ID)
    assert undone.status is Status.ACCEPTED


def test_a_late_repetition_of_undo_start_does_not_undo_the_next_start(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    table.records.begin_start(table.records.undo_start(begun))
    with pytest.raises(RecordConflictError):
        table.records.undo_start(begun)
    assert table.status(ID) is Status.STARTING


# Conditions still_alive and not_concluded: two outcomes


@pytest.mark.parametrize("status", UNFINISHED_STATUSES)
def test_every_unfinished_record_can_be_concluded(table: Table, status: Status) -> None:
    stored = table.put(record(status=status))
    table.records.conclude(stored, final_attributes(Status.FAILED))
    current = table.get(ID)
    assert (current.status, current.error) == (Status.FAILED, {"code": "why", "message": "it failed"})
    assert current.expires_at == final_attributes()["expires_at"]


@pytest.mark.parametrize("late", FINAL_STATUSES)
@pytest.mark.parametrize("first", FINAL_STATUSES)
def test_a_later_outcome_does_not_overwrite_the_first(table: Table, first: Status, late: Status) -> None:
    stored = table.put(running_record())
    table.records.conclude(stored, final_attributes(first))
    concluded = table.get(ID)
    with pytest.raises(RecordConflictError):
        table.records.conclude(stored, final_attributes(late, finished_at=to_rfc3339(NOW + 999)))
    assert table.get(ID) == concluded


@pytest.mark.parametrize(
    "stored",
    [running_record(finished_at=to_rfc3339(NOW)), running_record(status=Status.FAILED)],
    ids=["a time without a status", "a status without a time"],
)
def test_a_record_with_a_final_status_or_a_finish_time_is_not_concluded_again(
    table: Table, stored: ExecutionRecord
) -> None:
    table.put(stored)
    with pytest.raises(RecordConflictError):
        table.records.conclude(stored, final_attributes())
    assert table.get(ID) == stored


def test_an_outcome_does_not_change_attributes_that_it_lacks(table: Table) -> None:
    stored = table.put(running_record())
    table.records.conclude(stored, final_attributes(waterflai_execution_id=None, timing=None))
    current = table.get(ID)
    assert (current.waterflai_execution_id, current.chatbot_id, current.started_at) == (
        UPSTREAM_ID,
        stored.chatbot_id,
        stored.started_at,
    )


def test_an_outcome_stores_the_output_text_unchanged(table: Table) -> None:
    stored = table.put(running_record())
    text = '{ "n": 12345678901234567890, "f":1.0,"t":"\\ud83d ü" }'
    table.records.conclude(stored, final_attributes(final_output_json=text))
    assert table.get(ID).final_output_json == text


# Condition not_notified: two publishers


def test_only_the_first_of_two_publishers_sets_notified_at(table: Table) -> None:
    stored = table.put(record(status=Status.FAILED, finished_at=to_rfc3339(NOW)))
    table.records.mark_notified(stored, NOW + 1)
    with pytest.raises(RecordConflictError):
        table.records.mark_notified(stored, NOW + 2)
    assert table.get(ID).notified_at == to_rfc3339(NOW + 1)


@pytest.mark.parametrize(
    ("deliver_to", "stored_output"), [(("sns",), None), (("sns", "dynamodb"), "{}"), (("dynamodb",), "{}")]
)
def test_an_output_is_removed_after_delivery_unless_it_is_delivered_to_dynamodb(
    table: Table, deliver_to: tuple[str, ...], stored_output: str | None
) -> None:
    stored = table.put(record(status=Status.COMPLETED, final_output_json="{}", deliver_to=deliver_to))
    table.records.mark_notified(stored, NOW)
    assert table.get(ID).final_output_json == stored_output


def test_a_record_without_an_output_can_be_marked_as_notified(table: Table) -> None:
    stored = table.put(record(status=Status.FAILED, deliver_to=("sns",)))
    table.records.mark_notified(stored, NOW)
    assert table.get(ID).notified_at == to_rfc3339(NOW)


# withdraw: removes the record of a state machine execution that could not be started


def test_a_withdrawn_record_is_deleted(table: Table) -> None:
    stored = table.put(record())
    table.records.withdraw(stored)
    assert table.all() == []


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACCEPTED])
def test_only_an_accepted_record_can_be_withdrawn(table: Table, status: Status) -> None:
    stored = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.withdraw(stored)
    assert table.get(ID) == stored


# Condition mine: a duplicate and the first execution


@pytest.mark.parametrize(
    ("status", "write"),
    [
        (Status.ACCEPTED, lambda records, stored: records.begin_start(stored)),
        (Status.ACCEPTED, lambda records, stored: records.withdraw(stored)),
        (Status.ACCEPTED, lambda records, stored: records.wait(stored, {"reason": "queued"})),
        (Status.STARTING, lambda records, stored: records.undo_start(stored)),
        (Status.STARTING, lambda records, stored: records.save_start(stored, UPSTREAM_ID, NOW)),
        (Status.RUNNING, lambda records, stored: records.conclude(stored, final_attributes())),
        (Status.FAILED, lambda records, stored: records.mark_notified(stored, NOW)),
    ],
    ids=["begin_start", "withdraw", "wait", "undo_start", "save_start", "conclude", "mark_notified"],
)
def test_a_duplicate_does_not_change_the_record_of_the_first_execution(
    table: Table, status: Status, write: Any
) -> None:
    first = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        write(table.records, replace(first, owner_execution_arn=OTHER))
    assert table.get(ID) == first
    write(table.records, first)


@pytest.mark.parametrize(
    "write",
    [
        lambda records, stored: records.begin_start(stored),
        lambda records, stored: records.undo_start(stored),
        lambda records, stored: records.save_start(stored, UPSTREAM_ID, NOW),
        lambda records, stored: records.conclude(stored, final_attributes()),
        lambda records, stored: records.mark_notified(stored, NOW),
        lambda records, stored: records.withdraw(stored),
        lambda records, stored: records.wait(stored, {"reason": "queued"}),
    ],
    ids=["begin_start", "undo_start", "save_start", "conclude", "mark_notified", "withdraw", "wait"],
)
def test_no_write_recreates_a_deleted_record(table: Table, write: Any) -> None:
    with pytest.raises(RecordConflictError):
        write(table.records, record())
    assert table.all() == []


# Failures of DynamoDB


@pytest.mark.parametrize(
    "fault",
    [
        client_error("ThrottlingException"),
        client_error("InternalServerError", 500),
        EndpointConnectionError(endpoint_url="https://dynamodb.test"),
    ],
    ids=["throttled", "internal", "unreachable"],
)
def test_a_failure_of_dynamodb_is_not_a_conflict(table: Table, fault: Exception) -> None:
    operations = ("get_item", "put_item", "update_item", "delete_item")
    records = table.records_over(FailingClient(table.client, dict.fromkeys(operations, fault)))
    calls: list[Callable[[], object]] = [
        lambda: records.get(ID, NOW),
        lambda: records.accept(record(), NOW),
        lambda: records.begin_start(record()),
        lambda: records.undo_start(record()),
        lambda: records.save_start(record(), UPSTREAM_ID, NOW),
        lambda: records.conclude(record(), final_attributes()),
        lambda: records.mark_notified(record(), NOW),
        lambda: records.withdraw(record()),
    ]
    for call in calls:
        with pytest.raises(RecordUnavailableError):
            call()


def test_the_message_of_a_failure_names_the_execution_without_its_data(table: Table) -> None:
    records = table.records_over(
        FailingClient(table.client, {"put_item": client_error("ThrottlingException")})
    )
    with pytest.raises(RecordUnavailableError) as caught:
        records.accept(record(request(metadata={"card": "k4711"})), NOW)
    assert str(caught.value) == f"{ID}: the table failed: ThrottlingException"


def test_a_put_that_botocore_repeats_after_a_lost_response_raises_a_conflict(table: Table) -> None:
    # The caller must therefore read the record again before it handles a conflict.
    records = table.records_over(RepeatingClient(table.client))
    with pytest.raises(RecordConflictError):
        records.accept(record(), NOW)
    assert table.get(ID) == record()


def test_the_largest_request_and_output_fit_into_one_item(table: Table) -> None:
    metadata = {"m": "ß" * 600}
    stored = record(request(metadata=metadata, chatbot_id="🙂" * 200, idempotency_key="🙂" * 200))
    table.records.accept(stored, NOW)
    table.records.conclude(
        stored,
        final_attributes(
            Status.FAILED, error={"code": "x", "message": "🙂" * 2000}, final_output_json="x" * 32 * 1024
        ),
    )
    assert table.get(ID).metadata == metadata


@pytest.mark.parametrize("execution_id", ["", "x" * 3000, "\ud800", "ü"])
def test_an_execution_id_that_is_no_valid_key_has_no_record(table: Table, execution_id: str) -> None:
    assert table.records.get(execution_id, NOW) is None


# Requested cancellations


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING])
def test_a_cancellation_can_be_requested_before_the_record_has_an_upstream_id(
    table: Table, status: Status
) -> None:
    stored = table.put(record(status=status))
    current = table.records.request_cancel(stored, NOW + 5)
    assert current == table.get(ID) == replace(stored, cancel_requested=to_rfc3339(NOW + 5))


@pytest.mark.parametrize(
    "moved_on",
    [running_record(), *(record(**final_attributes(status)) for status in FINAL_STATUSES)],
    ids=lambda moved_on: moved_on.status,
)
def test_a_cancellation_is_a_conflict_once_the_record_has_an_upstream_id_or_an_outcome(
    table: Table, moved_on: ExecutionRecord
) -> None:
    table.put(moved_on)
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(), NOW + 5)
    assert table.get(ID) == moved_on


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING])
def test_a_cancellation_changes_neither_a_deleted_record_nor_one_of_another_owner(
    table: Table, status: Status
) -> None:
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(status=status), NOW)
    assert table.all() == []
    stored = table.put(record(status=status, owner_execution_arn=OTHER))
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(status=status), NOW)
    assert table.get(ID) == stored


# Progress


def test_every_progress_event_has_the_next_number(table: Table) -> None:
    stored = table.put(running_record())
    for number, percent in enumerate([10.0, None, 30.0], start=1):
        stored = table.records.save_progress(stored, percent)
        assert stored.progress_sequence == number
    assert table.get(ID).progress == 30.0


def test_only_one_of_two_progress_events_gets_the_same_number(table: Table) -> None:
    stored = table.put(running_record())
    table.records.save_progress(stored, 10.0)
    with pytest.raises(RecordConflictError):
        table.records.save_progress(stored, 5.0)
    assert (table.get(ID).progress, table.get(ID).progress_sequence) == (10.0, 1)


@pytest.mark.parametrize("status", FINAL_STATUSES)
def test_progress_after_the_outcome_is_refused(table: Table, status: Status) -> None:
    stored = table.put(running_record(**final_attributes(status)))
    with pytest.raises(RecordConflictError):
        table.records.save_progress(running_record(), 99.0)
    assert table.get(ID) == stored


def test_an_outcome_keeps_the_progress(table: Table) -> None:
    stored = table.records.save_progress(table.put(running_record()), 80.0)
    current = table.records.conclude(stored, final_attributes(Status.FAILED))
    assert (current.progress, current.progress_sequence) == (80.0, 1)
