"""Retry policy: pure functions that decide when to retry a start, an attempt to get a slot, or a cancel.

`jitter` is a number from 0 to 1 (exclusive) that differs between executions and between attempts.
"""

import math

from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S
from waterhook.domain.polling_policy import (
    ERROR_JITTER,
    ERROR_JITTER_S,
    MAX_QUEUE_CHECKS,
    MAX_STARTS,
    WAIT_LIMIT_S,
    Decision,
    Limits,
    spread,
)

# Wait after another request changed the slots at the same time. Doubled with every further conflict.
CONFLICT_S = 1.0
# Wait after a fault of Waterhook before the start: this part of the time since acceptance, within these bounds. Up to
# START_FAULT_LIMIT_S this makes about 110 waits, which fit into the reserve of the history limit.
START_FAULT_PER_AGE, START_FAULT_MIN_S, START_FAULT_MAX_S = 0.1, 5.0, 300.0
START_FAULT_LIMIT_S = 6 * 3_600.0

# The last attempt to start is at least this long before the deadline of the request.
LAST_START_S = 1.0

# A failed cancel is retried for CANCEL_LIMIT_S; the waits double, see `cancel_retry_wait_s`. After MAX_CANCEL_REFUSALS
# refusals of a job that still runs, no further attempt is made.
CANCEL_LIMIT_S, MAX_CANCEL_REFUSALS = 600.0, 3
CANCEL_WAIT_S, CANCEL_WAIT_LIMIT_S = 5.0, 60.0


def cancel_retry_wait_s(failing_s: float, refusals: int, retry_after_s: float | None) -> int | None:
    """Return the seconds until the next attempt to cancel, or None for no further attempt.

    `failing_s` counts from the first attempt. `refusals` counts answers that did not end the job. The caller waits for
    the outcome, so a `Retry-After` above CANCEL_WAIT_LIMIT_S is shortened.
    """
    left_s = CANCEL_LIMIT_S - failing_s
    if left_s <= 0 or refusals >= MAX_CANCEL_REFUSALS:
        return None
    wait_s = min(max(failing_s, retry_after_s or 0.0, CANCEL_WAIT_S), CANCEL_WAIT_LIMIT_S)
    return max(math.ceil(min(wait_s, left_s)), 1)


def next_start_attempt(
    attempts: int, retry_after_s: float | None, now: float, limits: Limits, jitter: float = 0.0
) -> Decision:
    """Return START after a wait that doubles with every attempt and is never shorter than `Retry-After`.

    `limits.deadline` is the start deadline. A wait is shortened to end there, even if `Retry-After` is longer, so the
    last attempt is made at the deadline. After the deadline the decision is NOTIFY, because no job was started.
    """
    if now >= limits.deadline:
        return Decision(NextStep.NOTIFY)
    wait_s = min(limits.shortest_wait_s * 2.0 ** min(attempts, 16), limits.longest_wait_s)
    wait_s = max(wait_s, min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S))
    wait_s += jitter * max(ERROR_JITTER_S, ERROR_JITTER * wait_s)
    rest_s = limits.deadline - now
    return _start_within(rest_s, max(wait_s, spread(rest_s, attempts, MAX_STARTS)))


def next_slot_attempt(
    timeout_s: float, now: float, limits: Limits, jitter: float = 0.0, conflicts: int = 0
) -> Decision:
    """Return START after a wait, for the next check for a free slot.

    The wait depends on `timeout_s`, the time from acceptance to the deadline: at least timeout_s / MAX_QUEUE_CHECKS. It
    does not depend on the age, so an old request checks as often as a new one. `conflicts` counts checks that could not
    be carried out. After a conflict the wait is shorter.
    """
    wait_s = max(timeout_s / MAX_QUEUE_CHECKS, limits.shortest_wait_s)
    if conflicts:
        wait_s = min(wait_s, CONFLICT_S * 2.0 ** min(conflicts - 1, 16))
    return _start_within(limits.deadline - now, wait_s * (1 + jitter))


def next_attempt_after_fault(age_s: float, now: float, deadline: float, jitter: float = 0.0) -> Decision:
    """Return START after a wait that grows with the age of the request, or NOTIFY if it is too old or overdue.

    For a fault of Waterhook before the POST: the table or the secret can't be read.
    """
    if now >= deadline or age_s >= START_FAULT_LIMIT_S:
        return Decision(NextStep.NOTIFY)
    wait_s = min(max(START_FAULT_PER_AGE * age_s, START_FAULT_MIN_S), START_FAULT_MAX_S)
    return _start_within(min(deadline - now, START_FAULT_LIMIT_S - age_s), wait_s * (1 + 0.5 * jitter))


def _start_within(rest_s: float, wait_s: float) -> Decision:
    return Decision(NextStep.START, min(max(math.ceil(min(wait_s, rest_s)), 1), WAIT_LIMIT_S))
