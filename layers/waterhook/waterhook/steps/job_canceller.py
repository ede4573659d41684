"""Cancels a job: at its deadline, for a caller's DELETE, and for reconcile."""

from typing import Protocol

from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import PerhapsAcceptedError, ResultsUnavailableError, UpstreamRefusedError
from waterhook.steps.status_poller import StatusPoller
from waterhook.upstream.client import CancelResult

# Time for each request of `cancel`: a DELETE and perhaps a status request. Both fit into the cancel function's 30 s.
CALL_BUDGET_S = 12.0


class Upstream(Protocol):
    """The client method that cancels."""

    def cancel(self, execution_id: str) -> CancelResult:
        """Cancel a job. Raises UpstreamError."""


class JobCanceller:
    """Cancels a job. Returns the real outcome if the job has already ended."""

    def __init__(self, upstream: Upstream, poller: StatusPoller) -> None:
        """`poller` reads the status if the answer to the cancel does not show the outcome."""
        self._upstream = upstream
        self._poller = poller

    def cancel(self, state: LoopState, outcome: Status, *, code: str, message: str) -> LoopState:
        """Return the state ended with `outcome` or the job's real outcome, or still running if neither is certain.

        Raises UpstreamError if the cancel was not carried out, or if neither its answer nor the status shows whether it
        was. Raises ResultsUnavailableError if the job has completed and its output could not be stored: the outcome is
        then not `outcome`, and Waterflai still has the output.
        """
        try:
            answer = self._upstream.cancel(state.waterflai_execution_id or "")
        except UpstreamRefusedError:
            # Waterflai answers like this if the job has already ended, although that is not documented. So may a 404.
            return self._poll(state)
        except PerhapsAcceptedError:
            polled = self._poll(state)
            if not polled.outcome.is_final:
                raise
            is_cancelled = None
        else:
            if answer.cancelled:
                return state.ended(outcome, code=code, message=message)
            polled, is_cancelled = self._poll(state), answer.cancelled
        if is_cancelled is None and polled.outcome is Status.CANCELLED:
            # The cancel was perhaps carried out and the job is cancelled, so it counts as cancelled by Waterhook.
            return state.ended(outcome, code=code, message=message, **polled.result)
        return polled

    def _poll(self, state: LoopState) -> LoopState:
        polled = self._poller.poll(state)
        if not polled.outcome.is_final and polled.history.fault == ResultsUnavailableError.__name__:
            raise ResultsUnavailableError(polled.history.fault_reason or "")
        return polled
