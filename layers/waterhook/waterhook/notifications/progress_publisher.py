"""Publishes progress events while a job runs: at most one per second, and none after the outcome."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications.delivery_targets import DeliveryTarget
from waterhook.storage.executions_table import ExecutionsTable

if TYPE_CHECKING:
    from waterhook.storage.execution_record import ExecutionRecord

MIN_INTERVAL_S = 1.0
# A failed attempt that took this long means that DynamoDB, SNS, SQS or EventBridge does not answer.
SLOW_S = 1.5


class ProgressPublisher:
    """Publishes the progress of one execution. Best effort: failures don't affect the outcome.

    The record is written before the event is published. That write fails once the record is final, so nothing is
    published after the outcome. The sequence number in the record gives the order, which SNS does not keep. The
    progress never decreases unless the upstream retries the job: a reopened stream may send its events from 0 % again.
    """

    def __init__(
        self,
        table: ExecutionsTable,
        targets: Iterable[DeliveryTarget],
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._targets = list(targets)
        self._clock = clock
        self._record: ExecutionRecord | None = None
        self._latest: Mapping[str, Any] = {}
        self._published: dict[str, Mapping[str, Any]] = {}
        self._tried_at = float("-inf")
        self._restarted = False
        self._is_slow = False

    def publish(self, state: LoopState, change: Mapping[str, Any], *, restarted: bool = False) -> bool:
        """Publish a change (`progress` in percent, `node_id`, `event`) and return whether a target received it.

        `restarted` means that the upstream has retried the job, so the progress may be lower than before. Nothing is
        published without a change, within a second of the last attempt, or after the outcome. Failures of DynamoDB and
        of a target are ignored; that target receives the next change, or this one a second later. After a failure that
        took SLOW_S or longer, nothing more is published there, because each attempt would delay the job's outcome.
        """
        now = self._clock()
        self._latest = {**self._latest, **change}
        self._restarted = self._restarted or restarted
        is_off = self._is_slow or not state.progress_events
        if is_off or not self._pending() or now - self._tried_at < MIN_INTERVAL_S:
            return False
        # Counted from attempts, so that frequent events don't cause frequent reads of a final record.
        self._tried_at = now
        try:
            record = self._record or self._table.get(state.execution_id, now)
            if record is None or record.status.is_final:
                return False
            self._targets = [target for target in self._targets if target.receives_progress(record)]
            if not self._has_changed(record):
                return False
            self._record = self._table.save_progress(record, self._latest.get("progress"))
        except (RecordConflictError, RecordUnavailableError):
            self._record = None
            self._is_slow = self._clock() - now >= SLOW_S
            return False
        received = self._publish(self._record, now)
        self._restarted = self._restarted and not received
        return received

    def _pending(self) -> list[DeliveryTarget]:
        """Return the targets that have not received the latest change."""
        return [target for target in self._targets if self._published.get(target.name, {}) != self._latest]

    def _publish(self, record: "ExecutionRecord", now: float) -> bool:
        """Publish to each pending target, and return whether one of them received the event."""
        received = False
        for target in self._pending():
            began_at = self._clock()
            try:
                target.publish_progress(record, self._latest, now)
            except (ClientError, BotoCoreError):
                if self._clock() - began_at >= SLOW_S:
                    self._targets.remove(target)
            else:
                self._published[target.name] = self._latest
                received = True
        return received

    def _has_changed(self, record: "ExecutionRecord") -> bool:
        """Raise the latest progress to the published one if it is lower; return whether a change remains."""
        published, progress = record.progress, self._latest.get("progress")
        if self._restarted or published is None or progress is None or progress >= published:
            return True
        self._latest = {**self._latest, "progress": published}
        return bool(self._pending()) and self._latest.keys() != {"progress"}


def has_progressed(before: LoopState, after: LoopState) -> bool:
    """Whether a status request changed the progress of a running job whose caller wants progress events."""
    return (
        after.progress_events
        and not after.outcome.is_final
        and after.history.progress is not None
        and after.history.progress != before.history.progress
    )


def was_retried(before: LoopState, after: LoopState) -> bool:
    """Whether a status request showed that the upstream has retried the job."""
    return (after.history.retry_count or 0) > (before.history.retry_count or 0)
