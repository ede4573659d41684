"""Event budget: every state machine execution stays below the limit of 25,000 history events."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.builders import history, limits
from tests.support.polling_strategies import DAY_S, LONGEST_DEADLINE_S, MAX_POLLS
from waterhook.domain import poll_history, polling_policy, retry_policy
from waterhook.domain.loop_state import NextStep
from waterhook.domain.polling_policy import (
    CLEANUP_MARGIN_S,
    EVENTS_PER_POLL,
    MAX_STARTS,
    WAIT_LIMIT_S,
    Limits,
    next_step,
)
from waterhook.domain.retry_policy import next_start_attempt
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import PerhapsAcceptedError, UpstreamError, UpstreamUnavailableError

# The most events of a history in any simulated case; Step Functions allows 25,000.
MOST_EVENTS = 20_000


def run(
    timeout_s: float,
    upstream: Callable[[int, float], StatusDocument | UpstreamError],
    *,
    within: Limits,
    answer_s: float = 0.0,
) -> int:
    """Return how many history events the loop has written at its deadline."""
    now, past = NOW, history()
    for cycle in itertools.count():
        decision = next_step(past, now, replace(within, deadline=NOW + timeout_s))
        if decision.next is NextStep.CANCEL:
            return polling_policy.events_used(past)
        now += decision.wait_seconds + answer_s
        past = replace(past, polls=past.polls + 1)
        answer = upstream(cycle, now)
        if isinstance(answer, UpstreamError):
            past = poll_history.after_failed_request(past, answer, now)
        else:
            past = poll_history.after_response(past, answer, now)
        assert cycle < 4 * MAX_POLLS, "the loop does not end"
    raise AssertionError


ADVERSARIES: dict[str, Callable[[int, float], StatusDocument | UpstreamError]] = {
    "cleanup is always a second ahead": lambda _, now: StatusDocument(cleanup_after=now + 1),
    "cleanup is always just out of reach": lambda _, now: StatusDocument(
        cleanup_after=now + CLEANUP_MARGIN_S + 0.001
    ),
    "always about to finish": lambda cycle, _: StatusDocument(progress=99.0 + (cycle % 2) * 0.99),
    "progress creeps": lambda cycle, _: StatusDocument(progress=min(90 + cycle / 1e4, 99.9)),
    "progress begins anew": lambda cycle, _: StatusDocument(progress=float(cycle * 7 % 100)),
    "nodes flicker": lambda cycle, _: StatusDocument(completed_nodes=cycle % 3, total_nodes=2),
    "silent": lambda _turn, _now: StatusDocument(),
    "ends with another unknown status each time": lambda cycle, _: StatusDocument(
        f"END_{cycle}", completed_at=NOW
    ),
    "always failing, with a Retry-After of 0": lambda _turn, _now: UpstreamUnavailableError(
        "x", "", retry_after_s=0.0
    ),
    "failing every other time": lambda cycle, now: (
        PerhapsAcceptedError("x", "") if cycle % 2 else StatusDocument(cleanup_after=now + 1)
    ),
}


@pytest.mark.parametrize("upstream", ADVERSARIES.values(), ids=ADVERSARIES)
@pytest.mark.parametrize("timeout_s", [60, DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [1, 3600])
def test_no_upstream_behaviour_reaches_the_history_limit(
    upstream: Callable[[int, float], StatusDocument | UpstreamError], timeout_s: int, longest_s: int
) -> None:
    assert run(timeout_s, upstream, within=limits(shortest_s=1, longest_s=longest_s)) <= MOST_EVENTS - 200


@given(st.floats(1, LONGEST_DEADLINE_S), st.floats(0, 25))
def test_no_deadline_exceeds_the_event_budget(timeout_s: float, answer_s: float) -> None:
    always_near = ADVERSARIES["cleanup is always a second ahead"]
    events = run(timeout_s, always_near, within=limits(shortest_s=1, longest_s=1), answer_s=answer_s)
    assert events <= MOST_EVENTS - 200


@pytest.mark.parametrize("start_deadline_s", [60, DAY_S])
@pytest.mark.parametrize("longest_s", [1, 3600])
def test_an_unavailable_upstream_does_not_exceed_the_budget_of_starts(
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
    """Return the events of an execution that queues, has 200 refused starts, and whose job never ends.

    `share` is the part of the time in the queue. All waits are the shortest that the settings allow, and every
    cancellation fails.
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
    for cycle in itertools.count():
        decision = next_step(past, now, replace(within, follow=follow))
        if decision.next is NextStep.CANCEL:
            break
        if decision.next is NextStep.FOLLOW:
            past = replace(past, follows=past.follows + 1)
            now += 840
        else:
            past = replace(past, polls=past.polls + 1)
            now += decision.wait_seconds
        answer = upstream(cycle, now)
        if isinstance(answer, UpstreamError):
            past = poll_history.after_failed_request(past, answer, now)
        else:
            past = poll_history.after_response(past, answer, now)
    failing_s = 0
    while (wait_s := retry_policy.cancel_retry_wait_s(failing_s, 0, None)) is not None:
        events += EVENTS_PER_CANCEL + EVENTS_PER_POLL
        failing_s += wait_s
    return events + EVENTS_PER_CANCEL + polling_policy.events_used(past) - estimate


# States "Cancel" and "What next?".
EVENTS_PER_CANCEL = 7

# A retried task writes three events: scheduled, started, failed.
EVENTS_PER_RETRY = 3

# Retries of one task that Lambda throttles for more than four hours; see tests/workflow/test_faults.py.
MOST_RETRIES = 70


@pytest.mark.parametrize("timeout_s", [3600, DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("share", [0.0, 0.97])
@pytest.mark.parametrize("follow", [False, True])
def test_queue_starts_polls_and_cancellation_together_stay_below_20000_events(
    timeout_s: int, share: float, *, follow: bool
) -> None:
    silent = ADVERSARIES["silent"]
    assert whole_history(timeout_s, share, silent, follow=follow) <= MOST_EVENTS


def test_the_worst_history_leaves_room_for_task_retries() -> None:
    worst = max(
        whole_history(LONGEST_DEADLINE_S, share, upstream, follow=follow)
        for share in (0.0, 0.5)
        for upstream in (ADVERSARIES["silent"], ADVERSARIES["cleanup is always a second ahead"])
        for follow in (False, True)
    )
    # Currently 18,762, or 18,802 if every status request fails.
    assert worst <= MOST_EVENTS - 1_000
    retries = (25_000 - worst) // EVENTS_PER_RETRY
    # Two days of continuous throttling, and a retry of every second poll.
    throttled = 2 * 24 // 4 * MOST_RETRIES
    assert retries >= throttled + MAX_POLLS // 2, worst


def test_the_budget_does_not_slow_down_a_young_job_with_a_far_deadline() -> None:
    far = limits(deadline=NOW + LONGEST_DEADLINE_S)
    near = limits(deadline=NOW + 3600)
    for polls in range(4):
        assert next_step(history(polls=polls), NOW, far) == next_step(history(polls=polls), NOW, near)


def test_following_for_a_month_stays_below_the_event_limit() -> None:
    past, now, within = history(), NOW, limits(deadline=NOW + LONGEST_DEADLINE_S, follow=True)
    followed_s = 0
    while (decision := next_step(past, now, within)).next is not NextStep.CANCEL:
        if decision.next is NextStep.FOLLOW:
            # 840 s with a status request every 18 s. Requests are not history events.
            past = replace(past, follows=past.follows + 1, status_requests=past.status_requests + 46)
            now, followed_s = now + 840, followed_s + 840
        else:
            past = poll_history.after_response(
                replace(past, polls=past.polls + 1), StatusDocument("RUNNING"), now
            )
            now += decision.wait_seconds
    assert followed_s >= 22 * DAY_S
    assert polling_policy.events_used(past) <= MOST_EVENTS - 200


def test_follows_that_are_always_refused_stay_below_the_event_limit() -> None:
    within = limits(deadline=NOW + LONGEST_DEADLINE_S, follow=True)
    past, now = history(), NOW
    while (decision := next_step(past, now, within)).next is not NextStep.CANCEL:
        if decision.next is NextStep.FOLLOW:
            past = poll_history.after_follow_refusal(past, now)
        now += decision.wait_seconds
        past = poll_history.after_response(
            replace(past, polls=past.polls + 1), StatusDocument("RUNNING"), now
        )
    assert polling_policy.events_used(past) <= MOST_EVENTS - 200


@pytest.mark.parametrize("deadline_s", [10, DAY_S, LONGEST_DEADLINE_S])
@pytest.mark.parametrize("longest_s", [2, 3600])
def test_no_queue_exceeds_its_budget_of_checks(deadline_s: int, longest_s: int) -> None:
    within = limits(shortest_s=1, longest_s=longest_s, deadline=NOW + deadline_s)
    now, checks = NOW, 0
    while now < within.deadline:
        now += retry_policy.next_slot_attempt(deadline_s, now, within).wait_seconds
        checks += 1
    # Plus one, because the last wait is shorter. No wait is longer than an hour.
    assert checks <= max(polling_policy.MAX_QUEUE_CHECKS, deadline_s / WAIT_LIMIT_S) + 1
    assert now < within.deadline + 1
