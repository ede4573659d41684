"""Retries of a webhook: when the next attempt is made, how many there are, and when they end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import (
    CLAIM_S,
    DELAYS_S,
    MAX_AGE_S,
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER_S,
    claimed_until,
    next_attempt_at,
)

HOUR_S = 3600.0
jitters = st.floats(0, 1)
retry_afters = st.none() | st.floats(0, 1e9)


def attempt_times(jitter_list: list[float], retry_after_list: list[float | None]) -> list[float]:
    """Return when each attempt of a delivery is made, in seconds after its creation."""
    times = [NOW]
    for jitter, retry_after_s in zip(jitter_list, retry_after_list, strict=True):
        at = next_attempt_at(
            len(times), created_at=NOW, now=times[-1], retry_after_s=retry_after_s, jitter=jitter
        )
        if at is None:
            break
        times.append(at)
    return [time - NOW for time in times]


def test_the_attempts_are_spread_over_75_hours() -> None:
    times = attempt_times([0.5] * 20, [None] * 20)
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx(list(DELAYS_S))
    assert len(times) == MAX_ATTEMPTS == 10
    assert 75 * HOUR_S < times[-1] < 76 * HOUR_S


@given(st.lists(jitters, min_size=20, max_size=20))
def test_without_retry_after_all_attempts_are_made_and_the_last_one_after_three_days(
    jitter_list: list[float],
) -> None:
    times = attempt_times(jitter_list, [None] * 20)
    assert len(times) == MAX_ATTEMPTS
    assert 72 * HOUR_S < times[-1] < 84 * HOUR_S


@given(st.lists(st.tuples(jitters, retry_afters), min_size=20, max_size=20))
def test_no_receiver_gets_more_than_ten_attempts_or_one_after_five_days(
    answers: list[tuple[float, float | None]],
) -> None:
    times = attempt_times([jitter for jitter, _ in answers], [retry_after_s for _, retry_after_s in answers])
    assert len(times) <= MAX_ATTEMPTS
    assert times == sorted(times)
    assert times[-1] <= MAX_AGE_S


@given(st.integers(1, MAX_ATTEMPTS), st.floats(0, MAX_AGE_S), retry_afters, jitters)
def test_retry_after_postpones_an_attempt_and_never_makes_it_earlier(
    attempts: int, age_s: float, retry_after_s: float | None, jitter: float
) -> None:
    now = NOW + age_s
    usual = next_attempt_at(attempts, created_at=NOW, now=now, retry_after_s=None, jitter=jitter)
    at = next_attempt_at(attempts, created_at=NOW, now=now, retry_after_s=retry_after_s, jitter=jitter)
    if at is not None:
        assert usual is not None
        assert at == max(usual, now + min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


@given(st.integers(1, MAX_ATTEMPTS - 2), jitters)
def test_jitter_changes_a_delay_by_at_most_ten_percent(attempts: int, jitter: float) -> None:
    at = next_attempt_at(attempts, created_at=NOW, now=NOW, retry_after_s=None, jitter=jitter)
    assert at is not None
    assert at - NOW == pytest.approx(DELAYS_S[attempts - 1], rel=0.101)


def test_a_retry_after_of_years_is_shortened_to_a_day() -> None:
    at = next_attempt_at(1, created_at=NOW, now=NOW, retry_after_s=1e9, jitter=0.5)
    assert at == NOW + MAX_RETRY_AFTER_S


def test_an_attempt_that_would_be_made_after_five_days_is_not_made() -> None:
    now = NOW + MAX_AGE_S - DELAYS_S[4]
    assert next_attempt_at(5, created_at=NOW, now=now, retry_after_s=None, jitter=0.5) == NOW + MAX_AGE_S
    assert next_attempt_at(5, created_at=NOW, now=now + 1, retry_after_s=None, jitter=0.5) is None


@pytest.mark.parametrize(
    ("attempts", "wait_s"), [(1, CLAIM_S), (2, 300), (5, 18_000), (9, 86_400), (10, CLAIM_S)]
)
def test_a_crashed_attempt_is_repeated_after_the_delay_of_a_failed_one(attempts: int, wait_s: float) -> None:
    assert claimed_until(attempts, NOW) == NOW + wait_s


def running(claim: str | None = "token", status: DeliveryStatus = DeliveryStatus.PENDING) -> Delivery:
    return Delivery(
        execution_id="e",
        event_id="e/1/COMPLETED",
        status=status,
        host="hooks.example.com",
        attempts=1,
        created_at=NOW,
        next_at=NOW + CLAIM_S,
        expires_at=0,
        claim=claim,
        last_attempt_at=NOW,
    )


def test_an_attempt_is_running_until_its_claim_ends() -> None:
    assert running().is_running(NOW + CLAIM_S - 1)
    assert not running().is_running(NOW + CLAIM_S)
    assert not running(claim=None).is_running(NOW)
    assert not running(status=DeliveryStatus.DELIVERED).is_running(NOW)
