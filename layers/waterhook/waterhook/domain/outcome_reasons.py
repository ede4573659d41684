"""Why the loop cancels a job or gives it up, as outcome, code and message."""

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
    """Why a job is cancelled: its outcome, error code and message."""

    outcome: Status
    code: str
    message: str
    notes: str = ""
    """What else is known, to follow the message."""

    @property
    def cancelled(self) -> str:
        """Return the message where the cancel worked."""
        if self.outcome is Status.ERROR:
            return f"{self.message}; the job at Waterflai was cancelled"
        return f"{self.message}{self.notes}"

    def not_cancelled(self, why: str) -> str:
        """Return the message where it did not work."""
        joined = "; " if self.outcome is Status.ERROR else ", but "
        return f"{self.message}{joined}the job at Waterflai may go on: {why}{self.notes}"


def cancel_reason(state: LoopState, now: float) -> CancelReason:
    """Return why a job is cancelled: by its caller, because of a fault of Waterhook, or at its deadline."""
    if state.cancel_requested:
        return CancelReason(Status.CANCELLED, "cancelled", "cancelled by its caller")
    if state.error is not None:
        return CancelReason(Status.ERROR, state.error["code"], state.error["message"])
    notes = "".join(f"; {note}" for note in _notes(state.history, now))
    return CancelReason(Status.TIMED_OUT, "deadline", "cancelled at its deadline", notes)


def step_failed_message(fault: str, owner: str) -> str:
    """Return the message for a step that failed with an error: its name, and the execution whose history has it."""
    return f"Waterhook itself failed ({fault}); see the history of {owner}"


def dependency_fault_message(error: DependencyUnavailableError) -> str:
    """Return what an AWS service's fault means, with the error: `the API key could not be read (...)`."""
    name = type(error).__name__
    return f"{_condition(name)} ({name}: {error})"


def lasting_fault_message(history: PollHistory, now: float) -> str:
    """Return the same for a fault that lasts, with its duration: `the API key could not be read for 6 h (...)`."""
    name = history.fault or ""
    lasted_s = now - (history.fault_since or now)
    return f"{_condition(name)} for {format_duration(lasted_s)} ({name}: {history.fault_reason})"


def _notes(history: PollHistory, now: float) -> list[str]:
    """Return what a message of TIMED_OUT adds: why the outcome of the job may not have become known."""
    notes = []
    if history.unknown_status is not None:
        word = clip(history.unknown_status, MAX_WORD_CHARS)
        notes.append(f"Waterflai's last status, {word!r}, is not known")
    if history.failure is not None:
        notes.append(f"status requests that failed at last: {history.errors}, {history.failure}")
    if history.faults:
        notes.append(lasting_fault_message(history, now))
    return notes


def _condition(name: str) -> str:
    return _CONDITIONS.get(name, "an AWS service could not be used")
