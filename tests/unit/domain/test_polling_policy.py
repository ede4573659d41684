"""Polling policy: pure functions, so every promise is checked on thousands of histories."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import history, limits
from waterhook.domain import poll_history, polling_policy, retry_policy, stream_history
from waterhook.domain.jitter import jitter_of
from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S, PollHistory
from waterhook.domain.polling_policy import (
    CLEANUP_MARGIN_S,
    EVENT_BUDGET,
    EVENTS_PER_POLL,
    FAR_S,
    FOLLOW_EVENT_BUDGET,
    MAX_STARTS,
    WAIT_LIMIT_S,
    Decision,
    Limits,
    next_step,
    poll_due_at,
)
from waterhook.domain.retry_policy import next_start_attempt
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.stream_history import StreamHistory
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)

DAY_S = 86_400
LONGEST_DEADLINE_S = 30 * DAY_S
MAX_POLLS = EVENT_BUDGET // EVENTS_PER_POLL
# The most events of a history in any simulated case; Step Functions allows 25,000.
MOST_EVENTS = 20_000

# Times around NOW, in the past and the future, and far beyond what is sensible.
times = st.floats(NOW - LONGEST_DEADLINE_S, NOW + 2 * LONGEST_DEADLINE_S)
percents = st.floats(0, 100) | st.sampled_from([0.0, 5e-324, 1e-300, 99.99999999999999, 100.0])
histories = st.builds(
    PollHistory,
    started_at=times,
    status_requests=st.integers(0, 3 * MAX_POLLS),
    polls=st.integers(0, 3 * MAX_POLLS),
    follows=st.integers(0, 3000),
    refusals=st.integers(0, 500),
    earlier_events=st.integers(0, 9000),
    polled_at=st.none() | times,
    errors=st.integers(0, 5000),
    retry_after_s=st.none() | st.floats(0, 1e9),
    not_found=st.integers(0, 5000),
    not_found_since=st.none() | times,
    progress=st.none() | percents,
    progress_at=st.none() | times,
    progress_readings=st.integers(0, 5),
    first_progress=st.none() | percents,
    first_progress_at=st.none() | times,
    cleanup_after=st.none() | times | st.floats(NOW - 10, NOW + 4000) | st.floats(-6e10, 2.5e11),
    cancels=st.integers(0, 3),
    unknown_status=st.none() | st.just("EXPIRED"),
    ended_polls=st.integers(0, 3),
    ended_since=st.none() | times,
    faults=st.integers(0, 500),
    fault_since=st.none() | times,
)
waits = st.integers(1, 3600)
jitters = st.floats(0, 1, exclude_max=True)
limit_sets = st.builds(
    lambda one, other, deadline: Limits(min(one, other), max(one, other), deadline), waits, waits, times
)


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
def test_no_wait_passes_the_deadline_by_more_than_the_rounding(past: PollHistory, within: Limits) -> None:
    decision = next_step(past, NOW, within)
    assert NOW + decision.wait_seconds < max(within.deadline, NOW) + 1


@given(histories, limit_sets)
def test_the_same_history_gets_the_same_decision(past: PollHistory, within: Limits) -> None:
    assert next_step(past, NOW, within) == next_step(replace(past), NOW, replace(within))


@given(histories, limit_sets, st.floats(0, 1e9))
def test_retry_after_is_honoured_up_to_its_limit_unless_an_end_is_nearer(
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
def test_a_young_loop_polls_before_cleanup_takes_the_result_away(past: PollHistory, within: Limits) -> None:
    past = replace(past, polls=0, follows=0, refusals=0)
    decision = next_step(past, NOW, within)
    if past.cleanup_after is not None and past.cleanup_after >= NOW + 2:
        assert NOW + decision.wait_seconds <= past.cleanup_after


@given(histories, limit_sets)
def test_cleanup_that_is_past_slows_nothing_down_and_hurries_nothing(
    past: PollHistory, within: Limits
) -> None:
    assert next_step(replace(past, cleanup_after=NOW - 1), NOW, within) == (
        next_step(replace(past, cleanup_after=None), NOW, within)
    )


@given(histories, limit_sets)
def test_no_wait_is_longer_than_the_longest_or_twice_that_while_progress_is_steady(
    past: PollHistory, within: Limits
) -> None:
    quiet = replace(past, polls=0, follows=0, refusals=0, retry_after_s=None, errors=0, faults=0)
    assert next_step(quiet, NOW, within).wait_seconds <= 2 * within.longest_wait_s
    unsteady = replace(quiet, progress_readings=2)
    assert next_step(unsteady, NOW, within).wait_seconds <= within.longest_wait_s


@given(histories, limit_sets)
def test_no_wait_is_shorter_than_the_shortest_but_for_an_end_that_is_near(
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
def test_after_an_error_up_to_8_s_or_half_of_the_wait_are_added(wait_s: int, most_s: int) -> None:
    past = history(errors=round(math.log2(wait_s / 2)))
    waits = [next_step(past, NOW, limits(), jitter / 100).wait_seconds for jitter in range(100)]
    assert (min(waits), max(waits)) == (wait_s, most_s)


def seconds_of_first_polls(past: PollHistory, retry_after_s: float | None) -> list[int]:
    """Return in which second each of 40 executions of equal age polls again after a common failure."""
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
    found = seconds_of_first_polls(history(started_at=NOW - age_s), retry_after_s)
    assert max(found) <= 12


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
def test_at_the_deadline_the_job_is_cancelled_and_not_before(left_s: float, decision: Decision) -> None:
    old = history(started_at=NOW - 10_000)
    assert next_step(old, NOW, limits(deadline=NOW + left_s)) == decision


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"), [(0.0, 4), (1.0, 4), (10.0, 10), (10.2, 11), (900.0, 900), (1e9, 900)]
)
def test_retry_after_stretches_the_wait_past_the_longest(retry_after_s: float, wait_s: int) -> None:
    past = history(retry_after_s=retry_after_s, polled_at=NOW)
    assert next_step(past, NOW, limits()).wait_seconds == wait_s


def test_retry_after_counts_from_the_answer_that_carried_it() -> None:
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
        (10.0, 32),  # 900 s to go: four times the usual wait of 8 s
        (50.0, 30),  # 100 s to go, of which three tenths
        (80.0, 8),  # 25 s to go
        (95.0, 6),  # 5.3 s to go, waited for whole
        (99.9, 2),
    ],
)
def test_steady_progress_sets_the_wait_by_the_rest_that_it_predicts(percent: float, wait_s: int) -> None:
    assert next_step(steady(percent), NOW, limits(longest_s=30)).wait_seconds == wait_s


def test_a_far_finish_stretches_the_wait_to_twice_the_longest_at_most() -> None:
    assert next_step(steady(10.0, age_s=5000), NOW, limits(longest_s=30)).wait_seconds == 60
    assert next_step(steady(10.0, age_s=5000), NOW, limits(longest_s=10)).wait_seconds == 20


@pytest.mark.parametrize("changes", [{"progress_readings": 2}, {"progress_at": NOW - 4.6}])
def test_progress_that_is_not_steady_predicts_nothing(changes: dict[str, float]) -> None:
    # Steady is: three readings or more, the last one within 1.5 s and 3 % of the age.
    past = replace(steady(10.0), **changes)  # type: ignore[arg-type]
    assert next_step(past, NOW, limits(longest_s=30)).wait_seconds == 8
    assert (
        next_step(replace(past, progress_readings=3, progress_at=NOW - 4.4), NOW, limits()).wait_seconds > 8
    )


def test_a_job_that_should_be_over_is_polled_often_and_then_as_any_other() -> None:
    past = steady(99.99)
    found = [next_step(past, NOW + late, limits()).wait_seconds for late in (0.5, 4, 5, 100)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (2, 10)


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
def test_progress_that_predicts_nothing_is_no_reason_to_crash(changes: dict[str, float]) -> None:
    decision = next_step(replace(history(started_at=NOW - 100), **changes), NOW, limits())  # type: ignore[arg-type]
    assert 1 <= decision.wait_seconds <= 60


def run(
    timeout_s: float,
    upstream: Callable[[int, float], StatusDocument | UpstreamError],
    *,
    within: Limits,
    answer_s: float = 0.0,
) -> int:
    """Return how many history events the loop has written when it comes to its deadline."""
    now, past = NOW, history()
    for turn in itertools.count():
        decision = next_step(past, now, replace(within, deadline=NOW + timeout_s))
        if decision.next is NextStep.CANCEL:
            return polling_policy.events_used(past)
        now += decision.wait_seconds + answer_s
        past = replace(past, polls=past.polls + 1)
        answer = upstream(turn, now)
        if isinstance(answer, UpstreamError):
            past = poll_history.after_failed_request(past, answer, now)
        else:
            past = poll_history.after_response(past, answer, now)
        assert turn < 4 * MAX_POLLS, "the loop never ends"
    raise AssertionError


ADVERSARIES: dict[str, Callable[[int, float], StatusDocument | UpstreamError]] = {
    "cleanup is always a second ahead": lambda _, now: StatusDocument(cleanup_after=now + 1),
    "cleanup is always just out of reach": lambda _, now: StatusDocument(
        cleanup_after=now + CLEANUP_MARGIN_S + 0.001
    ),
    "always about to finish": lambda turn, _: StatusDocument(progress=99.0 + (turn % 2) * 0.99),
    "progress creeps": lambda turn, _: StatusDocument(progress=min(90 + turn / 1e4, 99.9)),
    "progress begins anew": lambda turn, _: StatusDocument(progress=float(turn * 7 % 100)),
    "nodes flicker": lambda turn, _: StatusDocument(completed_nodes=turn % 3, total_nodes=2),
    "silent": lambda _turn, _now: StatusDocument(),
    "ends with another unknown status each time": lambda turn, _: StatusDocument(
        f"END_{turn}", completed_at=NOW
    ),
    "always failing, wants to be asked at once": lambda _turn, _now: UpstreamUnavailableError(
        "x", "", retry_after_s=0.0
    ),
    "failing every other time": lambda turn, now: (
        PerhapsAcceptedError("x", "") if turn % 2 else StatusDocument(cleanup_after=now + 1)
    ),
}


@pytest.mark.parametrize("upstream", ADVERSARIES.values(), ids=ADVERSARIES)
@pytest.mark.parametrize("timeout_s", [1, 60, 3600, DAY_S, 7 * DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [1, 60, 3600])
def test_no_upstream_leads_an_execution_into_the_history_limit(
    upstream: Callable[[int, float], StatusDocument | UpstreamError], timeout_s: int, longest_s: int
) -> None:
    assert run(timeout_s, upstream, within=limits(shortest_s=1, longest_s=longest_s)) <= MOST_EVENTS - 200


@given(st.floats(1, LONGEST_DEADLINE_S), st.floats(0, 25))
def test_no_deadline_spends_more_than_the_budget_of_events(timeout_s: float, answer_s: float) -> None:
    always_near = ADVERSARIES["cleanup is always a second ahead"]
    events = run(timeout_s, always_near, within=limits(shortest_s=1, longest_s=1), answer_s=answer_s)
    assert events <= MOST_EVENTS - 200


@pytest.mark.parametrize("start_deadline_s", [60, 900, 3600, DAY_S])
@pytest.mark.parametrize("longest_s", [1, 60, 3600])
def test_no_upstream_that_is_down_spends_more_than_the_budget_of_starts(
    start_deadline_s: int, longest_s: int
) -> None:
    now, within = NOW, limits(shortest_s=1, longest_s=longest_s, deadline=NOW + start_deadline_s)
    for attempts in itertools.count(1):
        decision = next_start_attempt(attempts, 0.0, now, within)
        if decision.next is NextStep.NOTIFY:
            break
        now += decision.wait_seconds
        assert attempts <= MAX_STARTS + 20


def whole_history(
    timeout_s: int,
    share: float,
    upstream: Callable[[int, float], StatusDocument | UpstreamError],
    *,
    follow: bool,
) -> int:
    """Return the events of a queue for part of the time, 200 refused starts, a job that never ends, and a cancel.

    All of it is as frequent as the settings permit, and no cancel works.
    """
    deadline = NOW + timeout_s
    within = limits(shortest_s=1, longest_s=30, deadline=deadline)
    now, events = NOW, 18
    while now < NOW + timeout_s * share:
        now += retry_policy.next_slot_attempt(timeout_s, now, within).wait_seconds
        events += polling_policy.EVENTS_PER_START
    estimate = polling_policy.events_before_start(MAX_STARTS, now - NOW, timeout_s)
    events += MAX_STARTS * polling_policy.EVENTS_PER_START
    assert estimate >= events - 18
    past = history(started_at=now, earlier_events=estimate)
    for turn in itertools.count():
        decision = next_step(past, now, replace(within, follow=follow))
        if decision.next is NextStep.CANCEL:
            break
        if decision.next is NextStep.FOLLOW:
            past = replace(past, follows=past.follows + 1)
            now += 840
        else:
            past = replace(past, polls=past.polls + 1)
            now += decision.wait_seconds
        answer = upstream(turn, now)
        if isinstance(answer, UpstreamError):
            past = poll_history.after_failed_request(past, answer, now)
        else:
            past = poll_history.after_response(past, answer, now)
    failing_s = 0
    while (wait_s := retry_policy.cancel_retry_wait_s(failing_s, 0, None)) is not None:
        events += EVENTS_PER_CANCEL + EVENTS_PER_POLL
        failing_s += wait_s
    return events + EVENTS_PER_CANCEL + polling_policy.events_used(past) - estimate


# Cancel and What next?.
EVENTS_PER_CANCEL = 7
# A retry of a task: scheduled, started, failed.
EVENTS_PER_RETRY = 3
# Of one task that Lambda throttles for more than four hours: test_faults.py of the workflow.
MOST_RETRIES = 70


@pytest.mark.parametrize("timeout_s", [3600, DAY_S, 7 * DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("follow", [False, True])
def test_queue_starts_loop_and_cancel_together_stay_below_20000_events(
    timeout_s: int, share: float, *, follow: bool
) -> None:
    silent = ADVERSARIES["silent"]
    assert whole_history(timeout_s, share, silent, follow=follow) <= MOST_EVENTS


def test_the_worst_history_leaves_room_for_the_retries_of_tasks() -> None:
    worst = max(
        whole_history(LONGEST_DEADLINE_S, share, upstream, follow=follow)
        for share in (0.0, 0.5)
        for upstream in (ADVERSARIES["silent"], ADVERSARIES["cleanup is always a second ahead"])
        for follow in (False, True)
    )
    # 18,762 when this was written; 18,802 where each status request fails.
    assert worst <= MOST_EVENTS - 1_000
    retries = (25_000 - worst) // EVENTS_PER_RETRY
    # Two days of throttling without a pause, and beside that a retry of every second poll.
    throttled = 2 * 24 // 4 * MOST_RETRIES
    assert retries >= throttled + MAX_POLLS // 2, worst


def test_the_budget_does_not_slow_down_a_young_job_with_a_far_deadline() -> None:
    far = limits(deadline=NOW + LONGEST_DEADLINE_S)
    near = limits(deadline=NOW + 3600)
    for polls in range(4):
        assert next_step(history(polls=polls), NOW, far) == next_step(history(polls=polls), NOW, near)


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e9), limit_sets)
def test_another_start_comes_after_a_whole_number_of_seconds_or_never(
    attempts: int, retry_after_s: float | None, within: Limits
) -> None:
    decision = next_start_attempt(attempts, retry_after_s, NOW, within)
    if within.deadline <= NOW:
        assert decision == Decision(NextStep.NOTIFY)
        return
    assert decision.next is NextStep.START
    assert type(decision.wait_seconds) is int
    assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S
    assert NOW + decision.wait_seconds < within.deadline + 1
    assert decision.wait_seconds >= min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S, within.deadline - NOW)


@pytest.mark.parametrize(
    ("attempts", "retry_after_s", "wait_s"),
    [(1, None, 4), (2, None, 8), (3, 10.0, 16), (3, 30.0, 30), (9, None, 60), (9, 5000.0, 900)],
)
def test_starts_are_spaced_by_doubling_and_by_retry_after(
    attempts: int, retry_after_s: float | None, wait_s: int
) -> None:
    assert next_start_attempt(attempts, retry_after_s, NOW, limits()) == Decision(NextStep.START, wait_s)


def test_an_answer_counts_as_a_request_and_ends_the_row_of_errors() -> None:
    past = history(status_requests=5, errors=3, retry_after_s=9.0, not_found=2, not_found_since=NOW - 9)
    assert poll_history.after_response(past, StatusDocument(), NOW) == history(
        status_requests=6, polled_at=NOW
    )


def test_a_failure_counts_as_a_request_and_lengthens_the_row_of_errors() -> None:
    failure = UpstreamUnavailableError("x", "", retry_after_s=7.0)
    past = poll_history.after_failed_request(history(status_requests=5, errors=3), failure, NOW)
    assert (past.status_requests, past.errors, past.retry_after_s, past.polled_at) == (6, 4, 7.0, NOW)


def test_retry_after_of_a_successful_answer_is_kept() -> None:
    past = poll_history.after_response(history(), StatusDocument("RUNNING", retry_after_s=20.0), NOW)
    assert next_step(past, NOW, limits()).wait_seconds == 20
    assert poll_due_at(past, StreamHistory(), NOW + 3600) == NOW + 20


def test_a_failure_keeps_what_is_known_of_cleanup_and_progress() -> None:
    past = history(cleanup_after=NOW + 99, progress=50.0, progress_at=NOW)
    after = poll_history.after_failed_request(past, PerhapsAcceptedError("x", ""), NOW + 5)
    assert (after.cleanup_after, after.progress, after.progress_at) == (NOW + 99, 50.0, NOW)


MISSING = UpstreamRefusedError("refused", "HTTP 404", status=404)


def test_a_404_is_lost_only_after_three_in_a_row_over_a_minute() -> None:
    past = history()
    seen = []
    for at in (0, 1, 2, 30, 59, 60, 61):
        past = poll_history.after_failed_request(past, MISSING, NOW + at)
        seen.append(poll_history.is_lost(past, NOW + at))
    assert seen == [False, False, False, False, False, True, True]


def test_two_404_an_hour_apart_are_not_enough() -> None:
    past = poll_history.after_failed_request(
        poll_history.after_failed_request(history(), MISSING, NOW), MISSING, NOW + 3600
    )
    assert not poll_history.is_lost(past, NOW + 3600)


@pytest.mark.parametrize("interruption", [PerhapsAcceptedError("x", "", status=500), StatusDocument()])
def test_anything_between_two_404_begins_the_count_anew(interruption: UpstreamError | StatusDocument) -> None:
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
        (StatusDocument(completed_nodes=1, total_nodes=4), 25.0),
        (StatusDocument(completed_nodes=9, total_nodes=4), 100.0),
        (StatusDocument(completed_nodes=1, total_nodes=0), None),
        (StatusDocument(completed_nodes=1), None),
        (StatusDocument(total_nodes=4), None),
        (StatusDocument(progress=40.0, completed_nodes=4, total_nodes=4), 40.0),
        (StatusDocument(), None),
    ],
)
def test_progress_is_what_it_says_or_else_what_the_nodes_say(
    document: StatusDocument, percent: float | None
) -> None:
    assert poll_history.after_response(history(), document, NOW).progress == percent


def test_progress_that_stands_still_keeps_the_time_it_last_moved() -> None:
    past = poll_history.after_response(history(), StatusDocument(progress=10.0), NOW)
    past = poll_history.after_response(past, StatusDocument(progress=10.0), NOW + 50)
    assert past.progress_at == NOW


def test_progress_that_goes_back_is_measured_from_its_new_beginning() -> None:
    past = history()
    for at, progress in ((0, 10.0), (10, 80.0), (20, 5.0)):
        past = poll_history.after_response(past, StatusDocument(progress=progress), NOW + at)
    assert (past.first_progress, past.first_progress_at, past.progress) == (5.0, NOW + 20, 5.0)


def test_cleanup_is_forgotten_when_the_upstream_no_longer_speaks_of_it() -> None:
    past = poll_history.after_response(history(), StatusDocument(cleanup_after=NOW + 9), NOW)
    assert poll_history.after_response(past, StatusDocument(), NOW).cleanup_after is None


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=30), limit_sets)
def test_no_row_of_progress_reports_leads_out_of_bounds(reports: list[float | None], within: Limits) -> None:
    past, now = history(), NOW
    for progress in reports:
        past = poll_history.after_response(past, StatusDocument(progress=progress), now)
        decision = next_step(past, now, within)
        assert decision.next is NextStep.CANCEL or 1 <= decision.wait_seconds <= WAIT_LIMIT_S
        assert math.isfinite(now)
        now += max(decision.wait_seconds, 1)


# Following


def following(within: Limits) -> Limits:
    return replace(within, follow=True)


@given(histories, limit_sets)
def test_a_job_is_followed_only_while_the_upstream_answers_and_the_history_has_room(
    past: PollHistory, within: Limits
) -> None:
    decision = next_step(past, NOW, following(within))
    if within.deadline <= NOW:
        assert decision == Decision(NextStep.CANCEL)
    elif past.errors or polling_policy.events_used(past) >= FOLLOW_EVENT_BUDGET:
        assert decision == next_step(past, NOW, within)
    else:
        # The wait that is taken instead where no concurrency is left.
        assert decision == replace(next_step(past, NOW, within), next=NextStep.FOLLOW)


def test_a_status_document_too_large_for_the_follow_function_ends_following() -> None:
    assert next_step(history(large_document=True), NOW, following(limits())).next is NextStep.WAIT


def test_a_month_of_following_takes_no_more_events_than_there_are() -> None:
    past, now, within = history(), NOW, following(limits(deadline=NOW + LONGEST_DEADLINE_S))
    followed_s = 0
    while (decision := next_step(past, now, within)).next is not NextStep.CANCEL:
        if decision.next is NextStep.FOLLOW:
            # 840 s with a status request every 18 s: the requests are no history events.
            past = replace(past, follows=past.follows + 1, status_requests=past.status_requests + 46)
            now, followed_s = now + 840, followed_s + 840
        else:
            past = poll_history.after_response(
                replace(past, polls=past.polls + 1), StatusDocument("RUNNING"), now
            )
            now += decision.wait_seconds
    assert followed_s >= 22 * DAY_S
    assert polling_policy.events_used(past) <= MOST_EVENTS - 200


def test_a_job_without_a_past_is_followed_at_once() -> None:
    assert next_step(history(), NOW, following(limits())) == Decision(NextStep.FOLLOW, 4)


@given(histories, limit_sets)
def test_where_following_is_off_nothing_is_followed(past: PollHistory, within: Limits) -> None:
    assert next_step(past, NOW, within).next is not NextStep.FOLLOW


def test_a_follow_that_was_refused_is_tried_again_after_a_while_of_polling() -> None:
    past = poll_history.after_follow_refusal(history(), NOW)
    assert past.refusals == 1
    within = following(limits())
    pause_s = polling_policy.FOLLOW_PAUSE_S
    steps = [next_step(past, NOW + seconds, within).next for seconds in (0, 1, pause_s - 0.1, pause_s)]
    assert steps == [NextStep.WAIT, NextStep.WAIT, NextStep.WAIT, NextStep.FOLLOW]


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 240), (60, 240), (240, 240), (300, 300), (900, 900), (50_000, 900)]
)
def test_the_pause_after_a_refused_follow_doubles_the_age_within_bounds(age_s: int, pause_s: int) -> None:
    past = poll_history.after_follow_refusal(history(started_at=NOW - age_s), NOW)
    steps = [next_step(past, NOW + at, following(limits())).next for at in (pause_s - 0.1, pause_s, 2000)]
    assert steps == [NextStep.WAIT, NextStep.FOLLOW, NextStep.FOLLOW]


@given(histories, limit_sets, st.floats(0, 1e5), st.floats(0, 1e5))
def test_once_a_follow_is_worth_a_try_again_it_stays_so_while_no_finish_is_known(
    past: PollHistory, within: Limits, one: float, other: float
) -> None:
    past = replace(past, progress=None, cleanup_after=None, follow_refused_at=NOW)
    within = following(replace(within, deadline=NOW + LONGEST_DEADLINE_S))
    sooner, later = (next_step(past, NOW + at, within).next for at in sorted((one, other)))
    assert later is NextStep.FOLLOW or sooner is not NextStep.FOLLOW


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(1.0, NextStep.WAIT), (49.0, NextStep.WAIT), (51.0, NextStep.FOLLOW), (99.0, NextStep.FOLLOW)],
)
def test_where_concurrency_is_scarce_a_far_job_leaves_it_to_others(
    percent: float, expected: NextStep
) -> None:
    # It has run for as long as is far: with half of it done, as much is left.
    past = history(started_at=NOW - FAR_S, progress=percent, progress_at=NOW)
    scarce = replace(past, follow_refused_at=NOW - FAR_S + 1)
    assert next_step(scarce, NOW, following(limits())).next is expected
    assert next_step(past, NOW, following(limits())).next is NextStep.FOLLOW


@given(percents, percents, limit_sets)
def test_more_steady_progress_by_now_never_means_a_later_poll(
    one: float, other: float, within: Limits
) -> None:
    within = replace(within, deadline=NOW + LONGEST_DEADLINE_S)
    less, more = (
        next_step(steady(max(percent, 0.01)), NOW, within).wait_seconds for percent in sorted((one, other))
    )
    assert more <= less


def test_follows_that_are_always_refused_stay_below_the_limit_of_events() -> None:
    within = following(limits(deadline=NOW + LONGEST_DEADLINE_S))
    past, now = history(), NOW
    while (decision := next_step(past, now, within)).next is not NextStep.CANCEL:
        if decision.next is NextStep.FOLLOW:
            past = poll_history.after_follow_refusal(past, now)
        now += decision.wait_seconds
        past = poll_history.after_response(
            replace(past, polls=past.polls + 1), StatusDocument("RUNNING"), now
        )
    assert polling_policy.events_used(past) <= MOST_EVENTS - 200


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


def test_a_job_that_was_never_polled_is_due_after_its_start() -> None:
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


def test_a_second_final_event_begins_no_second_row_of_quick_polls() -> None:
    stream = stream_history.after_final_event(
        stream_history.after_final_event(StreamHistory(), NOW - 60), NOW
    )
    assert stream.final_event_at == NOW - 60
    assert due_s(history(polled_at=NOW), stream) == 2


def test_retry_after_is_stronger_than_a_final_event() -> None:
    stream = stream_history.after_final_event(StreamHistory(), NOW + 1)
    assert due_s(history(polled_at=NOW, retry_after_s=3.0), stream) == 3
    assert due_s(history(polled_at=NOW, retry_after_s=5000.0), stream) == RETRY_AFTER_LIMIT_S


def test_the_deadline_and_the_cleanup_are_stronger_than_retry_after() -> None:
    past = history(polled_at=NOW, retry_after_s=500.0)
    assert due_s(past, deadline=NOW + 100) == 100
    assert due_s(replace(past, cleanup_after=NOW + 60)) == 60 - CLEANUP_MARGIN_S


@pytest.mark.parametrize(("left_s", "due"), [(60.0, 2), (6.0, 2), (5.0, 2), (1.0, 0.5), (-1.0, 2)])
def test_a_result_that_is_about_to_go_is_fetched_in_time(left_s: float, due: float) -> None:
    assert due_s(history(polled_at=NOW, cleanup_after=NOW + left_s)) == due


def test_failed_requests_space_the_polls_of_a_follow_by_doubling() -> None:
    dues = [
        poll_due_at(history(polled_at=NOW, errors=errors), StreamHistory(), NOW + 3600, 0.0) - NOW
        for errors in (0, 1, 2)
    ]
    assert dues == pytest.approx([1.8, 4, 8])


def test_streams_that_are_refused_are_reopened_after_a_pause_that_doubles() -> None:
    stream, pauses = StreamHistory(), []
    for _ in range(10):
        stream = stream_history.after_stream_end(stream, NOW, lasted_s=0.1)
        pauses.append((stream.reopens_at or 0) - NOW)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(0.5, 1), (30.0, 30), (1e9, RETRY_AFTER_LIMIT_S)])
def test_a_stream_is_not_reopened_before_retry_after_permits(retry_after_s: float, pause_s: float) -> None:
    stream = stream_history.after_stream_end(StreamHistory(), NOW, 0.1, retry_after_s)
    assert stream.reopens_at == NOW + pause_s


def test_a_stream_that_lasted_is_reopened_immediately() -> None:
    failed = stream_history.after_stream_end(StreamHistory(), NOW, lasted_s=4.9)
    assert (failed.failures, failed.reopens_at) == (1, NOW + 1)
    lasted = stream_history.after_stream_end(failed, NOW, lasted_s=5.0)
    assert (lasted.failures, lasted.reopens_at) == (0, NOW)


def test_a_stream_that_declares_the_end_falsely_is_reopened_ever_later() -> None:
    stream, pauses = StreamHistory(), []
    for _ in range(5):
        stream = stream_history.after_final_event(stream, NOW)
        pauses.append((stream.reopens_at or 0) - NOW)
    assert pauses == [30, 60, 120, 240, 240]


@given(histories, limit_sets, jitters, st.none() | times, st.none() | times)
def test_a_poll_of_a_follow_is_never_due_after_the_deadline_or_before_retry_after_permits(
    past: PollHistory, within: Limits, jitter: float, event_at: float | None, final_at: float | None
) -> None:
    past = replace(past, started_at=NOW - 500, polled_at=NOW, cleanup_after=None, errors=min(past.errors, 2))
    deadline = max(within.deadline, NOW)
    due = poll_due_at(past, StreamHistory(event_at=event_at, final_event_at=final_at), deadline, jitter)
    assert due <= deadline
    assert due >= min(polling_policy.retry_at(past), deadline)
    if past.retry_after_s is None and not past.errors:
        assert due <= NOW + polling_policy.MAX_POSTPONED_S


# Waiting for room


@given(st.floats(1, LONGEST_DEADLINE_S), limit_sets, jitters, st.integers(0, 100))
def test_another_look_for_room_comes_after_a_whole_number_of_seconds(
    timeout_s: float, within: Limits, jitter: float, conflicts: int
) -> None:
    decision = retry_policy.next_slot_attempt(timeout_s, NOW, within, jitter, conflicts)
    assert decision.next is NextStep.START
    assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S
    assert decision.wait_seconds <= max(math.ceil(within.deadline - NOW), 1)


@pytest.mark.parametrize("deadline_s", [10, 3600, DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [2, 60, 3600])
def test_no_queue_spends_more_turns_than_are_set_aside_for_it(deadline_s: int, longest_s: int) -> None:
    within = limits(shortest_s=1, longest_s=longest_s, deadline=NOW + deadline_s)
    now, turns = NOW, 0
    while now < within.deadline:
        now += retry_policy.next_slot_attempt(deadline_s, now, within).wait_seconds
        turns += 1
    # One more, because the last is as long as what is left; and no wait is longer than an hour.
    assert turns <= max(polling_policy.MAX_QUEUE_CHECKS, deadline_s / WAIT_LIMIT_S) + 1
    assert now < within.deadline + 1


@pytest.mark.parametrize(
    ("timeout_s", "wait_s"), [(600, 2), (3600, 4), (DAY_S, 87), (LONGEST_DEADLINE_S, 2592)]
)
@pytest.mark.parametrize("waited", [0.0, 0.5, 0.9])
def test_how_soon_a_queued_request_looks_again_depends_on_its_deadline_and_not_on_its_age(
    timeout_s: int, wait_s: int, waited: float
) -> None:
    within = limits(deadline=NOW + timeout_s)
    assert retry_policy.next_slot_attempt(timeout_s, NOW + waited * timeout_s, within).wait_seconds == wait_s


def test_queued_requests_of_equal_age_look_again_at_different_times() -> None:
    waits = {
        retry_policy.next_slot_attempt(3600, NOW, limits(), jitter / 40).wait_seconds for jitter in range(40)
    }
    assert waits == {4, 5, 6, 7, 8}


@pytest.mark.parametrize("timeout_s", [3600, LONGEST_DEADLINE_S])
def test_after_a_conflict_the_next_look_comes_within_seconds_and_a_row_of_them_ends(timeout_s: int) -> None:
    within = limits(deadline=NOW + timeout_s)
    waits = [
        retry_policy.next_slot_attempt(timeout_s, NOW, within, 0.0, count).wait_seconds
        for count in range(1, 20)
    ]
    assert waits[:2] == [1, 2]
    assert waits[-1] == retry_policy.next_slot_attempt(timeout_s, NOW, within).wait_seconds


# Faults of our own before the start


def test_a_fault_is_waited_out_for_six_hours_with_waits_that_grow_with_the_age() -> None:
    age_s, waits = 0.0, []
    while (
        decision := retry_policy.next_attempt_after_fault(age_s, NOW + age_s, NOW + DAY_S)
    ).next is NextStep.START:
        waits.append(decision.wait_seconds)
        age_s += decision.wait_seconds
    assert age_s == 6 * 3600
    assert (waits[0], max(waits)) == (5, 300)
    assert len(waits) <= 120


@given(st.floats(0, 6 * 3600), st.integers(-10, 10**6), jitters)
def test_no_wait_after_a_fault_outlasts_the_deadline(age_s: float, rest_s: float, jitter: float) -> None:
    decision = retry_policy.next_attempt_after_fault(age_s, NOW, NOW + rest_s, jitter)
    if rest_s <= 0 or age_s >= retry_policy.START_FAULT_LIMIT_S:
        assert decision == Decision(NextStep.NOTIFY)
        return
    assert decision.next is NextStep.START
    assert 1 <= decision.wait_seconds <= max(math.ceil(rest_s), 1)


@given(st.floats(0, 1200), st.integers(0, 4), st.none() | st.floats(0, 1e6))
def test_another_cancel_comes_after_a_whole_number_of_seconds_or_never(
    failing_s: float, refusals: int, retry_after_s: float | None
) -> None:
    wait_s = retry_policy.cancel_retry_wait_s(failing_s, refusals, retry_after_s)
    if failing_s >= retry_policy.CANCEL_LIMIT_S or refusals >= retry_policy.MAX_CANCEL_REFUSALS:
        assert wait_s is None
    else:
        assert wait_s is not None
        assert 1 <= wait_s <= retry_policy.CANCEL_WAIT_LIMIT_S
        assert failing_s + wait_s <= retry_policy.CANCEL_LIMIT_S + 1


def test_the_waits_between_cancels_double() -> None:
    waits: list[int] = []
    while (wait_s := retry_policy.cancel_retry_wait_s(sum(waits), 0, None)) is not None:
        waits.append(wait_s)
    assert waits[:6] == [5, 5, 10, 20, 40, 60]
    assert sum(waits) == retry_policy.CANCEL_LIMIT_S
