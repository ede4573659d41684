"""Simulates Waterflai for one job. Each call only advances a clock."""

from bisect import bisect_right
from dataclasses import dataclass

from benchmarks.polling.measurements import EVENT_S, OPEN_S, REQUEST_S
from benchmarks.polling.workloads import Behaviour, Progress, SimulatedJob
from tests.fakes.clock import Clock
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_STATUS_BYTES, StatusDocument
from waterhook.errors import PerhapsAcceptedError, UpstreamRefusedError
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

FINAL = StreamEvent("execution_completed")
PROGRESS = StreamEvent("progress_update")
CLOSED = StreamEnd()
SILENT = StreamEnd(PerhapsAcceptedError("no_answer", "the stream is silent", status=200), idle=True)
_NEVER = float("inf")
_NO_STREAM_S = 1.0
_LAG_S = 2.0
# Heartbeats prevent the idle timeout of these streams.
_WITH_HEARTBEATS = {Behaviour.HEARTBEATS, Behaviour.LOST_OPEN}


@dataclass(slots=True)
class _Stream:
    """An open stream. `pending`: its events and their times, the latest first."""

    clock: Clock
    pending: list[tuple[float, StreamEvent | StreamEnd]]
    idle_timeout_s: float
    last_byte_at: float
    every_second: bool = False
    opened: bool = True

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Return the next event within the timeout, and advance the clock to its time."""
        until = self.clock.now + timeout_s
        at, event = self._next()
        if at > until:
            self.clock.now = until
            return None
        self.clock.now = max(self.clock.now, at)
        self.last_byte_at = self.clock.now
        if self.pending and self.pending[-1][1] is event:
            self.pending.pop()
        return event

    def _next(self) -> tuple[float, StreamEvent | StreamEnd]:
        at, event = self.pending[-1] if self.pending else (_NEVER, CLOSED)
        if self.every_second:
            return self.last_byte_at + 1.0, PROGRESS
        silent_at = self.last_byte_at + self.idle_timeout_s
        return (silent_at, SILENT) if silent_at < at else (at, event)

    def close(self) -> None:
        """Do nothing."""


class Upstream:
    """Status documents and event stream of one job. The stream sends no keep-alive."""

    def __init__(
        self, job: SimulatedJob, clock: Clock, stream_limit_s: float, behaviour: Behaviour = Behaviour.GOOD
    ) -> None:
        """`stream_limit_s`: seconds after which Waterflai closes a stream."""
        self._job = job
        self._clock = clock
        self._stream_limit_s = stream_limit_s
        self._behaviour = behaviour
        self._finish = job.arrives_s + job.finish_s
        self._visible = self._finish + (_LAG_S if behaviour is Behaviour.LAGGING else 0.0)
        self.status_requests = 0
        self.streams = 0

    @property
    def requests(self) -> int:
        """Number of status requests and streams."""
        return self.status_requests + self.streams

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the status in the middle of the request."""
        del execution_id, limit_bytes
        self.status_requests += 1
        self._clock.sleep(REQUEST_S / 2)
        document = self._document()
        self._clock.sleep(REQUEST_S / 2)
        return document

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> _Stream:
        """Return the stream. `ends_at` is ignored, because FollowStep closes the stream by then."""
        del execution_id, ends_at
        self.streams += 1
        self._clock.sleep(OPEN_S)
        now, job, behaviour = self._clock.now, self._job, self._behaviour
        late = behaviour is Behaviour.LATE and now - job.arrives_s < _NO_STREAM_S
        if now >= self._finish or late or behaviour is Behaviour.NONE:
            raise UpstreamRefusedError("refused", "HTTP 404", status=404)
        idle_s = _NEVER if behaviour in _WITH_HEARTBEATS else idle_timeout_s
        pending = [(min(at, now + self._stream_limit_s), event) for at, event in self._timed_events(now)]
        if self._stream_limit_s < _NEVER:
            closes_at = now + self._stream_limit_s
            pending = [each for each in pending if each[0] < closes_at] + [(closes_at, CLOSED)]
        goes_on = behaviour is Behaviour.EVENTS_GO_ON
        return _Stream(self._clock, pending[::-1], idle_s, now, every_second=goes_on)

    def _timed_events(self, since: float) -> list[tuple[float, StreamEvent | StreamEnd]]:
        first = bisect_right(self._job.steps, since - self._job.arrives_s)
        progress_events: list[tuple[float, StreamEvent | StreamEnd]] = [
            (self._job.arrives_s + at + EVENT_S, PROGRESS) for at in self._job.steps[first:]
        ]
        end_s = self._finish + EVENT_S
        match self._behaviour:
            case Behaviour.HEARTBEATS | Behaviour.HELD_BACK | Behaviour.EVENTS_GO_ON:
                return []
            case Behaviour.LOST_OPEN:
                return progress_events
            case Behaviour.LOST_CLOSED:
                return [*progress_events, (end_s, CLOSED)]
            case Behaviour.BUFFERED:
                return [*((end_s, event) for _, event in progress_events), (end_s, FINAL)]
            case _:
                return [*progress_events, (end_s, FINAL)]

    def _document(self) -> StatusDocument:
        now = self._clock.now
        if now >= self._visible:
            return StatusDocument(status=Status.COMPLETED)
        age_s = now - self._job.arrives_s - (self._visible - self._finish)
        done = bisect_right(self._job.steps, age_s)
        if self._job.progress is Progress.SMOOTH:
            return StatusDocument(progress=float(done))
        if self._job.progress is Progress.STEPWISE:
            return StatusDocument(completed_nodes=done, total_nodes=len(self._job.steps) + 1)
        return StatusDocument()
