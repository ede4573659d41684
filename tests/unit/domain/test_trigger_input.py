"""Trigger input: the request, the execution id and the record of an execution, for every trigger."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.aws import Table
from tests.fakes.clock import NOW
from tests.support.builders import (
    DEFAULTS,
    ID,
    OTHER,
    OWNER,
    STARTED_AT,
    record,
    request,
    request_dict,
)
from tests.support.json_values import any_json, any_request, any_text
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput, derive_execution_id
from waterhook.storage.execution_record import ExecutionRecord


def read(given_input: object, *, arn: str = OWNER, started_at: str = STARTED_AT) -> TriggerInput:
    return TriggerInput.read(given_input, execution_arn=arn, started_at=started_at, defaults=DEFAULTS)


def claim(table: Table, given_input: object, *, owner: str = OWNER, now: float = NOW) -> ExecutionRecord:
    trigger = read(given_input, arn=owner)
    return table.records.claim(trigger, owner=owner, now=now, defaults=DEFAULTS)


wrapped_requests = st.fixed_dictionaries(
    {"request": any_request | any_json},
    optional={
        "execution_id": any_text | any_json,
        "event_id": any_text | any_json,
        "chatbot_id": any_json,
        "parameters": any_json,
    },
)


@given(any_json | any_request | wrapped_requests)
def test_reading_any_input_raises_nothing(given_input: Any) -> None:
    trigger = read(given_input)
    assert (trigger.request is None) is (trigger.problem is not None)
    assert len(trigger.execution_id) == 32
    assert trigger.execution_id.isalnum()


def test_an_accepted_request_is_not_refused_after_a_change_of_the_default_targets() -> None:
    """It waits for its start. Then nothing receives its progress; its job must start nevertheless."""
    defaults = replace(DEFAULTS, deliver_to=("dynamodb",))
    given_input = {"execution_id": OTHER, "request": request_dict(progress_events=True)}
    trigger = TriggerInput.read(given_input, execution_arn=OWNER, started_at=STARTED_AT, defaults=defaults)
    assert trigger.problem is None
    assert trigger.request is not None


@pytest.mark.parametrize("event_id", ["", "\ud800", "\x00", "🙂", "x" * 100_000])
def test_an_event_id_may_be_any_text(event_id: str) -> None:
    assert read({"event_id": event_id, "request": request_dict()}).request == request()


@pytest.mark.parametrize(
    ("given_input", "problem"),
    [
        (None, "request: expected object, got null"),
        ([], "request: expected object, got list"),
        ({}, "chatbot_id: missing, expected string; input_data: missing, expected object"),
        ({"chatbot_id": "a", "input_data": []}, "input_data: expected object, got list"),
        ({"request": {"chatbot_id": "a", "input_data": []}}, "input_data: expected object, got list"),
        ({"event_id": "e", "request": None}, "request: expected object, got null"),
    ],
)
def test_an_invalid_input_has_a_problem_and_no_request(given_input: object, problem: str) -> None:
    assert (read(given_input).request, read(given_input).problem) == (None, problem)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw: raw,
        lambda raw: {"event_id": "e", "request": raw},
        lambda raw: {"schedule": {"arn": "a", "time": "t"}, "request": raw},
        lambda raw: {"execution_id": ID, "request": raw},
    ],
    ids=["state machine", "EventBridge", "schedule", "API"],
)
@pytest.mark.parametrize("levels", [200, 100_000])
def test_a_request_that_is_nested_too_deeply_is_refused_at_every_trigger(
    wrap: Callable[[Any], Any], levels: int
) -> None:
    value: Any = {}
    for _ in range(levels):
        value = [value]
    problem = read(wrap(request_dict(input_data={"d": value}))).problem or ""
    assert problem.startswith("request: nested too deeply, more than 200 levels; ")


@pytest.mark.parametrize(
    "given_input",
    [
        request_dict(),
        {"request": request_dict()},
        {"request": request_dict(), "event_id": "e-1"},
        {"request": request_dict(), "execution_id": ID},
        {
            "request": {"input_data": request_dict()["input_data"]},
            "parameters": {"chatbot_id": "support-chat"},
            "execution_id": ID,
        },
        {
            "request": request_dict(chatbot_id=None),
            "parameters": {"chatbot_id": "support-chat"},
            "execution_id": ID,
        },
    ],
    ids=["a caller's state machine", "wrapped", "EventBridge", "API", "path and body", "path and null"],
)
def test_every_trigger_reads_the_same_request(given_input: object) -> None:
    assert read(given_input).request == request()


def test_path_parameters_are_ignored_for_other_triggers_than_the_api() -> None:
    given_input = {"request": request_dict(), "event_id": "e", "parameters": {"chatbot_id": "other"}}
    assert read(given_input).request == request()


def test_the_size_of_a_request_is_not_checked_again_after_the_api() -> None:
    raw = request_dict(input_data={"n": [1e5] * 40_000})
    assert read({"execution_id": ID, "request": raw}).problem is None
    for given_input in (raw, {"event_id": "e", "request": raw}):
        assert "bytes, at most" in (read(given_input).problem or "")


def test_each_execution_without_a_key_has_its_own_id() -> None:
    assert read(request_dict()).execution_id != read(request_dict(), arn=OTHER).execution_id


def test_two_executions_with_the_same_key_have_the_same_id() -> None:
    first = request_dict(idempotency_key="k")
    second = request_dict(idempotency_key="k", metadata={"try": 2})
    assert read(first).execution_id == read(second, arn=OTHER).execution_id


def test_two_deliveries_of_an_event_have_the_same_id() -> None:
    event = {"event_id": "e-1", "request": request_dict()}
    assert read(event).execution_id == read(event, arn=OTHER).execution_id


def test_the_key_of_a_request_takes_precedence_over_the_event_id() -> None:
    first = {"event_id": "e-1", "request": request_dict(idempotency_key="k")}
    second = {"event_id": "e-2", "request": request_dict(idempotency_key="k")}
    assert read(first).execution_id == read(second).execution_id


def test_the_same_key_from_two_sources_gives_two_ids() -> None:
    keyed = request_dict(idempotency_key="k")
    assert read({"event_id": "e", "request": keyed}).execution_id != read(keyed).execution_id


def test_an_invalid_request_does_not_use_its_key() -> None:
    invalid = read(request_dict(idempotency_key="k", input_data=[]))
    valid = read(request_dict(idempotency_key="k"))
    assert invalid.execution_id != valid.execution_id


def test_a_request_with_an_unknown_field_called_request_is_not_unwrapped() -> None:
    given_input = request_dict(request={"chatbot_id": "b", "input_data": {}})
    assert read(given_input).problem is not None
    assert "request: unknown field" in str(read(given_input).problem)


@given(any_text, any_text, any_text, any_text)
def test_no_two_pairs_of_source_and_key_have_the_same_id(
    source: str, key: str, other_source: str, other_key: str
) -> None:
    assert (derive_execution_id(source, key) == derive_execution_id(other_source, other_key)) is (
        (source, key) == (other_source, other_key)
    )


def test_a_letter_moved_from_the_source_to_the_key_changes_the_id() -> None:
    assert derive_execution_id("api/a", "bc") != derive_execution_id("api/ab", "c")


def test_an_id_is_the_same_as_in_earlier_versions() -> None:
    # With another formula, a request that is repeated after a deployment would run a second time.
    assert derive_execution_id("states", "order-7") == "a832432f059d437d8db95d4cf14c3904"


def test_the_first_claim_writes_the_record(table: Table) -> None:
    claimed = claim(table, request_dict(metadata={"a": 1}))
    assert table.only() == claimed
    assert (claimed.status, claimed.owner_execution_arn, claimed.source, claimed.metadata) == (
        Status.ACCEPTED,
        OWNER,
        "states",
        {"a": 1},
    )


def test_a_second_claim_by_the_same_execution_returns_its_record(table: Table) -> None:
    first = claim(table, request_dict())
    assert claim(table, request_dict(), now=NOW + 50) == first


def test_a_claim_by_another_execution_returns_the_record_of_the_first(table: Table) -> None:
    keyed = request_dict(idempotency_key="k")
    first = claim(table, keyed)
    assert claim(table, keyed, owner=OTHER) == first
    assert len(table.all()) == 1


def test_an_invalid_request_has_a_record_for_the_notification_of_its_refusal(table: Table) -> None:
    claimed = claim(table, {"chatbot_id": 5})
    assert (claimed.chatbot_id, claimed.request_sha256, claimed.deliver_to) == (
        None,
        None,
        ("sns", "dynamodb"),
    )
    assert table.only() == claimed


def test_an_expired_record_is_replaced_by_a_claim(table: Table) -> None:
    first = claim(table, request_dict(idempotency_key="k"))
    much_later = first.expires_at + 1.5
    claimed = claim(table, request_dict(idempotency_key="k"), owner=OTHER, now=much_later)
    assert claimed.owner_execution_arn == OTHER


def test_a_record_of_the_api_is_claimed_by_its_execution(table: Table) -> None:
    accepted = table.put(record(source="api", caller="ada"))
    assert claim(table, {"execution_id": ID, "request": request_dict()}) == accepted
    assert len(table.all()) == 1


@pytest.mark.parametrize("accepted_id", ["", "unknown", "x" * 5000, "\ud800", "..", "\x00"])
def test_an_accepted_id_without_a_record_is_ignored(table: Table, accepted_id: str) -> None:
    claimed = claim(table, {"execution_id": accepted_id, "request": request_dict()})
    assert claimed.execution_id == read({"request": request_dict()}).execution_id


def test_a_forged_accepted_id_does_not_claim_the_record_of_another_execution(table: Table) -> None:
    """A caller who may start executions can write any id into the input."""
    victim = table.put(record(source="api", caller="ada"))
    claimed = claim(table, {"execution_id": ID, "request": request_dict()}, owner=OTHER)
    assert claimed.execution_id != ID
    assert claimed.owner_execution_arn == OTHER
    assert table.get(ID) == victim


def test_a_key_from_another_source_does_not_claim_a_record_of_the_api(table: Table) -> None:
    api_id = derive_execution_id("api/ada", "k")
    table.put(record(execution_id=api_id, source="api", caller="ada"))
    claimed = claim(table, request_dict(idempotency_key="k"), owner=OTHER)
    assert claimed.execution_id != api_id


SCHEDULE = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/nightly"
NIGHTLY = {"schedule": {"arn": SCHEDULE, "time": "2026-01-01T00:00:00Z"}, "request": request_dict()}


def test_a_schedule_that_is_delivered_twice_has_the_same_id() -> None:
    first, second = read(NIGHTLY), read(NIGHTLY, arn=OTHER)
    assert (first.execution_id, first.source) == (second.execution_id, "schedule")
    assert first.request == request()


@pytest.mark.parametrize(
    "other",
    [
        {"arn": SCHEDULE, "time": "2026-01-02T00:00:00Z"},
        {"arn": f"{SCHEDULE}-2", "time": "2026-01-01T00:00:00Z"},
    ],
    ids=["another time", "another schedule"],
)
def test_each_time_of_each_schedule_has_its_own_id(other: dict[str, str]) -> None:
    assert read(NIGHTLY).execution_id != read(NIGHTLY | {"schedule": other}).execution_id


def test_the_key_of_a_request_takes_precedence_over_the_time_of_its_schedule() -> None:
    keyed = NIGHTLY | {"request": request_dict(idempotency_key="order-7")}
    later = keyed | {"schedule": {"arn": SCHEDULE, "time": "2026-01-02T00:00:00Z"}}
    assert read(keyed).execution_id == read(later).execution_id


@pytest.mark.parametrize(
    "schedule",
    [{"arn": SCHEDULE}, {"time": "2026-01-01T00:00:00Z"}, {"arn": 1, "time": 2}, None, "nightly"],
    ids=str,
)
def test_schedules_without_arn_or_time_have_different_ids(schedule: object) -> None:
    given_input = {"schedule": schedule, "request": request_dict()}
    assert read(given_input).execution_id != read(given_input, arn=OTHER).execution_id
    assert read(given_input).request == request()


@pytest.mark.parametrize(
    "started_at",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.999999+00:00",
        "2026-01-01T00:00:00",
    ],
)
def test_a_start_time_in_another_format_gives_the_same_id(started_at: str) -> None:
    """Step Functions writes the start time in two formats: one for the start function, another for reconcile."""
    assert read(request_dict(), started_at=started_at) == read(request_dict())


def test_a_later_start_time_with_the_same_name_gives_another_id() -> None:
    later = read(request_dict(), started_at="2026-01-01T00:00:01Z")
    assert later.execution_id != read(request_dict()).execution_id


def test_an_invalid_start_time_gives_an_id_of_its_own() -> None:
    assert (
        read(request_dict(), started_at="?").execution_id == read(request_dict(), started_at="?").execution_id
    )
    assert read(request_dict(), started_at="?").execution_id != read(request_dict()).execution_id
