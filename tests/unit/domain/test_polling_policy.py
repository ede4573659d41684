"""Polling policy: when the status is polled, and when a job is followed."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import history, limits
from tests.support.polling_strategies import (
    LONGEST_DEADLINE_S,
    histories,
    jitters,
    limit_sets,
    percents,
    times,
)
from waterhook.domain import poll_history, polling_policy, stream_history
from waterhook.domain.jitter import jitter_of
from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S, PollHistory
from waterhook.domain.polling_policy import (
    CLEANUP_MARGIN_S,
    FAR_S,
    FOLLOW_EVENT_BUDGET,
    WAIT_LIMIT_S,
    Decision,
    Limits,
    next_step,
    poll_due_at,
)
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.stream_history import StreamHistory
from waterhook.errors import UpstreamUnavailableError


@given(histories, limit_sets, jitters)
def test_a_wait_is_a_whole_number_that_the_state_machine_accepts(
    past: PollHistory, within: Limits, jitter: float
) -> None:
    decision = next_step(past, NOW, within, jitter)
    if within.deadline <= NOW:
        assert decision == Decision(NextStep.CANCEL)
    else:
        assert decision.next is NextStep.WAIT
        assert type(decision.wait_seconds) is int
        assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S


@given(histories, limit_sets)
def test_no_wait_exceeds_the_deadline_by_more_than_the_rounding(past: PollHistory, within: Limits) -> None:
    decision = next_step(past, NOW, within)
    assert NOW + decision.wait_seconds < max(within.deadline, NOW) + 1


@given(histories, limit_sets, st.floats(0, 1e9))
def test_retry_after_is_honoured_up_to_its_limit_unless_deadline_or_cleanup_is_nearer(
    past: PollHistory, within: Limits, retry_after_s: float
) -> None:
    past = replace(past, retry_after_s=retry_after_s, polled_at=NOW)
    decision = next_step(past, NOW, within)
    ends = [within.deadline - NOW]
    if past.cleanup_after is not None and past.cleanup_after > NOW:
        ends.append(past.cleanup_after - NOW - CLEANUP_MARGIN_S)
    assert decision.wait_seconds >= min(retry_after_s, RETRY_AFTER_LIMIT_S, *ends) or min(ends) <= 0


@given(histories, limit_sets, st.integers(0, 5000))
def test_more_errors_in_a_row_never_mean_an_earlier_poll(
    past: PollHistory, within: Limits, errors: int
) -> None:
    fewer = next_step(replace(past, errors=min(errors, past.errors)), NOW, within)
    more = next_step(replace(past, errors=max(errors, past.errors)), NOW, within)
    assert more.wait_seconds >= fewer.wait_seconds


@given(histories, limit_sets)
def test_a_young_loop_polls_before_the_result_is_cleaned_up(past: PollHistory, within: Limits) -> None:
    past = replace(past, polls=0, follows=0, refusals=0)
    decision = next_step(past, NOW, within)
    if past.cleanup_after is not None and past.cleanup_after >= NOW + 2:
        assert NOW + decision.wait_seconds <= past.cleanup_after


@given(histories, limit_sets)
def test_a_cleanup_in_the_past_does_not_change_the_wait(past: PollHistory, within: Limits) -> None:
    assert next_step(replace(past, cleanup_after=NOW - 1), NOW, within) == (
        next_step(replace(past, cleanup_after=None), NOW, within)
    )


@given(histories, limit_sets)
def test_no_wait_exceeds_the_longest_or_twice_that_with_steady_progress(
    past: PollHistory, within: Limits
) -> None:
    quiet = replace(past, polls=0, follows=0, refusals=0, retry_after_s=None, errors=0, faults=0)
    assert next_step(quiet, NOW, within).wait_seconds <= 2 * within.longest_wait_s
    unsteady = replace(quiet, progress_readings=2)
    assert next_step(unsteady, NOW, within).wait_seconds <= within.longest_wait_s


@given(histories, limit_sets)
def test_no_wait_is_shorter_than_the_shortest_except_before_the_deadline(
    past: PollHistory, within: Limits
) -> None:
    calm = replace(past, cleanup_after=None)
    decision = next_step(calm, NOW, within)
    if decision.next is NextStep.WAIT:
        assert decision.wait_seconds >= min(within.shortest_wait_s, within.deadline - NOW)


@pytest.mark.parametrize(
    ("age_s", "wait_s"),
    [(0, 4), (1, 3), (4, 4), (20, 5), (100, 8), (600, 14), (1200, 28), (1300, 30), (10_000, 30)],
)
def test_without_progress_the_wait_grows_slowly_with_the_age(age_s: int, wait_s: int) -> None:
    within = limits(longest_s=30)
    assert next_step(history(started_at=NOW - age_s), NOW, within) == Decision(NextStep.WAIT, wait_s)


@pytest.mark.parametrize(
    ("errors", "wait_s"), [(0, 4), (1, 4), (2, 8), (3, 16), (4, 32), (5, 60), (6, 60), (10_000, 60)]
)
def test_errors_double_the_wait_up_to_the_longest(errors: int, wait_s: int) -> None:
    assert next_step(history(errors=errors), NOW, limits()).wait_seconds == wait_s


@pytest.mark.parametrize(("wait_s", "most_s"), [(4, 12), (16, 24), (60, 90)])
def test_after_an_error_a_jitter_of_up_to_8_s_or_half_of_the_wait_is_added(wait_s: int, most_s: int) -> None:
    past = history(errors=round(math.log2(wait_s / 2)))
    waits = [next_step(past, NOW, limits(), jitter / 100).wait_seconds for jitter in range(100)]
    assert (min(waits), max(waits)) == (wait_s, most_s)


def most_polls_in_a_second(past: PollHistory, retry_after_s: float | None) -> list[int]:
    """Return the most polls and the most due polls in one second, of 40 executions after a common failure."""
    past = poll_history.after_failed_request(
        past, UpstreamUnavailableError("unavailable", "", status=429, retry_after_s=retry_after_s), NOW
    )
    jitters = [jitter_of(f"execution {number}", past.status_requests) for number in range(40)]
    waits = [next_step(past, NOW, limits(longest_s=30), jitter).wait_seconds for jitter in jitters]
    dues = [poll_due_at(past, StreamHistory(), NOW + 3600, jitter) - NOW for jitter in jitters]
    assert min(*waits, *dues) >= (retry_after_s or 0)
    return [max(Counter(waits).values()), max(Counter(map(int, dues)).values())]


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 3.0, 30.0, 900.0])
@pytest.mark.parametrize("age_s", [2, 60, 5000])
def test_of_40_executions_at_most_12_poll_in_the_same_second_after_a_common_failure(
    age_s: int, retry_after_s: float | None
) -> None:
    most_polls = most_polls_in_a_second(history(started_at=NOW - age_s), retry_after_s)
    assert max(most_polls) <= 12


@pytest.mark.parametrize(
    ("left_s", "decision"),
    [
        (-1e9, Decision(NextStep.CANCEL)),
        (-0.001, Decision(NextStep.CANCEL)),
        (0, Decision(NextStep.CANCEL)),
        (0.001, Decision(NextStep.WAIT, 1)),
        (1, Decision(NextStep.WAIT, 1)),
        (1.5, Decision(NextStep.WAIT, 2)),
        (30, Decision(NextStep.WAIT, 30)),
    ],
)
def test_the_job_is_cancelled_at_the_deadline_and_not_before(left_s: float, decision: Decision) -> None:
    old = history(started_at=NOW - 10_000)
    assert next_step(old, NOW, limits(deadline=NOW + left_s)) == decision


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"), [(0.0, 4), (1.0, 4), (10.0, 10), (10.2, 11), (900.0, 900), (1e9, 900)]
)
def test_retry_after_may_exceed_the_longest_wait(retry_after_s: float, wait_s: int) -> None:
    past = history(retry_after_s=retry_after_s, polled_at=NOW)
    assert next_step(past, NOW, limits()).wait_seconds == wait_s


def test_retry_after_counts_from_the_time_of_the_response() -> None:
    past = history(started_at=NOW - 100, retry_after_s=30.0, polled_at=NOW - 20)
    assert next_step(past, NOW, limits()).wait_seconds == 10


@pytest.mark.parametrize(
    ("shortest_s", "cleanup_in_s", "most_s"),
    [(2, 30, 25), (2, 6, 2), (2, 5, 2), (2, 1, 2), (60, 45, 40), (60, 30, 30), (60, 10, 10), (3600, 100, 95)],
)
def test_the_result_is_fetched_before_it_is_cleaned_up(
    shortest_s: float, cleanup_in_s: float, most_s: int
) -> None:
    past = history(
        started_at=NOW - 10_000, cleanup_after=NOW + cleanup_in_s, retry_after_s=500.0, polled_at=NOW
    )
    within = limits(shortest_s=shortest_s, longest_s=3600)
    assert 1 <= next_step(past, NOW, within).wait_seconds <= most_s


def steady(progress: float, *, age_s: float = 100.0, moved_s: float = 0.0) -> PollHistory:
    """Return the history of a job whose progress has risen evenly since its start."""
    return history(
        started_at=NOW - age_s,
        progress=progress,
        progress_at=NOW - moved_s,
        progress_readings=3,
        first_progress=0.0,
        first_progress_at=NOW - age_s,
        status_requests=3,
    )


@pytest.mark.parametrize(
    ("percent", "wait_s"),
    [
        (10.0, 32),  # 900 s remain: four times the usual wait of 8 s
        (50.0, 30),  # 100 s remain: three tenths of them
        (80.0, 8),  # 25 s remain
        (95.0, 6),  # 5.3 s remain: all of them
        (99.9, 2),
    ],
)
def test_steady_progress_sets_the_wait_from_the_predicted_remaining_time(percent: float, wait_s: int) -> None:
    assert next_step(steady(percent), NOW, limits(longest_s=30)).wait_seconds == wait_s


def test_a_predicted_finish_extends_the_wait_to_at_most_twice_the_longest() -> None:
    assert next_step(steady(10.0, age_s=5000), NOW, limits(longest_s=30)).wait_seconds == 60
    assert next_step(steady(10.0, age_s=5000), NOW, limits(longest_s=10)).wait_seconds == 20


@pytest.mark.parametrize("changes", [{"progress_readings": 2}, {"progress_at": NOW - 4.6}])
def test_unsteady_progress_does_not_change_the_wait(changes: dict[str, float]) -> None:
    # Steady progress has three readings or more, the last one within 1.5 s plus 3 % of the age.
    past = replace(steady(10.0), **changes)  # type: ignore[arg-type]
    assert next_step(past, NOW, limits(longest_s=30)).wait_seconds == 8
    assert (
        next_step(replace(past, progress_readings=3, progress_at=NOW - 4.4), NOW, limits()).wait_seconds > 8
    )


def test_a_job_past_its_predicted_finish_is_polled_often_and_then_like_any_other() -> None:
    past = steady(99.99)
    waits = [next_step(past, NOW + late_s, limits()).wait_seconds for late_s in (0.5, 4, 5, 100)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"progress": 0.0, "progress_at": NOW},
        {"progress": 50.0},
        {"progress": 50.0, "progress_at": NOW - 100},
        {"progress": 50.0, "progress_at": NOW - 200, "first_progress": 50.0, "first_progress_at": NOW},
        {"first_progress": 10.0, "first_progress_at": NOW},
        {"progress": 5e-324, "progress_at": NOW, "first_progress": 0.0, "first_progress_at": NOW - 50},
    ],
)
def test_progress_without_a_prediction_leads_to_a_valid_wait(changes: dict[str, float]) -> None:
    decision = next_step(replace(history(started_at=NOW - 100), **changes), NOW, limits())  # type: ignore[arg-type]
    assert 1 <= decision.wait_seconds <= 60


def test_retry_after_of_a_successful_response_is_honoured() -> None:
    past = poll_history.after_response(history(), StatusDocument("RUNNING", retry_after_s=20.0), NOW)
    assert next_step(past, NOW, limits()).wait_seconds == 20
    assert poll_due_at(past, StreamHistory(), NOW + 3600) == NOW + 20


# Following


@given(histories, limit_sets)
def test_a_job_is_followed_only_without_errors_and_within_the_event_budget(
    past: PollHistory, within: Limits
) -> None:
    decision = next_step(past, NOW, replace(within, follow=True))
    if within.deadline <= NOW:
        assert decision == Decision(NextStep.CANCEL)
    elif past.errors or past.faults or polling_policy.events_used(past) >= FOLLOW_EVENT_BUDGET:
        assert decision == next_step(past, NOW, within)
    else:
        # The state machine uses this wait if no concurrency is left.
        assert decision == replace(next_step(past, NOW, within), next=NextStep.FOLLOW)


def test_a_status_document_too_large_for_the_follow_function_ends_following() -> None:
    assert next_step(history(large_document=True), NOW, limits(follow=True)).next is NextStep.WAIT


def test_a_new_job_is_followed_immediately() -> None:
    assert next_step(history(), NOW, limits(follow=True)) == Decision(NextStep.FOLLOW, 4)


def test_a_refused_follow_is_retried_after_a_pause_with_polls() -> None:
    past = poll_history.after_follow_refusal(history(), NOW)
    assert past.refusals == 1
    within = limits(follow=True)
    pause_s = polling_policy.FOLLOW_PAUSE_S
    steps = [next_step(past, NOW + seconds, within).next for seconds in (0, 1, pause_s - 0.1, pause_s)]
    assert steps == [NextStep.WAIT, NextStep.WAIT, NextStep.WAIT, NextStep.FOLLOW]


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 240), (60, 240), (240, 240), (300, 300), (900, 900), (50_000, 900)]
)
def test_the_pause_after_a_refused_follow_doubles_the_age_within_bounds(age_s: int, pause_s: int) -> None:
    past = poll_history.after_follow_refusal(history(started_at=NOW - age_s), NOW)
    steps = [next_step(past, NOW + at, limits(follow=True)).next for at in (pause_s - 0.1, pause_s, 2000)]
    assert steps == [NextStep.WAIT, NextStep.FOLLOW, NextStep.FOLLOW]


@given(histories, limit_sets, st.floats(0, 1e5), st.floats(0, 1e5))
def test_after_its_pause_a_refused_follow_stays_due(
    past: PollHistory, within: Limits, one: float, other: float
) -> None:
    past = replace(past, progress=None, cleanup_after=None, follow_refused_at=NOW)
    within = replace(within, deadline=NOW + LONGEST_DEADLINE_S, follow=True)
    sooner, later = (next_step(past, NOW + at, within).next for at in sorted((one, other)))
    assert later is NextStep.FOLLOW or sooner is not NextStep.FOLLOW


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(1.0, NextStep.WAIT), (49.0, NextStep.WAIT), (51.0, NextStep.FOLLOW), (99.0, NextStep.FOLLOW)],
)
def test_a_job_far_from_its_finish_is_not_followed_after_a_refused_follow(
    percent: float, expected: NextStep
) -> None:
    # The job has run for FAR_S. At 50 % the same time remains.
    past = history(started_at=NOW - FAR_S, progress=percent, progress_at=NOW)
    scarce = replace(past, follow_refused_at=NOW - FAR_S + 1)
    assert next_step(scarce, NOW, limits(follow=True)).next is expected
    assert next_step(past, NOW, limits(follow=True)).next is NextStep.FOLLOW


@given(percents, percents, limit_sets)
def test_more_steady_progress_never_means_a_later_poll(one: float, other: float, within: Limits) -> None:
    within = replace(within, deadline=NOW + LONGEST_DEADLINE_S)
    less, more = (
        next_step(steady(max(percent, 0.01)), NOW, within).wait_seconds for percent in sorted((one, other))
    )
    assert more <= less


# Polls while a stream is followed


def due_s(past: PollHistory, stream: StreamHistory | None = None, deadline: float = NOW + 3600) -> float:
    """Return after how many seconds from NOW the status is polled next, without jitter."""
    return poll_due_at(past, stream or StreamHistory(), deadline) - NOW


@pytest.mark.parametrize(
    ("age_s", "interval_s"),
    [(0, 2), (100, 2), (150, 3), (225, 4.5), (600, 4.5), (900, 10.125), (1200, 18), (50_000, 18)],
)
def test_the_status_is_polled_every_2_percent_of_the_age_within_bounds(age_s: int, interval_s: float) -> None:
    assert due_s(history(started_at=NOW - age_s, polled_at=NOW)) == pytest.approx(interval_s)


def test_the_interval_varies_by_a_tenth_between_executions() -> None:
    dues = [
        poll_due_at(history(polled_at=NOW), StreamHistory(), NOW + 3600, u / 100) - NOW for u in range(100)
    ]
    assert [min(dues), max(dues)] == pytest.approx([1.8, 2.196])


def test_a_job_that_was_never_polled_is_due_2_s_after_its_start() -> None:
    assert due_s(history()) == 2


@pytest.mark.parametrize(("event_s", "due"), [(-5, 2), (1, 3), (20, 22), (28, 30), (29.5, 30), (60, 30)])
def test_an_event_postpones_the_next_poll_but_never_beyond_30_s(event_s: float, due: float) -> None:
    stream = stream_history.after_stream_event(StreamHistory(), NOW + event_s)
    assert due_s(history(polled_at=NOW), stream) == pytest.approx(due, abs=0.01)


def test_after_a_final_event_the_status_is_polled_in_quick_succession_and_then_as_before() -> None:
    stream = stream_history.after_final_event(StreamHistory(), NOW)
    moments, past = [], history(started_at=NOW - 100, polled_at=NOW - 1)
    for _ in range(9):
        due = poll_due_at(past, stream, NOW + 3600)
        moments.append(round(due - NOW, 3))
        past = poll_history.after_response(past, StatusDocument("RUNNING"), due + 0.1)
    assert moments == pytest.approx([0, 0.5, 1, 2, 3, 5, 7, 9.242, 11])


def test_a_second_final_event_does_not_repeat_the_quick_polls() -> None:
    stream = stream_history.after_final_event(
        stream_history.after_final_event(StreamHistory(), NOW - 60), NOW
    )
    assert stream.final_event_at == NOW - 60
    assert due_s(history(polled_at=NOW), stream) == 2


def test_retry_after_takes_precedence_over_a_final_event() -> None:
    stream = stream_history.after_final_event(StreamHistory(), NOW + 1)
    assert due_s(history(polled_at=NOW, retry_after_s=3.0), stream) == 3
    assert due_s(history(polled_at=NOW, retry_after_s=5000.0), stream) == RETRY_AFTER_LIMIT_S


def test_the_deadline_and_the_cleanup_take_precedence_over_retry_after() -> None:
    past = history(polled_at=NOW, retry_after_s=500.0)
    assert due_s(past, deadline=NOW + 100) == 100
    assert due_s(replace(past, cleanup_after=NOW + 60)) == 60 - CLEANUP_MARGIN_S


@pytest.mark.parametrize(("left_s", "due"), [(60.0, 2), (6.0, 2), (5.0, 2), (1.0, 0.5), (-1.0, 2)])
def test_a_result_is_polled_for_before_its_cleanup(left_s: float, due: float) -> None:
    assert due_s(history(polled_at=NOW, cleanup_after=NOW + left_s)) == due


def test_failed_requests_double_the_interval_of_polls_during_a_follow() -> None:
    dues = [
        poll_due_at(history(polled_at=NOW, errors=errors), StreamHistory(), NOW + 3600, 0.0) - NOW
        for errors in (0, 1, 2)
    ]
    assert dues == pytest.approx([1.8, 4, 8])


@given(histories, limit_sets, jitters, st.none() | times, st.none() | times)
def test_a_poll_during_a_follow_is_due_before_the_deadline_and_after_retry_after(
    past: PollHistory, within: Limits, jitter: float, event_at: float | None, final_at: float | None
) -> None:
    past = replace(past, started_at=NOW - 500, polled_at=NOW, cleanup_after=None, errors=min(past.errors, 2))
    deadline = max(within.deadline, NOW)
    due = poll_due_at(past, StreamHistory(event_at=event_at, final_event_at=final_at), deadline, jitter)
    assert due <= deadline
    assert due >= min(polling_policy.retry_at(past), deadline)
    if past.retry_after_s is None and not past.errors:
        assert due <= NOW + polling_policy.MAX_POSTPONED_S
