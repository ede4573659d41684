"""What one message of the queue of webhooks led to."""

from dataclasses import dataclass
from enum import StrEnum

from waterhook.webhooks.sender import Attempt


class DeliverResult(StrEnum):
    """What one message of the queue led to."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The attempt failed, and another one follows."""
    GONE = "gone"
    """The receiver answered 410, which ends the delivery."""
    FAILED = "failed"
    """The last attempt failed. A message is in the dead-letter queue."""
    POSTPONED = "postponed"
    """No attempt was made: the host fails, or other deliveries use its places."""
    DROPPED = "dropped"
    """There was nothing to do: the delivery has ended, is not due, or its record does not exist any more."""
    CLEANED = "cleaned"
    """A day after the delivery, the record dropped what only the delivery needed."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of one message, for logs and metrics. It contains no URL."""

    result: DeliverResult
    execution_id: str | None = None
    event_id: str | None = None
    host: str | None = None
    attempt_number: int | None = None
    attempt: Attempt | None = None
    since_outcome_s: float | None = None
    """Seconds from the outcome to its delivery."""
