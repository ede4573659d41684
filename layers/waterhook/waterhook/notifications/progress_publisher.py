"""Progress events: changes while an execution runs, at most one a second, none after its outcome."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications import notification_events
from waterhook.storage.executions_table import ExecutionsTable

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

    from waterhook.storage.execution_record import ExecutionRecord

MIN_INTERVAL_S = 1.0
# An attempt that fails after this long met a table or topic that does not answer.
SLOW_S = 1.5


class ProgressPublisher:
    """Publishes the progress of one execution. Best effort: a lost progress event is no lost outcome.

    The record is written first, which fails once it is final: nothing is published after the outcome. The sequence
    number in the record orders the events, since SNS keeps no order. The progress in them never
    decreases while the upstream does not retry: a stream that reconnects may replay its events from 0 %.
    """

    def __init__(
        self,
        table: ExecutionsTable,
        sns: "SNSClient",
        *,
        topic_arn: str,
        source: str,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._sns = sns
        self._topic_arn = topic_arn
        self._source = source
        self._clock = clock
        self._record: ExecutionRecord | None = None
        self._latest: Mapping[str, Any] = {}
        self._told: Mapping[str, Any] = {}
        self._tried_at = float("-inf")
        self._restarted = False
        self._is_slow = False

    def publish(self, state: LoopState, change: Mapping[str, Any], *, restarted: bool = False) -> bool:
        """Publish a change (`progress` in percent, `node_id`, `event`) and return whether it was published.

        With `restarted` the upstream has retried the job, and the progress may be lower than before. Nothing is
        published without a change, within a second of the last attempt, or after the outcome. Failures of table
        and topic are ignored: the next change is published instead. After one that took SLOW_S or longer nothing more
        is tried: each attempt would delay the job's outcome as much.
        """
        now = self._clock()
        self._latest = {**self._latest, **change}
        self._restarted = self._restarted or restarted
        if self._is_slow:
            return False
        if not state.progress_events or self._latest == self._told or now - self._tried_at < MIN_INTERVAL_S:
            return False
        # Counted from attempts: frequent events must not cause frequent reads of a final record.
        self._tried_at = now
        try:
            record = self._record or self._table.get(state.execution_id, now)
            if record is None or record.status.is_final or not self._is_news(record):
                return False
            self._record = self._table.save_progress(record, self._latest.get("progress"))
            self._sns.publish(
                TopicArn=self._topic_arn,
                Message=notification_events.progress_event(self._record, self._source, self._latest, now),
                MessageAttributes=notification_events.progress_attributes(self._record),
            )
        except (RecordConflictError, RecordUnavailableError, ClientError, BotoCoreError):
            self._record = None
            self._is_slow = self._clock() - now >= SLOW_S
            return False
        self._told = self._latest
        self._restarted = False
        return True

    def _is_news(self, record: "ExecutionRecord") -> bool:
        """Raise the latest progress to what was published before; return whether there is still a change."""
        published, progress = record.progress, self._latest.get("progress")
        if self._restarted or published is None or progress is None or progress >= published:
            return True
        self._latest = {**self._latest, "progress": published}
        return self._latest != self._told and self._latest.keys() != {"progress"}


def has_progressed(before: LoopState, after: LoopState) -> bool:
    """Whether a status request found another progress of a running job whose caller wants progress events."""
    return (
        after.progress_events
        and not after.outcome.is_final
        and after.history.progress is not None
        and after.history.progress != before.history.progress
    )


def was_retried(before: LoopState, after: LoopState) -> bool:
    """Whether a status request found that the upstream has retried the job meanwhile."""
    return (after.history.retry_count or 0) > (before.history.retry_count or 0)
