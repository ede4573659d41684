"""How an execution gets its name and its record, whichever door it came through."""

from collections.abc import Callable
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
    return table.records.claim(trigger, owner=owner, now=now, deliver_to=DEFAULTS.deliver_to)


wrapped = st.fixed_dictionaries(
    {"request": any_request | any_json},
    optional={
        "execution_id": any_text | any_json,
        "event_id": any_text | any_json,
        "chatbot_id": any_json,
        "parameters": any_json,
    },
)


@given(any_json | any_request | wrapped)
def test_reading_an_input_never_raises_whatever_it_is(given_input: Any) -> None:
    intake = read(given_input)
    assert (intake.request is None) is (intake.problem is not None)
    assert len(intake.execution_id) == 32
    assert intake.execution_id.isalnum()


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
def test_what_is_wrong_is_said_and_not_raised(given_input: object, problem: str) -> None:
    assert (read(given_input).request, read(given_input).problem) == (None, problem)


@pytest.mark.parametrize(
    "wrapped_by",
    [
        lambda raw: raw,
        lambda raw: {"event_id": "e", "request": raw},
        lambda raw: {"schedule": {"arn": "a", "time": "t"}, "request": raw},
        lambda raw: {"execution_id": ID, "request": raw},
    ],
    ids=["state machine", "EventBridge", "schedule", "API"],
)
@pytest.mark.parametrize("levels", [200, 990, 100_000])
def test_a_request_that_is_nested_too_deeply_is_refused_at_every_trigger(
    wrapped_by: Callable[[Any], Any], levels: int
) -> None:
    value: Any = {}
    for _ in range(levels):
        value = [value]
    problem = read(wrapped_by(request_dict(input_data={"d": value}))).problem or ""
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
    ids=["a machine of one's own", "wrapped", "EventBridge", "the API", "path and body", "path and null"],
)
def test_every_door_hands_in_the_same_request(given_input: object) -> None:
    assert read(given_input).request == request()


def test_path_and_header_of_another_trigger_than_the_api_are_passed_over() -> None:
    given_input = {"request": request_dict(), "event_id": "e", "parameters": {"chatbot_id": "other"}}
    assert read(given_input).request == request()


def test_a_request_that_the_api_has_measured_is_not_measured_again_as_its_numbers_are_written_later() -> None:
    raw = request_dict(input_data={"n": [1e5] * 40_000})
    assert read({"execution_id": ID, "request": raw}).problem is None
    for given_input in (raw, {"event_id": "e", "request": raw}):
        assert "bytes, at most" in (read(given_input).problem or "")


def test_the_same_execution_gets_the_same_id_however_often_it_asks() -> None:
    assert read(request_dict()).execution_id == read(request_dict()).execution_id


def test_another_execution_without_a_key_gets_another_id() -> None:
    assert read(request_dict()).execution_id != read(request_dict(), arn=OTHER).execution_id


def test_a_name_that_is_used_again_months_later_gets_another_id() -> None:
    later = read(request_dict(), started_at="2026-06-01T00:00:00.000Z")
    assert later.execution_id != read(request_dict()).execution_id


def test_a_key_makes_two_executions_one() -> None:
    one, other = request_dict(idempotency_key="k"), request_dict(idempotency_key="k", metadata={"try": 2})
    assert read(one).execution_id == read(other, arn=OTHER).execution_id


def test_an_event_that_is_delivered_twice_is_one_execution() -> None:
    event = {"event_id": "e-1", "request": request_dict()}
    assert read(event).execution_id == read(event, arn=OTHER).execution_id


def test_the_key_of_a_request_wins_over_the_id_of_the_event_that_brought_it() -> None:
    one = {"event_id": "e-1", "request": request_dict(idempotency_key="k")}
    other = {"event_id": "e-2", "request": request_dict(idempotency_key="k")}
    assert read(one).execution_id == read(other).execution_id


def test_one_key_from_two_sources_is_two_executions() -> None:
    keyed = request_dict(idempotency_key="k")
    assert read({"event_id": "e", "request": keyed}).execution_id != read(keyed).execution_id


def test_an_invalid_request_does_not_use_its_key_up() -> None:
    wrong = read(request_dict(idempotency_key="k", input_data=[]))
    right = read(request_dict(idempotency_key="k"))
    assert wrong.execution_id != right.execution_id


def test_a_request_whose_data_has_a_member_called_request_is_itself_one() -> None:
    given_input = request_dict(request={"chatbot_id": "b", "input_data": {}})
    assert read(given_input).problem is not None
    assert "request: unknown field" in str(read(given_input).problem)


@given(any_text, any_text, any_text, any_text)
def test_no_two_pairs_of_source_and_key_share_an_id(source: str, key: str, other: str, another: str) -> None:
    assert (derive_execution_id(source, key) == derive_execution_id(other, another)) is (
        (source, key) == (other, another)
    )


def test_moving_a_letter_from_the_source_to_the_key_makes_another_id() -> None:
    assert derive_execution_id("api/a", "bc") != derive_execution_id("api/ab", "c")


def test_an_id_stays_what_it_was_in_earlier_versions() -> None:
    # Another formula would run every repeated request a second time after a deployment.
    assert derive_execution_id("states", "order-7") == "a832432f059d437d8db95d4cf14c3904"


def test_a_first_claim_writes_the_record(table: Table) -> None:
    got = claim(table, request_dict(metadata={"a": 1}))
    assert table.only() == got
    assert (got.status, got.owner_execution_arn, got.source, got.metadata) == (
        Status.ACCEPTED,
        OWNER,
        "states",
        {"a": 1},
    )


def test_a_second_claim_by_the_same_execution_finds_its_own_record(table: Table) -> None:
    first = claim(table, request_dict())
    assert claim(table, request_dict(), now=NOW + 50) == first


def test_a_claim_by_another_execution_finds_the_record_of_the_first(table: Table) -> None:
    keyed = request_dict(idempotency_key="k")
    first = claim(table, keyed)
    assert claim(table, keyed, owner=OTHER) == first
    assert len(table.all()) == 1


def test_an_invalid_request_has_a_record_too_so_that_its_refusal_can_be_notified(table: Table) -> None:
    got = claim(table, {"chatbot_id": 5})
    assert (got.chatbot_id, got.request_sha256, got.deliver_to) == (None, None, ("sns", "dynamodb"))
    assert table.only() == got


def test_a_record_that_expired_is_claimed_anew(table: Table) -> None:
    first = claim(table, request_dict(idempotency_key="k"))
    much_later = first.expires_at + 1.5
    got = claim(table, request_dict(idempotency_key="k"), owner=OTHER, now=much_later)
    assert got.owner_execution_arn == OTHER


def test_what_the_api_accepted_is_claimed_by_the_execution_it_was_accepted_for(table: Table) -> None:
    accepted = table.put(record(source="api", caller="ada"))
    assert claim(table, {"execution_id": ID, "request": request_dict()}) == accepted
    assert len(table.all()) == 1


@pytest.mark.parametrize("accepted_id", ["", "nobody", "x" * 5000, "\ud800", "..", "\x00"])
def test_an_accepted_id_that_names_nothing_is_passed_over(table: Table, accepted_id: str) -> None:
    got = claim(table, {"execution_id": accepted_id, "request": request_dict()})
    assert got.execution_id == read({"request": request_dict()}).execution_id


def test_a_forged_accepted_id_does_not_lay_hands_on_the_record_it_names(table: Table) -> None:
    """Whoever may start executions can write any id into their input."""
    victim = table.put(record(source="api", caller="ada"))
    got = claim(table, {"execution_id": ID, "request": request_dict()}, owner=OTHER)
    assert got.execution_id != ID
    assert got.owner_execution_arn == OTHER
    assert table.get(ID) == victim


def test_a_key_from_elsewhere_does_not_reach_what_the_api_accepted_under_it(table: Table) -> None:
    api_id = derive_execution_id("api/ada", "k")
    table.put(record(execution_id=api_id, source="api", caller="ada"))
    got = claim(table, request_dict(idempotency_key="k"), owner=OTHER)
    assert got.execution_id != api_id


SCHEDULE = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/nightly"
NIGHTLY = {"schedule": {"arn": SCHEDULE, "time": "2026-01-01T00:00:00Z"}, "request": request_dict()}


def test_a_schedule_that_fires_twice_for_one_time_is_one_execution() -> None:
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
def test_each_time_of_each_schedule_is_an_execution_of_its_own(other: dict[str, str]) -> None:
    assert read(NIGHTLY).execution_id != read(NIGHTLY | {"schedule": other}).execution_id


def test_the_key_of_a_request_wins_over_the_time_of_its_schedule() -> None:
    keyed = NIGHTLY | {"request": request_dict(idempotency_key="order-7")}
    later = keyed | {"schedule": {"arn": SCHEDULE, "time": "2026-01-02T00:00:00Z"}}
    assert read(keyed).execution_id == read(later).execution_id


@pytest.mark.parametrize(
    "schedule",
    [{}, {"arn": SCHEDULE}, {"time": "2026-01-01T00:00:00Z"}, {"arn": 1, "time": 2}, None, "nightly", []],
    ids=str,
)
def test_two_schedules_that_do_not_say_which_they_are_are_not_taken_for_the_same(schedule: object) -> None:
    given = {"schedule": schedule, "request": request_dict()}
    assert read(given).execution_id != read(given, arn=OTHER).execution_id
    assert read(given).request == request()


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.999999+00:00",
        "2026-01-01T00:00:00",
    ],
)
def test_one_moment_written_in_two_ways_is_one_execution(written: str) -> None:
    """The engine and its API write the start of an execution differently, and reconcile has only the API's."""
    assert read(request_dict(), started_at=written) == read(request_dict())


def test_a_second_later_under_the_same_name_is_another_execution() -> None:
    later = read(request_dict(), started_at="2026-01-01T00:00:01Z")
    assert later.execution_id != read(request_dict()).execution_id


def test_a_start_at_no_moment_at_all_still_tells_executions_apart() -> None:
    assert (
        read(request_dict(), started_at="?").execution_id == read(request_dict(), started_at="?").execution_id
    )
    assert read(request_dict(), started_at="?").execution_id != read(request_dict()).execution_id
