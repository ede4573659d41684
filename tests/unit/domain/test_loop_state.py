"""What travels: statuses, times, texts, and the state of the loop."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support import builders
from tests.support.json_values import any_json, any_text
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.stream_history import StreamHistory
from waterhook.text import MAX_MESSAGE_CHARS, clip
from waterhook.timestamps import to_epoch_s, to_rfc3339

finite = st.floats(0, 4e9)
counts = st.integers(0, 10_000)
histories = st.builds(
    PollHistory,
    started_at=finite,
    status_requests=counts,
    errors=counts,
    retry_after_s=st.none() | finite,
    not_found=counts,
    not_found_since=st.none() | finite,
    progress=st.none() | st.floats(0, 100),
    progress_at=st.none() | finite,
    first_progress=st.none() | st.floats(0, 100),
    first_progress_at=st.none() | finite,
    cleanup_after=st.none() | finite,
    cancels=counts,
)
streams = st.builds(
    StreamHistory,
    delivered=st.booleans(),
    event_at=st.none() | finite,
    final_event_at=st.none() | finite,
    failures=counts,
    reopens_at=st.none() | finite,
)
jobs = st.builds(
    LoopState,
    execution_id=st.text(min_size=1),
    deadline=finite,
    history=histories,
    stream=streams,
    waterflai_execution_id=st.none() | st.text(min_size=1),
    unsaved=st.booleans(),
    outcome=st.sampled_from(Status),
    next=st.sampled_from(NextStep),
    wait_seconds=st.integers(0, 3600),
    error=st.none() | st.fixed_dictionaries({"code": st.text(), "message": st.text()}),
    result=st.dictionaries(st.sampled_from(["output_ref", "final_output_json", "output_error"]), st.text()),
)


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("ACCEPTED", False),
        ("STARTING", False),
        ("RUNNING", False),
        ("COMPLETED", True),
        ("FAILED", True),
        ("CANCELLED", True),
        ("TIMED_OUT", True),
        ("LOST", True),
        ("REJECTED", True),
        ("UNCERTAIN", True),
        ("ERROR", True),
    ],
)
def test_three_statuses_are_alive_and_eight_are_final(status: str, *, final: bool) -> None:
    assert Status(status).is_final is final


def test_there_are_no_other_statuses() -> None:
    assert len(Status) == 11


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("FAILED", "Waterhook.Failed"),
        ("CANCELLED", "Waterhook.Cancelled"),
        ("TIMED_OUT", "Waterhook.TimedOut"),
        ("LOST", "Waterhook.Lost"),
        ("REJECTED", "Waterhook.Rejected"),
        ("UNCERTAIN", "Waterhook.Uncertain"),
        ("ERROR", "Waterhook.Error"),
    ],
)
def test_every_outcome_has_the_error_name_that_parents_catch(status: str, name: str) -> None:
    assert Status(status).error_name == name


@given(any_text, st.integers(1, 40))
def test_a_clipped_text_is_short_printable_and_fit_for_utf_8(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    clipped.encode()
    assert len(clipped) <= limit
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", clipped)


def test_a_text_that_fits_is_left_alone() -> None:
    assert clip("Ärger 🙂 in node 3") == "Ärger 🙂 in node 3"


def test_a_cut_text_says_so() -> None:
    assert clip("x" * (MAX_MESSAGE_CHARS + 1)) == "x" * (MAX_MESSAGE_CHARS - 1) + "…"


def test_a_clipped_text_holds_no_character_that_xml_excludes() -> None:
    assert clip("a\ufffeb\uffffc\ufffd") == "a b c\ufffd"


def test_clipping_a_huge_text_of_control_characters_leaves_nothing_behind() -> None:
    assert clip("\x00" * 10_000_000) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01T00:00:00.102Z", NOW + 0.102),
        ("2026-01-01T00:00:00", NOW),
        ("2026-01-01T01:00:00+01:00", NOW),
        ("2025-12-31T23:59:59.999999999Z", NOW - 0.000001),
        ("2026-01-01t00:00:00z", NOW),
        ("2026-01-01t00:00:00.102z", NOW + 0.102),
        ("2026-01-01t01:00:00+01:00", NOW),
        ("2025-12-31T23:59:60Z", NOW),
        ("2025-12-31t23:59:60.25z", NOW + 0.25),
        ("2026-01-01T00:59:60+01:00", NOW),
    ],
)
def test_a_time_is_read_as_rfc_3339_allows_it(text: str, seconds: float) -> None:
    assert to_epoch_s(text) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (1_767_225_600, NOW),
        (1_767_225_600.5, NOW + 0.5),
        (1_767_225_600_000, NOW),
        (1_767_225_600_250.0, NOW + 0.25),
        (946_684_800, 946_684_800.0),
        (946_684_800_000, 946_684_800.0),
    ],
)
def test_an_epoch_number_is_read_in_seconds_and_in_milliseconds(number: float, seconds: float) -> None:
    assert to_epoch_s(number) == seconds


@pytest.mark.parametrize(
    "number",
    [
        *(0, 5, -1, 946_684_799, 4_102_444_800, 946_684_799_999, 4_102_444_800_000, 1.8e18, 10**400, True),
        *(float("inf"), float("-inf"), float("nan")),
    ],
)
def test_a_number_outside_of_the_years_2000_to_2100_is_no_time(number: float) -> None:
    assert to_epoch_s(number) is None


@pytest.mark.parametrize(
    "text",
    [
        *(None, [], {}, "", "soon", "2026-13-01T00:00:00Z", "\ud800", "2026-01-01T25:00:00Z"),
        *("2026-01-01T00:00:61Z", "1767225600", "60", ":60Z"),
    ],
)
def test_what_is_no_time_is_none(text: object) -> None:
    assert to_epoch_s(text) is None


@given(any_json | st.datetimes().map(datetime.isoformat))
def test_reading_a_time_never_raises_whatever_it_is(value: object) -> None:
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
def test_a_time_at_the_end_of_time_can_be_written_again_or_is_none(text: str) -> None:
    moment = to_rfc3339(to_epoch_s(text))
    assert moment is None or to_epoch_s(moment) is not None


@given(st.datetimes(max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - as hypothesis wants it
def test_a_time_survives_being_written_and_read_to_the_millisecond(moment: datetime) -> None:
    seconds = moment.timestamp()
    written = to_rfc3339(seconds)
    read = to_epoch_s(written)
    assert read is not None
    assert abs(read - seconds) <= 0.0011


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert to_rfc3339(NOW + 0.5) == "2026-01-01T00:00:00.500Z"


def test_no_time_is_written_as_none() -> None:
    assert to_rfc3339(None) is None


@given(jobs)
def test_a_job_survives_its_way_through_the_state_machine(job: LoopState) -> None:
    assert LoopState.from_dict(json.loads(json.dumps(job.to_dict()))) == job


@given(jobs)
def test_every_state_says_what_is_next(job: LoopState) -> None:
    state = job.to_dict()
    assert {"v", "outcome", "next", "wait_seconds", "history", "execution_id", "deadline"} <= set(state)


def test_a_state_of_a_newer_version_is_read_without_what_is_new_in_it() -> None:
    state = builders.job(unsaved=True).to_dict()
    state |= {"v": 7, "brand_new": [1]}
    state["history"] |= {"also_new": {}}
    job = LoopState.from_dict(state)
    assert (job.unsaved, job.v) == (True, 7)


def test_a_state_with_what_a_catch_adds_to_it_is_still_a_job() -> None:
    state = builders.job().to_dict() | {"fault": "Lambda.Unknown", "outcome": "ERROR", "next": "notify"}
    assert LoopState.from_dict(state).outcome is Status.ERROR


def test_reading_a_state_leaves_it_as_it_was() -> None:
    state = builders.job().to_dict()
    before = json.dumps(state)
    LoopState.from_dict(state)
    assert json.dumps(state) == before


def test_a_running_state_stays_far_below_8_kib_whatever_the_upstream_says() -> None:
    crowded = builders.job(
        waterflai_execution_id="🙂" * 200,
        history=PollHistory(*(123_456_789.123456 for _ in range(12))),  # type: ignore[arg-type]
    )
    assert len(json.dumps(crowded.to_dict())) < 4 * 1024


def test_an_ended_job_goes_to_notify_with_a_clipped_one_line_reason() -> None:
    job = builders.job(next=NextStep.WAIT, wait_seconds=9).ended(
        Status.FAILED, code="failed", message="a\nb\x00" + "c" * 5000
    )
    assert (job.next, job.wait_seconds, job.outcome) == (NextStep.NOTIFY, 0, Status.FAILED)
    assert job.error is not None
    assert job.error["message"].startswith("a b c")
    assert len(job.error["message"]) == MAX_MESSAGE_CHARS


def test_an_ended_job_keeps_only_results_that_there_are() -> None:
    job = builders.job().ended(Status.COMPLETED, completed_at=None, output_ref="s3://a/b")
    assert job.result == {"output_ref": "s3://a/b"}
    assert job.error is None
