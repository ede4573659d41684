"""Redelivery: the filters find what is meant, and each execution's answer is its own."""

import json
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pytest

from tests.support.aws import Table
from tests.support.builders import ID, running_record, verdict
from tests.support.clock import NOW, Clock
from waterhook.domain.status import Status
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.timestamps import to_rfc3339
from waterhook_cli.redeliver import Redelivery, Sent

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Functions:
    """Lambda with one function, whose answer is given."""

    def __init__(self, answer: object = None, error: str | None = None) -> None:
        self._answer, self._error = answer, error
        self.calls: list[dict[str, Any]] = []

    def invoke(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(asked)
        answer = {"Payload": BytesIO(json.dumps(self._answer).encode())}
        return answer | ({"FunctionError": self._error} if self._error else {})


def redelivery(table: Table, functions: Functions | None = None) -> Redelivery:
    client: Any = functions or Functions()
    return Redelivery(
        table.client,
        client,
        table=table.name,
        notify_function="notify",
        clock=Clock(NOW + 60),
    )


def execution(table: Table, digit: str, status: Status, finished_at: float, **changes: Any) -> str:
    ended = verdict(status, finished_at=to_rfc3339(finished_at)) | changes
    return table.put(running_record(execution_id=digit * 32, **ended)).execution_id


@pytest.fixture
def ids(table: Table) -> dict[str, str]:
    table.put(running_record())
    table.put(running_record(execution_id="e" * 32, **verdict(expires_at=int(NOW))))
    ConcurrencyLimiter(table.name, ConcurrencyLimits(stack=1), table.client).acquire(ID, "support-chat")
    return {
        "eve": execution(table, "a", Status.FAILED, NOW - 0.001),
        "new year": execution(table, "b", Status.FAILED, NOW, notified_at=to_rfc3339(NOW)),
        "day after": execution(table, "c", Status.COMPLETED, NOW + 86_400, notified_at=to_rfc3339(NOW)),
    }


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, {"eve", "new year", "day after"}),
        ({"status": "FAILED"}, {"eve", "new year"}),
        ({"status": "LOST"}, set()),
        ({"since": NEW_YEAR}, {"new year", "day after"}),
        ({"until": NEW_YEAR}, {"eve"}),
        ({"since": NEW_YEAR, "until": NEW_YEAR + timedelta(days=1)}, {"new year"}),
        ({"since": datetime(2026, 1, 1)}, {"new year", "day after"}),  # noqa: DTZ001 - UTC where it is not said
        ({"since": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, {"new year", "day after"}),
        ({"undelivered_only": True}, {"eve"}),
        ({"status": "COMPLETED", "undelivered_only": True}, set()),
        ({"ids": ["a" * 32, "c" * 32]}, {"eve", "day after"}),
        ({"ids": ["a" * 32, "c" * 32], "status": "COMPLETED"}, {"day after"}),
        ({"ids": [ID, "e" * 32, "f" * 32, "capacity"]}, set()),
        ({"ids": []}, set()),
    ],
)
def test_what_every_filter_lets_through_is_found(
    table: Table, ids: dict[str, str], filters: dict[str, Any], found: set[str]
) -> None:
    assert sorted(redelivery(table).find(**filters)) == sorted(ids[name] for name in found)


def test_a_table_of_several_pages_is_read_to_its_end(table: Table) -> None:
    # A page is a megabyte of what is stored, not of what is asked for.
    big = "x" * 300_000
    all_ids = {execution(table, digit, Status.FAILED, NOW, metadata_json=big) for digit in "0123456789"}
    assert set(redelivery(table).find()) == all_ids


def test_one_that_was_published_again_says_so(table: Table) -> None:
    functions = Functions({"execution_id": ID, "redelivered": True, "outcome": "FAILED", "event_id": "x"})
    assert redelivery(table, functions).send(ID) == Sent(ID, redelivered=True, outcome="FAILED")
    (call,) = functions.calls
    assert (call["FunctionName"], call["InvocationType"]) == ("notify", "RequestResponse")
    assert json.loads(call["Payload"]) == {"redeliver": {"execution_id": ID}}


def test_one_that_could_not_be_says_why(table: Table) -> None:
    functions = Functions({"execution_id": ID, "redelivered": False, "outcome": None, "reason": "gone"})
    assert redelivery(table, functions).send(ID) == Sent(ID, redelivered=False, reason="gone")


@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        ({"errorType": "ClientError", "errorMessage": "card k4711"}, "Unhandled", "ClientError"),
        (None, "Unhandled", "no answer"),
        (None, None, "no answer"),
        (["odd"], None, "no answer"),
        ({"outcome": "ERROR"}, None, "no answer"),
    ],
)
def test_a_function_that_failed_costs_this_one_and_its_words_stay_in_its_log(
    table: Table, answer: object, error: str | None, kind: str
) -> None:
    sent = redelivery(table, Functions(answer, error)).send(ID)
    assert sent.redelivered is False
    assert f"failed ({kind})" in (sent.reason or "")
    assert "k4711" not in (sent.reason or "")
