"""A delivery: one event for one webhook, with the result of its attempts."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from waterhook.domain.webhook_retries import CLAIM_S


class DeliveryStatus(StrEnum):
    """The status of a delivery. The values are part of the public contract."""

    PENDING = "pending"
    """An attempt runs, or another one follows."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """The attempts are used up, or the delivery is too old."""
    GONE = "gone"
    """The receiver answered 410, so no attempt follows."""

    @property
    def is_final(self) -> bool:
        """Whether no attempt follows."""
        return self is not DeliveryStatus.PENDING


@dataclass(frozen=True, slots=True)
class Delivery:
    """The state of a delivery. Times are epoch seconds; `next_at` and `expires_at` are whole seconds."""

    execution_id: str
    event_id: str
    """`<execution_id>/<milliseconds>/<STATUS>`: the id of the CloudEvent, and `webhook-id` of each attempt."""
    status: DeliveryStatus
    host: str
    attempts: int
    """Attempts that began, with the one that runs."""
    created_at: float
    next_at: float
    """When the next attempt is due. While an attempt runs: when it is repeated if the function crashes."""
    expires_at: int
    """TTL of the item."""
    claim: str | None = None
    """Token of the attempt that runs, or that ended without a result."""
    last_code: int | None = None
    last_error: str | None = None
    last_attempt_at: float | None = None
    """When the last attempt began."""
    delivered_at: float | None = None
    queued: bool = False
    """Whether a message in the queue starts the next attempt. Otherwise the sweep does."""
    has_cleanup: bool = False
    """A day after the result, the record drops what it kept only for this delivery."""

    @classmethod
    def new(
        cls,
        execution_id: str,
        event_id: str,
        *,
        host: str,
        now: float,
        expires_at: int,
        has_cleanup: bool = False,
    ) -> Self:
        """Return a delivery without attempts, whose first attempt is due now. It is not stored yet."""
        return cls(
            execution_id=execution_id,
            event_id=event_id,
            status=DeliveryStatus.PENDING,
            host=host,
            attempts=0,
            created_at=now,
            next_at=int(now),
            expires_at=expires_at,
            has_cleanup=has_cleanup,
        )

    def is_running(self, now: float) -> bool:
        """Whether an attempt may be running. After CLAIM_S without a result, its function has ended."""
        return (
            self.status is DeliveryStatus.PENDING
            and self.claim is not None
            and now < (self.last_attempt_at or 0.0) + CLAIM_S
        )
