"""The check of the execution records."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.fakes.aws import Table
from tests.fakes.clock import NOW
from tests.support.builders import final_attributes, record, running_record
from tests.unit.waterhook_cli.checks.helpers import NOTE, OK, PROBLEM, WARNING, only
from waterhook.domain.status import Status
from waterhook.storage.execution_record import to_attribute
from waterhook.timestamps import to_rfc3339
from waterhook_cli.checks.finding import Finding, Level
from waterhook_cli.checks.records import check_records

LATER = NOW + 2 * 3600
CAPS = {"MaxRunning": "2", "MaxRunningPerChatbot": "0"}


def findings(client: Any, table: str, now: float) -> Iterable[Finding]:
    return check_records(client, table, now, CAPS, " --stack shop")


def test_notified_and_running_executions_are_ok(table: Table) -> None:
    put = table.put(running_record(**final_attributes()))
    table.records.mark_notified(put, NOW + 61)
    table.put(running_record(execution_id="1e" * 16, deadline=int(LATER)))
    assert only(findings(table.client, table.name, LATER)).level == OK


def test_a_record_that_was_notified_after_the_index_was_read_is_ok(table: Table) -> None:
    table.put(running_record(**final_attributes(), notified_at=to_rfc3339(NOW + 61)))
    assert only(findings(table.client, table.name, LATER)).level == OK


def test_an_outcome_that_was_never_published_is_a_problem(table: Table) -> None:
    table.put(running_record(**final_attributes(Status.FAILED)))
    finding = only(findings(table.client, table.name, LATER))
    assert finding.level == PROBLEM
    assert finding.message.startswith("the outcome of 1 execution (0f0f")
    assert finding.hint == "waterhook redeliver --undelivered --stack shop"


@pytest.mark.parametrize(("ago_s", "level"), [(290, OK), (310, WARNING), (1790, WARNING), (1810, PROBLEM)])
def test_an_outcome_that_is_published_late_is_a_warning_and_later_a_problem(
    table: Table, ago_s: int, level: Level
) -> None:
    table.put(running_record(**final_attributes(finished_at=to_rfc3339(LATER - ago_s))))
    assert only(findings(table.client, table.name, LATER)).level == level


@pytest.mark.parametrize(("overdue_s", "level"), [(3500, OK), (3700, PROBLEM)])
def test_an_execution_that_should_have_ended_an_hour_ago_is_a_problem(
    table: Table, overdue_s: int, level: Level
) -> None:
    table.put(running_record(deadline=int(LATER) - overdue_s))
    assert only(findings(table.client, table.name, LATER)).level == level


def wait(table: Table, digit: str, **waiting: str) -> None:
    """Put a record that waits to start, as the functions write it."""
    accepted = record(execution_id=digit * 32, deadline=int(LATER), unfinished=digit)
    more = {"waiting": to_attribute(waiting)} if waiting else {}
    table.client.put_item(TableName=table.name, Item=accepted.to_item() | more)


def test_executions_that_wait_to_start_are_counted_by_their_reason(table: Table) -> None:
    wait(table, "a", reason="queued", since="2026-01-01T00:10:00.000Z")
    wait(
        table, "b", reason="queued", since="2026-01-01T00:05:00.000Z", next_attempt_at="2026-01-01T02:01:00Z"
    )
    wait(table, "c", reason="upstream_busy", since="2026-01-01T00:20:00.000Z", detail="it answered 429")
    busy, queued = sorted(findings(table.client, table.name, LATER), key=lambda finding: finding.message)
    assert (busy.level, queued.level) == (WARNING, WARNING)
    assert busy.message == (
        f"1 execution ({'c' * 32}) waits for Waterflai, which accepts no more jobs now, "
        "the oldest since 2026-01-01T00:20:00Z (it answered 429)"
    )
    assert queued.message.startswith("2 executions (")
    assert queued.message.endswith(
        ") wait for a free slot (MaxRunning is 2, MaxRunningPerChatbot is 0), "
        "the oldest since 2026-01-01T00:05:00Z, next attempt at 2026-01-01T02:01:00Z"
    )


@pytest.mark.parametrize("waiting", [{}, {"reason": "of another version"}])
def test_an_execution_that_waits_for_an_unknown_reason_is_a_warning(
    table: Table, waiting: dict[str, str]
) -> None:
    wait(table, "a", **waiting)
    finding = only(findings(table.client, table.name, LATER))
    assert finding.level == WARNING
    assert finding.message.endswith(") waits for their start, the oldest since 2026-01-01T00:00:00Z")


def test_an_execution_that_was_just_accepted_is_ok(table: Table) -> None:
    wait(table, "a", reason="queued")
    assert only(findings(table.client, table.name, NOW + 299)).level == OK


class ThrottledTable:
    """DynamoDB that returns the first half of a batch only, until one key is left."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.get_paginator = real.get_paginator

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, request),) = RequestItems.items()
        half = (len(request["Keys"]) + 1) // 2
        answer: dict[str, Any] = self._real.batch_get_item(
            RequestItems={table: request | {"Keys": request["Keys"][:half]}}
        )
        left = request["Keys"][half:]
        return answer | ({"UnprocessedKeys": {table: request | {"Keys": left}}} if left else {})


def test_records_are_read_in_batches_up_to_a_maximum(table: Table) -> None:
    for number in range(104):
        table.put(running_record(execution_id=f"{number:032x}", deadline=int(LATER), unfinished="0"))
    client: Any = ThrottledTable(table.client)
    running, rest = check_records(client, table.name, LATER, CAPS, max_records=103)
    assert (running.level, rest.level) == (OK, NOTE)
    assert "; 103 have been running for more than 5 minutes" in running.message
    assert rest.message == "only the oldest 103 of 104 executions were checked"
