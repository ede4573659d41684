"""Client of Waterflai in memory, for tests that need no socket."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.clock import Clock
from tests.fakes.crashes import StepCounter
from tests.support.builders import UPSTREAM_ID
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import WaterhookError
from waterhook.upstream.client import CancelResult
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

type Answer[T] = T | Exception | Callable[[], T]

type StreamItem = float | StreamEvent | StreamEnd | WaterhookError
"""Seconds that pass, an event, the end of the stream, or as the first item the error that refuses the stream."""


def next_item[T](script: list[T]) -> T:
    """Return the next item of a script. The last one is repeated."""
    return script.pop(0) if len(script) > 1 else script[0]


def next_answer[T](script: list[Answer[T]]) -> T:
    """Return the next answer of a script, or the result of calling it. Raises the answer if it is an exception."""
    answer = next_item(script)
    if isinstance(answer, Exception):
        raise answer
    return answer() if callable(answer) else answer


class FakeStream:
    """An event stream that follows a script and moves the clock. After the last item it delivers nothing."""

    opened = True

    def __init__(self, clock: Clock, script: Sequence[StreamItem]) -> None:
        self._clock = clock
        self._script = list(script)
        self.closed = False

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Return the next event, or None once the timeout has passed."""
        assert not self.closed
        while self._script:
            item = self._script.pop(0)
            if not isinstance(item, float):
                assert not isinstance(item, WaterhookError)
                return item
            passes = min(item, timeout_s)
            self._clock.advance(passes)
            timeout_s -= passes
            if item > passes:
                self._script.insert(0, item - passes)
                return None
        self._clock.advance(timeout_s)
        return None

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class StreamRequest:
    """A call of `open_stream`, and the time at which it was made."""

    at: float
    execution_id: str
    ends_at: float
    idle_timeout_s: float


class FakeUpstream:
    """Waterflai without HTTP: answers from scripts, and records every call.

    A script is a list of values to return, exceptions to raise and functions to call; its last item is repeated.
    Without scripts every start and cancel succeeds, every job is RUNNING and every stream delivers nothing.
    A start and a cancel are two steps of `counter` each: "before POST" and "after POST", "before DELETE" and
    "after DELETE".
    """

    def __init__(
        self,
        *,
        starts: list[Answer[str]] | None = None,
        statuses: list[Answer[StatusDocument]] | None = None,
        cancels: list[Answer[CancelResult]] | None = None,
        streams: list[list[StreamItem]] | None = None,
        clock: Clock | None = None,
        counter: StepCounter | None = None,
    ) -> None:
        confirmed = CancelResult(cancelled=True, message=None, previous_status="RUNNING")
        self._starts = list(starts or [UPSTREAM_ID])
        self._statuses = list(statuses or [StatusDocument(status="RUNNING")])
        self._cancels = list(cancels or [confirmed])
        self._scripts = list(streams or [[]])
        self._clock = clock or Clock()
        self.counter = counter or StepCounter()
        self.posted: list[tuple[str, Mapping[str, Any]]] = []
        self.polled: list[str] = []
        self.cancelled: list[str] = []
        self.stream_requests: list[StreamRequest] = []
        self.streams: list[FakeStream] = []

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        self.counter.step("before POST")
        self.posted.append((chatbot_id, input_data))
        execution_id = next_answer(self._starts)
        self.counter.step("after POST")
        return execution_id

    def status(self, execution_id: str, *, limit_bytes: int = 0) -> StatusDocument:
        del limit_bytes
        self.polled.append(execution_id)
        return next_answer(self._statuses)

    def cancel(self, execution_id: str) -> CancelResult:
        self.counter.step("before DELETE")
        self.cancelled.append(execution_id)
        result = next_answer(self._cancels)
        self.counter.step("after DELETE")
        return result

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> FakeStream:
        self.stream_requests.append(StreamRequest(self._clock.now, execution_id, ends_at, idle_timeout_s))
        script = next_item(self._scripts)
        if script and isinstance(script[0], WaterhookError):
            raise script[0]
        self.streams.append(FakeStream(self._clock, script))
        return self.streams[-1]
