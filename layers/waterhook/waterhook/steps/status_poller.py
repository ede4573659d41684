"""One status request and its consequences. The poll, cancel and follow steps share this module."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from waterhook.domain import poll_history, polling_policy
from waterhook.domain.jitter import jitter_of
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.outcome_reasons import cancel_reason, lasting_fault_message
from waterhook.domain.polling_policy import Limits
from waterhook.domain.status import Status
from waterhook.domain.status_document import (
    MAX_STATUS_BYTES,
    FlawedDocumentError,
    OutputError,
    StatusDocument,
)
from waterhook.domain.stream_history import StreamHistory
from waterhook.errors import DependencyUnavailableError, ResultsUnavailableError, UpstreamError
from waterhook.settings import Settings
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.text import MAX_WORD_CHARS, clip
from waterhook.timestamps import to_rfc3339


class StatusSource(Protocol):
    """The client method that returns status documents."""

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the document, reading at most `limit_bytes`. Raises UpstreamError."""


class StatusPoller:
    """Sends one status request. Does not raise if the upstream, the secret or the bucket fails.

    A failed request is not a failed job, and a failed AWS service may recover.
    """

    def __init__(
        self,
        source: StatusSource,
        results: ResultsBucket,
        settings: Settings,
        clock: Callable[[], float],
        *,
        limit_bytes: int = MAX_STATUS_BYTES,
        polls_again: bool = True,
    ) -> None:
        """A document larger than `limit_bytes` is left to the poll function, which has more memory and time.

        An incomplete document is accepted only after several polls. Set `polls_again` to False for a single poll.
        """
        self._polls_again = polls_again
        self._limit_bytes = limit_bytes
        self._source = source
        self._results = results
        self._settings = settings
        self._clock = clock

    def poll(self, state: LoopState) -> LoopState:
        """Return the state with an outcome or with the next step."""
        if state.follow_refused:
            refused = poll_history.after_follow_refusal(state.history, self._clock())
            state = replace(state, follow_refused=False, history=refused)
        state = self.observe(state)
        return state if state.next in {NextStep.NOTIFY, NextStep.POLL} else self.decide(state)

    def observe(self, state: LoopState) -> LoopState:
        """Return the state after one status request, without a decision about the next step.

        `next` is NOTIFY with an outcome, POLL if the document is too large for this function, else FOLLOW.
        """
        try:
            document = self._source.status(state.waterflai_execution_id or "", limit_bytes=self._limit_bytes)
        except UpstreamError as error:
            return self._not_answered(state, error)
        except DependencyUnavailableError as error:
            return self.dependency_failed(state, error)
        history = poll_history.after_response(state.history, document, self._clock())
        if document.too_large and self._limit_bytes < MAX_STATUS_BYTES:
            history = replace(history, large_document=True)
            return replace(state, next=NextStep.POLL, wait_seconds=0, history=history)
        state = replace(state, next=NextStep.FOLLOW, history=history)
        if document.outcome is not None:
            return self._ended(state, document, document.outcome)
        if document.unknown_status is not None and poll_history.has_ended(history, self._clock()):
            return self._ended_as(state, document, document.unknown_status)
        # The job is running, or the document was cut at the limit before its status. A later one may have an outcome.
        return state

    def decide(self, state: LoopState) -> LoopState:
        """Return the state with the next step from the polling policy.

        A job that its caller cancelled or that was given up goes to Cancel until it has ended.
        """
        if state.cancel_requested or state.error is not None:
            return replace(state, next=NextStep.CANCEL, wait_seconds=0)
        jitter = jitter_of(state.execution_id, state.history.status_requests + state.history.faults)
        decision = polling_policy.next_step(state.history, self._clock(), self._limits(state), jitter)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def dependency_failed(self, state: LoopState, error: DependencyUnavailableError) -> LoopState:
        """Return the state after a step in which an AWS service failed.

        After FAULT_LIMIT_S of faults `error` is set: the job is given up.
        """
        now = self._clock()
        history = poll_history.after_dependency_fault(state.history, error, now)
        state = replace(state, next=NextStep.FOLLOW, history=history)
        if state.error is not None or not poll_history.is_given_up(history, now):
            return state
        return replace(state, error={"code": "fault", "message": lasting_fault_message(history, now)})

    def due_at(self, state: LoopState, stream: StreamHistory) -> float:
        """Return when a follow polls next, in epoch seconds."""
        jitter = jitter_of(state.execution_id, state.history.status_requests)
        return polling_policy.poll_due_at(state.history, stream, state.deadline, jitter)

    def _limits(self, state: LoopState) -> Limits:
        # Only a poll saves a missing id of the job, and until then the API can't cancel the job.
        return self._settings.limits(state.deadline, may_follow=not state.unsaved)

    def _not_answered(self, state: LoopState, error: UpstreamError) -> LoopState:
        """Return the state after a failed status request. It is LOST after enough answers with 404."""
        now = self._clock()
        state = replace(
            state, next=NextStep.FOLLOW, history=poll_history.after_failed_request(state.history, error, now)
        )
        if isinstance(error, FlawedDocumentError) and (document := error.document).outcome is not None:
            cleanup_after = document.cleanup_after
            if not self._polls_again or poll_history.accepts_flawed(state.history, cleanup_after, now):
                return self._ended(state, document, document.outcome)
        if not poll_history.is_lost(state.history, now):
            return state
        message = "Waterflai no longer has this job (HTTP 404)"
        return state.ended(Status.LOST, code="not_found", message=message)

    def _ended_as(self, state: LoopState, document: StatusDocument, word: str) -> LoopState:
        """Return the state as FAILED: the job has ended with an unknown status."""
        message = f"Waterflai ended the job with the unknown status {clip(word, MAX_WORD_CHARS)!r}"
        if document.error_message:
            message = f"{message}: {document.error_message}"
        completed_at = to_rfc3339(document.completed_at)
        return state.ended(Status.FAILED, code="upstream_status", message=message, completed_at=completed_at)

    def _ended(self, state: LoopState, document: StatusDocument, outcome: Status) -> LoopState:
        # If the end of the document was not read, this is the time at which Waterhook first saw the outcome.
        is_cut = document.completed_at is None and document.output_error is not None
        completed_at = to_rfc3339(self._clock() if is_cut else document.completed_at)
        if outcome is Status.FAILED:
            message = document.error_message or "Waterflai returned no error message"
            return state.ended(outcome, code="failed", message=message, completed_at=completed_at)
        if outcome is Status.CANCELLED and state.history.cancels and not state.cancel_requested:
            # Waterhook cancelled the job earlier, and only the answer was lost.
            reason = cancel_reason(state, self._clock())
            return state.ended(
                reason.outcome, code=reason.code, message=reason.cancelled, completed_at=completed_at
            )
        if outcome is Status.CANCELLED:
            message = document.error_message or "cancelled at Waterflai"
            return state.ended(outcome, code="cancelled", message=message, completed_at=completed_at)
        return self._completed(state, document, completed_at)

    def _completed(self, state: LoopState, document: StatusDocument, completed_at: str | None) -> LoopState:
        if document.final_output_json is None:
            default = OutputError.TOO_LARGE if document.too_large else OutputError.MISSING
            why = document.output_error or default
            return state.ended(Status.COMPLETED, output_error=why, completed_at=completed_at)
        try:
            location = self._results.store(state.execution_id, document.final_output_json)
        except ResultsUnavailableError as error:
            # Waterflai still has the output: the next poll fetches it again.
            failed = self.dependency_failed(state, error)
            if failed.error is None and not state.cancel_requested and self._clock() < state.deadline:
                return failed
            # The job has succeeded and must not be run again, so its outcome stays COMPLETED.
            why = OutputError.STORAGE_FAILED
            return failed.ended(Status.COMPLETED, output_error=why, completed_at=completed_at)
        return state.ended(Status.COMPLETED, completed_at=completed_at, **location)
