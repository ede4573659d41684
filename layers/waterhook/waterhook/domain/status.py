"""Statuses: those of an execution, and the words that Waterflai uses for those of a job."""

from enum import StrEnum


class Status(StrEnum):
    """Status of an execution: three that are not final, and eight outcomes."""

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
        """The name under which the state machine fails: `Waterhook.TimedOut`."""
        return "Waterhook." + "".join(word.capitalize() for word in self.split("_"))


# Final statuses of the upstream in upper case, common spellings included.
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
# Statuses of a job that is not over. Any other word may be either: see poll_history.has_ended.
UPSTREAM_RUNNING = frozenset({"PENDING", "QUEUED", "STARTED", "RUNNING", "PROCESSING", "IN_PROGRESS"})
