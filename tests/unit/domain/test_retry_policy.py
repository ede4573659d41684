"""Retry policy: when a start, a check for a free slot and a cancellation are repeated, and for how long."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import limits
from tests.support.polling_strategies import DAY_S, LONGEST_DEADLINE_S, jitters, limit_sets
from waterhook.domain import retry_policy
from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S
from waterhook.domain.polling_policy import WAIT_LIMIT_S, Decision, Limits
from waterhook.domain.retry_policy import next_start_attempt


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e9), limit_sets)
def test_a_start_is_retried_after_whole_seconds_until_the_deadline(
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


# Waiting for a free slot


@given(st.floats(1, LONGEST_DEADLINE_S), limit_sets, jitters, st.integers(0, 100))
def test_a_free_slot_is_checked_for_again_after_whole_seconds(
    timeout_s: float, within: Limits, jitter: float, conflicts: int
) -> None:
    decision = retry_policy.next_slot_attempt(timeout_s, NOW, within, jitter, conflicts)
    assert decision.next is NextStep.START
    assert 1 <= decision.wait_seconds <= WAIT_LIMIT_S
    assert decision.wait_seconds <= max(math.ceil(within.deadline - NOW), 1)


@pytest.mark.parametrize(
    ("timeout_s", "wait_s"), [(600, 2), (3600, 4), (DAY_S, 87), (LONGEST_DEADLINE_S, 2592)]
)
@pytest.mark.parametrize("waited", [0.0, 0.5, 0.9])
def test_the_interval_of_a_queued_request_depends_on_its_deadline_and_not_on_its_age(
    timeout_s: int, wait_s: int, waited: float
) -> None:
    within = limits(deadline=NOW + timeout_s)
    assert retry_policy.next_slot_attempt(timeout_s, NOW + waited * timeout_s, within).wait_seconds == wait_s


def test_queued_requests_of_equal_age_check_at_different_times() -> None:
    waits = {
        retry_policy.next_slot_attempt(3600, NOW, limits(), jitter / 40).wait_seconds for jitter in range(40)
    }
    assert waits == {4, 5, 6, 7, 8}


@pytest.mark.parametrize("timeout_s", [3600, LONGEST_DEADLINE_S])
def test_the_next_check_follows_a_conflict_within_seconds_but_not_after_many_conflicts(
    timeout_s: int,
) -> None:
    within = limits(deadline=NOW + timeout_s)
    waits = [
        retry_policy.next_slot_attempt(timeout_s, NOW, within, 0.0, count).wait_seconds
        for count in range(1, 20)
    ]
    assert waits[:2] == [1, 2]
    assert waits[-1] == retry_policy.next_slot_attempt(timeout_s, NOW, within).wait_seconds


# Faults of Waterhook before the start


def test_a_start_with_faults_is_retried_for_six_hours_with_growing_waits() -> None:
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
def test_no_wait_after_a_fault_exceeds_the_deadline(age_s: float, rest_s: float, jitter: float) -> None:
    decision = retry_policy.next_attempt_after_fault(age_s, NOW, NOW + rest_s, jitter)
    if rest_s <= 0 or age_s >= retry_policy.START_FAULT_LIMIT_S:
        assert decision == Decision(NextStep.NOTIFY)
        return
    assert decision.next is NextStep.START
    assert 1 <= decision.wait_seconds <= max(math.ceil(rest_s), 1)


@given(st.floats(0, 1200), st.integers(0, 4), st.none() | st.floats(0, 1e6))
def test_a_cancellation_is_retried_after_whole_seconds_until_its_limits(
    failing_s: float, refusals: int, retry_after_s: float | None
) -> None:
    wait_s = retry_policy.cancel_retry_wait_s(failing_s, refusals, retry_after_s)
    if failing_s >= retry_policy.CANCEL_LIMIT_S or refusals >= retry_policy.MAX_CANCEL_REFUSALS:
        assert wait_s is None
    else:
        assert wait_s is not None
        assert 1 <= wait_s <= retry_policy.CANCEL_WAIT_LIMIT_S
        assert failing_s + wait_s <= retry_policy.CANCEL_LIMIT_S + 1


def test_the_waits_between_cancellations_double() -> None:
    waits: list[int] = []
    while (wait_s := retry_policy.cancel_retry_wait_s(sum(waits), 0, None)) is not None:
        waits.append(wait_s)
    assert waits[:6] == [5, 5, 10, 20, 40, 60]
    assert sum(waits) == retry_policy.CANCEL_LIMIT_S
