"""What the polls of one execution have observed, and what follows from it: pure functions.

Each `after_…` function returns the history after one observation.
"""

from dataclasses import dataclass, replace
from typing import Any

from waterhook.domain.status_document import StatusDocument
from waterhook.errors import DependencyUnavailableError, ResultsUnavailableError, UpstreamError
from waterhook.text import clip

# Longest reasons of a failed status request, and of a fault of an AWS service, that the loop state carries.
MAX_FAILURE_CHARS = 200
MAX_REASON_CHARS = 300

# A longer Retry-After is shortened to this.
RETRY_AFTER_LIMIT_S = 900
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

# An unknown status with `completed_at` ends a job after this many polls in a row over this long.
ENDED_AFTER_COUNT = 3
ENDED_AFTER_S = 10.0

# An AWS service that Waterhook uses has failed for this long: the job is given up.
FAULT_LIMIT_S = 6 * 3600.0
_NO_FAULT: dict[str, Any] = {"faults": 0, "fault_since": None, "fault": None, "fault_reason": None}


@dataclass(frozen=True, slots=True)
class PollHistory:
    """What the loop has observed of one execution: the input of the policy. Times are epoch seconds."""

    started_at: float
    status_requests: int = 0
    """Status requests so far, by whichever step."""
    polls: int = 0
    """Cycles of Wait, Poll and Choice."""
    follows: int = 0
    """Invocations of the follow function."""
    refusals: int = 0
    """Follows that found no concurrency."""
    earlier_events: int = 0
    """History events of the state machine execution before the job was started, estimated."""
    polled_at: float | None = None
    """When the last status request was answered, or failed."""
    errors: int = 0
    """Failed status requests in a row."""
    retry_after_s: float | None = None
    """`Retry-After` of the last answer."""
    failure: str | None = None
    """Why the last status request failed; None if it succeeded."""
    unusable: int = 0
    """Answers in a row that were a success and could not be used."""
    unusable_since: float | None = None
    not_found: int = 0
    not_found_since: float | None = None
    progress: float | None = None
    progress_at: float | None = None
    progress_readings: int = 0
    """Readings in which the progress rose, in a row."""
    first_progress: float | None = None
    first_progress_at: float | None = None
    retry_count: int | None = None
    """The upstream's count of its own retries; after one more the progress may begin anew."""
    cleanup_after: float | None = None
    unknown_status: str | None = None
    """The last status of the upstream, where it is none that is known."""
    ended_polls: int = 0
    """Polls in a row that returned this unknown status together with `completed_at`."""
    ended_since: float | None = None
    """When the first of them was answered."""
    record_checked_at: float | None = None
    """When a follow last read whether the record is final."""
    large_document: bool = False
    """The status document was too large for the follow function: only the poll function can read it."""
    cancels: int = 0
    """Attempts to cancel the job that did not end it."""
    cancel_refusals: int = 0
    """Of these: refused, or taken and not carried out."""
    cancel_since: float | None = None
    """When the first of them failed."""
    faults: int = 0
    """Steps in a row in which an AWS service that Waterhook uses failed; the upstream's errors are not among them."""
    fault_since: float | None = None
    """When the first of them failed."""
    fault: str | None = None
    """Class of the last one: KeyUnavailableError or another DependencyUnavailableError."""
    fault_reason: str | None = None
    follow_refused_at: float | None = None
    follow_seconds: float = 0.0


def after_response(history: PollHistory, document: StatusDocument, now: float) -> PollHistory:
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


def after_failed_request(history: PollHistory, error: UpstreamError, now: float) -> PollHistory:
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


def after_dependency_fault(
    history: PollHistory, error: DependencyUnavailableError, now: float
) -> PollHistory:
    """Return the history after a step in which an AWS service failed. That is no failed status request."""
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
    """Whether the upstream has answered 404 often and long enough to give the job up."""
    since = history.not_found_since
    return since is not None and history.not_found >= LOST_AFTER_COUNT and now - since >= LOST_AFTER_S


def has_ended(history: PollHistory, now: float) -> bool:
    """Whether an unknown status has come with `completed_at` often and long enough to be a final one."""
    since = history.ended_since
    return since is not None and history.ended_polls >= ENDED_AFTER_COUNT and now - since >= ENDED_AFTER_S


def accepts_flawed(history: PollHistory, cleanup_after: float | None, now: float) -> bool:
    """Whether a document that shows the outcome, but is flawed, is to be accepted as it is."""
    since = history.unusable_since
    if cleanup_after is not None and cleanup_after - now <= FLAWED_CLEANUP_S:
        return True
    return since is not None and history.unusable >= FLAWED_AFTER_COUNT and now - since >= FLAWED_AFTER_S


def after_follow_refusal(history: PollHistory, now: float) -> PollHistory:
    """Return the history after a follow that found no concurrency: polling goes on for a while."""
    return replace(history, refusals=history.refusals + 1, follow_refused_at=now)


def _progress_of(document: StatusDocument) -> float | None:
    """Return percent with three decimals, from `progress` or else from the nodes, or None."""
    if document.progress is not None:
        return round(min(max(document.progress, 0.0), 100.0), 3)
    if document.completed_nodes is not None and document.total_nodes:
        return round(min(100.0 * document.completed_nodes / document.total_nodes, 100.0), 3)
    return None


def _key_read(history: PollHistory) -> PollHistory:
    """Return the history after a request that was sent: the key was read. The bucket may still fail."""
    if history.fault == ResultsUnavailableError.__name__:
        return history
    return replace(history, **_NO_FAULT)
