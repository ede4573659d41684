"""When to ask again: pure functions from what was seen to what to do next. No clock, no randomness, no I/O.

Whether to listen or to ask is the ski rental: pay by the second, or by the turn. A turn of wait, poll and choice
costs as much as 45 s of a 128 MB function that listens (waterhook.prices), so listening is cheaper than asking
more often than that, and hears at once. Up to LongestWaitSeconds of 60 it is the better bargain for as long
as a job takes, and nothing has to be guessed: a job is followed wherever the upstream answers and there is a
seat. An open stream may be silent, that is what a job without progress sounds like; only one that was refused
or ended at once has failed. A follow that finds no seat costs a whole turn, so the next tries are spaced by
doubling; and whoever found none once leaves the seats to others while its own finish is far.

Without a stream a wait grows with the age of the job (three tenths of it, so the delay stays in proportion to a
job of unknown size). Where progress predicts a finish it is half of the predicted rest instead, and the last
stretch at once; at most the age, for a prediction is trusted no further than the job has been watched.
It is stretched by trouble: errors in a row, `Retry-After`, and the budget of turns that keeps an execution far
from the limit of its history. benchmarks/polling measures all of it; the figures were chosen there.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from waterhook.errors import UpstreamError
from waterhook.models import History, Next
from waterhook.status import StatusDocument

# Step Functions ends an execution at 25,000 history events; a turn of wait, poll and choice writes about nine.
TURN_BUDGET = 2_000
# A refused start and the wait before the next write as many, and come on top.
START_BUDGET = 300
# A queue for a free slot has no count of its turns, but knows its whole time; these come on top as well.
QUEUE_TURNS = 400
# The state machine's own guard on the wait branch; see "What next?" in the ASL.
WAIT_LIMIT_S = 3_600
# An upstream that asks for more patience than this is asked again all the same.
RETRY_AFTER_LIMIT_S = 900
WAIT_PER_AGE = 0.3
# Waiting less than the predicted rest leaves room for a job that is faster than it looked.
WAIT_PER_REST = 0.5
# A rest shorter than this part of the age, and than this, is waited for whole: halving it on costs more turns
# than it saves delay.
LAST_STRETCH_PER_AGE = 0.1
LAST_STRETCH_S = 15.0
# A status asked for this long before `cleanup_after` still finds its job.
CLEANUP_MARGIN_S = 5.0
# 404 is "gone" only after this many in a row over this long: right after a start it may be replication delay.
LOST_AFTER_COUNT = 3
LOST_AFTER_S = 60.0
# A stream that failed, or found no seat, is tried again after as long as the job was old then, within these.
FOLLOW_PAUSE_S = 240.0
FOLLOW_PAUSE_LIMIT_S = 900.0
# Where seats are scarce, a job that has longer to go than this leaves them to those that finish sooner.
FAR_S = 600.0
# An open stream may be deaf for so long before the status is asked: longer than a result soon cleaned up can wait.
DEAF_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decision must stay within: waits in seconds, the deadline in epoch seconds."""

    shortest_wait_s: float
    longest_wait_s: float
    deadline: float
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and after how many whole seconds."""

    next: Next
    wait_seconds: int = 0


def next_step(history: History, now: float, limits: Limits) -> Decision:
    """Return CANCEL once the deadline has passed, FOLLOW where that promises more, else WAIT.

    A wait is a whole number of seconds in 1..WAIT_LIMIT_S. Upper bounds win over lower ones, with one
    exception: the turn budget. An upstream that keeps moving `cleanup_after` must not lead an execution
    into the history limit.
    """
    rest_s = limits.deadline - now
    if rest_s <= 0:
        return Decision(Next.CANCEL)
    if limits.follow and _may_follow(history, now):
        return Decision(Next.FOLLOW)
    wait_s = _by_age_and_progress(history, now, limits)
    if history.errors:
        slower_s = limits.shortest_wait_s * 2.0 ** min(history.errors, 16)
        wait_s = max(wait_s, min(slower_s, limits.longest_wait_s))
    if history.retry_after_s is not None:
        wait_s = max(wait_s, min(history.retry_after_s, RETRY_AFTER_LIMIT_S))
    if history.cleanup_after is not None and history.cleanup_after > now:
        left_s = history.cleanup_after - now
        # Within the margin the shortest wait keeps us from hammering, but must not outlast what is left.
        wait_s = min(wait_s, max(left_s - CLEANUP_MARGIN_S, min(limits.shortest_wait_s, left_s / 2)))
    wait_s = min(max(wait_s, _by_budget(TURN_BUDGET, history.turns, rest_s)), rest_s)
    return Decision(Next.WAIT, min(max(math.ceil(wait_s), 1), WAIT_LIMIT_S))


def start_again(attempts: int, retry_after_s: float | None, now: float, limits: Limits) -> Decision:
    """Return START after a wait that doubles with the attempts and honours `Retry-After`.

    `limits.deadline` is the start deadline: past it the answer is NOTIFY, since no job was started.
    """
    if now >= limits.deadline:
        return Decision(Next.NOTIFY)
    wait_s = min(limits.shortest_wait_s * 2.0 ** min(attempts, 16), limits.longest_wait_s)
    wait_s = max(wait_s, min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S))
    rest_s = limits.deadline - now
    wait_s = min(max(wait_s, _by_budget(START_BUDGET, attempts, rest_s)), rest_s)
    return Decision(Next.START, min(max(math.ceil(wait_s), 1), WAIT_LIMIT_S))


def queue_again(waited_s: float, now: float, limits: Limits) -> Decision:
    """Return START after a wait that grows with the time already spent waiting for a free slot.

    Each wait is at least one part in QUEUE_TURNS of all the time there is, so there are no more of them: whoever
    has an hour looks again within ten seconds at first, whoever has a month every hour.
    """
    rest_s = max(limits.deadline - now, 1.0)
    wait_s = min(max(WAIT_PER_AGE * waited_s, limits.shortest_wait_s), limits.longest_wait_s)
    wait_s = min(max(wait_s, (waited_s + rest_s) / QUEUE_TURNS), rest_s)
    return Decision(Next.START, min(max(math.ceil(wait_s), 1), WAIT_LIMIT_S))


def answered(history: History, document: StatusDocument, now: float) -> History:
    """Return the history after a status document: one turn more, no errors, and what it says of progress."""
    moved: dict[str, Any] = {}
    progress = _progress_of(document)
    if progress is not None and progress != history.progress:
        moved = {"progress": progress, "progress_at": now}
        if history.progress is None or progress < history.progress:
            # After an upstream retry the progress begins anew, and so does the rate it is measured by.
            moved |= {"first_progress": progress, "first_progress_at": now}
    return replace(
        history,
        turns=history.turns + 1,
        errors=0,
        retry_after_s=None,
        not_found=0,
        not_found_since=None,
        cleanup_after=document.cleanup_after,
        **moved,
    )


def not_answered(history: History, error: UpstreamError, now: float) -> History:
    """Return the history after a failed question. Only an unbroken row of 404 counts toward LOST."""
    missing = error.status == 404  # noqa: PLR2004 - Not Found
    return replace(
        history,
        turns=history.turns + 1,
        errors=history.errors + 1,
        retry_after_s=error.retry_after_s,
        not_found=history.not_found + 1 if missing else 0,
        not_found_since=(history.not_found_since or now) if missing else None,
    )


def is_lost(history: History, now: float) -> bool:
    """Whether the upstream has denied knowing the job often and long enough to believe it."""
    since = history.not_found_since
    return since is not None and history.not_found >= LOST_AFTER_COUNT and now - since >= LOST_AFTER_S


def not_followed(history: History, now: float) -> History:
    """Return the history after a stream that failed or was refused: polling goes on for a while."""
    return replace(history, follow_failed_at=now)


def _may_follow(history: History, now: float) -> bool:
    """Whether the upstream answers, there may be a seat, and this job should take it."""
    if history.errors or history.retry_after_s is not None or history.turns >= TURN_BUDGET // 2:
        return False
    if history.cleanup_after is not None and 0 < history.cleanup_after - now <= DEAF_S:
        return False
    failed_at = history.follow_failed_at
    if failed_at is None:
        return True
    pause_s = min(max(failed_at - history.started_at, FOLLOW_PAUSE_S), FOLLOW_PAUSE_LIMIT_S)
    finish = _predicted_finish(history)
    return now - failed_at >= pause_s and (finish is None or finish - now <= FAR_S)


def _progress_of(document: StatusDocument) -> float | None:
    """Return percent, from `progress` or else from the nodes, or None."""
    if document.progress is not None:
        return min(max(document.progress, 0.0), 100.0)
    if document.completed_nodes is not None and document.total_nodes:
        return min(100.0 * document.completed_nodes / document.total_nodes, 100.0)
    return None


def _by_age_and_progress(history: History, now: float, limits: Limits) -> float:
    age_s = max(now - history.started_at, 0.0)
    wait_s = WAIT_PER_AGE * age_s
    finish = _predicted_finish(history)
    if finish is not None and finish > now:
        rest_s = finish - now
        last_stretch_s = min(LAST_STRETCH_PER_AGE * age_s, LAST_STRETCH_S)
        wait_s = min(age_s, rest_s, max(WAIT_PER_REST * rest_s, last_stretch_s))
    elif finish is not None and history.progress_at is not None:
        # It should be done: ask often at first, then as for a job that just began to stand still.
        wait_s = min(wait_s, WAIT_PER_AGE * (now - history.progress_at))
    return min(max(wait_s, limits.shortest_wait_s), max(limits.longest_wait_s, limits.shortest_wait_s))


def _predicted_finish(history: History) -> float | None:
    """Return when the job reaches 100 % at the rate seen so far, or None where there is no rate."""
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


def _by_budget(budget: int, spent: int, rest_s: float) -> float:
    """Return the shortest wait that the turns left allow, in seconds.

    It starts at nothing and approaches rest/turns left as the budget is used up, so a young job with a
    far deadline is asked as often as any other, and none can spend more than the budget before its deadline.
    """
    spent = min(spent, budget - 1)
    return rest_s / (budget - spent) * (spent / budget)
