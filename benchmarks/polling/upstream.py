"""The upstream of one job in virtual time: the calls that the shipped functions make move a clock and nothing else."""

from bisect import bisect_right
from collections.abc import Generator
from typing import Any

from benchmarks.polling.waited import EVENT_S, OPEN_S, REQUEST_S
from benchmarks.polling.workloads import Progress, Task
from waterhook.errors import PerhapsAccepted, Refused
from waterhook.models import Status
from waterhook.status import MAX_STATUS_BYTES, StatusDocument


class Clock:
    """Seconds since the simulation began, moved by whoever takes time."""

    def __init__(self, now: float) -> None:
        """Begin at `now`."""
        self.now = now

    def __call__(self) -> float:
        """Return the time; epoch and monotonic are the same here."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Upstream:
    """Knows one job and answers as Waterflai would: status documents, and a stream that sends no keep-alive."""

    def __init__(self, task: Task, clock: Clock, stream_limit_s: float) -> None:
        """Take the job, the clock to move, and after how many seconds it ends a stream."""
        self._task = task
        self._clock = clock
        self._stream_limit_s = stream_limit_s
        self._finish = task.arrives_s + task.finish_s
        self.requests = 0

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the status as it is half-way through the request."""
        del execution_id, limit_bytes
        self.requests += 1
        self._clock.sleep(REQUEST_S / 2)
        document = self._document()
        self._clock.sleep(REQUEST_S / 2)
        return document

    def stream(
        self, execution_id: str, *, ends_at: float, idle_timeout_s: float
    ) -> Generator[dict[str, Any]]:
        """Yield an event when progress moves and one at the end; silence is the listener's to bear."""
        del execution_id
        self.requests += 1
        self._clock.sleep(OPEN_S)
        if self._clock.now >= self._finish:
            raise Refused("refused", "HTTP 404", status=404)
        closes_at = min(ends_at, self._clock.now + self._stream_limit_s)
        since = self._clock.now
        first = bisect_right(self._task.steps, self._clock.now - self._task.arrives_s)
        moments = [self._task.arrives_s + at for at in self._task.steps[first:]]
        for moment in [*moments, self._finish]:
            heard_at = moment + EVENT_S
            if min(heard_at, closes_at) > since + idle_timeout_s:
                self._clock.now = since + idle_timeout_s
                raise PerhapsAccepted("no_answer", "the stream broke off: TimeoutError", status=200)
            if heard_at > closes_at:
                self._clock.now = closes_at
                return
            self._clock.now = since = heard_at
            yield {"type": "execution_completed" if moment == self._finish else "progress_update"}

    def _document(self) -> StatusDocument:
        if self._clock.now >= self._finish:
            return StatusDocument(status=Status.COMPLETED)
        done = bisect_right(self._task.steps, self._clock.now - self._task.arrives_s)
        if self._task.progress is Progress.SMOOTH:
            return StatusDocument(progress=float(done))
        if self._task.progress is Progress.STEPWISE:
            return StatusDocument(completed_nodes=done, total_nodes=len(self._task.steps) + 1)
        return StatusDocument()
