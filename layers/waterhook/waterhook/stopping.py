"""Ending a remote job: what the overdue loop, a caller's DELETE and reconcile have in common."""

from typing import Protocol

from waterhook.client import CancelAnswer
from waterhook.errors import Refused
from waterhook.models import Job, Status
from waterhook.polling import Poller


class Upstream(Protocol):
    """Whoever can cancel an execution upstream."""

    def cancel(self, execution_id: str) -> CancelAnswer:
        """Ask for its end, or raise UpstreamError."""


class Stopper:
    """Cancels, and where it is too late returns the real outcome: a finished job is never called cancelled."""

    def __init__(self, upstream: Upstream, poller: Poller) -> None:
        """Keep what it works with."""
        self._upstream = upstream
        self._poller = poller

    def stop(self, job: Job, outcome: Status, *, code: str, message: str) -> Job:
        """Return the job ended with `outcome`, or with its real one, or still running where neither is known.

        Raises UpstreamError when the upstream did not answer the question.
        """
        try:
            answer = self._upstream.cancel(job.waterflai_execution_id or "")
        except Refused:
            # Not in the vendor's pages, but the usual answer to "too late"; a 404 says so too.
            return self._poller.poll(job)
        if answer.cancelled:
            return job.ended(outcome, code=code, message=message)
        stopped = self._poller.poll(job)
        if answer.cancelled is None and stopped.outcome is Status.CANCELLED:
            # The cancel was taken, the answer does not say with what success, and the job is cancelled: by us.
            return job.ended(outcome, code=code, message=message)
        return stopped
