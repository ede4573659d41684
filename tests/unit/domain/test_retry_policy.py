"""Retry policy: when a start, a check for a free slot and a cancel are repeated, and when they are given up."""

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


# Waiting for room


@given(st.floats(1, LONGEST_DEADLINE_S), limit_sets, jitters, st.integers(0, 100))
def test_another_look_for_room_comes_after_a_whole_number_of_seconds(
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
