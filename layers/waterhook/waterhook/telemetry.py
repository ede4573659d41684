"""What a function says of itself: one line in its log and one set of figures, however an invocation ends.

The line has the fields of LINE and never another, so a payload has no way in: what a function hands over is picked
from, not written out. A traceback is Lambda's to write.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.errors import PerhapsAccepted, Unavailable
from waterhook.figures import DIMENSION, NAMESPACE, Asked, Call, Figure
from waterhook.models import MAX_ID_CHARS, Job, Status, clip, epoch

if TYPE_CHECKING:
    from waterhook.record import Record

# All that a line may hold, besides what Powertools adds of the invocation itself.
LINE = (
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
    "polls": Figure.POLLS,
    "follow_seconds": Figure.FOLLOW_SECONDS,
    "estimated_cost_usd": Figure.ESTIMATED_COST,
}

type Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def _metrics() -> EphemeralMetrics:
    """Return figures of one invocation at a time; Powertools prints them by itself at a hundred of a kind."""
    stack = os.environ.get("WATERHOOK_SOURCE", "").rpartition("/")[2]
    return EphemeralMetrics(namespace=NAMESPACE, default_dimensions={DIMENSION: stack or "unknown"})


@dataclass(slots=True)
class _Invocation:
    """What has come together so far."""

    metrics: EphemeralMetrics
    told: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return of what was told only what the line has a field for."""
        return {name: _plain(self.told[name]) for name in LINE if name in self.told}


class Telemetry:
    """The voice of one function. Outside an invocation, and in tests of its parts, nobody listens."""

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

    def observed(self, handler: Handler) -> Handler:
        """Return the handler with its line and its figures, which are written also when it raises."""

        # Explicitly no event: else a variable of Powertools in the environment would have every payload logged.
        @self.logger.inject_lambda_context(clear_state=True, correlation_id_path=self._path, log_event=False)
        @wraps(handler)
        def invoke(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
            invocation = _Invocation(self._idle.pop() if self._idle else _metrics())
            token = self._current.set(invocation)
            try:
                answer = handler(event, context)
            except BaseException as error:
                self.tell(fault=type(error).__name__)
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

    def tell(self, said: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Put into the line what it has a field for; whatever else there is, and None, is passed over."""
        if (invocation := self._current.get()) is not None:
            given = {**(said or {}), **more}
            invocation.told |= {name: value for name, value in given.items() if value is not None}

    def tell_record(self, record: "Record") -> None:
        """Say which execution it is about, and where that stands."""
        self.tell(
            execution_id=record.execution_id,
            waterflai_execution_id=record.waterflai_execution_id,
            chatbot_id=record.chatbot_id,
            outcome=record.status,
        )

    def measure(self, figure: Figure, value: float = 1) -> None:
        """Add a value to a figure."""
        if (invocation := self._current.get()) is not None:
            invocation.metrics.add_metric(figure, figure.unit, value)

    def called(self, call: Call) -> None:
        """Take note of a call to the upstream."""
        if (invocation := self._current.get()) is None:
            return
        if call.error is not None:
            self.tell(upstream_error=call.error.code, upstream_status=call.error.status)
        if call.kind is not None:
            self.measure(call.kind)
        # Zeros too: so the average is the rate of errors, and an alarm on it needs no arithmetic.
        self.measure(Figure.UPSTREAM_ERRORS, int(call.failed))
        if call.asked is Asked.STREAM:
            return  # an open stream takes as long as it is listened to
        told = invocation.told
        self.tell(
            latency_ms=told.get("latency_ms", 0.0) + call.latency_ms,
            upstream_calls=told.get("upstream_calls", 0) + 1,
        )
        self.measure(Figure.UPSTREAM_LATENCY, call.latency_ms)
        if call.asked is Asked.START:
            self._started(call)

    def _started(self, call: Call) -> None:
        if call.error is None:
            self.measure(Figure.STARTED)
        elif isinstance(call.error, PerhapsAccepted):
            self.measure(Figure.UNCERTAIN_STARTS)
        elif isinstance(call.error, Unavailable):
            self.measure(Figure.STARTS_DELAYED)

    def asked(self, job: Job) -> None:
        """Measure how long a running job has shown no progress, and whether an AWS service failed.

        A job that never showed progress may not be able to.
        """
        history = job.history
        if history.faults:
            self.tell(dependency_fault=history.fault)
            self.measure(Figure.DEPENDENCY_FAULTS)
        if not job.outcome.is_final and history.progress is not None and history.progress_at is not None:
            self.measure(Figure.SECONDS_WITHOUT_PROGRESS, max(self._clock() - history.progress_at, 0.0))

    def delivered(self, record: "Record") -> None:
        """Measure an execution whose outcome was delivered just now, by this invocation and no other."""
        self.tell_record(record)
        self.measure(Figure.of_outcome(record.status))
        completed_at = epoch((record.timing or {}).get("completed_at"))
        if completed_at is not None:
            # By the upstream's clock, and ours may be behind it.
            self.measure(Figure.NOTIFY_LAG, max(self._clock() - completed_at, 0.0))
        accepted_at, finished_at = epoch(record.created_at), epoch(record.finished_at)
        if record.status is Status.COMPLETED and accepted_at is not None and finished_at is not None:
            self.measure(Figure.TIME_TO_COMPLETE, max(finished_at - accepted_at, 0.0))
        usage = record.usage or {}
        for name, figure in _USAGE.items():
            if isinstance(usage.get(name), int | float):
                self.measure(figure, usage[name])


def _plain(value: Any) -> Any:
    """Return a number, if need be rounded, or anything else as a short text: an id may be a caller's."""
    if isinstance(value, float):
        return round(value, 1)
    return value if isinstance(value, int) else clip(str(value), MAX_ID_CHARS)
