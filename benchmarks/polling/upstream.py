"""Simulates Waterflai for one job. Each call only advances a clock."""

from bisect import bisect_right
from dataclasses import dataclass

from benchmarks.polling.waited import EVENT_S, OPEN_S, REQUEST_S
from benchmarks.polling.workloads import Behaviour, Progress, Task
from tests.fakes.clock import Clock
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_STATUS_BYTES, StatusDocument
from waterhook.errors import PerhapsAcceptedError, UpstreamRefusedError
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

FINAL = StreamEvent("execution_completed")
MOVED = StreamEvent("progress_update")
CLOSED = StreamEnd()
SILENT = StreamEnd(PerhapsAcceptedError("no_answer", "the stream is silent", status=200), idle=True)
_NEVER = float("inf")
_REFUSED_S = 1.0
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
            return self.last_byte_at + 1.0, MOVED
        silent_at = self.last_byte_at + self.idle_timeout_s
        return (silent_at, SILENT) if silent_at < at else (at, event)

    def close(self) -> None:
        """Do nothing."""


class Upstream:
    """Status documents and event stream of one job. The stream sends no keep-alive."""

    def __init__(
        self, task: Task, clock: Clock, stream_limit_s: float, behaviour: Behaviour = Behaviour.GOOD
    ) -> None:
        """`stream_limit_s`: seconds after which Waterflai closes a stream."""
        self._task = task
        self._clock = clock
        self._stream_limit_s = stream_limit_s
        self._behaviour = behaviour
        self._finish = task.arrives_s + task.finish_s
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
        now, task, behaviour = self._clock.now, self._task, self._behaviour
        late = behaviour is Behaviour.LATE and now - task.arrives_s < _REFUSED_S
        if now >= self._finish or late or behaviour is Behaviour.NONE:
            raise UpstreamRefusedError("refused", "HTTP 404", status=404)
        idle_s = _NEVER if behaviour in _WITH_HEARTBEATS else idle_timeout_s
        pending = [(min(at, now + self._stream_limit_s), event) for at, event in self._moments(now)]
        if self._stream_limit_s < _NEVER:
            closes_at = now + self._stream_limit_s
            pending = [each for each in pending if each[0] < closes_at] + [(closes_at, CLOSED)]
        goes_on = behaviour is Behaviour.EVENTS_GO_ON
        return _Stream(self._clock, pending[::-1], idle_s, now, every_second=goes_on)

    def _moments(self, since: float) -> list[tuple[float, StreamEvent | StreamEnd]]:
        first = bisect_right(self._task.steps, since - self._task.arrives_s)
        moved: list[tuple[float, StreamEvent | StreamEnd]] = [
            (self._task.arrives_s + at + EVENT_S, MOVED) for at in self._task.steps[first:]
        ]
        end_s = self._finish + EVENT_S
        match self._behaviour:
            case Behaviour.HEARTBEATS | Behaviour.HELD_BACK | Behaviour.EVENTS_GO_ON:
                return []
            case Behaviour.LOST_OPEN:
                return moved
            case Behaviour.LOST_CLOSED:
                return [*moved, (end_s, CLOSED)]
            case Behaviour.BUFFERED:
                return [*((end_s, event) for _, event in moved), (end_s, FINAL)]
            case _:
                return [*moved, (end_s, FINAL)]

    def _document(self) -> StatusDocument:
        now = self._clock.now
        if now >= self._visible:
            return StatusDocument(status=Status.COMPLETED)
        age_s = now - self._task.arrives_s - (self._visible - self._finish)
        done = bisect_right(self._task.steps, age_s)
        if self._task.progress is Progress.SMOOTH:
            return StatusDocument(progress=float(done))
        if self._task.progress is Progress.STEPWISE:
            return StatusDocument(completed_nodes=done, total_nodes=len(self._task.steps) + 1)
        return StatusDocument()
