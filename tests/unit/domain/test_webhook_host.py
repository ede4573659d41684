"""Breaker and share of a host: when it opens and closes, who probes it, and how many attempts use it."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from waterhook.domain.jitter import jitter_of
from waterhook.domain.webhook_host import (
    FIRST_OPEN_S,
    LONGEST_OPEN_S,
    MAX_HELD_BACK_S,
    OPEN_AFTER,
    PLACE_S,
    SPREAD_S,
    Admission,
    HostState,
    enter,
    enter_again_at,
    leave,
    share_of,
)
from waterhook.domain.webhook_retries import MAX_ATTEMPTS, next_attempt_at

LIMIT = 2


def admit(state: HostState, token: str, now: float, *, held_back_s: float = 0.0) -> HostState:
    admission, entered = enter(state, token, now, limit=LIMIT, held_back_s=held_back_s)
    assert admission is Admission.ADMITTED
    return entered


def refusal(state: HostState, now: float, *, attempt: str = "other", held_back_s: float = 0.0) -> Admission:
    admission, unchanged = enter(state, attempt, now, limit=LIMIT, held_back_s=held_back_s)
    assert unchanged == state or admission is Admission.ADMITTED
    return admission


def fail(state: HostState, now: float, *, attempt: str = "t", error: str = "timeout") -> HostState:
    return leave(admit(state, attempt, now), attempt, now, host_failed=True, error=error)


def open_host(now: float = NOW) -> HostState:
    state = HostState()
    for _ in range(OPEN_AFTER):
        state = fail(state, now)
    return state


def test_the_breaker_opens_after_five_failures_in_a_row() -> None:
    state = HostState()
    for _ in range(OPEN_AFTER - 1):
        state = fail(state, NOW)
        assert refusal(state, NOW) is Admission.ADMITTED
    state = fail(state, NOW, error="no_connection")
    assert refusal(state, NOW + FIRST_OPEN_S - 1) is Admission.OPEN
    assert (state.last_error, state.last_failed_at) == ("no_connection", NOW)


def test_a_success_in_between_starts_the_count_again() -> None:
    state = HostState()
    for _ in range(OPEN_AFTER - 1):
        state = fail(state, NOW)
    state = leave(admit(state, "t", NOW), "t", NOW, host_failed=False, error=None)
    for _ in range(OPEN_AFTER - 1):
        state = fail(state, NOW)
    assert refusal(state, NOW) is Admission.ADMITTED


def test_the_breaker_opens_for_a_minute_and_doubles_up_to_15_minutes() -> None:
    state, now, periods = open_host(), NOW, []
    for _ in range(40):
        periods.append(state.open_until - now)
        now = state.open_until
        state = fail(state, now)
    assert periods == [60, 120, 240, 480, *[LONGEST_OPEN_S] * 36]


def test_one_attempt_probes_a_host_whose_open_period_has_ended() -> None:
    state = open_host()
    probing = admit(state, "probe", state.open_until)
    assert refusal(probing, state.open_until) is Admission.OPEN
    closed = leave(probing, "probe", state.open_until + 1, host_failed=False, error=None)
    assert refusal(closed, state.open_until + 1) is Admission.ADMITTED
    assert (closed.failures, closed.openings, closed.open_until, dict(closed.places)) == (0, 0, 0, {})


def test_after_a_probe_that_crashed_another_attempt_probes() -> None:
    state = open_host()
    probing = admit(state, "probe", state.open_until)
    assert refusal(probing, state.open_until + PLACE_S - 1) is Admission.OPEN
    assert refusal(probing, state.open_until + PLACE_S) is Admission.ADMITTED


def test_failures_of_attempts_that_began_before_the_breaker_opened_do_not_open_it_for_longer() -> None:
    state = HostState(failures=OPEN_AFTER - 1)
    both = admit(admit(state, "a", NOW), "b", NOW)
    opened = leave(both, "a", NOW, host_failed=True, error="timeout")
    late = leave(opened, "b", NOW + 5, host_failed=True, error="timeout")
    assert (late.open_until, late.openings) == (opened.open_until, 1)


def test_a_delivery_of_more_than_three_days_is_not_held_back_by_the_breaker() -> None:
    state = open_host()
    assert refusal(state, NOW, held_back_s=MAX_HELD_BACK_S) is Admission.OPEN
    assert refusal(state, NOW, held_back_s=MAX_HELD_BACK_S + 1) is Admission.ADMITTED


def test_the_share_also_limits_a_delivery_that_the_breaker_does_not_hold_back() -> None:
    both = admit(admit(HostState(), "a", NOW), "b", NOW)
    assert refusal(both, NOW, held_back_s=MAX_HELD_BACK_S + 1) is Admission.FULL


def test_no_more_attempts_use_a_host_than_its_share() -> None:
    both = admit(admit(HostState(), "a", NOW), "b", NOW)
    assert refusal(both, NOW) is Admission.FULL
    assert refusal(leave(both, "a", NOW, host_failed=False, error=None), NOW) is Admission.ADMITTED


def test_an_attempt_gets_its_place_again() -> None:
    both = admit(admit(HostState(), "a", NOW), "b", NOW)
    assert admit(both, "a", NOW) == both


def test_a_place_is_free_again_after_a_minute() -> None:
    both = admit(admit(HostState(), "a", NOW), "b", NOW + 1)
    assert refusal(both, NOW + PLACE_S - 1) is Admission.FULL
    assert set(admit(both, "c", NOW + PLACE_S).places) == {"b", "c"}


def test_a_result_that_is_written_twice_counts_once() -> None:
    once = fail(HostState(), NOW)
    assert leave(once, "t", NOW, host_failed=True, error="timeout") == once


@pytest.mark.parametrize(
    ("concurrency", "places"), [(1, 1), (2, 1), (7, 1), (8, 2), (10, 2), (100, 25), (1000, 250)]
)
def test_the_share_is_a_quarter_of_the_concurrency_and_at_least_one(concurrency: int, places: int) -> None:
    assert share_of(concurrency) == places


def test_a_delivery_without_a_place_waits_longer_each_time_up_to_half_a_minute() -> None:
    waits = [
        [enter_again_at(Admission.FULL, 0.0, NOW, jitter, earlier_waits=waits) - NOW for jitter in (0, 1)]
        for waits in (0, 1, 2, 3, 4, 5, 5000)
    ]
    assert waits == [[1, 2], [2, 4], [4, 8], [8, 16], [16, 32], [16, 32], [16, 32]]


def test_an_attempt_that_was_not_made_gives_back_its_place_and_leaves_the_breaker() -> None:
    _, entered = enter(HostState(failures=3), "t", NOW, limit=LIMIT, held_back_s=0.0)
    left = leave(entered, "t", NOW, host_failed=None, error=None)
    assert (left.failures, left.places) == (3, {})


def test_deliveries_that_wait_for_the_same_breaker_are_spread_over_a_minute() -> None:
    opened = NOW + 900
    times = [
        enter_again_at(Admission.OPEN, opened, NOW, jitter_of(f"execution-{number}", 1), earlier_waits=0)
        for number in range(600)
    ]
    assert all(opened <= time < opened + SPREAD_S for time in times)
    in_one_second = [sum(second <= time - opened < second + 1 for time in times) for second in range(60)]
    assert max(in_one_second) < 30


def test_a_delivery_waits_for_the_probe_of_another_one() -> None:
    assert enter_again_at(Admission.OPEN, NOW - 1, NOW, 0.0, earlier_waits=0) == NOW + 15


steps = st.lists(
    st.tuples(
        st.sampled_from(["enter", "fail", "succeed"]),
        st.sampled_from("abcdef"),
        st.floats(0, 200),
        st.sampled_from([0.0, MAX_HELD_BACK_S + 1.0]),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 4))
def test_in_any_order_of_events_the_share_holds_and_an_open_breaker_admits_one_at_most(
    events: list[tuple[str, str, float, float]], limit: int
) -> None:
    state, now = HostState(), NOW
    for event, token, elapsed_s, held_back_s in events:
        now += elapsed_s
        if event == "enter":
            before = {holder for holder, expires in state.places.items() if expires > now}
            admission, state = enter(state, token, now, limit=limit, held_back_s=held_back_s)
            is_new = admission is Admission.ADMITTED and token not in before
            if is_new and held_back_s == 0:
                assert now >= state.open_until
                assert state.failures < OPEN_AFTER or not before
        else:
            state = leave(state, token, now, host_failed=event == "fail", error="timeout")
        assert sum(expires > now for expires in state.places.values()) <= limit
        assert state.open_until <= now + LONGEST_OPEN_S
        assert state.failures < OPEN_AFTER or state.openings > 0


@dataclass
class SimulatedDelivery:
    """A delivery that enters the host, makes its attempts, and waits in between, with an injected clock."""

    name: str
    created_at: float
    attempts: int = 0
    checks: int = 0
    due_at: float | None = None
    delivered_at: float | None = None

    def make_attempt(self, state: HostState, now: float, works_from: float) -> HostState:
        self.checks += 1
        jitter = jitter_of(self.name, self.checks)
        admission, entered = enter(state, self.name, now, limit=LIMIT, held_back_s=now - self.created_at)
        if admission is not Admission.ADMITTED:
            self.due_at = enter_again_at(admission, state.open_until, now, jitter, earlier_waits=self.checks)
            return entered
        self.attempts += 1
        works = now >= works_from
        if works:
            self.due_at, self.delivered_at = None, now
        else:
            self.due_at = next_attempt_at(
                self.attempts, created_at=self.created_at, now=now, retry_after_s=None, jitter=jitter
            )
        return leave(entered, self.name, now, host_failed=not works, error=None if works else "timeout")


@pytest.mark.parametrize("others", [0, 1, 20])
@pytest.mark.parametrize("seed", range(4))
def test_a_delivery_that_is_created_with_an_outage_of_three_days_is_delivered(others: int, seed: int) -> None:
    outage_s = 3 * 24 * 3600.0
    deliveries = [
        SimulatedDelivery(f"{seed}/{number}", NOW, due_at=NOW + number) for number in range(others + 1)
    ]
    state = HostState()
    while waiting := [delivery for delivery in deliveries if delivery.due_at is not None]:
        first = min(waiting, key=lambda delivery: delivery.due_at or 0.0)
        state = first.make_attempt(state, first.due_at or 0.0, NOW + outage_s)
    assert all(delivery.delivered_at is not None for delivery in deliveries)
    assert all(delivery.attempts <= MAX_ATTEMPTS for delivery in deliveries)
    last = max(delivery.delivered_at or 0.0 for delivery in deliveries)
    assert last < NOW + 5 * 24 * 3600
