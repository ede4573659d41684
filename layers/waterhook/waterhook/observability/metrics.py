"""Metrics: their names and units, and the metric that counts a failed call to the upstream.

Each metric has one dimension, the stack. Each outcome and each kind of error is a metric of its own, so that an alarm
needs no metric math. Executions and chatbots are no dimensions, because CloudWatch bills every value as a metric per
month. docs/contract.md lists the metrics, and a test compares.
"""

from dataclasses import dataclass
from enum import StrEnum

from waterhook.domain.status import Status
from waterhook.errors import UpstreamError

NAMESPACE = "Waterhook"
DIMENSION = "stack"
_UNAUTHORIZED = 401


class Metric(StrEnum):
    """The metrics, by their names in CloudWatch."""

    WAITERS_REFUSED = "WaitersRefused"
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
    DEPENDENCY_FAULTS = "DependencyFaults"
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
    WEBHOOKS_DELIVERED = "WebhooksDelivered"
    WEBHOOKS_FAILED = "WebhooksFailed"
    WEBHOOKS_POSTPONED = "WebhooksPostponed"
    WEBHOOK_ATTEMPTS_FAILED = "WebhookAttemptsFailed"
    WEBHOOK_LATENCY = "WebhookLatency"
    WEBHOOK_LAG = "WebhookLag"
    TIME_TO_COMPLETE = "TimeToComplete"
    POLLS = "Polls"
    FOLLOW_SECONDS = "FollowSeconds"
    ESTIMATED_COST = "EstimatedCost"

    @property
    def unit(self) -> str:
        """Unit in CloudWatch. CloudWatch has no unit for dollars."""
        return _UNITS.get(self, "Count")

    @classmethod
    def of_outcome(cls, outcome: Status) -> "Metric":
        """Return the metric that counts executions with this outcome."""
        return cls[f"OUTCOME_{outcome.name}"]


_UNITS = {
    Metric.SECONDS_WITHOUT_PROGRESS: "Seconds",
    Metric.UPSTREAM_LATENCY: "Milliseconds",
    Metric.NOTIFY_LAG: "Seconds",
    Metric.WEBHOOK_LATENCY: "Milliseconds",
    Metric.WEBHOOK_LAG: "Seconds",
    Metric.TIME_TO_COMPLETE: "Seconds",
    Metric.FOLLOW_SECONDS: "Seconds",
    Metric.ESTIMATED_COST: "None",
}

# By error code. These metrics are failures of the upstream, which UPSTREAM_ERRORS also counts.
_FAILURES = {
    "unreachable": Metric.UPSTREAM_UNREACHABLE,
    "no_answer": Metric.UPSTREAM_NO_ANSWER,
    "unavailable": Metric.UPSTREAM_UNAVAILABLE,
    "server_error": Metric.UPSTREAM_SERVER_ERRORS,
    "unusable_answer": Metric.UPSTREAM_UNUSABLE,
}


class RequestKind(StrEnum):
    """Kinds of requests to the upstream, by what they do."""

    START = "start"
    STATUS = "status"
    CANCEL = "cancel"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """A finished call to the upstream: its kind, its duration, and its error if it failed."""

    request_kind: RequestKind
    latency_ms: float
    error: UpstreamError | None = None

    @property
    def error_metric(self) -> Metric | None:
        """The metric that counts the failure or refusal of this call, or None."""
        error, is_stream = self.error, self.request_kind is RequestKind.STREAM
        if error is None or (is_stream and error.code == "no_answer" and error.status):
            return None  # an open stream broke off: polls continue, and the stream is reopened
        if error.status == _UNAUTHORIZED:
            # A stream does not read the secret again. The next poll does, and is counted if it fails too.
            return None if is_stream else Metric.UPSTREAM_UNAUTHORIZED
        return _FAILURES.get(error.code, Metric.UPSTREAM_REFUSALS)

    @property
    def failed(self) -> bool:
        """Whether the upstream failed. Refusals don't count, because the key or the request was wrong."""
        return self.error_metric in _FAILURES.values()


def ignore_call(_call: UpstreamCall) -> None:
    """Do nothing: the default for callers without telemetry."""
