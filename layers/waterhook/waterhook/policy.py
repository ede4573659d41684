"""Polling policy: pure functions that decide when to poll next. They use no clock, no randomness and no I/O.

Following a stream is billed by the second, polling by the state transition. One cycle of Wait, Poll and Choice costs
as much as 45 s of a 128 MB function (waterhook.prices), so following is cheaper than polling more often than every
45 s, and faster. A job is therefore followed wherever there is concurrency for it.

An open stream is no proof that events arrive: proxies buffer, servers send heartbeats only, the final event gets lost.
Polls are the guarantee and the stream is an accelerator. While a stream is followed, the status is polled in the same
invocation (`poll_due_at`). Those requests are no state transitions and do not count against the execution's history.

Without a stream the Wait state spaces the polls (`next_step`): the wait grows slowly with the age of the job. Steady
progress that predicts a finish far off stretches it. Errors, faults of AWS services that Waterhook uses, `Retry-After`
and the limit of Step Functions on the number of history events lengthen it. benchmarks/polling measures both cadences;
the constants were chosen there.

Jitter comes in as `jitter`, a number from 0 to 1 (exclusive) that differs between executions and between polls.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from waterhook.errors import DependencyUnavailable, ResultsUnavailable, UpstreamError
from waterhook.models import MAX_FAILURE_CHARS, History, Next, StreamHistory, clip
from waterhook.status import StatusDocument

# Step Functions ends an execution at 25,000 history events. This much is planned with. With start, cancel and notify
# the worst simulated case has 18,802; the rest suffices for 2,000 retries of tasks, of three events each.
EVENT_BUDGET = 18_500
# Entering and leaving a Wait and a Choice writes two events each, a task five.
EVENTS_PER_POLL = 9
EVENTS_PER_FOLLOW = 7
# A task that failed for lack of concurrency, its one retry included, and a Choice.
EVENTS_PER_REFUSAL = 10
# Starting, and waiting to start again, writes as many events as a poll.
EVENTS_PER_START = 9
# Above this the events that are left are for polls: their waits can grow, the length of a follow can't.
FOLLOW_EVENT_BUDGET = 16_000
# Attempts to start, and checks for a free slot, before the upstream accepts the job.
MAX_STARTS = 200
MAX_QUEUE_CHECKS = 1_000
# After a conflict over a slot the next check comes this soon, doubled with every further one.
CONFLICT_S = 1.0
# After a fault of Waterhook before the start: this part of the time since acceptance, within these bounds. In the time
# for which that goes on these are about 110 waits, which the rest of the history limit covers.
START_FAULT_PER_AGE, START_FAULT_MIN_S, START_FAULT_MAX_S = 0.1, 5.0, 300.0
START_FAULT_LIMIT_S = 6 * 3_600.0
# The last attempt to start comes this long before the deadline of the request, if not earlier.
LAST_START_S = 1.0

# The state machine accepts waits up to this; see "What next?" in its definition.
WAIT_LIMIT_S = 3_600
# A longer Retry-After is shortened to this.
RETRY_AFTER_LIMIT_S = 900
# A status request this long before `cleanup_after` still finds its job.
CLEANUP_MARGIN_S = 5.0
# 404 means "gone" only after this many in a row over this long: right after a start it may be replication delay.
LOST_AFTER_COUNT = 3
LOST_AFTER_S = 60.0
# A document that shows the outcome and can't be read as a whole is accepted after so many unusable answers in a row
# over this long: a transfer that broke off once may succeed. It is accepted earlier if the job is removed within:
FLAWED_AFTER_COUNT = 3
FLAWED_AFTER_S = 10.0
FLAWED_CLEANUP_S = 60.0
# An answer is unusable if it is a success without content that can be used, or if it breaks off.
_UNUSABLE = {"unusable_answer", "no_answer"}

# An unknown status with `completed_at` ends a job after this many polls in a row over this long. They come at least
# this often.
ENDED_AFTER_COUNT = 3
ENDED_AFTER_S = 10.0
ENDED_POLL_S = 5.0

# An AWS service that Waterhook uses failed: the next step comes after this, doubled with every failure in a row. After
# six hours of them the job is given up.
FAULT_WAIT_S, FAULT_WAIT_LIMIT_S = 30.0, 900.0
FAULT_LIMIT_S = 6 * 3600.0
# A cancel that failed is repeated for so long. The waits double; see `cancel_again`. One that is refused so often while
# the job has no outcome won't be carried out.
CANCEL_LIMIT_S, MAX_CANCEL_REFUSALS = 600.0, 3
CANCEL_WAIT_S, CANCEL_WAIT_LIMIT_S = 5.0, 60.0

# Without a stream: first poll at this age, then after 2 · age^0.3 seconds, from ten minutes of age on in proportion.
FIRST_POLL_S = 4.0
WAIT_FACTOR, WAIT_EXPONENT = 2.0, 0.3
OLD_AGE_S = 600.0
# Progress is steady after three readings, the last of which is not older than this.
STEADY_READINGS = 3
STEADY_S, STEADY_PER_AGE = 1.5, 0.03
# With steady progress: this part of the predicted rest, but no more than so many times the usual wait, and no more
# than so many times LongestWaitSeconds.
WAIT_PER_REST = 0.3
STRETCH_PER_WAIT, STRETCH_PER_LONGEST = 4.0, 2.0
# The end of a predicted rest is waited for without another poll in between: this long at most.
LAST_STRETCH_S, LAST_STRETCH_PER_AGE = 12.0, 0.06
# After a failed request up to this is added, or up to this part of the wait: a failure is common to many executions.
ERROR_JITTER_S, ERROR_JITTER = 8.0, 0.5

# While a stream is followed: 2 % of the age within these bounds; an old job may wait longer.
CADENCE_PER_AGE = 0.02
CADENCE_MIN_S, CADENCE_MAX_S, CADENCE_OLD_MAX_S = 2.0, 4.5, 18.0
CADENCE_JITTER = 0.1
# Events postpone the next poll, but not beyond this after the last one: the final event may be lost.
MAX_POSTPONED_S = 30.0
# The status may lag behind the final event. Seconds after the event at which the status is polled.
POLLS_AFTER_FINAL_EVENT_S = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 11.0)
# So many failed status requests in a row end a follow: the Wait state is cheaper for an upstream that is down.
MAX_FOLLOW_ERRORS = 3
# A stream that was refused or ended early is reopened after this, doubled with every failure.
REOPEN_S, REOPEN_LIMIT_S = 1.0, 240.0
# A stream that lasted this long is no failure and is reopened immediately.
WORTHWHILE_S = 5.0
# After a final event that the status does not confirm.
REOPEN_AFTER_FINAL_EVENT_S = 30.0

# After a follow was refused for lack of concurrency the next is tried after the age of the job, within these bounds.
FOLLOW_PAUSE_S = 240.0
FOLLOW_PAUSE_LIMIT_S = 900.0
# After a refusal, a job that is predicted to run longer than this is not followed: shorter jobs use the concurrency.
FAR_S = 600.0


_NO_FAULT: dict[str, Any] = {"faults": 0, "fault_since": None, "fault": None, "fault_reason": None}
# Longest reason of a fault that travels in the state of the loop.
MAX_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a decision: waits in seconds, the deadline in epoch seconds."""

    shortest_wait_s: float
    longest_wait_s: float
    deadline: float
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and after how many whole seconds.

    For FOLLOW the seconds are the wait that the state machine takes instead when it finds no concurrency.
    """

    next: Next
    wait_seconds: int = 0


def next_step(history: History, now: float, limits: Limits, jitter: float = 0.0) -> Decision:
    """Return CANCEL once the deadline has passed, FOLLOW where following is on and may be tried, else WAIT.

    A wait is a whole number of seconds in 1..WAIT_LIMIT_S. Precedence: deadline and `cleanup_after`, then
    `Retry-After`, then the polling interval. Only the budget of history events is stronger than `cleanup_after`:
    an upstream that keeps moving it must not lead an execution into the limit.
    """
    rest_s = limits.deadline - now
    if rest_s <= 0:
        return Decision(Next.CANCEL)
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
        # The last attempt comes when the limit is reached.
        left_s = max(_left_before_giving_up(history, now), limits.shortest_wait_s)
        wait_s = max(min(wait_s, left_s), retry_at(history) - now)
    wait_s = min(wait_s, _left_before_cleanup(history, now, limits.shortest_wait_s))
    wait_s = min(max(wait_s, _wait_by_budget(history, rest_s)), rest_s)
    wait_seconds = min(max(math.ceil(wait_s), 1), WAIT_LIMIT_S)
    follow = limits.follow and may_follow(history, now)
    return Decision(Next.FOLLOW if follow else Next.WAIT, wait_seconds)


def cancel_again(failing_s: float, refusals: int, retry_after_s: float | None) -> int | None:
    """Return the seconds to the next attempt to cancel, or None where no further one is worthwhile.

    `failing_s` counts from the first attempt, `refusals` are those that were answered and did not end the job. The
    caller waits for the outcome: a `Retry-After` above CANCEL_WAIT_LIMIT_S is shortened.
    """
    left_s = CANCEL_LIMIT_S - failing_s
    if left_s <= 0 or refusals >= MAX_CANCEL_REFUSALS:
        return None
    wait_s = min(max(failing_s, retry_after_s or 0.0, CANCEL_WAIT_S), CANCEL_WAIT_LIMIT_S)
    return max(math.ceil(min(wait_s, left_s)), 1)


def poll_due_at(history: History, stream: StreamHistory, deadline: float, jitter: float = 0.5) -> float:
    """Return when the status is to be polled next while a stream is followed, in epoch seconds.

    Counted from the last poll or known event. Precedence as in `next_step`.
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


def start_again(
    attempts: int, retry_after_s: float | None, now: float, limits: Limits, jitter: float = 0.0
) -> Decision:
    """Return START after a wait that doubles with the attempts and is never shorter than `Retry-After`.

    `limits.deadline` is the start deadline. A wait ends there at the latest, also against `Retry-After`, so that the
    last attempt comes then. Once it has passed the decision is NOTIFY, since no job was started.
    """
    if now >= limits.deadline:
        return Decision(Next.NOTIFY)
    wait_s = min(limits.shortest_wait_s * 2.0 ** min(attempts, 16), limits.longest_wait_s)
    wait_s = max(wait_s, min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S))
    wait_s += jitter * max(ERROR_JITTER_S, ERROR_JITTER * wait_s)
    rest_s = limits.deadline - now
    return _start_within(rest_s, max(wait_s, _spread(rest_s, attempts, MAX_STARTS)))


def queue_again(
    timeout_s: float, now: float, limits: Limits, jitter: float = 0.0, conflicts: int = 0
) -> Decision:
    """Return START after a wait for the next check for a free slot.

    The wait depends on `timeout_s`, the time from acceptance to the deadline, of which it is at least one part in
    MAX_QUEUE_CHECKS, and not on how long the request has waited: an old request checks as often as a new one.
    `conflicts` counts checks that could not be carried out; after those the wait is shorter.
    """
    wait_s = max(timeout_s / MAX_QUEUE_CHECKS, limits.shortest_wait_s)
    if conflicts:
        wait_s = min(wait_s, CONFLICT_S * 2.0 ** min(conflicts - 1, 16))
    return _start_within(limits.deadline - now, wait_s * (1 + jitter))


def fault_again(age_s: float, now: float, deadline: float, jitter: float = 0.0) -> Decision:
    """Return START after a wait that grows with the age of the request, NOTIFY once it is too old or overdue.

    For a fault of Waterhook before anything was sent: the table or the secret can't be read.
    """
    if now >= deadline or age_s >= START_FAULT_LIMIT_S:
        return Decision(Next.NOTIFY)
    wait_s = min(max(START_FAULT_PER_AGE * age_s, START_FAULT_MIN_S), START_FAULT_MAX_S)
    return _start_within(min(deadline - now, START_FAULT_LIMIT_S - age_s), wait_s * (1 + 0.5 * jitter))


def _start_within(rest_s: float, wait_s: float) -> Decision:
    return Decision(Next.START, min(max(math.ceil(min(wait_s, rest_s)), 1), WAIT_LIMIT_S))


def events_before_start(attempts: int, waited_s: float, timeout_s: float) -> int:
    """Return how many history events an execution may have by now: starts and checks for a slot, as many as possible.

    `waited_s` counts from acceptance, `timeout_s` is the time from acceptance to the deadline.
    """
    check_s = min(max(timeout_s / MAX_QUEUE_CHECKS, 1.0), WAIT_LIMIT_S)
    return EVENTS_PER_START * (attempts + math.ceil(max(waited_s, 0.0) / check_s))


def events_used(history: History) -> int:
    """Return how many history events the loop has written, without task retries."""
    return (
        history.earlier_events
        + EVENTS_PER_POLL * history.polls
        + EVENTS_PER_FOLLOW * history.follows
        + EVENTS_PER_REFUSAL * history.refusals
    )


def answered(history: History, document: StatusDocument, now: float) -> History:
    """Return the history after a status document: one request more, no errors, and its progress."""
    moved: dict[str, Any] = {}
    progress = _progress_of(document)
    if progress is not None and progress != history.progress:
        moved = {"progress": progress, "progress_at": now, "progress_readings": history.progress_readings + 1}
        if history.progress is None or progress < history.progress:
            # After an upstream retry the progress begins anew, and so does the rate it is measured by.
            moved |= {"first_progress": progress, "first_progress_at": now, "progress_readings": 1}
    word = document.unknown_status
    if word is None or document.completed_at is None:
        moved |= {"ended_polls": 0, "ended_since": None}
    elif history.ended_polls and word.upper() == (history.unknown_status or "").upper():
        moved |= {"ended_polls": history.ended_polls + 1}
    else:
        moved |= {"ended_polls": 1, "ended_since": now}
    if document.outcome is None:
        moved |= _NO_FAULT
    return replace(
        _key_read(history),
        status_requests=history.status_requests + 1,
        polled_at=now,
        errors=0,
        retry_after_s=document.retry_after_s,
        failure=None,
        unusable=0,
        unusable_since=None,
        not_found=0,
        not_found_since=None,
        cleanup_after=document.cleanup_after,
        unknown_status=word,
        retry_count=history.retry_count if document.retry_count is None else document.retry_count,
        **moved,
    )


def not_answered(history: History, error: UpstreamError, now: float) -> History:
    """Return the history after a failed status request. Only an unbroken row of 404 counts toward LOST."""
    missing = error.status == 404  # noqa: PLR2004 - Not Found
    unusable = error.code in _UNUSABLE and error.status is not None
    return replace(
        _key_read(history),
        status_requests=history.status_requests + 1,
        polled_at=now,
        errors=history.errors + 1,
        retry_after_s=error.retry_after_s,
        failure=clip(error.message, MAX_FAILURE_CHARS),
        unusable=history.unusable + 1 if unusable else 0,
        unusable_since=(history.unusable_since or now) if unusable else None,
        not_found=history.not_found + 1 if missing else 0,
        not_found_since=(history.not_found_since or now) if missing else None,
    )


def dependency_failed(history: History, error: DependencyUnavailable, now: float) -> History:
    """Return the history after a step in which an AWS service failed. That is no failed status request."""
    return replace(
        history,
        polled_at=now,
        faults=history.faults + 1,
        fault_since=now if history.fault_since is None else history.fault_since,
        fault=type(error).__name__,
        fault_reason=clip(str(error), MAX_REASON_CHARS),
    )


def is_given_up(history: History, now: float) -> bool:
    """Whether an AWS service has failed for so long that the job is given up."""
    return history.fault_since is not None and now - history.fault_since >= FAULT_LIMIT_S


def is_lost(history: History, now: float) -> bool:
    """Whether the upstream has answered 404 often and long enough to give the job up."""
    since = history.not_found_since
    return since is not None and history.not_found >= LOST_AFTER_COUNT and now - since >= LOST_AFTER_S


def has_ended(history: History, now: float) -> bool:
    """Whether an unknown status has come with `completed_at` often and long enough to be a final one."""
    since = history.ended_since
    return since is not None and history.ended_polls >= ENDED_AFTER_COUNT and now - since >= ENDED_AFTER_S


def accepts_flawed(history: History, cleanup_after: float | None, now: float) -> bool:
    """Whether a document that shows the outcome, but is flawed, is to be accepted as it is."""
    since = history.unusable_since
    if cleanup_after is not None and cleanup_after - now <= FLAWED_CLEANUP_S:
        return True
    return since is not None and history.unusable >= FLAWED_AFTER_COUNT and now - since >= FLAWED_AFTER_S


def follow_refused(history: History, now: float) -> History:
    """Return the history after a follow that found no concurrency: polling goes on for a while."""
    return replace(history, refusals=history.refusals + 1, follow_refused_at=now)


def stream_event(stream: StreamHistory, now: float) -> StreamHistory:
    """Return the history after a known event that is not final: the stream works, and the job runs."""
    return replace(stream, delivered=True, event_at=now)


def final_event(stream: StreamHistory, now: float) -> StreamHistory:
    """Return the history after an event that declares the end; the status is polled until it confirms it."""
    # Only the first one starts the quick polls: a stream that declares the end too early may do so repeatedly.
    first_at = now if stream.final_event_at is None else stream.final_event_at
    pause_s = min(REOPEN_AFTER_FINAL_EVENT_S * 2.0 ** min(stream.failures, 3), REOPEN_LIMIT_S)
    return replace(
        stream,
        delivered=True,
        final_event_at=first_at,
        failures=stream.failures + 1,
        reopens_at=now + pause_s,
    )


def stream_ended(
    stream: StreamHistory, now: float, lasted_s: float, retry_after_s: float | None = None
) -> StreamHistory:
    """Return the history after a stream that was refused, broke off, fell silent or was closed."""
    if lasted_s >= WORTHWHILE_S:
        return replace(stream, failures=0, reopens_at=now)
    pause_s = min(REOPEN_S * 2.0 ** min(stream.failures, 16), REOPEN_LIMIT_S)
    pause_s = max(pause_s, min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S))
    return replace(stream, failures=stream.failures + 1, reopens_at=now + pause_s)


def may_follow(history: History, now: float) -> bool:
    """Whether the upstream answers, the history has events left, and concurrency may be available."""
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


def retry_at(history: History) -> float:
    """Return when `Retry-After` permits the next status request, in epoch seconds, or minus infinity."""
    if history.retry_after_s is None or history.polled_at is None:
        return -math.inf
    return history.polled_at + min(history.retry_after_s, RETRY_AFTER_LIMIT_S)


def _progress_of(document: StatusDocument) -> float | None:
    """Return percent with three decimals, from `progress` or else from the nodes, or None."""
    if document.progress is not None:
        return round(min(max(document.progress, 0.0), 100.0), 3)
    if document.completed_nodes is not None and document.total_nodes:
        return round(min(100.0 * document.completed_nodes / document.total_nodes, 100.0), 3)
    return None


def _interval(history: History, now: float, limits: Limits) -> float:
    """Return the polling interval without a stream, in seconds, before errors and deadlines count."""
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
        # The job is expected to be over: poll often at first, then as if the progress had just stopped.
        since_s = now - (history.progress_at or now)
        return min(max(WAIT_PER_REST * since_s, limits.shortest_wait_s), wait_s)
    last_stretch_s = min(rest_s, LAST_STRETCH_PER_AGE * age_s, wait_s, LAST_STRETCH_S)
    stretched_s = max(WAIT_PER_REST * rest_s, last_stretch_s, limits.shortest_wait_s)
    return min(stretched_s, STRETCH_PER_WAIT * wait_s, STRETCH_PER_LONGEST * longest_s)


def _left_before_giving_up(history: History, now: float) -> float:
    """Return the time in seconds in which a fault may still pass, or infinity where it is over."""
    left_s = FAULT_LIMIT_S - (now - (now if history.fault_since is None else history.fault_since))
    return left_s if left_s > 0 else math.inf


def _key_read(history: History) -> History:
    """Return the history after a request that was sent: the key was read. The bucket may still fail."""
    if history.fault == ResultsUnavailable.__name__:
        return history
    return replace(history, **_NO_FAULT)


def _is_steady(history: History, now: float, age_s: float) -> bool:
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


def _left_before_cleanup(history: History, now: float, shortest_s: float) -> float:
    """Return the longest wait that still finds the result, in seconds."""
    if history.cleanup_after is None or history.cleanup_after <= now:
        return math.inf
    left_s = history.cleanup_after - now
    # Within the margin a short wait bounds the rate of requests, but must not outlast what is left.
    return max(left_s - CLEANUP_MARGIN_S, min(shortest_s, left_s / 2))


def _predicted_finish(history: History) -> float | None:
    """Return when the job reaches 100 % at the rate seen so far, in epoch seconds, or None where there is no rate."""
    if history.progress is None or history.progress_at is None:
        return None
    base, base_at = history.first_progress, history.first_progress_at
    if base is None or base_at is None or history.progress <= base:
        # One reading: the only other point known is 0 % at the start.
        base, base_at = 0.0, history.started_at
    if history.progress <= base or history.progress_at <= base_at:
        return None
    # In this order nothing is divided by zero, however small the progress: at worst it never finishes.
    return history.progress_at + (100.0 - history.progress) * (history.progress_at - base_at) / (
        history.progress - base
    )


def _wait_by_budget(history: History, rest_s: float) -> float:
    """Return the shortest wait that the history events left allow, in seconds."""
    polls = max((EVENT_BUDGET - history.earlier_events) // EVENTS_PER_POLL, 1)
    spent = math.ceil((events_used(history) - history.earlier_events) / EVENTS_PER_POLL)
    return _spread(rest_s, spent, polls)


def _spread(rest_s: float, spent: int, budget: int) -> float:
    """Return the shortest wait of which no more than `budget` fit before the deadline, in seconds.

    It is nothing at first and approaches rest / (budget - spent), so a young job with a far deadline is polled as
    often as any other.
    """
    spent = min(spent, budget - 1)
    return rest_s / (budget - spent) * (spent / budget)
