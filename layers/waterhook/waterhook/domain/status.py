"""Statuses of an execution, and the words that Waterflai uses for the status of a job."""

from enum import StrEnum


class Status(StrEnum):
    """Status of an execution. ACCEPTED, STARTING and RUNNING are not final; the other eight are outcomes."""

    ACCEPTED = "ACCEPTED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    REJECTED = "REJECTED"
    UNCERTAIN = "UNCERTAIN"
    ERROR = "ERROR"

    @property
    def is_final(self) -> bool:
        """Whether this status is an outcome."""
        return self not in {Status.ACCEPTED, Status.STARTING, Status.RUNNING}

    @property
    def error_name(self) -> str:
        """The error name with which the state machine execution fails, for example `Waterhook.TimedOut`."""
        return "Waterhook." + "".join(word.capitalize() for word in self.split("_"))


# Final statuses of Waterflai in upper case, with common spellings.
UPSTREAM_FINAL = {
    "COMPLETED": Status.COMPLETED,
    "SUCCESS": Status.COMPLETED,
    "SUCCEEDED": Status.COMPLETED,
    "DONE": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "ERROR": Status.FAILED,
    "FAILURE": Status.FAILED,
    "CANCELLED": Status.CANCELLED,
    "CANCELED": Status.CANCELLED,
}
# Statuses of a running job. Any other word may be final or not, see poll_history.has_ended.
UPSTREAM_RUNNING = frozenset({"PENDING", "QUEUED", "STARTED", "RUNNING", "PROCESSING", "IN_PROGRESS"})
