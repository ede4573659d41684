"""One question to the upstream and what follows from its answer: the step that poll, cancel and follow share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from waterhook import policy
from waterhook.errors import ResultsUnavailable, UpstreamError
from waterhook.models import Job, Next, Status, iso
from waterhook.results import Results
from waterhook.settings import Settings
from waterhook.status import MAX_STATUS_BYTES, StatusDocument


class StatusSource(Protocol):
    """Whoever knows the status of an execution."""

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return it, reading no more than `limit_bytes`, or raise UpstreamError."""


class Poller:
    """Asks once and never raises because the upstream had a bad minute: a failed question is not a failed job."""

    def __init__(
        self,
        source: StatusSource,
        results: Results,
        settings: Settings,
        clock: Callable[[], float],
        *,
        limit_bytes: int = MAX_STATUS_BYTES,
    ) -> None:
        """Keep what it works with; a document larger than `limit_bytes` is left to a poller with more room."""
        self._limit_bytes = limit_bytes
        self._source = source
        self._results = results
        self._settings = settings
        self._clock = clock

    def poll(self, job: Job) -> Job:
        """Return the job with an outcome, or with what to do next."""
        if job.follow_refused:
            job = replace(job, follow_refused=False, history=policy.not_followed(job.history, self._clock()))
        try:
            document = self._source.status(job.waterflai_execution_id or "", limit_bytes=self._limit_bytes)
        except UpstreamError as error:
            return self.unanswered(job, error)
        now = self._clock()
        job = replace(job, history=policy.answered(job.history, document, now))
        if document.too_large and self._limit_bytes < MAX_STATUS_BYTES:
            return replace(job, next=Next.POLL, wait_seconds=0)
        if document.outcome is None:
            # Running, or larger than we read and saying no outcome in what we read: later it may.
            return self.decide(job)
        return self._ended(job, document, document.outcome)

    def unanswered(self, job: Job, error: UpstreamError) -> Job:
        """Return the job after a question that failed: asked again later, unless it has been denied for long."""
        now = self._clock()
        job = replace(job, history=policy.not_answered(job.history, error, now))
        if policy.is_lost(job.history, now):
            return job.ended(
                Status.LOST, code="not_found", message="Waterflai no longer knows this execution"
            )
        return self.decide(job)

    def decide(self, job: Job) -> Job:
        """Return the job with the policy's decision; one whose caller cancelled it is cancelled until it has ended."""
        if job.cancel_requested:
            return replace(job, next=Next.CANCEL, wait_seconds=0)
        # Only a poll saves an id that start could not, and until then nobody else can cancel the job.
        limits = self._settings.limits(job.deadline, may_follow=not job.unsaved)
        decision = policy.next_step(job.history, self._clock(), limits)
        return replace(job, next=decision.next, wait_seconds=decision.wait_seconds)

    def _ended(self, job: Job, document: StatusDocument, outcome: Status) -> Job:
        completed_at = iso(document.completed_at)
        if outcome is Status.FAILED:
            reason = document.error_message or "Waterflai gave no reason"
            return job.ended(outcome, code="failed", message=reason, completed_at=completed_at)
        if outcome is Status.CANCELLED and job.history.cancels and not job.cancel_requested:
            # An earlier cancel of ours was carried out, and only its answer was lost.
            message = "cancelled at its deadline"
            return job.ended(Status.TIMED_OUT, code="deadline", message=message, completed_at=completed_at)
        if outcome is Status.CANCELLED:
            reason = document.error_message or "cancelled at Waterflai"
            return job.ended(outcome, code="cancelled", message=reason, completed_at=completed_at)
        if document.final_output_json is None:
            why = "too_large" if document.too_large else "missing"
            return job.ended(outcome, output_error=why, completed_at=completed_at)
        try:
            kept = self._results.keep(job.execution_id, document.final_output_json)
        except ResultsUnavailable:
            # The job is done and its output still there: a bad minute of the bucket must not cost it.
            return self.decide(replace(job, history=replace(job.history, errors=job.history.errors + 1)))
        return job.ended(outcome, completed_at=completed_at, **kept)
