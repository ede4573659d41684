"""What is measured: every figure's name and unit, and how a call to the upstream becomes one.

A metric has one dimension, the stack: an outcome or a kind of error is a metric of its own, so that an alarm needs
no search, and nothing that names an execution or a chatbot is ever a dimension (each value would be a metric that
is paid for by the month). docs/operations.md lists them; a test compares.
"""

from dataclasses import dataclass
from enum import StrEnum

from waterhook.errors import UpstreamError
from waterhook.models import Status

NAMESPACE = "Waterhook"
DIMENSION = "stack"
_UNAUTHORIZED = 401


class Figure(StrEnum):
    """The metrics, as CloudWatch knows them."""

    STARTED = "Started"
    STARTS_QUEUED = "StartsQueued"
    STARTS_DELAYED = "StartsDelayed"
    UNCERTAIN_STARTS = "UncertainStarts"
    FOLLOW_REFUSED = "FollowRefused"
    SECONDS_WITHOUT_PROGRESS = "SecondsWithoutProgress"
    UPSTREAM_LATENCY = "UpstreamLatency"
    UPSTREAM_ERRORS = "UpstreamErrors"
    UPSTREAM_UNREACHABLE = "UpstreamUnreachable"
    UPSTREAM_NO_ANSWER = "UpstreamNoAnswer"
    UPSTREAM_UNAVAILABLE = "UpstreamUnavailable"
    UPSTREAM_SERVER_ERRORS = "UpstreamServerErrors"
    UPSTREAM_UNUSABLE = "UpstreamUnusable"
    UPSTREAM_UNAUTHORIZED = "UpstreamUnauthorized"
    UPSTREAM_REFUSALS = "UpstreamRefusals"
    RECONCILED = "Reconciled"
    NOT_SWEPT = "NotSwept"
    OUTCOME_COMPLETED = "OutcomeCompleted"
    OUTCOME_FAILED = "OutcomeFailed"
    OUTCOME_CANCELLED = "OutcomeCancelled"
    OUTCOME_TIMED_OUT = "OutcomeTimedOut"
    OUTCOME_LOST = "OutcomeLost"
    OUTCOME_REJECTED = "OutcomeRejected"
    OUTCOME_UNCERTAIN = "OutcomeUncertain"
    OUTCOME_ERROR = "OutcomeError"
    NOTIFY_LAG = "NotifyLag"
    TIME_TO_COMPLETE = "TimeToComplete"
    POLLS = "Polls"
    FOLLOW_SECONDS = "FollowSeconds"
    ESTIMATED_COST = "EstimatedCost"

    @property
    def unit(self) -> str:
        """CloudWatch's word for what it is counted in; dollars have none."""
        return _UNITS.get(self, "Count")

    @classmethod
    def of_outcome(cls, outcome: Status) -> "Figure":
        """Return the count of executions that ended so."""
        return cls[f"OUTCOME_{outcome.name}"]


_UNITS = {
    Figure.SECONDS_WITHOUT_PROGRESS: "Seconds",
    Figure.UPSTREAM_LATENCY: "Milliseconds",
    Figure.NOTIFY_LAG: "Seconds",
    Figure.TIME_TO_COMPLETE: "Seconds",
    Figure.FOLLOW_SECONDS: "Seconds",
    Figure.ESTIMATED_COST: "None",
}

# By the code of the error. These are the upstream's doing and make up UPSTREAM_ERRORS.
_FAILURES = {
    "unreachable": Figure.UPSTREAM_UNREACHABLE,
    "no_answer": Figure.UPSTREAM_NO_ANSWER,
    "unavailable": Figure.UPSTREAM_UNAVAILABLE,
    "server_error": Figure.UPSTREAM_SERVER_ERRORS,
    "unusable_answer": Figure.UPSTREAM_UNUSABLE,
}


class Asked(StrEnum):
    """What a call asked of the upstream."""

    START = "start"
    STATUS = "status"
    CANCEL = "cancel"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the upstream that has ended: what it asked, how long it took, and its error if it had one."""

    asked: Asked
    latency_ms: float
    error: UpstreamError | None = None

    @property
    def kind(self) -> Figure | None:
        """The figure that this call adds one to because it was not answered as hoped, or None."""
        error = self.error
        if error is None or (self.asked is Asked.STREAM and error.code == "no_answer" and error.status):
            return None  # a stream that was open and broke off: the next one, or a poll, takes over
        if error.status == _UNAUTHORIZED:
            return Figure.UPSTREAM_UNAUTHORIZED
        return _FAILURES.get(error.code, Figure.UPSTREAM_REFUSALS)

    @property
    def failed(self) -> bool:
        """Whether it is the upstream that failed. A refusal is an answer: to a wrong key or a wrong question."""
        return self.kind in _FAILURES.values()


def unwatched(_call: Call) -> None:
    """Watch no calls."""
