"""One structured log line and one set of EMF metrics per invocation, also if it raises.

The line has only the fields in LOG_FIELDS, so no payload is logged: other values that a function passes are dropped.
Lambda itself logs the traceback of an exception.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
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
    from waterhook.steps.delivered import Delivered
    from waterhook.steps.delivery_sweep import DeliverySweepResult
    from waterhook.steps.sweep import SweepResult
    from waterhook.storage.execution_record import ExecutionRecord

# All fields of the log line, in addition to those that Powertools adds.
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
    "operator",
    "wait_result",
    "waited_s",
    "redelivered",
    "resent",
    "webhook_result",
    "webhook_host",
    "webhook_attempt",
    "webhook_status",
    "webhook_error",
    "webhook_latency_ms",
    "webhooks_queued",
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

# By the results of the deliver step.
_WEBHOOK_METRICS = {
    "delivered": Metric.WEBHOOKS_DELIVERED,
    "gone": Metric.WEBHOOKS_FAILED,
    "failed": Metric.WEBHOOKS_FAILED,
    "postponed": Metric.WEBHOOKS_POSTPONED,
}

type Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def _metrics() -> EphemeralMetrics:
    """Return the metrics of one invocation. Powertools writes them early after 100 values of one metric."""
    stack = os.environ.get("WATERHOOK_SOURCE", "").rpartition("/")[2]
    return EphemeralMetrics(namespace=NAMESPACE, default_dimensions={DIMENSION: stack or "unknown"})


@dataclass(slots=True)
class _Invocation:
    """The metrics and log fields of the current invocation."""

    metrics: EphemeralMetrics
    fields: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return the fields that may be logged."""
        return {name: _plain(self.fields[name]) for name in LOG_FIELDS if name in self.fields}


class Telemetry:
    """Structured log line and EMF metrics of one function. A no-op outside an invocation."""

    def __init__(
        self, verb: str, *, correlation_id_path: str, clock: Callable[[], float] = time.time
    ) -> None:
        """`verb` is the message of the log line. The JMESPath finds the correlation id in an event."""
        self.logger = Logger(service="waterhook", location=None)
        self._verb = verb
        self._path = correlation_id_path
        self._clock = clock
        # Metrics objects are reused, because creating one costs more than using it.
        self._idle: list[EphemeralMetrics] = []
        self._current: ContextVar[_Invocation | None] = ContextVar(f"telemetry of {verb}", default=None)

    def observe(self, handler: Handler) -> Handler:
        """Return the handler wrapped so that its log line and metrics are written, also if it raises."""

        # log_event=False: otherwise an environment variable of Powertools could turn on the logging of every payload.
        @self.logger.inject_lambda_context(clear_state=True, correlation_id_path=self._path, log_event=False)
        @wraps(handler)
        def invoke(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
            invocation = _Invocation(self._idle.pop() if self._idle else _metrics())
            token = self._current.set(invocation)
            try:
                result = handler(event, context)
            except BaseException as error:
                self.add_fields(fault=type(error).__name__)
                self.logger.error(self._verb, **invocation.line())  # noqa: TRY400 - Lambda logs the traceback
                raise
            else:
                self.logger.info(self._verb, **invocation.line())
                return result
            finally:
                self._current.reset(token)
                if invocation.metrics.metric_set:
                    invocation.metrics.flush_metrics()
                # If Powertools' metrics are disabled, flush does not empty them; a reused object would then grow.
                if not invocation.metrics.metric_set:
                    self._idle.append(invocation.metrics)

        return invoke

    def add_fields(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Add fields to the log line. None and names that are not in LOG_FIELDS are ignored."""
        if (invocation := self._current.get()) is not None:
            values = {**(values or {}), **more}
            invocation.fields |= {name: value for name, value in values.items() if value is not None}

    def add_record(self, record: "ExecutionRecord") -> None:
        """Add the ids and the status of a record to the log line."""
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
        """Add metrics and log fields for a finished call to the upstream."""
        if (invocation := self._current.get()) is None:
            return
        if call.error is not None:
            self.add_fields(upstream_error=call.error.code, upstream_status=call.error.status)
        if call.error_metric is not None:
            self.add_metric(call.error_metric)
        # Zeros are added too: the average is then the rate of errors, and an alarm needs no metric math.
        self.add_metric(Metric.UPSTREAM_ERRORS, int(call.failed))
        if call.request_kind is RequestKind.STREAM:
            return  # the duration of a stream is not a latency
        fields = invocation.fields
        self.add_fields(
            latency_ms=fields.get("latency_ms", 0.0) + call.latency_ms,
            upstream_calls=fields.get("upstream_calls", 0) + 1,
        )
        self.add_metric(Metric.UPSTREAM_LATENCY, call.latency_ms)
        if call.request_kind is RequestKind.START:
            self._record_start(call)

    def _record_start(self, call: UpstreamCall) -> None:
        if call.error is None:
            self.add_metric(Metric.STARTED)
        elif isinstance(call.error, PerhapsAcceptedError):
            self.add_metric(Metric.UNCERTAIN_STARTS)
        elif isinstance(call.error, UpstreamUnavailableError):
            self.add_metric(Metric.STARTS_DELAYED)

    def record_staleness(self, state: LoopState) -> None:
        """Measure how long a running job has shown no progress, and count a failing AWS service.

        A job that never showed progress is not measured, because it may not report any.
        """
        history = state.history
        if history.faults:
            self.add_fields(dependency_fault=history.fault)
            self.add_metric(Metric.DEPENDENCY_FAULTS)
        if not state.outcome.is_final and history.progress is not None and history.progress_at is not None:
            self.add_metric(Metric.SECONDS_WITHOUT_PROGRESS, max(self._clock() - history.progress_at, 0.0))

    def record_state(self, state: LoopState) -> dict[str, Any]:
        """Log the state that a step returns and measure its staleness. Returns the state as plain JSON."""
        self.record_staleness(state)
        plain = state.to_dict()
        self.add_fields(plain)
        return plain

    def record_redelivery(self, result: dict[str, Any]) -> dict[str, Any]:
        """Log the result of a redelivery and return it."""
        # The operator may have typed anything as id, so it is logged only if a record has it.
        self.add_fields(result, execution_id=result["execution_id"] if result["outcome"] else None)
        return result

    def record_resend(self, result: dict[str, Any]) -> dict[str, Any]:
        """Log the result of a resend and return it."""
        self.add_fields(result, execution_id=result["execution_id"] if result["outcome"] else None)
        return result

    def record_webhooks(self, results: "Iterable[Delivered]") -> None:
        """Measure what the messages of an invocation led to, and log the one with an attempt, or the last one."""
        for delivered in sorted(results, key=lambda delivered: delivered.attempt is not None):
            self._record_webhook(delivered)

    def _record_webhook(self, delivered: "Delivered") -> None:
        # The URL is not part of the result.
        attempt = delivered.attempt
        self.add_fields(
            execution_id=delivered.execution_id,
            event_id=delivered.event_id,
            webhook_result=delivered.result,
            webhook_host=delivered.host,
            webhook_attempt=delivered.attempt_number,
        )
        if attempt is not None:
            self.add_fields(
                webhook_status=attempt.code,
                webhook_error=attempt.error,
                webhook_latency_ms=attempt.latency_ms,
            )
            self.add_metric(Metric.WEBHOOK_LATENCY, attempt.latency_ms)
            # Zeros are added too: the average is then the rate of failed attempts.
            self.add_metric(Metric.WEBHOOK_ATTEMPTS_FAILED, int(not attempt.is_delivered))
        if delivered.since_outcome_s is not None:
            self.add_metric(Metric.WEBHOOK_LAG, delivered.since_outcome_s)
        if (metric := _WEBHOOK_METRICS.get(delivered.result)) is not None:
            self.add_metric(metric)

    def record_delivery_sweep(self, swept: "DeliverySweepResult") -> dict[str, Any]:
        """Log the result of a sweep of deliveries. Returns it as plain JSON."""
        self.add_fields(webhooks_queued=swept.queued)
        return asdict(swept)

    def record_sweep(self, swept: "SweepResult") -> dict[str, Any]:
        """Log and measure the result of a sweep. Returns it as plain JSON."""
        self.add_fields(
            swept=swept.ended,
            swept_alive=swept.alive,
            swept_failed=swept.failed,
            swept_left=swept.left,
            swept_discarded=swept.discarded,
        )
        # CloudWatch bills a metric only when it has data, and usually these are zero.
        counts = ((Metric.RECONCILED, swept.ended), (Metric.NOT_SWEPT, swept.failed + swept.left))
        for metric, count in counts:
            if count:
                self.add_metric(metric, count)
        return asdict(swept)

    def record_sweep_failure(self, execution_id: str, error: Exception) -> None:
        """Log that a sweep failed for one execution."""
        self.logger.warning("not swept", execution_id=execution_id, fault=aws_error_code(error))

    def record_delivery(self, record: "ExecutionRecord") -> None:
        """Measure an execution whose outcome this invocation has delivered."""
        self.add_record(record)
        self.add_metric(Metric.of_outcome(record.status))
        completed_at = to_epoch_s((record.timing or {}).get("completed_at"))
        if completed_at is not None:
            # `completed_at` is from the upstream's clock, which may be ahead of ours.
            self.add_metric(Metric.NOTIFY_LAG, max(self._clock() - completed_at, 0.0))
        accepted_at, finished_at = to_epoch_s(record.created_at), to_epoch_s(record.finished_at)
        if record.status is Status.COMPLETED and accepted_at is not None and finished_at is not None:
            self.add_metric(Metric.TIME_TO_COMPLETE, max(finished_at - accepted_at, 0.0))
        usage = record.usage or {}
        for name, metric in _USAGE.items():
            if isinstance(usage.get(name), int | float):
                self.add_metric(metric, usage[name])


def _plain(value: Any) -> Any:
    """Return an integer, a rounded float, or a shortened text: ids may come from a caller."""
    if isinstance(value, float):
        return round(value, 1)
    return value if isinstance(value, int) else clip(str(value), MAX_ID_CHARS)
