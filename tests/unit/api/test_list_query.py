"""The query parameters of a list, and its cursor."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import ID
from waterhook.api.callers import Caller
from waterhook.api.list_query import ListQuery, read_cursor, write_cursor
from waterhook.domain.execution_list import ListFilter, Position
from waterhook.errors import InvalidRequestError
from waterhook.timestamps import to_rfc3339

ADA = Caller("arn:aws:iam::123456789012:user/ada")
OPERATOR = Caller("arn:aws:sts::123456789012:assumed-role/ops", is_operator=True)
NOON = "2026-01-31T12:00:00.000Z"


def filters(**parameters: str) -> ListFilter:
    return ListQuery.read(parameters, ADA).filters


def test_without_parameters_a_caller_lists_its_own_executions_and_an_operator_all() -> None:
    assert ListQuery.read({}, ADA) == ListQuery(ADA.identity, ListFilter(), 20, None)
    assert ListQuery.read({}, OPERATOR).caller is None


def test_every_parameter_is_read() -> None:
    parameters = {
        "status": "FAILED",
        "chatbot_id": "größe/🙂",
        "trigger": "state_machine",
        "accepted_after": "2026-01-31T12:00:00Z",
        "accepted_before": "2026-02-01T00:00:00.5+02:00",
        "caller": "key/k1",
        "limit": "100",
        "next": write_cursor(Position(NOON, ID)),
    }
    assert ListQuery.read(parameters, OPERATOR) == ListQuery(
        "key/k1",
        ListFilter("FAILED", "größe/🙂", "states", NOON, "2026-01-31T22:00:00.499Z"),
        100,
        Position(NOON, ID),
    )


@pytest.mark.parametrize("caller", [ADA, OPERATOR])
def test_me_is_the_caller_of_the_request(caller: Caller) -> None:
    assert ListQuery.read({"caller": "me"}, caller).caller == caller.identity


# Records have whole milliseconds. `accepted_after` is included, `accepted_before` is not.
@pytest.mark.parametrize(
    ("time", "first", "last"),
    [
        ("2026-01-31T12:00:00Z", NOON, "2026-01-31T11:59:59.999Z"),
        ("2026-01-31t12:00:00z", NOON, "2026-01-31T11:59:59.999Z"),
        ("2026-01-31T12:00:00.000Z", NOON, "2026-01-31T11:59:59.999Z"),
        ("2026-01-31T14:00:00+02:00", NOON, "2026-01-31T11:59:59.999Z"),
        ("2026-01-31T07:00:00-05:00", NOON, "2026-01-31T11:59:59.999Z"),
        ("2026-01-31T12:00:00.0001Z", "2026-01-31T12:00:00.001Z", NOON),
        ("2026-01-31T12:00:00.0009Z", "2026-01-31T12:00:00.001Z", NOON),
        ("2026-01-31T11:59:60Z", NOON, "2026-01-31T11:59:59.999Z"),
    ],
)
def test_a_time_includes_or_excludes_whole_milliseconds(time: str, first: str, last: str) -> None:
    assert filters(accepted_after=time) == ListFilter(first=first)
    assert filters(accepted_before=time) == ListFilter(last=last)


@given(st.integers(0, 4_000_000_000_000))
def test_the_time_of_an_entry_includes_that_entry_and_only_excludes_it_as_an_end(milliseconds: int) -> None:
    time = to_rfc3339(milliseconds / 1000) or ""
    assert filters(accepted_after=time).first == time
    last = filters(accepted_before=time).last or ""
    assert last < time
    assert last == to_rfc3339((milliseconds - 1) / 1000)


WRONG = {
    "status": ({"status": "DONE"}, "status: expected one of ACCEPTED, "),
    "status in lower case": ({"status": "completed"}, "status: expected one of ACCEPTED, "),
    "empty status": ({"status": ""}, "status: expected one of "),
    "chatbot": (
        {"chatbot_id": "a b"},
        'chatbot_id: expected 1 to 200 printable characters without spaces, not "',
    ),
    "empty chatbot": ({"chatbot_id": ""}, "chatbot_id: expected 1 to 200"),
    "long chatbot": ({"chatbot_id": "x" * 201}, "chatbot_id: expected 1 to 200"),
    "half a character": ({"chatbot_id": "\ud800"}, "chatbot_id: expected 1 to 200"),
    "trigger": (
        {"trigger": "events"},
        "trigger: expected one of api, eventbridge, schedule, state_machine, got events",
    ),
    "empty trigger": ({"trigger": ""}, "trigger: expected one of "),
    "no time": (
        {"accepted_after": "yesterday"},
        "accepted_after: expected a time such as 2026-01-31T10:00:00Z",
    ),
    "date": ({"accepted_after": "2026-01-31"}, "accepted_after: expected a time"),
    "no zone": ({"accepted_before": "2026-01-31T10:00:00"}, "accepted_before: expected a time"),
    "unencoded plus": (
        {"accepted_after": "2026-01-31T10:00:00 02:00"},
        "accepted_after: .*encode \\+ as %2B",
    ),
    "epoch seconds": ({"accepted_after": "1769850000"}, "accepted_after: expected a time"),
    "no such day": ({"accepted_after": "2026-02-30T10:00:00Z"}, "accepted_after: expected a time"),
    "other digits": ({"accepted_after": "\u0662026-01-31T10:00:00Z"}, "accepted_after: expected a time"),
    "before the first year": (
        {"accepted_before": "0001-01-01T00:00:00Z"},
        "accepted_before: expected a year from 1 to 9999",
    ),
    "after the last year": (
        {"accepted_after": "9999-12-31T23:59:59.9999Z"},
        "accepted_after: expected a ",
    ),
    "no interval": (
        {"accepted_after": "2026-01-31T10:00:00Z", "accepted_before": "2026-01-31T10:00:00Z"},
        "accepted_before: expected a later time than accepted_after",
    ),
    "caller": ({"caller": "arn:aws:iam::123456789012:user/bob"}, "caller: expected me; only an operator can"),
    "its own name": ({"caller": ADA.identity}, "caller: expected me; only an operator can"),
    "empty caller": ({"caller": ""}, "caller: expected me"),
    "limit 0": ({"limit": "0"}, "limit: expected a whole number from 1 to 100, got 0"),
    "limit 101": ({"limit": "101"}, "limit: expected"),
    "fraction": ({"limit": "1.5"}, "limit: expected"),
    "negative limit": ({"limit": "-1"}, "limit: expected"),
    "limit in other digits": ({"limit": "٣"}, "limit: expected"),
    "many digits": ({"limit": "0" * 5000 + "7"}, "limit: expected"),
    "cursor": ({"next": "garbage"}, "next: expected the value of next from the previous page"),
    "misspelt": ({"chatbot": "support-chat"}, "chatbot: unknown; known are status, chatbot_id, "),
}


@pytest.mark.parametrize(("parameters", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_with_the_reason(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        ListQuery.read(parameters, ADA)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("caller", ["", "x" * 2049, "🙂" * 513, "a\x00b", "\ud800"], ids=ascii)
def test_a_caller_that_no_list_shows_is_refused(caller: str) -> None:
    with pytest.raises(InvalidRequestError, match="caller: expected me, or a caller as the list shows it"):
        ListQuery.read({"caller": caller}, OPERATOR)


def test_a_signature_in_the_query_is_ignored() -> None:
    assert ListQuery.read({"X-Amz-Signature": "ab", "X-Amz-Date": "20260131T100000Z"}, ADA) == ListQuery(
        ADA.identity
    )


# The cursor


@pytest.mark.parametrize("position", [Position(NOON, ID), Position(NOON)])
def test_a_cursor_is_the_position_that_it_was_written_for(position: Position) -> None:
    assert read_cursor(write_cursor(position)) == position


def cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


GARBAGE = {
    "no base64": "!",
    "no JSON": "YWJj",
    "no text": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "not ASCII": "ü🙂",
    "a number": cursor(7),
    "an object": cursor({"a": 1, "b": 2}),
    "one too few": cursor([ID]),
    "one too many": cursor([ID, NOON, ADA.identity]),
    "no id": cursor(["", NOON]),
    "another kind of id": cursor(["capacity", NOON]),
    "an endless id": cursor(["a" * 5000, NOON]),
    "half a character": cursor(["\ud800" * 32, NOON]),
    "an id that is a number": cursor([7, NOON]),
    "no time": cursor([ID, ""]),
    "a time that is none": cursor([ID, 7]),
    "a time as a number": cursor([ID, 1_767_225_600]),
    "a time in another form": cursor([ID, "2026-01-01T00:00:00Z"]),
    "an endless time": cursor([ID, "2026-01-01T00:00:00." + "0" * 5000 + "Z"]),
    "nothing": cursor([None, None]),
    "nested without end": base64.urlsafe_b64encode(b"[" * 100_000).decode(),
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_an_invalid_cursor_is_an_invalid_request(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="next:"):
        read_cursor(text)


@given(st.text() | st.binary().map(lambda some: base64.urlsafe_b64encode(some).decode()))
def test_any_text_is_a_cursor_or_an_invalid_request(text: str) -> None:
    try:
        position = read_cursor(text)
    except InvalidRequestError:
        return
    assert to_rfc3339(NOW) is not None
    assert len(position.created_at) == len(NOON)
