"""Timestamps: read from RFC 3339 or epoch numbers, written in UTC with milliseconds."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.json_values import any_json
from waterhook.timestamps import to_epoch_s, to_rfc3339


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01T00:00:00.102Z", NOW + 0.102),
        ("2026-01-01T00:00:00", NOW),
        ("2026-01-01T01:00:00+01:00", NOW),
        ("2025-12-31T23:59:59.999999999Z", NOW - 0.000001),
        ("2026-01-01t00:00:00.102z", NOW + 0.102),
        ("2025-12-31T23:59:60Z", NOW),
        ("2025-12-31t23:59:60.25z", NOW + 0.25),
        ("2026-01-01T00:59:60+01:00", NOW),
    ],
)
def test_a_time_is_read_in_every_format_of_rfc_3339(text: str, seconds: float) -> None:
    assert to_epoch_s(text) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (1_767_225_600, NOW),
        (1_767_225_600.5, NOW + 0.5),
        (1_767_225_600_000, NOW),
        (1_767_225_600_250.0, NOW + 0.25),
        (946_684_800, 946_684_800.0),  # the year 2000
        (946_684_800_000, 946_684_800.0),
    ],
)
def test_an_epoch_number_is_read_in_seconds_and_in_milliseconds(number: float, seconds: float) -> None:
    assert to_epoch_s(number) == seconds


@pytest.mark.parametrize(
    "number",
    [
        *(0, -1, 946_684_799, 4_102_444_800, 946_684_799_999, 4_102_444_800_000, 1.8e18, 10**400, True),
        *(float("inf"), float("-inf"), float("nan")),
    ],
)
def test_a_number_outside_of_the_years_2000_to_2100_is_ignored(number: float) -> None:
    assert to_epoch_s(number) is None


@pytest.mark.parametrize(
    "text",
    [
        *(None, [], {}, "", "soon", "2026-13-01T00:00:00Z", "\ud800", "2026-01-01T25:00:00Z"),
        *("2026-01-01T00:00:61Z", "1767225600", ":60Z"),
    ],
)
def test_an_invalid_time_is_read_as_none(text: object) -> None:
    assert to_epoch_s(text) is None


@given(any_json | st.datetimes().map(datetime.isoformat))
def test_reading_any_value_as_a_time_raises_nothing(value: object) -> None:
    to_epoch_s(value)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_the_first_and_last_times_of_python_are_read_as_none_or_can_be_written(text: str) -> None:
    moment = to_rfc3339(to_epoch_s(text))
    assert moment is None or to_epoch_s(moment) is not None


@given(st.datetimes(max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis requires a naive datetime
def test_a_time_is_unchanged_to_the_millisecond_after_writing_and_reading(moment: datetime) -> None:
    seconds = moment.timestamp()
    written = to_rfc3339(seconds)
    read = to_epoch_s(written)
    assert read is not None
    assert abs(read - seconds) <= 0.0011


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert to_rfc3339(NOW + 0.5) == "2026-01-01T00:00:00.500Z"


def test_a_missing_time_is_written_as_none() -> None:
    assert to_rfc3339(None) is None
