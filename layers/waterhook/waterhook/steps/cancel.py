"""The cancel step: cancels a job that is overdue or given up. A job that has already ended keeps its real outcome."""

from collections.abc import Callable
from dataclasses import replace

from waterhook.domain import retry_policy
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.outcome_reasons import (
    CancelReason,
    cancel_reason,
    dependency_fault_message,
    step_failed_message,
)
from waterhook.errors import DependencyUnavailableError, UpstreamError
from waterhook.steps.job_canceller import JobCanceller


class CancelStep:
    """Cancels a job that is overdue, that its caller cancelled, or that was given up because of a fault."""

    def __init__(self, canceller: JobCanceller, clock: Callable[[], float]) -> None:
        self._canceller = canceller
        self._clock = clock

    def cancel(self, state: LoopState, owner: str) -> LoopState:
        """Return the state with its outcome, or with a wait and a poll before the next attempt.

        Failed attempts are repeated for CANCEL_LIMIT_S, refused ones MAX_CANCEL_REFUSALS times. A job that has ended
        keeps its real outcome.
        """
        if state.fault is not None:
            # If a later step fails too, the first error counts.
            error = state.error or {"code": "fault", "message": step_failed_message(state.fault, owner)}
            state = replace(state, fault=None, error=error)
        reason = cancel_reason(state, self._clock())
        if state.waterflai_execution_id is None:
            return state.ended(reason.outcome, code=reason.code, message=reason.message)
        try:
            cancelled = self._canceller.cancel(
                state, reason.outcome, code=reason.code, message=reason.cancelled
            )
        except UpstreamError as error:
            return self._retry(state, reason, error.message, error.retry_after_s)
        except DependencyUnavailableError as error:
            return self._retry(state, reason, dependency_fault_message(error))
        if cancelled.outcome.is_final:
            return cancelled
        history = cancelled.history
        refused = replace(cancelled, history=replace(history, cancel_refusals=history.cancel_refusals + 1))
        return self._retry(refused, reason, "Waterflai did not cancel it")

    def _retry(
        self, state: LoopState, reason: CancelReason, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        """Return the state with a wait before the next attempt, or ended if there is no further attempt."""
        now, history = self._clock(), state.history
        since = now if history.cancel_since is None else history.cancel_since
        wait_s = retry_policy.cancel_retry_wait_s(now - since, history.cancel_refusals, retry_after_s)
        if wait_s is None:
            return state.ended(reason.outcome, code=reason.code, message=reason.not_cancelled(why))
        history = replace(history, cancels=history.cancels + 1, cancel_since=since)
        return replace(state, history=history, next=NextStep.WAIT, wait_seconds=wait_s)
