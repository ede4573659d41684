"""One structured log line and one set of EMF metrics for each invocation, also for one that raises.

The line has the fields of LINE and never another, so a payload has no way in: what a function hands over is picked
from, not written out. A traceback is Lambda's to write.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import PerhapsAcceptedError, UpstreamUnavailableError, aws_error_code
from waterhook.observability.metrics import DIMENSION, NAMESPACE, Metric, RequestKind, UpstreamCall
from waterhook.text import MAX_ID_CHARS, clip
from waterhook.timestamps import to_epoch_s

if TYPE_CHECKING:
    from waterhook.steps.sweep import SweepResult
    from waterhook.storage.execution_record import ExecutionRecord

# All that a line may hold, besides what Powertools adds of the invocation itself.
LOG_FIELDS = (
    "execution_id",
    "waterflai_execution_id",
    "chatbot_id",
    "outcome",
    "next",
    "wait_seconds",
    "latency_ms",
    "upstream_calls",
    "upstream_error",
    "upstream_status",
    "execution_arn",
    "event_id",
    "route",
    "http_status",
    "redelivered",
    "swept",
    "swept_alive",
    "swept_failed",
    "swept_left",
    "swept_discarded",
    "fault",
    "dependency_fault",
)

_USAGE = {
    "polls": Metric.POLLS,
    "follow_seconds": Metric.FOLLOW_SECONDS,
    "estimated_cost_usd": Metric.ESTIMATED_COST,
}

type Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def _metrics() -> EphemeralMetrics:
    """Return the metrics of one invocation. Powertools prints them early at a hundred values of one metric."""
    stack = os.environ.get("WATERHOOK_SOURCE", "").rpartition("/")[2]
    return EphemeralMetrics(namespace=NAMESPACE, default_dimensions={DIMENSION: stack or "unknown"})


@dataclass(slots=True)
class _Invocation:
    """What has come together so far."""

    metrics: EphemeralMetrics
    fields: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return of what was fields only what the line has a field for."""
        return {name: _plain(self.fields[name]) for name in LOG_FIELDS if name in self.fields}


class Telemetry:
    """Structured log line and EMF metrics of one function. A no-op outside an invocation."""

    def __init__(
        self, verb: str, *, correlation_id_path: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Speak as `verb`; the JMESPath finds in an event what binds its lines to those of others."""
        self.logger = Logger(service="waterhook", location=None)
        self._verb = verb
        self._path = correlation_id_path
        self._clock = clock
        # Making one costs more than using it.
        self._idle: list[EphemeralMetrics] = []
        self._current: ContextVar[_Invocation | None] = ContextVar(f"telemetry of {verb}", default=None)

    def observe(self, handler: Handler) -> Handler:
        """Return the handler with its log line and its metrics, which are written also when it raises."""

        # Explicitly no event: else a variable of Powertools in the environment would have every payload logged.
        @self.logger.inject_lambda_context(clear_state=True, correlation_id_path=self._path, log_event=False)
        @wraps(handler)
        def invoke(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
            invocation = _Invocation(self._idle.pop() if self._idle else _metrics())
            token = self._current.set(invocation)
            try:
                answer = handler(event, context)
            except BaseException as error:
                self.add_fields(fault=type(error).__name__)
                self.logger.error(self._verb, **invocation.line())  # noqa: TRY400  # see above
                raise
            else:
                self.logger.info(self._verb, **invocation.line())
                return answer
            finally:
                self._current.reset(token)
                if invocation.metrics.metric_set:
                    invocation.metrics.flush_metrics()
                # Where Powertools' metrics are switched off they stay as they are, and would grow.
                if not invocation.metrics.metric_set:
                    self._idle.append(invocation.metrics)

        return invoke

    def add_fields(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Put into the line what it has a field for; whatever else there is, and None, is passed over."""
        if (invocation := self._current.get()) is not None:
            given = {**(values or {}), **more}
            invocation.fields |= {name: value for name, value in given.items() if value is not None}

    def add_record(self, record: "ExecutionRecord") -> None:
        """Say which execution it is about, and where that stands."""
        self.add_fields(
            execution_id=record.execution_id,
            waterflai_execution_id=record.waterflai_execution_id,
            chatbot_id=record.chatbot_id,
            outcome=record.status,
        )

    def add_metric(self, metric: Metric, value: float = 1) -> None:
        """Add a value to a metric."""
        if (invocation := self._current.get()) is not None:
            invocation.metrics.add_metric(metric, metric.unit, value)

    def record_call(self, call: UpstreamCall) -> None:
        """Take note of a call to the upstream."""
        if (invocation := self._current.get()) is None:
            return
        if call.error is not None:
            self.add_fields(upstream_error=call.error.code, upstream_status=call.error.status)
        if call.kind is not None:
            self.add_metric(call.kind)
        # Zeros too: so the average is the rate of errors, and an alarm on it needs no arithmetic.
        self.add_metric(Metric.UPSTREAM_ERRORS, int(call.failed))
        if call.asked is RequestKind.STREAM:
            return  # a stream stays open for as long as it is followed
        fields = invocation.fields
        self.add_fields(
            latency_ms=fields.get("latency_ms", 0.0) + call.latency_ms,
            upstream_calls=fields.get("upstream_calls", 0) + 1,
        )
        self.add_metric(Metric.UPSTREAM_LATENCY, call.latency_ms)
        if call.asked is RequestKind.START:
            self._started(call)

    def _started(self, call: UpstreamCall) -> None:
        if call.error is None:
            self.add_metric(Metric.STARTED)
        elif isinstance(call.error, PerhapsAcceptedError):
            self.add_metric(Metric.UNCERTAIN_STARTS)
        elif isinstance(call.error, UpstreamUnavailableError):
            self.add_metric(Metric.STARTS_DELAYED)

    def record_staleness(self, state: LoopState) -> None:
        """Measure how long a running job has shown no progress, and whether an AWS service failed.

        A job that never showed progress may not be able to.
        """
        history = state.history
        if history.faults:
            self.add_fields(dependency_fault=history.fault)
            self.add_metric(Metric.DEPENDENCY_FAULTS)
        if not state.outcome.is_final and history.progress is not None and history.progress_at is not None:
            self.add_metric(Metric.SECONDS_WITHOUT_PROGRESS, max(self._clock() - history.progress_at, 0.0))

    def record_state(self, state: LoopState) -> dict[str, Any]:
        """Log the state that a step returns and measure its staleness; return it as plain JSON."""
        self.record_staleness(state)
        plain = state.to_dict()
        self.add_fields(plain)
        return plain

    def record_redelivery(self, result: dict[str, Any]) -> dict[str, Any]:
        """Log what publishing again came to, and return it."""
        # The id is what the operator wrote, so only one that a record has is logged.
        self.add_fields(result, execution_id=result["execution_id"] if result["outcome"] else None)
        return result

    def record_sweep(self, swept: "SweepResult") -> dict[str, Any]:
        """Log and measure what a sweep did; return it as plain JSON."""
        self.add_fields(
            swept=swept.ended,
            swept_alive=swept.alive,
            swept_failed=swept.failed,
            swept_left=swept.left,
            swept_discarded=swept.discarded,
        )
        # CloudWatch charges for a metric that has data: mostly there is none.
        counts = ((Metric.RECONCILED, swept.ended), (Metric.NOT_SWEPT, swept.failed + swept.left))
        for metric, count in counts:
            if count:
                self.add_metric(metric, count)
        return asdict(swept)

    def record_sweep_failure(self, execution_id: str, error: Exception) -> None:
        """Log that a sweep could not close an execution."""
        self.logger.warning("not swept", execution_id=execution_id, fault=aws_error_code(error))

    def record_delivery(self, record: "ExecutionRecord") -> None:
        """Measure an execution whose outcome was delivered just now, by this invocation and no other."""
        self.add_record(record)
        self.add_metric(Metric.of_outcome(record.status))
        completed_at = to_epoch_s((record.timing or {}).get("completed_at"))
        if completed_at is not None:
            # By the upstream's clock, and ours may be behind it.
            self.add_metric(Metric.NOTIFY_LAG, max(self._clock() - completed_at, 0.0))
        accepted_at, finished_at = to_epoch_s(record.created_at), to_epoch_s(record.finished_at)
        if record.status is Status.COMPLETED and accepted_at is not None and finished_at is not None:
            self.add_metric(Metric.TIME_TO_COMPLETE, max(finished_at - accepted_at, 0.0))
        usage = record.usage or {}
        for name, metric in _USAGE.items():
            if isinstance(usage.get(name), int | float):
                self.add_metric(metric, usage[name])


def _plain(value: Any) -> Any:
    """Return a number, if need be rounded, or anything else as a short text: an id may be a caller's."""
    if isinstance(value, float):
        return round(value, 1)
    return value if isinstance(value, int) else clip(str(value), MAX_ID_CHARS)
