"""One status request and what follows from its answer: the step that poll, cancel and follow share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from waterhook import policy
from waterhook.errors import DependencyUnavailable, ResultsUnavailable, UpstreamError
from waterhook.jitter import jitter_of
from waterhook.models import MAX_WORD_CHARS, Job, Next, Status, StreamHistory, clip, iso
from waterhook.policy import Limits
from waterhook.reasons import cancel_reason, lasting_fault
from waterhook.results import Results
from waterhook.settings import Settings
from waterhook.status import MAX_STATUS_BYTES, FlawedDocument, OutputError, StatusDocument


class StatusSource(Protocol):
    """Returns status documents."""

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the document, reading no more than `limit_bytes`, or raise UpstreamError."""


class Poller:
    """Sends one status request. It raises neither because of the upstream nor because of secret or bucket.

    A failed request is not a failed job, and a fault of an AWS service may pass.
    """

    def __init__(
        self,
        source: StatusSource,
        results: Results,
        settings: Settings,
        clock: Callable[[], float],
        *,
        limit_bytes: int = MAX_STATUS_BYTES,
        patient: bool = True,
    ) -> None:
        """A document larger than `limit_bytes` is left to the poll function, which has more memory and time.

        A flawed document is accepted once it was read several times; where that can't be, set `patient` to False.
        """
        self._patient = patient
        self._limit_bytes = limit_bytes
        self._source = source
        self._results = results
        self._settings = settings
        self._clock = clock

    def poll(self, job: Job) -> Job:
        """Return the job with an outcome, or with what to do next."""
        if job.follow_refused:
            refused = policy.follow_refused(job.history, self._clock())
            job = replace(job, follow_refused=False, history=refused)
        job = self.observe(job)
        return job if job.next in {Next.NOTIFY, Next.POLL} else self.decide(job)

    def observe(self, job: Job) -> Job:
        """Return the job after one status request.

        `next` is NOTIFY with an outcome, POLL where the document is too large for this function, and else FOLLOW:
        what to do next is not decided yet.
        """
        try:
            document = self._source.status(job.waterflai_execution_id or "", limit_bytes=self._limit_bytes)
        except UpstreamError as error:
            return self._not_answered(job, error)
        except DependencyUnavailable as error:
            return self.dependency_failed(job, error)
        history = policy.answered(job.history, document, self._clock())
        if document.too_large and self._limit_bytes < MAX_STATUS_BYTES:
            history = replace(history, large_document=True)
            return replace(job, next=Next.POLL, wait_seconds=0, history=history)
        job = replace(job, next=Next.FOLLOW, history=history)
        if document.outcome is not None:
            return self._ended(job, document, document.outcome)
        if document.unknown_status is not None and policy.has_ended(history, self._clock()):
            return self._ended_as(job, document, document.unknown_status)
        # It is running, or was cut at the limit before its status: a later document may have an outcome.
        return job

    def decide(self, job: Job) -> Job:
        """Return the job with the policy's decision what to do next.

        A job that its caller cancelled or that was given up goes to Cancel until it has ended.
        """
        if job.cancel_requested or job.error is not None:
            return replace(job, next=Next.CANCEL, wait_seconds=0)
        jitter = jitter_of(job.execution_id, job.history.status_requests + job.history.faults)
        decision = policy.next_step(job.history, self._clock(), self._limits(job), jitter)
        return replace(job, next=decision.next, wait_seconds=decision.wait_seconds)

    def dependency_failed(self, job: Job, error: DependencyUnavailable) -> Job:
        """Return the job after a step in which an AWS service failed.

        It is given up, with its `error` set, when that has been so for FAULT_LIMIT_S.
        """
        now = self._clock()
        history = policy.dependency_failed(job.history, error, now)
        job = replace(job, next=Next.FOLLOW, history=history)
        if job.error is not None or not policy.is_given_up(history, now):
            return job
        return replace(job, error={"code": "fault", "message": lasting_fault(history, now)})

    def due_at(self, job: Job, stream: StreamHistory) -> float:
        """Return when a follow polls the status next, in epoch seconds."""
        jitter = jitter_of(job.execution_id, job.history.status_requests)
        return policy.poll_due_at(job.history, stream, job.deadline, jitter)

    def _limits(self, job: Job) -> Limits:
        # Only a poll saves an id that start could not save, and until then the API can't cancel the job.
        return self._settings.limits(job.deadline, may_follow=not job.unsaved)

    def _not_answered(self, job: Job, error: UpstreamError) -> Job:
        """Return the job after a failed status request: LOST after 404 for long enough."""
        now = self._clock()
        job = replace(job, next=Next.FOLLOW, history=policy.not_answered(job.history, error, now))
        if isinstance(error, FlawedDocument) and (document := error.document).outcome is not None:
            cleanup_after = document.cleanup_after
            if not self._patient or policy.accepts_flawed(job.history, cleanup_after, now):
                return self._ended(job, document, document.outcome)
        if not policy.is_lost(job.history, now):
            return job
        message = "Waterflai no longer knows this execution"
        return job.ended(Status.LOST, code="not_found", message=message)

    def _ended_as(self, job: Job, document: StatusDocument, word: str) -> Job:
        """Return the job as FAILED: it has ended with a status that is not known."""
        message = f"Waterflai ended the job with a status that is not known, {clip(word, MAX_WORD_CHARS)!r}"
        if document.error_message:
            message = f"{message}: {document.error_message}"
        completed_at = iso(document.completed_at)
        return job.ended(Status.FAILED, code="upstream_status", message=message, completed_at=completed_at)

    def _ended(self, job: Job, document: StatusDocument, outcome: Status) -> Job:
        # Where the end of the document was not read, the time at which its outcome was first observed here.
        is_cut = document.completed_at is None and document.output_error is not None
        completed_at = iso(self._clock() if is_cut else document.completed_at)
        if outcome is Status.FAILED:
            message = document.error_message or "Waterflai gave no reason"
            return job.ended(outcome, code="failed", message=message, completed_at=completed_at)
        if outcome is Status.CANCELLED and job.history.cancels and not job.cancel_requested:
            # An earlier cancel of ours was carried out, and only its answer was lost.
            reason = cancel_reason(job, self._clock())
            return job.ended(
                reason.outcome, code=reason.code, message=reason.cancelled, completed_at=completed_at
            )
        if outcome is Status.CANCELLED:
            message = document.error_message or "cancelled at Waterflai"
            return job.ended(outcome, code="cancelled", message=message, completed_at=completed_at)
        return self._completed(job, document, completed_at)

    def _completed(self, job: Job, document: StatusDocument, completed_at: str | None) -> Job:
        if document.final_output_json is None:
            default = OutputError.TOO_LARGE if document.too_large else OutputError.MISSING
            why = document.output_error or default
            return job.ended(Status.COMPLETED, output_error=why, completed_at=completed_at)
        try:
            kept = self._results.keep(job.execution_id, document.final_output_json)
        except ResultsUnavailable as error:
            # The job is done and Waterflai still has its output: it is fetched again later.
            failed = self.dependency_failed(job, error)
            if failed.error is None and not job.cancel_requested and self._clock() < job.deadline:
                return failed
            # The job succeeded, and a second attempt would run it twice: its outcome stays COMPLETED.
            why = OutputError.STORAGE_FAILED
            return failed.ended(Status.COMPLETED, output_error=why, completed_at=completed_at)
        return job.ended(Status.COMPLETED, completed_at=completed_at, **kept)
