"""Cancels a remote job: for the overdue loop, a caller's DELETE and reconcile."""

from typing import Protocol

from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import PerhapsAcceptedError, ResultsUnavailableError, UpstreamRefusedError
from waterhook.steps.status_poller import StatusPoller
from waterhook.upstream.client import CancelResult

# For each call of a `stop`, a DELETE and perhaps a status request. Both fit into the 30 s of the cancel function.
CALL_BUDGET_S = 12.0


class Upstream(Protocol):
    """The part of the client that cancels."""

    def cancel(self, execution_id: str) -> CancelResult:
        """Cancel an execution, or raise UpstreamError."""


class JobCanceller:
    """Cancels a job. Where it is too late for that it returns the real outcome."""

    def __init__(self, upstream: Upstream, poller: StatusPoller) -> None:
        """Use `poller` where the answer to the cancel does not settle the outcome."""
        self._upstream = upstream
        self._poller = poller

    def stop(self, state: LoopState, outcome: Status, *, code: str, message: str) -> LoopState:
        """Return the state ended with `outcome`, or with its real one, or still running where neither is known.

        Raises UpstreamError when the cancel was not carried out, or when neither its answer nor the status shows
        whether it was. Raises ResultsUnavailableError when the job has completed and its output could not be
        stored: that is no job that was cancelled, and Waterflai still has the output.
        """
        try:
            answer = self._upstream.cancel(state.waterflai_execution_id or "")
        except UpstreamRefusedError:
            # Waterflai's usual answer when the job has ended already, though not documented; a 404 may mean that too.
            return self._poll(state)
        except PerhapsAcceptedError:
            polled = self._poll(state)
            if not polled.outcome.is_final:
                raise
            cancelled = None
        else:
            if answer.cancelled:
                return state.ended(outcome, code=code, message=message)
            polled, cancelled = self._poll(state), answer.cancelled
        if cancelled is None and polled.outcome is Status.CANCELLED:
            # The cancel may have been carried out, and the job is cancelled: it counts as ours.
            return state.ended(outcome, code=code, message=message, **polled.result)
        return polled

    def _poll(self, state: LoopState) -> LoopState:
        polled = self._poller.poll(state)
        if not polled.outcome.is_final and polled.history.fault == ResultsUnavailableError.__name__:
            raise ResultsUnavailableError(polled.history.fault_reason or "")
        return polled
