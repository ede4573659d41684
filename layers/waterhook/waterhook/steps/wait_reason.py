"""A request that waits for its start: the reason, the times that GET shows, and the outcome if no job is known."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import UpstreamError
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import clip
from waterhook.timestamps import to_rfc3339

# Each write of a waiting request contains the reason. The error message of an outcome may be longer.
_MAX_DETAIL_CHARS = 500
_PUBLIC_FIELDS = ("reason", "since", "next_attempt_at")


class WaitReason(StrEnum):
    """Reason of a wait, as GET returns it."""

    QUEUED = "queued"
    """All slots under `MaxRunning` or `MaxRunningPerChatbot` are taken."""
    UPSTREAM_BUSY = "upstream_busy"
    """Waterflai, or its CDN, answered that it can't accept the start now."""
    RETRYING = "retrying"
    """No connection to Waterflai, a lost answer, or a fault of Waterhook."""

    @classmethod
    def of(cls, error: UpstreamError) -> "WaitReason":
        """Return the reason for a start that was not accepted and is retried."""
        busy = error.status is not None and error.status != HTTPStatus.UNAUTHORIZED
        return cls.UPSTREAM_BUSY if busy else cls.RETRYING


def waiting_attribute(
    reason: WaitReason,
    detail: str,
    now: float,
    wait_seconds: int,
    before: Mapping[str, Any] | None = None,
    conflicts: int = 0,
) -> dict[str, Any]:
    """Return the record's `waiting` attribute. `since` is copied from `before` if the reason is the same."""
    since = before["since"] if before and before["reason"] == reason else to_rfc3339(now)
    return {
        "reason": str(reason),
        "since": since,
        "next_attempt_at": to_rfc3339(now + wait_seconds),
        "detail": clip(detail, _MAX_DETAIL_CHARS),
        "conflicts": conflicts,
    }


def public_waiting(record: ExecutionRecord) -> dict[str, Any] | None:
    """Return the `waiting` field of GET, or None if the request does not wait."""
    if record.status is not Status.ACCEPTED or record.waiting is None:
        return None
    return {name: record.waiting[name] for name in _PUBLIC_FIELDS}


def end_without_job(
    state: LoopState, record: ExecutionRecord, outcome: Status, *, code: str, message: str
) -> LoopState:
    """Return the state ended with `outcome`, or with UNCERTAIN if Waterflai may have accepted an earlier attempt.

    For a record without a job id, before the next attempt or after an attempt that was not accepted.
    """
    if not record.perhaps_started:
        return state.ended(outcome, code=code, message=message)
    if outcome is not Status.REJECTED:
        code = "start_uncertain"
    message = f"{message}; the answer to an earlier attempt was lost, and Waterflai may be running this job"
    return state.ended(Status.UNCERTAIN, code=code, message=message)


def cancel_without_job(state: LoopState, record: ExecutionRecord) -> LoopState:
    """Return the state ended by a cancel request before a job is known: CANCELLED, or UNCERTAIN as above."""
    operator = " by an operator" if record.cancelled_by_operator else ""
    message = f"cancelled{operator} before the job was started"
    return end_without_job(state, record, Status.CANCELLED, code="cancelled", message=message)
