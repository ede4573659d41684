"""Requests that wait for their start: why, since when, until when, and their outcome where no job is known."""

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

# A reason is part of every write of a waiting request; an error message of the outcome may be longer.
_MAX_DETAIL_CHARS = 500
_SHOWN = ("reason", "since", "next_attempt_at")


class WaitReason(StrEnum):
    """Why a request waits, as GET shows it."""

    QUEUED = "queued"
    """All slots under `MaxRunning` or `MaxRunningPerChatbot` are taken."""
    UPSTREAM_BUSY = "upstream_busy"
    """Waterflai, or a CDN before it, answered that it can't take the start now."""
    RETRYING = "retrying"
    """No connection to Waterflai, an answer that was lost, or a fault of Waterhook."""

    @classmethod
    def of(cls, error: UpstreamError) -> "WaitReason":
        """Return the reason for a start that surely was not accepted and is tried again."""
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
    """Return the record's `waiting`. `since` is kept from `before` where that has the same reason."""
    since = before["since"] if before and before["reason"] == reason else to_rfc3339(now)
    return {
        "reason": str(reason),
        "since": since,
        "next_attempt_at": to_rfc3339(now + wait_seconds),
        "detail": clip(detail, _MAX_DETAIL_CHARS),
        "conflicts": conflicts,
    }


def public_waiting(record: ExecutionRecord) -> dict[str, Any] | None:
    """Return what GET shows of a request that waits, or None where it does not."""
    if record.status is not Status.ACCEPTED or record.waiting is None:
        return None
    return {name: record.waiting[name] for name in _SHOWN}


def end_without_job(
    state: LoopState, record: ExecutionRecord, outcome: Status, *, code: str, message: str
) -> LoopState:
    """Return the state ended with `outcome`, or with UNCERTAIN where an attempt to start it may have been accepted.

    For a record whose job is not known, before the next attempt or after one that surely was not accepted.
    """
    if not record.perhaps_started:
        return state.ended(outcome, code=code, message=message)
    if outcome is not Status.REJECTED:
        code = "start_uncertain"
    message = f"{message}; the answer to an earlier attempt was lost, and Waterflai may be running this job"
    return state.ended(Status.UNCERTAIN, code=code, message=message)
