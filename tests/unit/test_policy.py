"""When to ask again: pure functions, so every promise can be asked of thousands of histories."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import history, limits
from tests.support.clock import NOW
from waterhook import policy
from waterhook.errors import PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.models import History, Next
from waterhook.policy import (
    CLEANUP_MARGIN_S,
    DEAF_S,
    FAR_S,
    RETRY_AFTER_LIMIT_S,
    START_BUDGET,
    TURN_BUDGET,
    WAIT_LIMIT_S,
    Decision,
    Limits,
    next_step,
    start_again,
)
from waterhook.status import StatusDocument

DAY_S = 86_400
LONGEST_DEADLINE_S = 30 * DAY_S

# Times around NOW, in the past and the future, and far beyond what is sensible.
times = st.floats(NOW - LONGEST_DEADLINE_S, NOW + 2 * LONGEST_DEADLINE_S)
percents = st.floats(0, 100) | st.sampled_from([0.0, 5e-324, 1e-300, 99.99999999999999, 100.0])
histories = st.builds(
    History,
    started_at=times,
    turns=st.integers(0, 3 * TURN_BUDGET),
    errors=st.integers(0, 5000),
    retry_after_s=st.none() | st.floats(0, 1e9),
    not_found=st.integers(0, 5000),
    not_found_since=st.none() | times,
    progress=st.none() | percents,
    progress_at=st.none() | times,
    first_progress=st.none() | percents,
    first_progress_at=st.none() | times,
    cleanup_after=st.none() | times | st.floats(NOW - 10, NOW + 4000) | st.floats(-6e10, 2.5e11),
    cancels=st.integers(0, 3),
)
waits = st.integers(1, 3600)
limit_sets = st.builds(
    lambda one, other, deadline: Limits(min(one, other), max(one, other), deadline), waits, waits, times
)


@given(histories, limit_sets)
def test_a_wait_is_a_whole_number_that_the_state_machine_accepts(past: History, within: Limits) -> None:
    decision = next_step(past, NOW, within)
    if within.deadline <= NOW:
        assert decision == Decision(Next.CANCEL)
    else:
        assert decision.next is Next.WAIT
        assert type(decision.wait_seconds) is int
        assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S


@given(histories, limit_sets)
def test_no_wait_passes_the_deadline_by_more_than_the_rounding(past: History, within: Limits) -> None:
    decision = next_step(past, NOW, within)
    assert NOW + decision.wait_seconds < max(within.deadline, NOW) + 1


@given(histories, limit_sets)
def test_the_same_history_gets_the_same_decision(past: History, within: Limits) -> None:
    assert next_step(past, NOW, within) == next_step(replace(past), NOW, replace(within))


@given(histories, limit_sets, st.floats(0, 1e9))
def test_retry_after_is_honoured_up_to_its_limit_unless_an_end_is_nearer(
    past: History, within: Limits, retry_after_s: float
) -> None:
    past = replace(past, retry_after_s=retry_after_s)
    decision = next_step(past, NOW, within)
    ends = [within.deadline - NOW]
    if past.cleanup_after is not None and past.cleanup_after > NOW:
        ends.append(past.cleanup_after - NOW - CLEANUP_MARGIN_S)
    assert decision.wait_seconds >= min(retry_after_s, RETRY_AFTER_LIMIT_S, *ends) or min(ends) <= 0


@given(histories, limit_sets, st.integers(0, 5000))
def test_more_errors_in_a_row_never_mean_asking_sooner(past: History, within: Limits, errors: int) -> None:
    fewer = next_step(replace(past, errors=min(errors, past.errors)), NOW, within)
    more = next_step(replace(past, errors=max(errors, past.errors)), NOW, within)
    assert more.wait_seconds >= fewer.wait_seconds


@given(histories, limit_sets)
def test_a_young_loop_asks_before_cleanup_takes_the_result_away(past: History, within: Limits) -> None:
    past = replace(past, turns=0)
    decision = next_step(past, NOW, within)
    if past.cleanup_after is not None and past.cleanup_after >= NOW + 2:
        assert NOW + decision.wait_seconds <= past.cleanup_after


@given(histories, limit_sets)
def test_cleanup_that_is_past_slows_nothing_down_and_hurries_nothing(past: History, within: Limits) -> None:
    assert next_step(replace(past, cleanup_after=NOW - 1), NOW, within) == (
        next_step(replace(past, cleanup_after=None), NOW, within)
    )


@given(histories, limit_sets)
def test_a_quiet_upstream_is_asked_no_later_than_the_longest_wait(past: History, within: Limits) -> None:
    quiet = replace(past, turns=0, retry_after_s=None)
    assert next_step(quiet, NOW, within).wait_seconds <= within.longest_wait_s


@given(histories, limit_sets)
def test_nobody_is_asked_sooner_than_the_shortest_wait_but_for_an_end_that_is_near(
    past: History, within: Limits
) -> None:
    calm = replace(past, cleanup_after=None)
    decision = next_step(calm, NOW, within)
    if decision.next is Next.WAIT:
        assert decision.wait_seconds >= min(within.shortest_wait_s, within.deadline - NOW)


@pytest.mark.parametrize(
    ("age_s", "wait_s"),
    [(0, 2), (4, 2), (6, 2), (20, 6), (100, 30), (196, 59), (200, 60), (10_000, 60)],
)
def test_without_progress_three_tenths_of_the_age_is_waited(age_s: int, wait_s: int) -> None:
    assert next_step(history(started_at=NOW - age_s), NOW, limits()) == Decision(Next.WAIT, wait_s)


@pytest.mark.parametrize(
    ("errors", "wait_s"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32), (5, 60), (6, 60), (10_000, 60)]
)
def test_trouble_doubles_the_wait_up_to_the_longest(errors: int, wait_s: int) -> None:
    assert next_step(history(errors=errors), NOW, limits()).wait_seconds == wait_s


@pytest.mark.parametrize(
    ("left_s", "decision"),
    [
        (-1e9, Decision(Next.CANCEL)),
        (-0.001, Decision(Next.CANCEL)),
        (0, Decision(Next.CANCEL)),
        (0.001, Decision(Next.WAIT, 1)),
        (1, Decision(Next.WAIT, 1)),
        (1.5, Decision(Next.WAIT, 2)),
        (30, Decision(Next.WAIT, 30)),
    ],
)
def test_at_the_deadline_the_job_is_cancelled_and_not_before(left_s: float, decision: Decision) -> None:
    old = history(started_at=NOW - 10_000)
    assert next_step(old, NOW, limits(deadline=NOW + left_s)) == decision


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"), [(0.0, 2), (1.0, 2), (10.0, 10), (10.2, 11), (900.0, 900), (1e9, 900)]
)
def test_retry_after_stretches_the_wait_past_the_longest(retry_after_s: float, wait_s: int) -> None:
    assert next_step(history(retry_after_s=retry_after_s), NOW, limits()).wait_seconds == wait_s


@pytest.mark.parametrize(
    ("shortest_s", "cleanup_in_s", "most_s"),
    [(2, 30, 25), (2, 6, 2), (2, 5, 2), (2, 1, 2), (60, 45, 40), (60, 30, 30), (60, 10, 10), (3600, 100, 95)],
)
def test_the_result_is_fetched_before_it_is_cleaned_up(
    shortest_s: float, cleanup_in_s: float, most_s: int
) -> None:
    past = history(started_at=NOW - 10_000, cleanup_after=NOW + cleanup_in_s, retry_after_s=500.0)
    within = limits(shortest_s=shortest_s, longest_s=3600)
    assert 1 <= next_step(past, NOW, within).wait_seconds <= most_s


@pytest.mark.parametrize(
    ("percent", "wait_s"),
    [
        (50.0, 45),  # as much again is to be expected, and half of it is waited for
        (80.0, 12),  # 22.5 s more
        (90.0, 9),  # ten more, and a tenth of the age is the last stretch
        (95.0, 5),  # less than five more, waited for whole
        (99.9, 2),
    ],
)
def test_the_wait_shrinks_toward_the_finish_that_progress_predicts(percent: float, wait_s: int) -> None:
    past = history(started_at=NOW - 90, progress=percent, progress_at=NOW)
    assert next_step(past, NOW, limits()).wait_seconds == wait_s


def test_a_far_finish_is_trusted_no_further_than_the_job_has_been_watched() -> None:
    past = history(
        started_at=NOW - 40, progress=1.0, progress_at=NOW, first_progress=1.0, first_progress_at=NOW
    )
    assert next_step(past, NOW, limits()).wait_seconds == 40


def test_a_job_that_should_be_done_is_asked_often_and_then_ever_more_seldom() -> None:
    past = history(
        started_at=NOW - 100,
        progress=99.0,
        progress_at=NOW - 2,
        first_progress=1.0,
        first_progress_at=NOW - 99,
    )
    found = [next_step(past, NOW + late, limits()).wait_seconds for late in (0, 10, 40, 100, 400)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (2, 60)


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
    """Return after how many turns the loop comes to its deadline."""
    now, past = NOW, history()
    for turn in itertools.count():
        decision = next_step(past, now, replace(within, deadline=NOW + timeout_s))
        if decision.next is Next.CANCEL:
            return turn
        now += decision.wait_seconds + answer_s
        answer = upstream(turn, now)
        if isinstance(answer, UpstreamError):
            past = policy.not_answered(past, answer, now)
        else:
            past = policy.answered(past, answer, now)
        assert turn < 4 * TURN_BUDGET, "the loop never ends"
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
    "always failing, wants to be asked at once": lambda _turn, _now: Unavailable("x", "", retry_after_s=0.0),
    "failing every other time": lambda turn, now: (
        PerhapsAccepted("x", "") if turn % 2 else StatusDocument(cleanup_after=now + 1)
    ),
}


@pytest.mark.parametrize("upstream", ADVERSARIES.values(), ids=ADVERSARIES)
@pytest.mark.parametrize("timeout_s", [1, 60, 3600, DAY_S, 7 * DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [1, 60, 3600])
def test_no_upstream_leads_an_execution_into_the_history_limit(
    upstream: Callable[[int, float], StatusDocument | UpstreamError], timeout_s: int, longest_s: int
) -> None:
    assert run(timeout_s, upstream, within=limits(shortest_s=1, longest_s=longest_s)) <= TURN_BUDGET + 20


@given(st.floats(1, LONGEST_DEADLINE_S), st.floats(0, 25))
def test_no_deadline_spends_more_than_the_budget_of_turns(timeout_s: float, answer_s: float) -> None:
    always_near = ADVERSARIES["cleanup is always a second ahead"]
    turns = run(timeout_s, always_near, within=limits(shortest_s=1, longest_s=1), answer_s=answer_s)
    assert turns <= TURN_BUDGET + 20


@pytest.mark.parametrize("start_deadline_s", [60, 900, 3600, DAY_S])
@pytest.mark.parametrize("longest_s", [1, 60, 3600])
def test_no_upstream_that_is_down_spends_more_than_the_budget_of_starts(
    start_deadline_s: int, longest_s: int
) -> None:
    now, within = NOW, limits(shortest_s=1, longest_s=longest_s, deadline=NOW + start_deadline_s)
    for attempts in itertools.count(1):
        decision = start_again(attempts, 0.0, now, within)
        if decision.next is Next.NOTIFY:
            break
        now += decision.wait_seconds
        assert attempts <= START_BUDGET + 20


def test_both_budgets_together_stay_within_the_history_of_an_execution() -> None:
    # Nine events a turn were measured; the notification and the retries of both need the rest.
    assert (TURN_BUDGET + 20 + START_BUDGET + 20) * 9 < 25_000 - 2_000


def test_the_budget_is_not_felt_by_a_young_job_with_a_far_deadline() -> None:
    far = limits(deadline=NOW + LONGEST_DEADLINE_S)
    near = limits(deadline=NOW + 3600)
    for turns in range(4):
        assert next_step(history(turns=turns), NOW, far) == next_step(history(turns=turns), NOW, near)


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e9), limit_sets)
def test_another_start_comes_after_a_whole_number_of_seconds_or_never(
    attempts: int, retry_after_s: float | None, within: Limits
) -> None:
    decision = start_again(attempts, retry_after_s, NOW, within)
    if within.deadline <= NOW:
        assert decision == Decision(Next.NOTIFY)
        return
    assert decision.next is Next.START
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
    assert start_again(attempts, retry_after_s, NOW, limits()) == Decision(Next.START, wait_s)


def test_an_answer_counts_a_turn_and_ends_the_row_of_errors() -> None:
    past = history(turns=5, errors=3, retry_after_s=9.0, not_found=2, not_found_since=NOW - 9)
    assert policy.answered(past, StatusDocument(), NOW) == history(turns=6)


def test_a_failure_counts_a_turn_and_lengthens_the_row_of_errors() -> None:
    past = policy.not_answered(history(turns=5, errors=3), Unavailable("x", "", retry_after_s=7.0), NOW)
    assert (past.turns, past.errors, past.retry_after_s) == (6, 4, 7.0)


def test_a_failure_keeps_what_is_known_of_cleanup_and_progress() -> None:
    past = history(cleanup_after=NOW + 99, progress=50.0, progress_at=NOW)
    after = policy.not_answered(past, PerhapsAccepted("x", ""), NOW + 5)
    assert (after.cleanup_after, after.progress, after.progress_at) == (NOW + 99, 50.0, NOW)


MISSING = Refused("refused", "HTTP 404", status=404)


def test_a_404_is_lost_only_after_three_in_a_row_over_a_minute() -> None:
    past = history()
    seen = []
    for at in (0, 1, 2, 30, 59, 60, 61):
        past = policy.not_answered(past, MISSING, NOW + at)
        seen.append(policy.is_lost(past, NOW + at))
    assert seen == [False, False, False, False, False, True, True]


def test_two_404_an_hour_apart_are_not_enough() -> None:
    past = policy.not_answered(policy.not_answered(history(), MISSING, NOW), MISSING, NOW + 3600)
    assert not policy.is_lost(past, NOW + 3600)


@pytest.mark.parametrize("interruption", [PerhapsAccepted("x", "", status=500), StatusDocument()])
def test_anything_between_two_404_begins_the_count_anew(interruption: UpstreamError | StatusDocument) -> None:
    past = history()
    for at in (0, 30, 59):
        past = policy.not_answered(past, MISSING, NOW + at)
    if isinstance(interruption, UpstreamError):
        past = policy.not_answered(past, interruption, NOW + 59.5)
    else:
        past = policy.answered(past, interruption, NOW + 59.5)
    past = policy.not_answered(past, MISSING, NOW + 61)
    assert not policy.is_lost(past, NOW + 61)
    assert (past.not_found, past.not_found_since) == (1, NOW + 61)


@pytest.mark.parametrize(
    ("document", "percent"),
    [
        (StatusDocument(progress=40.0), 40.0),
        (StatusDocument(progress=-5.0), 0.0),
        (StatusDocument(progress=500.0), 100.0),
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
    assert policy.answered(history(), document, NOW).progress == percent


def test_progress_that_stands_still_keeps_the_time_it_last_moved() -> None:
    past = policy.answered(history(), StatusDocument(progress=10.0), NOW)
    past = policy.answered(past, StatusDocument(progress=10.0), NOW + 50)
    assert past.progress_at == NOW


def test_progress_that_goes_back_is_measured_from_its_new_beginning() -> None:
    past = history()
    for at, progress in ((0, 10.0), (10, 80.0), (20, 5.0)):
        past = policy.answered(past, StatusDocument(progress=progress), NOW + at)
    assert (past.first_progress, past.first_progress_at, past.progress) == (5.0, NOW + 20, 5.0)


def test_cleanup_is_forgotten_when_the_upstream_no_longer_speaks_of_it() -> None:
    past = policy.answered(history(), StatusDocument(cleanup_after=NOW + 9), NOW)
    assert policy.answered(past, StatusDocument(), NOW).cleanup_after is None


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=30), limit_sets)
def test_no_row_of_progress_reports_leads_out_of_bounds(reports: list[float | None], within: Limits) -> None:
    past, now = history(), NOW
    for progress in reports:
        past = policy.answered(past, StatusDocument(progress=progress), now)
        decision = next_step(past, now, within)
        assert decision.next is Next.CANCEL or 1 <= decision.wait_seconds <= WAIT_LIMIT_S
        assert math.isfinite(now)
        now += max(decision.wait_seconds, 1)


# Following


def following(within: Limits) -> Limits:
    return replace(within, follow=True)


@given(histories, limit_sets)
def test_a_job_is_followed_only_while_the_upstream_answers_and_no_stream_failed_lately(
    past: History, within: Limits
) -> None:
    decision = next_step(past, NOW, following(within))
    if within.deadline <= NOW:
        assert decision == Decision(Next.CANCEL)
    elif past.errors or past.retry_after_s is not None or past.turns >= TURN_BUDGET // 2:
        assert decision == next_step(past, NOW, within)
    elif past.cleanup_after is not None and 0 < past.cleanup_after - NOW <= DEAF_S:
        # A stream that says nothing is found out too late for a result that is about to go.
        assert decision == next_step(past, NOW, within)
    else:
        assert decision == Decision(Next.FOLLOW)


def test_a_job_without_a_past_is_followed_at_once() -> None:
    assert next_step(history(), NOW, following(limits())) == Decision(Next.FOLLOW)


@given(histories, limit_sets)
def test_where_following_is_off_nobody_follows(past: History, within: Limits) -> None:
    assert next_step(past, NOW, within).next is not Next.FOLLOW


def test_a_stream_that_failed_is_tried_again_after_a_while_of_polling() -> None:
    past = policy.not_followed(history(), NOW)
    within = following(limits())
    pause_s = policy.FOLLOW_PAUSE_S
    steps = [next_step(past, NOW + seconds, within).next for seconds in (0, 1, pause_s - 0.1, pause_s)]
    assert steps == [Next.WAIT, Next.WAIT, Next.WAIT, Next.FOLLOW]


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 240), (60, 240), (240, 240), (300, 300), (900, 900), (50_000, 900)]
)
def test_the_pause_after_a_stream_that_failed_doubles_the_age_within_bounds(age_s: int, pause_s: int) -> None:
    past = policy.not_followed(history(started_at=NOW - age_s), NOW)
    steps = [next_step(past, NOW + at, following(limits())).next for at in (pause_s - 0.1, pause_s, 2000)]
    assert steps == [Next.WAIT, Next.FOLLOW, Next.FOLLOW]


@given(histories, limit_sets, st.floats(0, 1e5), st.floats(0, 1e5))
def test_once_a_stream_is_worth_a_try_again_it_stays_so_while_no_finish_is_known(
    past: History, within: Limits, one: float, other: float
) -> None:
    past = replace(past, progress=None, cleanup_after=None, follow_failed_at=NOW)
    within = following(replace(within, deadline=NOW + LONGEST_DEADLINE_S))
    sooner, later = (next_step(past, NOW + at, within).next for at in sorted((one, other)))
    assert later is Next.FOLLOW or sooner is not Next.FOLLOW


@pytest.mark.parametrize(
    ("percent", "expected"), [(1.0, Next.WAIT), (49.0, Next.WAIT), (51.0, Next.FOLLOW), (99.0, Next.FOLLOW)]
)
def test_where_seats_are_scarce_a_far_job_leaves_them_to_others(percent: float, expected: Next) -> None:
    # It has run for as long as is far: with half of it done, as much is left.
    past = history(started_at=NOW - FAR_S, progress=percent, progress_at=NOW)
    scarce = replace(past, follow_failed_at=NOW - FAR_S + 1)
    assert next_step(scarce, NOW, following(limits())).next is expected
    assert next_step(past, NOW, following(limits())).next is Next.FOLLOW


@given(histories, limit_sets, percents, percents)
def test_more_progress_by_now_never_means_asking_later(
    past: History, within: Limits, one: float, other: float
) -> None:
    past = replace(past, started_at=NOW - 100, progress_at=NOW, first_progress=None, first_progress_at=None)
    less, more = (
        next_step(replace(past, progress=max(percent, 0.01)), NOW, within).wait_seconds
        for percent in sorted((one, other))
    )
    assert more <= less


def test_a_stream_that_always_fails_costs_no_more_than_the_budget_of_turns() -> None:
    within = following(limits(deadline=NOW + LONGEST_DEADLINE_S))
    past, now, turns = history(), NOW, 0
    while (decision := next_step(past, now, within)).next is not Next.CANCEL:
        if decision.next is Next.FOLLOW:
            past = policy.not_followed(past, now)
        now += decision.wait_seconds
        past = policy.answered(past, StatusDocument("RUNNING"), now)
        turns += 1
    # The last waits are as long as the state machine lets one be, which is a few turns more.
    assert turns <= TURN_BUDGET + 10


# Waiting for room


@given(st.floats(0, LONGEST_DEADLINE_S), limit_sets)
def test_another_look_for_room_comes_after_a_whole_number_of_seconds(waited_s: float, within: Limits) -> None:
    decision = policy.queue_again(waited_s, NOW, within)
    assert decision.next is Next.START
    assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S
    assert decision.wait_seconds <= max(math.ceil(within.deadline - NOW), 1)


def test_a_month_of_queueing_and_the_budget_of_polls_fit_into_the_history_of_an_execution() -> None:
    queue = max(policy.QUEUE_TURNS, math.ceil(LONGEST_DEADLINE_S / WAIT_LIMIT_S)) + 1
    assert (queue + TURN_BUDGET + 20) * 9 + 18 < 25_000


@pytest.mark.parametrize("deadline_s", [10, 3600, DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [2, 60, 3600])
def test_no_queue_spends_more_turns_than_are_set_aside_for_it(deadline_s: int, longest_s: int) -> None:
    within = limits(shortest_s=1, longest_s=longest_s, deadline=NOW + deadline_s)
    now, turns = NOW, 0
    while now < within.deadline:
        now += policy.queue_again(now - NOW, now, within).wait_seconds
        turns += 1
    # One more, because the last is as long as what is left; and no wait is longer than an hour.
    assert turns <= max(policy.QUEUE_TURNS, deadline_s / WAIT_LIMIT_S) + 1
    assert now < within.deadline + 1


def test_a_young_queue_is_looked_at_often() -> None:
    assert policy.queue_again(0, NOW, limits(deadline=NOW + 100)).wait_seconds == 2
    assert 20 <= policy.queue_again(100, NOW, limits(deadline=NOW + 100)).wait_seconds <= 40
