"""Outcome, code and message of a job that the loop cancels or gives up."""

from dataclasses import dataclass

from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.errors import (
    DependencyUnavailableError,
    KeyUnavailableError,
    RecordUnavailableError,
    ResultsUnavailableError,
)
from waterhook.text import MAX_WORD_CHARS, clip, format_duration

_CONDITIONS = {
    KeyUnavailableError.__name__: "the API key could not be read",
    ResultsUnavailableError.__name__: "the output could not be stored",
    RecordUnavailableError.__name__: "the table could not be used",
}


@dataclass(frozen=True, slots=True)
class CancelReason:
    """Outcome, error code and message of a job that is to be cancelled."""

    outcome: Status
    code: str
    message: str
    notes: str = ""
    """Observations about the job, appended to the message."""

    @property
    def cancelled(self) -> str:
        """The message if the cancel succeeded."""
        if self.outcome is Status.ERROR:
            return f"{self.message}; the job at Waterflai was cancelled"
        return f"{self.message}{self.notes}"

    def not_cancelled(self, why: str) -> str:
        """Return the message if the cancel failed; `why` is the reason."""
        joined = "; " if self.outcome is Status.ERROR else ", but "
        return f"{self.message}{joined}the job at Waterflai may still be running: {why}{self.notes}"


def cancel_reason(state: LoopState, now: float) -> CancelReason:
    """Return why the job is cancelled: by a request, because Waterhook failed, or at its deadline."""
    if state.cancel_requested:
        message = cancelled_message(by_operator=state.cancelled_by_operator)
        return CancelReason(Status.CANCELLED, "cancelled", message)
    if state.error is not None:
        return CancelReason(Status.ERROR, state.error["code"], state.error["message"])
    notes = "".join(f"; {note}" for note in _notes(state.history, now))
    return CancelReason(Status.TIMED_OUT, "deadline", "cancelled at its deadline", notes)


def cancelled_message(*, by_operator: bool) -> str:
    """Return the message for a job that a request cancelled."""
    return f"cancelled by {'an operator' if by_operator else 'its caller'}"


def step_failed_message(fault: str, owner: str) -> str:
    """Return the message for a step that failed with the error `fault` in the state machine execution `owner`."""
    return f"Waterhook failed ({fault}); see the history of the state machine execution {owner}"


def dependency_fault_message(error: DependencyUnavailableError) -> str:
    """Return the message for a failed AWS service: `the API key could not be read (KeyUnavailableError: …)`."""
    name = type(error).__name__
    return f"{_condition(name)} ({name}: {error})"


def lasting_fault_message(history: PollHistory, now: float) -> str:
    """Return the message for a lasting fault: `the API key could not be read for 6 h (KeyUnavailableError: …)`."""
    name = history.fault or ""
    lasted_s = now - (history.fault_since or now)
    return f"{_condition(name)} for {format_duration(lasted_s)} ({name}: {history.fault_reason})"


def _notes(history: PollHistory, now: float) -> list[str]:
    """Return the observations that a TIMED_OUT message adds: why the job's own outcome may be unknown."""
    notes = []
    if history.unknown_status is not None:
        word = clip(history.unknown_status, MAX_WORD_CHARS)
        notes.append(f"Waterflai's last status was unknown: {word!r}")
    if history.failure is not None:
        requests = "status request" if history.errors == 1 else f"{history.errors} status requests"
        notes.append(f"the last {requests} failed: {history.failure}")
    if history.faults:
        notes.append(lasting_fault_message(history, now))
    return notes


def _condition(name: str) -> str:
    return _CONDITIONS.get(name, "an AWS service could not be used")
