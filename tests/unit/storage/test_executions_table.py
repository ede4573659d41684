"""The executions table: each condition is asked which race it wins, in both orders."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.aws import Failing, Stuttering, Table, client_error
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

FINAL = [status for status in Status if status.is_final]
ALIVE = [status for status in Status if not status.is_final]

texts = st.text(max_size=20)
shallow = st.dictionaries(
    texts, texts | st.integers(-(10**15), 10**15) | st.booleans() | st.none(), max_size=3
)
stored = st.builds(
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
    waiting=st.none() | shallow,
    slots=st.none() | st.lists(texts, min_size=1, max_size=2).map(tuple),
    cancel_requested=st.none() | texts,
    waterflai_execution_id=st.none() | texts,
    started_at=st.none() | texts,
    finished_at=st.none() | texts,
    notified_at=st.none() | texts,
    error=st.none() | shallow,
    final_output_json=st.none() | st.sampled_from(["{}", '{"n":12345678901234567890,"f":1.0}', '"\\ud83d"']),
    output_ref=st.none() | texts,
    output_error=st.none() | texts,
    timing=st.none() | shallow,
    usage=st.none() | st.dictionaries(texts, st.integers() | st.floats(-1e9, 1e9).map(lambda n: round(n, 6))),
)


@given(stored)
def test_a_record_survives_the_table(one: ExecutionRecord) -> None:
    got = ExecutionRecord.from_item(one.to_item())
    assert got == one
    assert {name: type(value) for name, value in (got.usage or {}).items()} == {
        # A whole float comes back as an integer, which JSON readers don't tell apart.
        name: int if value == int(value) else type(value)
        for name, value in (one.usage or {}).items()
    }


def test_an_item_of_a_newer_version_is_read_without_what_is_new_in_it(table: Table) -> None:
    table.put(record())
    table.set(ID, brand_new="x")
    assert table.get(ID) == record()


def test_a_record_keeps_what_is_nested_deeper_than_dynamodb_allows(table: Table) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(100):
        metadata = {"d": metadata}
    table.records.accept(record(request(metadata=metadata)), NOW)
    assert table.get(ID).metadata == metadata


def test_an_accepted_record_outlives_its_deadline_by_a_month() -> None:
    got = record(request(timeout_seconds=100))
    assert got.deadline == int(NOW) + 100
    assert got.expires_at == got.deadline + UNFINISHED_GRACE_S
    assert (got.status, got.owner_execution_arn, got.start_attempts) == (Status.ACCEPTED, OWNER, 0)


def test_what_is_not_there_is_none(table: Table) -> None:
    assert table.records.get("nobody", NOW) is None


def test_a_look_sees_the_last_write_and_not_an_older_one(table: Table) -> None:
    """Moto has no replicas to lag behind, so the request itself is looked at."""
    asked: list[dict[str, Any]] = []

    class Watched:
        def get_item(self, **request: Any) -> dict[str, Any]:
            asked.append(request)
            return {}

    table.records_over(Watched()).get(ID, NOW)
    assert [request["ConsistentRead"] for request in asked] == [True]


# never_seen, expired: two requests with one key


def test_of_two_requests_with_one_key_the_first_is_accepted(table: Table) -> None:
    table.records.accept(record(), NOW)
    with pytest.raises(RecordConflictError):
        table.records.accept(record(owner_execution_arn=OTHER), NOW)
    assert table.get(ID).owner_execution_arn == OWNER


@pytest.mark.parametrize("status", Status)
def test_no_status_makes_a_record_that_is_not_expired_give_way(table: Table, status: Status) -> None:
    table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.accept(record(owner_execution_arn=OTHER), NOW)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.999])
@pytest.mark.parametrize("second", [-1, 0, 1, 2])
def test_to_look_at_and_to_write_over_a_record_agree_on_when_it_expires(
    table: Table, second: int, fraction: float
) -> None:
    expires_at = int(NOW)
    table.put(record(expires_at=expires_at))
    now = expires_at + second + fraction
    gone = table.records.get(ID, now) is None
    try:
        table.records.accept(record(owner_execution_arn=OTHER), now)
        free = True
    except RecordConflictError:
        free = False
    assert gone is free
    assert gone is (second > 0)


def test_a_key_is_free_again_once_its_record_expired_whatever_ttl_has_not_deleted_yet(table: Table) -> None:
    table.put(running_record(expires_at=int(NOW) - 1, final_output_json="{}", notified_at=to_rfc3339(NOW)))
    table.records.accept(record(owner_execution_arn=OTHER), NOW)
    # Nothing of the old one is left in it.
    assert table.get(ID) == record(owner_execution_arn=OTHER)


# still_accepted: a cancel before the POST


def test_a_start_moves_an_accepted_record_on_and_counts_itself(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    assert (table.get(ID).status, table.get(ID).start_attempts) == (Status.STARTING, 1)


def test_a_cancel_before_the_start_wins(table: Table) -> None:
    first = table.put(record())
    table.set(ID, cancel_requested=to_rfc3339(NOW) or "")
    with pytest.raises(RecordConflictError):
        table.records.begin_start(first)
    assert table.status(ID) is Status.ACCEPTED


def test_a_cancel_after_the_start_began_is_too_late_to_stop_it(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    table.set(ID, cancel_requested=to_rfc3339(NOW) or "")
    table.records.save_start(first, UPSTREAM_ID, NOW)
    assert table.status(ID) is Status.RUNNING


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACCEPTED])
def test_no_start_begins_from_any_other_status(table: Table, status: Status) -> None:
    there = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.begin_start(there)
    assert table.get(ID) == there


def test_of_two_starts_only_one_begins(table: Table) -> None:
    first = table.put(record())
    table.records.begin_start(first)
    with pytest.raises(RecordConflictError):
        table.records.begin_start(first)
    assert table.get(ID).start_attempts == 1


def test_a_start_knows_its_own_write_when_the_answer_to_it_was_lost(table: Table) -> None:
    first = table.put(record())
    begun = table.records_over(Stuttering(table.client)).begin_start(first)
    assert begun == table.get(ID)
    assert (begun.status, begun.start_attempts) == (Status.STARTING, 1)


def test_a_start_whose_write_was_carried_out_though_the_answer_was_an_error_has_begun(table: Table) -> None:
    first = table.put(record())
    lost = Failing(table.client, {"update_item": client_error("InternalServerError", 500)}, after=True)
    assert table.records_over(lost).begin_start(first) == table.get(ID)
    assert table.status(ID) is Status.STARTING


def test_the_first_attempt_is_remembered_and_the_reason_to_wait_is_gone_when_a_start_begins(
    table: Table,
) -> None:
    first = table.put(record(waiting={"reason": "queued"}))
    begun = table.records.begin_start(replace(first, first_attempt_at=to_rfc3339(NOW)))
    assert (begun.first_attempt_at, begun.waiting) == (to_rfc3339(NOW), None)
    again = table.records.begin_start(table.records.undo_start(begun))
    assert again.first_attempt_at == to_rfc3339(NOW)


def test_a_verdict_wins_over_a_start_that_has_to_ask_whether_it_began(table: Table) -> None:
    first = table.put(record())
    late = Stuttering(
        table.client, lambda: table.records.conclude(table.get(ID), final_attributes(Status.CANCELLED))
    )
    with pytest.raises(RecordConflictError):
        table.records_over(late).begin_start(first)
    assert table.status(ID) is Status.CANCELLED


def test_a_reason_to_wait_is_written_only_while_the_request_waits(table: Table) -> None:
    there = table.put(record())
    assert table.records.wait(there, {"reason": "queued"}).waiting == {"reason": "queued"}
    table.records.begin_start(there)
    with pytest.raises(RecordConflictError):
        table.records.wait(there, {"reason": "queued"})
    cancelled = table.put(record(cancel_requested=to_rfc3339(NOW)))
    with pytest.raises(RecordConflictError):
        table.records.wait(cancelled, {"reason": "queued"})


# still_starting: an outcome during the POST


def test_an_answered_start_makes_the_record_run_with_the_upstreams_id(table: Table) -> None:
    first = table.put(record(status=Status.STARTING))
    table.records.save_start(first, UPSTREAM_ID, NOW + 1)
    got = table.get(ID)
    assert (got.status, got.waterflai_execution_id, got.started_at) == (
        Status.RUNNING,
        UPSTREAM_ID,
        "2026-01-01T00:00:01.000Z",
    )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTING])
def test_the_answer_to_a_start_changes_no_record_that_moved_on_meanwhile(
    table: Table, status: Status
) -> None:
    there = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.save_start(there, UPSTREAM_ID, NOW)
    with pytest.raises(RecordConflictError):
        table.records.undo_start(there)
    assert table.get(ID) == there


def test_an_undone_start_can_begin_again_and_is_counted_again(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    again = table.records.undo_start(begun)
    assert again.status is Status.ACCEPTED
    assert table.records.begin_start(again).start_attempts == 2


def test_an_undo_leaves_the_reason_to_wait_and_whether_a_job_may_run(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    undone = table.records.undo_start(begun, {"reason": "retrying"}, perhaps_started=True)
    assert (undone.waiting, undone.perhaps_started) == ({"reason": "retrying"}, True)
    # A later attempt that surely was not accepted changes nothing of what the first one may have done.
    again = table.records.undo_start(table.records.begin_start(undone), {"reason": "upstream_busy"})
    assert (again.waiting, again.perhaps_started) == ({"reason": "upstream_busy"}, True)


def test_an_undo_knows_its_own_write_when_the_answer_to_it_was_lost(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    undone = table.records_over(Stuttering(table.client)).undo_start(begun, {"reason": "retrying"})
    assert undone == table.get(ID)
    assert undone.status is Status.ACCEPTED


def test_a_late_repetition_of_an_undo_does_not_undo_the_next_start(table: Table) -> None:
    begun = table.records.begin_start(table.put(record()))
    table.records.begin_start(table.records.undo_start(begun))
    with pytest.raises(RecordConflictError):
        table.records.undo_start(begun)
    assert table.status(ID) is Status.STARTING


# still_alive, not_concluded: two verdicts


@pytest.mark.parametrize("status", ALIVE)
def test_whatever_is_alive_can_be_concluded(table: Table, status: Status) -> None:
    there = table.put(record(status=status))
    table.records.conclude(there, final_attributes(Status.FAILED))
    got = table.get(ID)
    assert (got.status, got.error) == (Status.FAILED, {"code": "why", "message": "it failed"})
    assert got.expires_at == final_attributes()["expires_at"]


@pytest.mark.parametrize("late", FINAL)
@pytest.mark.parametrize("first", FINAL)
def test_a_late_verdict_cannot_overwrite_the_first(table: Table, first: Status, late: Status) -> None:
    there = table.put(running_record())
    table.records.conclude(there, final_attributes(first))
    concluded = table.get(ID)
    with pytest.raises(RecordConflictError):
        table.records.conclude(there, final_attributes(late, finished_at=to_rfc3339(NOW + 999)))
    assert table.get(ID) == concluded


@pytest.mark.parametrize(
    "there",
    [running_record(finished_at=to_rfc3339(NOW)), running_record(status=Status.FAILED)],
    ids=["a time without a status", "a status without a time"],
)
def test_either_mark_of_an_end_is_enough(table: Table, there: ExecutionRecord) -> None:
    table.put(there)
    with pytest.raises(RecordConflictError):
        table.records.conclude(there, final_attributes())
    assert table.get(ID) == there


def test_a_verdict_leaves_alone_what_it_says_nothing_of(table: Table) -> None:
    there = table.put(running_record())
    table.records.conclude(there, final_attributes(waterflai_execution_id=None, timing=None))
    got = table.get(ID)
    assert (got.waterflai_execution_id, got.chatbot_id, got.started_at) == (
        UPSTREAM_ID,
        there.chatbot_id,
        there.started_at,
    )


def test_a_verdict_carries_an_output_text_unchanged(table: Table) -> None:
    there = table.put(running_record())
    text = '{ "n": 12345678901234567890, "f":1.0,"t":"\\ud83d ü" }'
    table.records.conclude(there, final_attributes(final_output_json=text))
    assert table.get(ID).final_output_json == text


# not_notified: two publishers


def test_of_two_publishers_the_first_is_remembered(table: Table) -> None:
    there = table.put(record(status=Status.FAILED, finished_at=to_rfc3339(NOW)))
    table.records.mark_notified(there, NOW + 1)
    with pytest.raises(RecordConflictError):
        table.records.mark_notified(there, NOW + 2)
    assert table.get(ID).notified_at == to_rfc3339(NOW + 1)


@pytest.mark.parametrize(
    ("deliver_to", "kept"), [(("sns",), None), (("sns", "dynamodb"), "{}"), (("dynamodb",), "{}")]
)
def test_an_output_that_was_not_to_be_kept_goes_once_it_is_delivered(
    table: Table, deliver_to: tuple[str, ...], kept: str | None
) -> None:
    there = table.put(record(status=Status.COMPLETED, final_output_json="{}", deliver_to=deliver_to))
    table.records.mark_notified(there, NOW)
    assert table.get(ID).final_output_json == kept


def test_dropping_an_output_that_there_is_not_is_no_error(table: Table) -> None:
    there = table.put(record(status=Status.FAILED, deliver_to=("sns",)))
    table.records.mark_notified(there, NOW)
    assert table.get(ID).notified_at == to_rfc3339(NOW)


# withdraw: an execution that could not be started, against one that could


def test_a_withdrawn_record_is_gone(table: Table) -> None:
    there = table.put(record())
    table.records.withdraw(there)
    assert table.all() == []


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACCEPTED])
def test_a_record_whose_execution_did_start_cannot_be_withdrawn(table: Table, status: Status) -> None:
    there = table.put(record(status=status))
    with pytest.raises(RecordConflictError):
        table.records.withdraw(there)
    assert table.get(ID) == there


# mine: a duplicate against the first


@pytest.mark.parametrize(
    ("status", "write"),
    [
        (Status.ACCEPTED, lambda records, one: records.begin_start(one)),
        (Status.ACCEPTED, lambda records, one: records.withdraw(one)),
        (Status.ACCEPTED, lambda records, one: records.wait(one, {"reason": "queued"})),
        (Status.STARTING, lambda records, one: records.undo_start(one)),
        (Status.STARTING, lambda records, one: records.save_start(one, UPSTREAM_ID, NOW)),
        (Status.RUNNING, lambda records, one: records.conclude(one, final_attributes())),
        (Status.FAILED, lambda records, one: records.mark_notified(one, NOW)),
    ],
    ids=["begin_start", "withdraw", "wait", "undo_start", "save_start", "conclude", "mark_notified"],
)
def test_a_duplicate_execution_changes_nothing_of_the_first_ones_record(
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
        lambda records, one: records.begin_start(one),
        lambda records, one: records.undo_start(one),
        lambda records, one: records.save_start(one, UPSTREAM_ID, NOW),
        lambda records, one: records.conclude(one, final_attributes()),
        lambda records, one: records.mark_notified(one, NOW),
        lambda records, one: records.withdraw(one),
        lambda records, one: records.wait(one, {"reason": "queued"}),
    ],
    ids=["begin_start", "undo_start", "save_start", "conclude", "mark_notified", "withdraw", "wait"],
)
def test_no_write_brings_an_erased_record_back(table: Table, write: Any) -> None:
    with pytest.raises(RecordConflictError):
        write(table.records, record())
    assert table.all() == []


# The table itself in trouble


@pytest.mark.parametrize(
    "fault",
    [
        client_error("ProvisionedThroughputExceededException"),
        client_error("ThrottlingException"),
        client_error("AccessDeniedException"),
        client_error("InternalServerError", 500),
        EndpointConnectionError(endpoint_url="https://dynamodb.test"),
    ],
    ids=["throughput", "throttled", "denied", "internal", "unreachable"],
)
def test_a_table_in_trouble_is_no_conflict(table: Table, fault: Exception) -> None:
    operations = ("get_item", "put_item", "update_item", "delete_item")
    records = table.records_over(Failing(table.client, dict.fromkeys(operations, fault)))
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


def test_the_words_of_a_failure_name_the_execution_and_not_what_is_in_it(table: Table) -> None:
    records = table.records_over(Failing(table.client, {"put_item": client_error("ThrottlingException")}))
    with pytest.raises(RecordUnavailableError) as caught:
        records.accept(record(request(metadata={"card": "k4711"})), NOW)
    assert str(caught.value) == f"{ID}: the table failed: ThrottlingException"


def test_a_write_that_botocore_repeats_after_a_lost_answer_looks_like_a_lost_race(table: Table) -> None:
    # Whoever handles a conflict must therefore look at the record before drawing conclusions.
    records = table.records_over(Stuttering(table.client))
    with pytest.raises(RecordConflictError):
        records.accept(record(), NOW)
    assert table.get(ID) == record()


def test_the_largest_request_and_output_fit_into_one_item(table: Table) -> None:
    metadata = {"m": "ß" * 600}
    there = record(request(metadata=metadata, chatbot_id="🙂" * 200, idempotency_key="🙂" * 200))
    table.records.accept(there, NOW)
    table.records.conclude(
        there,
        final_attributes(
            Status.FAILED, error={"code": "x", "message": "🙂" * 2000}, final_output_json="x" * 32 * 1024
        ),
    )
    assert table.get(ID).metadata == metadata


@pytest.mark.parametrize("execution_id", ["", "x" * 3000, "\ud800", "ü"])
def test_a_key_that_no_table_can_hold_is_nobodys(table: Table, execution_id: str) -> None:
    assert table.records.get(execution_id, NOW) is None


# A cancel that is asked for


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING])
def test_a_cancel_is_remembered_before_there_is_an_upstream_id(table: Table, status: Status) -> None:
    there = table.put(record(status=status))
    got = table.records.request_cancel(there, NOW + 5)
    assert got == table.get(ID) == replace(there, cancel_requested=to_rfc3339(NOW + 5))


@pytest.mark.parametrize(
    "moved_on",
    [running_record(), *(record(**final_attributes(status)) for status in FINAL)],
    ids=lambda one: one.status,
)
def test_a_cancel_meets_an_id_or_a_verdict_that_came_first(table: Table, moved_on: ExecutionRecord) -> None:
    table.put(moved_on)
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(), NOW + 5)
    assert table.get(ID) == moved_on


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING])
def test_a_cancel_brings_no_erased_record_back_and_touches_no_others(table: Table, status: Status) -> None:
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(status=status), NOW)
    assert table.all() == []
    there = table.put(record(status=status, owner_execution_arn=OTHER))
    with pytest.raises(RecordConflictError):
        table.records.request_cancel(record(status=status), NOW)
    assert table.get(ID) == there


# Progress


def test_every_progress_event_has_the_next_number(table: Table) -> None:
    there = table.put(running_record())
    for number, percent in enumerate([10.0, None, 30.0], start=1):
        there = table.records.save_progress(there, percent)
        assert there.progress_sequence == number
    assert table.get(ID).progress == 30.0


def test_of_two_with_the_same_number_only_one_gets_it(table: Table) -> None:
    there = table.put(running_record())
    table.records.save_progress(there, 10.0)
    with pytest.raises(RecordConflictError):
        table.records.save_progress(there, 5.0)
    assert (table.get(ID).progress, table.get(ID).progress_sequence) == (10.0, 1)


@pytest.mark.parametrize("status", FINAL)
def test_progress_after_the_end_is_refused(table: Table, status: Status) -> None:
    there = table.put(running_record(**final_attributes(status)))
    with pytest.raises(RecordConflictError):
        table.records.save_progress(running_record(), 99.0)
    assert table.get(ID) == there


def test_a_verdict_keeps_the_progress_there_was(table: Table) -> None:
    there = table.records.save_progress(table.put(running_record()), 80.0)
    got = table.records.conclude(there, final_attributes(Status.FAILED))
    assert (got.progress, got.progress_sequence) == (80.0, 1)


# Pages


def listed(
    table: Table, caller: str = "ada", *, status: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return every page's entries."""
    start, entries = None, []
    while True:
        page, start = table.records.page(caller, status=status, limit=limit, start=start)
        entries += page
        if start is None:
            return entries


def put_many(table: Table, count: int, caller: str = "ada") -> None:
    for number in range(count):
        status = Status.COMPLETED if number % 3 == 0 else Status.RUNNING
        table.put(
            record(
                execution_id=f"{caller.encode().hex()[:8]}{number:024x}",
                caller=caller,
                created_at=to_rfc3339(NOW + number),
                status=status,
            )
        )


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("status", [None, "COMPLETED", "RUNNING", "LOST"])
def test_the_pages_together_are_all_of_a_callers_executions_newest_first(
    table: Table, limit: int, status: str | None
) -> None:
    put_many(table, 7)
    put_many(table, 3, caller="bob")
    entries = listed(table, status=status, limit=limit)
    expected = {None: [6, 5, 4, 3, 2, 1, 0], "COMPLETED": [6, 3, 0], "RUNNING": [5, 4, 2, 1], "LOST": []}
    assert [int(entry["execution_id"][8:], 16) for entry in entries] == expected[status]


def test_a_page_is_lean(table: Table) -> None:
    table.put(running_record(caller="ada", **final_attributes(final_output_json="{}")))
    (entry,) = listed(table)
    assert set(entry) == {"execution_id", "status", "chatbot_id", "created_at", "finished_at"}


def test_what_has_no_caller_is_on_no_page(table: Table) -> None:
    table.put(record())
    assert listed(table) == []


def test_a_key_of_another_callers_page_opens_nothing_of_theirs(table: Table) -> None:
    put_many(table, 5, caller="bob")
    put_many(table, 2)
    _, theirs = table.records.page("bob", status=None, limit=2, start=None)
    assert theirs is not None
    entries, _ = table.records.page("ada", status=None, limit=100, start=theirs | {"caller": "ada"})
    assert all(entry["execution_id"].startswith("616461") for entry in entries)
