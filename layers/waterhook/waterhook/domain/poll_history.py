"""The observations of one execution's polls, and what follows from them: pure functions.

Each `after_…` function returns the history after one more observation.
"""

from dataclasses import dataclass, replace
from typing import Any

from waterhook.domain.status_document import StatusDocument
from waterhook.errors import DependencyUnavailableError, ResultsUnavailableError, UpstreamError
from waterhook.text import clip

# Longest texts that the loop state carries: the reason of a failed request, and the reason of an AWS fault.
MAX_FAILURE_CHARS = 200
MAX_REASON_CHARS = 300

# Longer values of Retry-After are shortened to this.
RETRY_AFTER_LIMIT_S = 900
# A 404 means LOST only after this many in a row over this long. Right after a start it may be replication delay.
LOST_AFTER_COUNT = 3
LOST_AFTER_S = 60.0
# A document that shows the outcome but is incomplete is accepted after this many unusable answers in a row over this
# long, because the next request may return the whole document. It is accepted earlier if Waterflai removes the job
# within FLAWED_CLEANUP_S.
FLAWED_AFTER_COUNT = 3
FLAWED_AFTER_S = 10.0
FLAWED_CLEANUP_S = 60.0
# Codes of unusable answers: a success response with unusable content, or a response that breaks off.
_UNUSABLE = {"unusable_answer", "no_answer"}

# An unknown status with `completed_at` ends the job after this many polls in a row over this long.
ENDED_AFTER_COUNT = 3
ENDED_AFTER_S = 10.0

# The job is given up when an AWS service has failed for this long.
FAULT_LIMIT_S = 6 * 3600.0
_NO_FAULT: dict[str, Any] = {"faults": 0, "fault_since": None, "fault": None, "fault_reason": None}


@dataclass(frozen=True, slots=True)
class PollHistory:
    """Observations of one execution, the input of the polling policy. Times are epoch seconds."""

    started_at: float
    status_requests: int = 0
    """Status requests so far, of all steps."""
    polls: int = 0
    """Poll cycles: Wait, Poll and Choice."""
    follows: int = 0
    """Invocations of the follow function."""
    refusals: int = 0
    """Follows that Lambda throttled."""
    earlier_events: int = 0
    """History events of the state machine execution before the job was started, estimated."""
    polled_at: float | None = None
    """When the last status request was answered or failed."""
    errors: int = 0
    """Failed status requests in a row."""
    retry_after_s: float | None = None
    """`Retry-After` of the last answer, in seconds."""
    failure: str | None = None
    """Why the last status request failed; None if it succeeded."""
    unusable: int = 0
    """Unusable answers in a row: a success response with unusable content, or one that broke off."""
    unusable_since: float | None = None
    not_found: int = 0
    not_found_since: float | None = None
    progress: float | None = None
    progress_at: float | None = None
    progress_readings: int = 0
    """Readings in a row in which the progress rose."""
    first_progress: float | None = None
    first_progress_at: float | None = None
    retry_count: int | None = None
    """The upstream's count of its own retries. After a retry the progress may restart."""
    cleanup_after: float | None = None
    unknown_status: str | None = None
    """The last status of the upstream if it is not a known one."""
    ended_polls: int = 0
    """Polls in a row that returned this unknown status with `completed_at`."""
    ended_since: float | None = None
    """When the first of these polls was answered."""
    record_checked_at: float | None = None
    """When a follow last read the record to see whether it is final."""
    large_document: bool = False
    """The status document is too large for the follow function; the poll function reads it."""
    cancels: int = 0
    """Attempts to cancel that did not end the job."""
    cancel_refusals: int = 0
    """Attempts of these that Waterflai refused, or accepted without ending the job."""
    cancel_since: float | None = None
    """When the first attempt to cancel failed."""
    faults: int = 0
    """Steps in a row in which an AWS service failed. Errors of the upstream don't count."""
    fault_since: float | None = None
    """When the first step of these failed."""
    fault: str | None = None
    """Class name of the last AWS fault, for example KeyUnavailableError."""
    fault_reason: str | None = None
    follow_refused_at: float | None = None
    follow_seconds: float = 0.0


def after_response(history: PollHistory, document: StatusDocument, now: float) -> PollHistory:
    """Return the history after a status document: one more request, errors reset, progress updated."""
    changes: dict[str, Any] = {}
    progress = _progress_of(document)
    if progress is not None and progress != history.progress:
        changes = {
            "progress": progress,
            "progress_at": now,
            "progress_readings": history.progress_readings + 1,
        }
        if history.progress is None or progress < history.progress:
            # The progress restarts after a retry at the upstream, so its rate is measured from here.
            changes |= {"first_progress": progress, "first_progress_at": now, "progress_readings": 1}
    word = document.unknown_status
    if word is None or document.completed_at is None:
        changes |= {"ended_polls": 0, "ended_since": None}
    elif history.ended_polls and word.upper() == (history.unknown_status or "").upper():
        changes |= {"ended_polls": history.ended_polls + 1}
    else:
        changes |= {"ended_polls": 1, "ended_since": now}
    if document.outcome is None:
        changes |= _NO_FAULT
    return replace(
        _without_key_fault(history),
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
        **changes,
    )


def after_failed_request(history: PollHistory, error: UpstreamError, now: float) -> PollHistory:
    """Return the history after a failed status request. Any other failure resets the count of 404."""
    missing = error.status == 404  # noqa: PLR2004 - Not Found
    unusable = error.code in _UNUSABLE and error.status is not None
    return replace(
        _without_key_fault(history),
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


def after_dependency_fault(
    history: PollHistory, error: DependencyUnavailableError, now: float
) -> PollHistory:
    """Return the history after a step in which an AWS service failed. It does not count as a failed status request."""
    return replace(
        history,
        polled_at=now,
        faults=history.faults + 1,
        fault_since=now if history.fault_since is None else history.fault_since,
        fault=type(error).__name__,
        fault_reason=clip(str(error), MAX_REASON_CHARS),
    )


def is_given_up(history: PollHistory, now: float) -> bool:
    """Whether an AWS service has failed for so long that the job is given up."""
    return history.fault_since is not None and now - history.fault_since >= FAULT_LIMIT_S


def is_lost(history: PollHistory, now: float) -> bool:
    """Whether the upstream has answered 404 often enough and for long enough."""
    since = history.not_found_since
    return since is not None and history.not_found >= LOST_AFTER_COUNT and now - since >= LOST_AFTER_S


def has_ended(history: PollHistory, now: float) -> bool:
    """Whether an unknown status with `completed_at` was returned often enough to count as final."""
    since = history.ended_since
    return since is not None and history.ended_polls >= ENDED_AFTER_COUNT and now - since >= ENDED_AFTER_S


def accepts_flawed(history: PollHistory, cleanup_after: float | None, now: float) -> bool:
    """Whether to accept a document that shows the outcome but is incomplete."""
    since = history.unusable_since
    if cleanup_after is not None and cleanup_after - now <= FLAWED_CLEANUP_S:
        return True
    return since is not None and history.unusable >= FLAWED_AFTER_COUNT and now - since >= FLAWED_AFTER_S


def after_follow_refusal(history: PollHistory, now: float) -> PollHistory:
    """Return the history after a follow that Lambda throttled. The next follow is tried after a pause."""
    return replace(history, refusals=history.refusals + 1, follow_refused_at=now)


def _progress_of(document: StatusDocument) -> float | None:
    """Return the progress in percent with three decimals: the `progress` field, else computed from the nodes."""
    if document.progress is not None:
        return round(min(max(document.progress, 0.0), 100.0), 3)
    if document.completed_nodes is not None and document.total_nodes:
        return round(min(100.0 * document.completed_nodes / document.total_nodes, 100.0), 3)
    return None


def _without_key_fault(history: PollHistory) -> PollHistory:
    """Return the history without AWS faults, except those of S3. A request was sent, so the key could be read."""
    if history.fault == ResultsUnavailableError.__name__:
        return history
    return replace(history, **_NO_FAULT)
