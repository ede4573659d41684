"""Poll history: the changes after a status document and after a failed request."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import history
from tests.support.polling_strategies import limit_sets
from waterhook.domain import poll_history
from waterhook.domain.loop_state import NextStep
from waterhook.domain.polling_policy import WAIT_LIMIT_S, Limits, next_step
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)


def test_a_status_document_counts_as_a_request_and_resets_the_errors() -> None:
    past = history(status_requests=5, errors=3, retry_after_s=9.0, not_found=2, not_found_since=NOW - 9)
    assert poll_history.after_response(past, StatusDocument(), NOW) == history(
        status_requests=6, polled_at=NOW
    )


def test_a_failed_request_counts_as_a_request_and_as_an_error() -> None:
    failure = UpstreamUnavailableError("x", "", retry_after_s=7.0)
    past = poll_history.after_failed_request(history(status_requests=5, errors=3), failure, NOW)
    assert (past.status_requests, past.errors, past.retry_after_s, past.polled_at) == (6, 4, 7.0, NOW)


def test_a_failed_request_keeps_cleanup_and_progress() -> None:
    past = history(cleanup_after=NOW + 99, progress=50.0, progress_at=NOW)
    after = poll_history.after_failed_request(past, PerhapsAcceptedError("x", ""), NOW + 5)
    assert (after.cleanup_after, after.progress, after.progress_at) == (NOW + 99, 50.0, NOW)


MISSING = UpstreamRefusedError("refused", "HTTP 404", status=404)


def test_a_job_is_lost_after_three_consecutive_404s_over_a_minute() -> None:
    past = history()
    is_lost = []
    for at in (0, 1, 2, 30, 59, 60, 61):
        past = poll_history.after_failed_request(past, MISSING, NOW + at)
        is_lost.append(poll_history.is_lost(past, NOW + at))
    assert is_lost == [False, False, False, False, False, True, True]


def test_a_job_is_not_lost_after_two_404s() -> None:
    past = poll_history.after_failed_request(
        poll_history.after_failed_request(history(), MISSING, NOW), MISSING, NOW + 3600
    )
    assert not poll_history.is_lost(past, NOW + 3600)


@pytest.mark.parametrize("interruption", [PerhapsAcceptedError("x", "", status=500), StatusDocument()])
def test_another_response_between_two_404s_resets_their_count(
    interruption: UpstreamError | StatusDocument,
) -> None:
    past = history()
    for at in (0, 30, 59):
        past = poll_history.after_failed_request(past, MISSING, NOW + at)
    if isinstance(interruption, UpstreamError):
        past = poll_history.after_failed_request(past, interruption, NOW + 59.5)
    else:
        past = poll_history.after_response(past, interruption, NOW + 59.5)
    past = poll_history.after_failed_request(past, MISSING, NOW + 61)
    assert not poll_history.is_lost(past, NOW + 61)
    assert (past.not_found, past.not_found_since) == (1, NOW + 61)


@pytest.mark.parametrize(
    ("document", "percent"),
    [
        (StatusDocument(progress=40.0), 40.0),
        (StatusDocument(progress=-5.0), 0.0),
        (StatusDocument(progress=500.0), 100.0),
        (StatusDocument(progress=1e-200), 0.0),
        (StatusDocument(completed_nodes=1, total_nodes=3), 33.333),
        (StatusDocument(completed_nodes=9, total_nodes=4), 100.0),
        (StatusDocument(completed_nodes=1, total_nodes=0), None),
        (StatusDocument(completed_nodes=1), None),
        (StatusDocument(total_nodes=4), None),
        (StatusDocument(progress=40.0, completed_nodes=4, total_nodes=4), 40.0),
        (StatusDocument(), None),
    ],
)
def test_progress_is_read_from_its_field_or_computed_from_the_nodes(
    document: StatusDocument, percent: float | None
) -> None:
    assert poll_history.after_response(history(), document, NOW).progress == percent


def test_unchanged_progress_keeps_the_time_of_its_last_change() -> None:
    past = poll_history.after_response(history(), StatusDocument(progress=10.0), NOW)
    past = poll_history.after_response(past, StatusDocument(progress=10.0), NOW + 50)
    assert past.progress_at == NOW


def test_progress_that_decreases_is_measured_from_the_new_value() -> None:
    past = history()
    for at, progress in ((0, 10.0), (10, 80.0), (20, 5.0)):
        past = poll_history.after_response(past, StatusDocument(progress=progress), NOW + at)
    assert (past.first_progress, past.first_progress_at, past.progress) == (5.0, NOW + 20, 5.0)


def test_cleanup_is_removed_when_a_document_lacks_it() -> None:
    past = poll_history.after_response(history(), StatusDocument(cleanup_after=NOW + 9), NOW)
    assert poll_history.after_response(past, StatusDocument(), NOW).cleanup_after is None


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=30), limit_sets)
def test_no_series_of_progress_values_leads_to_an_invalid_wait(
    reports: list[float | None], within: Limits
) -> None:
    past, now = history(), NOW
    for progress in reports:
        past = poll_history.after_response(past, StatusDocument(progress=progress), now)
        decision = next_step(past, now, within)
        assert decision.next is NextStep.CANCEL or 1 <= decision.wait_seconds <= WAIT_LIMIT_S
        assert math.isfinite(now)
        now += max(decision.wait_seconds, 1)
