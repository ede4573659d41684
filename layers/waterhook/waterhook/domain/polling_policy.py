"""Polling policy: pure functions that decide when to poll next. They use no clock, no randomness and no I/O.

Following a stream is billed per second, polling per state transition. One cycle of Wait, Poll and Choice costs as much
as 45 s of a 128 MB function (waterhook.domain.cost). Following is therefore cheaper than polling more often than every
45 s, and notifies earlier. A job is followed whenever concurrency is available.

An open stream does not prove that events arrive: proxies buffer, servers send only heartbeats, the final event gets
lost. Polls are therefore the guarantee, and the stream only makes notifications faster. While the follow function reads
a stream, it also polls the status (`poll_due_at`). These requests are no state transitions and add no history events.

Without a stream the Wait state spaces the polls (`next_step`). The wait grows slowly with the age of the job. Steady
progress that predicts a late finish makes it longer. Errors, AWS faults, `Retry-After` and the limit of Step Functions
on history events make it longer too. benchmarks/polling measures both cadences; the constants were chosen there.

`jitter` is a number from 0 to 1 (exclusive) that differs between executions and between polls.
"""

import math
from dataclasses import dataclass

from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import FAULT_LIMIT_S, RETRY_AFTER_LIMIT_S, PollHistory
from waterhook.domain.stream_history import StreamHistory

# Step Functions ends an execution at 25,000 history events. The policy plans with this many. The worst simulated case
# has 18,802 with start, cancel and notify. The rest is enough for 2,000 task retries of three events each.
EVENT_BUDGET = 18_500
# A Wait or Choice state writes two events, a Task five.
EVENTS_PER_POLL = 9
EVENTS_PER_FOLLOW = 7
# A follow Task that Lambda throttled, with its one retry, and a Choice.
EVENTS_PER_REFUSAL = 10
# A start and the wait before it write as many events as a poll.
EVENTS_PER_START = 9
# Above this the remaining events are for polls: waits can be made longer, follows can't.
FOLLOW_EVENT_BUDGET = 16_000
# Maximum attempts to start, and maximum checks for a free slot, before Waterflai accepts the job.
MAX_STARTS = 200
MAX_QUEUE_CHECKS = 1_000
# Longest wait that the state machine accepts, see "What next?" in its definition.
WAIT_LIMIT_S = 3_600

# A status request this long before `cleanup_after` still gets the result.
CLEANUP_MARGIN_S = 5.0
# Longest interval while an unknown status comes with `completed_at`.
ENDED_POLL_S = 5.0
# Wait after an AWS service failed, doubled with every failure in a row.
FAULT_WAIT_S, FAULT_WAIT_LIMIT_S = 30.0, 900.0

# Without a stream: the first poll is at this age, the next ones after 2 · age^0.3 seconds. Above OLD_AGE_S the wait is
# proportional to the age.
FIRST_POLL_S = 4.0
WAIT_FACTOR, WAIT_EXPONENT = 2.0, 0.3
OLD_AGE_S = 600.0
# Progress is steady after this many readings if the last one is not older than STEADY_S + STEADY_PER_AGE · age.
STEADY_READINGS = 3
STEADY_S, STEADY_PER_AGE = 1.5, 0.03
# With steady progress the wait is this part of the predicted remaining time. Upper bounds: STRETCH_PER_WAIT times the
# usual wait and STRETCH_PER_LONGEST times LongestWaitSeconds.
WAIT_PER_REST = 0.3
STRETCH_PER_WAIT, STRETCH_PER_LONGEST = 4.0, 2.0
# A predicted remaining time up to this long is waited for without another poll.
LAST_STRETCH_S, LAST_STRETCH_PER_AGE = 12.0, 0.06
# Jitter added after a failed request, in seconds or as a part of the wait: a failure hits many executions at a time.
ERROR_JITTER_S, ERROR_JITTER = 8.0, 0.5

# While a stream is followed the interval is 2 % of the age within these bounds; above OLD_AGE_S it may be longer.
CADENCE_PER_AGE = 0.02
CADENCE_MIN_S, CADENCE_MAX_S, CADENCE_OLD_MAX_S = 2.0, 4.5, 18.0
CADENCE_JITTER = 0.1
# Events postpone the next poll up to this long after the last poll, because the final event may be lost.
MAX_POSTPONED_S = 30.0
# Seconds after the final event at which the status is polled: it may lag behind the event.
POLLS_AFTER_FINAL_EVENT_S = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 11.0)
# This many failed status requests in a row end a follow, because the Wait state costs less while Waterflai is down.
MAX_FOLLOW_ERRORS = 3

# Pause after a throttled follow: the age of the job, within these bounds.
FOLLOW_PAUSE_S = 240.0
FOLLOW_PAUSE_LIMIT_S = 900.0
# After a throttled follow, a job predicted to run longer than this is not followed: shorter jobs get the concurrency.
FAR_S = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a decision: waits in seconds, the deadline in epoch seconds."""

    shortest_wait_s: float
    longest_wait_s: float
    deadline: float
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and the wait before it in whole seconds.

    For FOLLOW, `wait_seconds` is the wait that the state machine takes instead if Lambda throttles the follow function.
    """

    next: NextStep
    wait_seconds: int = 0


def next_step(history: PollHistory, now: float, limits: Limits, jitter: float = 0.0) -> Decision:
    """Return CANCEL after the deadline, FOLLOW if following is on and may be tried, else WAIT.

    A wait is a whole number of seconds from 1 to WAIT_LIMIT_S. Precedence: the deadline and `cleanup_after`, then
    `Retry-After`, then the polling interval. Only the budget of history events overrides `cleanup_after`, because an
    upstream that moves it again and again must not make an execution reach the limit.
    """
    rest_s = limits.deadline - now
    if rest_s <= 0:
        return Decision(NextStep.CANCEL)
    wait_s = _interval(history, now, limits)
    if history.ended_polls:
        wait_s = min(wait_s, max(ENDED_POLL_S, limits.shortest_wait_s))
    if history.errors:
        slower_s = limits.shortest_wait_s * 2.0 ** min(history.errors, 16)
        wait_s = max(wait_s, min(slower_s, limits.longest_wait_s))
    if history.faults:
        wait_s = max(wait_s, min(FAULT_WAIT_S * 2.0 ** min(history.faults - 1, 16), FAULT_WAIT_LIMIT_S))
    wait_s = max(wait_s, retry_at(history) - now)
    if history.errors or history.faults:
        wait_s += jitter * max(ERROR_JITTER_S, ERROR_JITTER * wait_s)
    if history.faults:
        # The last attempt is made when the fault has lasted for FAULT_LIMIT_S.
        left_s = max(_left_before_giving_up(history, now), limits.shortest_wait_s)
        wait_s = max(min(wait_s, left_s), retry_at(history) - now)
    wait_s = min(wait_s, _left_before_cleanup(history, now, limits.shortest_wait_s))
    wait_s = min(max(wait_s, wait_within_budget_s(history, rest_s)), rest_s)
    wait_seconds = min(max(math.ceil(wait_s), 1), WAIT_LIMIT_S)
    follow = limits.follow and may_follow(history, now)
    return Decision(NextStep.FOLLOW if follow else NextStep.WAIT, wait_seconds)


def poll_due_at(history: PollHistory, stream: StreamHistory, deadline: float, jitter: float = 0.5) -> float:
    """Return the time of the next poll while a stream is followed, in epoch seconds.

    The interval counts from the last poll or known event. Precedence as in `next_step`.
    """
    polled_at = history.started_at if history.polled_at is None else history.polled_at
    seen_at = polled_at if stream.event_at is None else max(polled_at, stream.event_at)
    interval_s = _cadence(seen_at - history.started_at) * (1 - CADENCE_JITTER + 2 * CADENCE_JITTER * jitter)
    if history.ended_polls:
        interval_s = min(interval_s, ENDED_POLL_S)
    due_at = min(seen_at + interval_s, polled_at + MAX_POSTPONED_S)
    if history.errors:
        slower_s = CADENCE_MIN_S * 2.0**history.errors
        due_at = polled_at + max(due_at - polled_at, slower_s) + jitter * ERROR_JITTER_S
    if stream.final_event_at is not None and history.errors <= 1:
        due_at = min(due_at, _poll_after(stream.final_event_at, polled_at))
    if history.retry_after_s is not None:
        spread_s = jitter * ERROR_JITTER_S if history.errors else 0.0
        due_at = max(due_at, retry_at(history) + spread_s)
    due_at = min(due_at, polled_at + _left_before_cleanup(history, polled_at, CADENCE_MIN_S))
    return min(due_at, deadline)


def may_follow(history: PollHistory, now: float) -> bool:
    """Whether the upstream answers, enough history events are left, and Lambda did not throttle a follow recently."""
    if (
        history.errors
        or history.faults
        or history.large_document
        or events_used(history) >= FOLLOW_EVENT_BUDGET
    ):
        return False
    refused_at = history.follow_refused_at
    if refused_at is None:
        return True
    pause_s = min(max(refused_at - history.started_at, FOLLOW_PAUSE_S), FOLLOW_PAUSE_LIMIT_S)
    finish = _predicted_finish(history)
    return now - refused_at >= pause_s and (finish is None or finish - now <= FAR_S)


def retry_at(history: PollHistory) -> float:
    """Return the earliest time for the next status request by `Retry-After`, in epoch seconds, or minus infinity."""
    if history.retry_after_s is None or history.polled_at is None:
        return -math.inf
    return history.polled_at + min(history.retry_after_s, RETRY_AFTER_LIMIT_S)


def _interval(history: PollHistory, now: float, limits: Limits) -> float:
    """Return the polling interval without a stream, in seconds, before errors and deadlines are applied."""
    age_s = max(now - history.started_at, 0.0)
    longest_s = max(limits.longest_wait_s, limits.shortest_wait_s)
    if age_s < FIRST_POLL_S and not history.status_requests:
        return min(max(FIRST_POLL_S - age_s, limits.shortest_wait_s), longest_s)
    wait_s = WAIT_FACTOR * math.pow(min(age_s, OLD_AGE_S), WAIT_EXPONENT) * max(age_s / OLD_AGE_S, 1.0)
    wait_s = min(max(wait_s, limits.shortest_wait_s), longest_s)
    finish = _predicted_finish(history)
    if finish is None or not _is_steady(history, now, age_s):
        return wait_s
    rest_s = finish - now
    if rest_s <= 0:
        # The job should have ended: poll often at first, then less often, as when progress stops.
        since_s = now - (history.progress_at or now)
        return min(max(WAIT_PER_REST * since_s, limits.shortest_wait_s), wait_s)
    last_stretch_s = min(rest_s, LAST_STRETCH_PER_AGE * age_s, wait_s, LAST_STRETCH_S)
    stretched_s = max(WAIT_PER_REST * rest_s, last_stretch_s, limits.shortest_wait_s)
    return min(stretched_s, STRETCH_PER_WAIT * wait_s, STRETCH_PER_LONGEST * longest_s)


def _left_before_giving_up(history: PollHistory, now: float) -> float:
    """Return the seconds until a lasting fault ends the job, or infinity if that time has passed."""
    left_s = FAULT_LIMIT_S - (now - (now if history.fault_since is None else history.fault_since))
    return left_s if left_s > 0 else math.inf


def _is_steady(history: PollHistory, now: float, age_s: float) -> bool:
    if history.progress_at is None or history.progress_readings < STEADY_READINGS:
        return False
    return now - history.progress_at < STEADY_S + STEADY_PER_AGE * age_s


def _cadence(age_s: float) -> float:
    """Return the polling interval while a stream is followed, in seconds."""
    if age_s > OLD_AGE_S:
        return min(CADENCE_MAX_S * (age_s / OLD_AGE_S) ** 2, CADENCE_OLD_MAX_S)
    return min(max(CADENCE_PER_AGE * age_s, CADENCE_MIN_S), CADENCE_MAX_S)


def _poll_after(final_event_at: float, polled_at: float) -> float:
    moments = (final_event_at + after_s for after_s in POLLS_AFTER_FINAL_EVENT_S)
    return next((moment for moment in moments if moment > polled_at), math.inf)


def _left_before_cleanup(history: PollHistory, now: float, shortest_s: float) -> float:
    """Return the longest wait after which the result still exists, in seconds."""
    if history.cleanup_after is None or history.cleanup_after <= now:
        return math.inf
    left_s = history.cleanup_after - now
    # Within the margin a minimum wait bounds the rate of requests, but it never exceeds half of the remaining time.
    return max(left_s - CLEANUP_MARGIN_S, min(shortest_s, left_s / 2))


def _predicted_finish(history: PollHistory) -> float | None:
    """Return when the job reaches 100 % at the current rate, in epoch seconds, or None if no rate is known."""
    if history.progress is None or history.progress_at is None:
        return None
    base, base_at = history.first_progress, history.first_progress_at
    if base is None or base_at is None or history.progress <= base:
        # With one reading, the rate is measured from 0 % at the start of the job.
        base, base_at = 0.0, history.started_at
    if history.progress <= base or history.progress_at <= base_at:
        return None
    # Multiply before dividing: the divisor can't be zero, and very small progress gives a very late finish.
    return history.progress_at + (100.0 - history.progress) * (history.progress_at - base_at) / (
        history.progress - base
    )


def events_before_start(attempts: int, waited_s: float, timeout_s: float) -> int:
    """Return the maximum number of history events before the start: attempts to start, and checks for a free slot.

    `waited_s` counts from acceptance, `timeout_s` is the time from acceptance to the deadline.
    """
    check_s = min(max(timeout_s / MAX_QUEUE_CHECKS, 1.0), WAIT_LIMIT_S)
    return EVENTS_PER_START * (attempts + math.ceil(max(waited_s, 0.0) / check_s))


def events_used(history: PollHistory) -> int:
    """Return how many history events the loop has written. Task retries are not included."""
    return (
        history.earlier_events
        + EVENTS_PER_POLL * history.polls
        + EVENTS_PER_FOLLOW * history.follows
        + EVENTS_PER_REFUSAL * history.refusals
    )


def wait_within_budget_s(history: PollHistory, rest_s: float) -> float:
    """Return the shortest wait that the remaining history events allow, in seconds."""
    polls = max((EVENT_BUDGET - history.earlier_events) // EVENTS_PER_POLL, 1)
    spent = math.ceil((events_used(history) - history.earlier_events) / EVENTS_PER_POLL)
    return spread(rest_s, spent, polls)


def spread(rest_s: float, spent: int, budget: int) -> float:
    """Return the shortest wait with which at most `budget` waits fit before the deadline, in seconds.

    It is 0 at first and approaches rest_s / (budget - spent). A young job with a distant deadline is therefore polled
    as often as any other job.
    """
    spent = min(spent, budget - 1)
    return rest_s / (budget - spent) * (spent / budget)
