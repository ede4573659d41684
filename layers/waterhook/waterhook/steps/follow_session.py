"""One followed execution: its event stream, and the polls that make sure that no outcome is missed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from waterhook.domain import polling_policy, stream_history
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.errors import DependencyUnavailableError, UpstreamError, UpstreamRefusedError
from waterhook.notifications.progress_publisher import ProgressPublisher, has_progressed, was_retried
from waterhook.steps.final_record_check import CHECK_EVERY_S, FinalRecordCheck
from waterhook.steps.status_poller import StatusPoller
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

# A stream that receives no byte for this long may be dead, so it is reopened.
IDLE_TIMEOUT_S = 60.0


class Stream(Protocol):
    """An open event stream."""

    @property
    def opened(self) -> bool:
        """Whether the upstream has answered with an event stream."""

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Return the next event or the end of the stream, or None after the timeout."""

    def close(self) -> None:
        """Close the connection and stop its thread."""


class StreamOpener(Protocol):
    """Opens event streams."""

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> Stream:
        """Return the stream of an execution. `ends_at` is on the monotonic clock. Raises UpstreamError."""


class FollowSession:
    """The stream, the polls and the loop state of one followed execution.

    `advance` does what is due and returns. `wait` blocks until an event arrives or the time is over. `state` is the
    loop state, `stream_history` the observations of its streams.
    """

    def __init__(
        self,
        state: LoopState,
        streams: StreamOpener,
        poller: StatusPoller,
        *,
        clock: Callable[[], float],
        publisher: ProgressPublisher | None = None,
        check: FinalRecordCheck | None = None,
        stream_ends_at: float,
    ) -> None:
        self.state = state
        self.stream_history = state.stream
        self.finished = False
        """The job has an outcome, or the follow ends for another reason."""
        self.has_polled = False
        self._streams = streams
        self._poller = poller
        self._clock = clock
        self._publisher = publisher
        self._check = check
        self._stream_ends_at = stream_ends_at
        self._stream: Stream | None = None
        self._opened_at = 0.0
        self._poll_now = False
        self._known_due_at: float | None = None
        """When the next poll is due. None after a poll, an event or the end of a stream: it must be computed again."""

    def advance(self) -> float:
        """Poll the status and open the stream if they are due. Return when to call this again, in epoch seconds.

        An event may make the next call due earlier: call this after every `wait`.
        """
        if self._due_at() <= self._clock():
            self.poll()
        if (
            self._stream is None
            and not self.finished
            and (self.stream_history.reopens_at or 0.0) <= self._clock()
        ):
            self._open()
        return self._wakes_at()

    def wait(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Wait for an event of the stream. Without a stream, sleep for `seconds`."""
        if self._stream is None:
            sleep(seconds)
            return
        event = self._stream.next(seconds)
        if isinstance(event, StreamEnd):
            # An idle stream is only reopened. After any other end the job may have ended, so the status is polled.
            self._ended(event.error, poll=self._stream.opened and not event.idle)
        elif event is not None:
            self._received(event)

    def poll(self) -> None:
        """Poll the status once. Publish the progress if it has changed."""
        before, began_at = self.state, self._clock()
        after = self.state = self._checked(self._poller.observe(before), began_at)
        self.has_polled, self._poll_now, self._known_due_at = True, False, None
        if self._publisher is not None and has_progressed(before, after):
            restarted = was_retried(before, after)
            self._publisher.publish(after, {"progress": after.history.progress}, restarted=restarted)
        self.finished = (
            after.next is not NextStep.FOLLOW
            or after.history.errors >= polling_policy.MAX_FOLLOW_ERRORS
            or after.history.faults > 0
            or self._clock() >= after.deadline
        )

    def _checked(self, state: LoopState, began_at: float) -> LoopState:
        """Return the state as ended if the record is final. Reads the record only every CHECK_EVERY_S."""
        history = state.history
        last_at = history.started_at if history.record_checked_at is None else history.record_checked_at
        if self._check is None or state.next is not NextStep.FOLLOW or began_at - last_at < CHECK_EVERY_S:
            return state
        checked = replace(state, history=replace(history, record_checked_at=round(began_at, 3)))
        return self._check.end_if_final(checked, began_at)

    def close(self) -> None:
        """Close the stream and stop its thread."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _wakes_at(self) -> float:
        if self._stream is None and self.stream_history.reopens_at is not None:
            return min(self._due_at(), self.stream_history.reopens_at)
        return self._due_at()

    def _due_at(self) -> float:
        if self._known_due_at is None:
            due_at = self._poller.due_at(self.state, self.stream_history)
            # An immediate poll must still respect Retry-After.
            self._known_due_at = (
                min(due_at, polling_policy.retry_at(self.state.history)) if self._poll_now else due_at
            )
        return self._known_due_at

    def _open(self) -> None:
        self._opened_at = self._clock()
        try:
            self._stream = self._streams.open_stream(
                self.state.waterflai_execution_id or "",
                ends_at=self._stream_ends_at,
                idle_timeout_s=IDLE_TIMEOUT_S,
            )
        except UpstreamError as error:
            self._ended(error, poll=False)
        except DependencyUnavailableError as error:
            # Without the key neither streams nor polls work, and the Wait state costs less.
            self.state = self._poller.dependency_failed(self.state, error)
            self.finished = True

    def _received(self, event: StreamEvent) -> None:
        self._known_due_at = None
        now = self._clock()
        if event.is_final:
            self.stream_history = stream_history.after_final_event(self.stream_history, now)
            # The status document has the outcome; the stream is not needed any more.
            self._poll_now = True
            self.close()
            return
        self.stream_history = stream_history.after_stream_event(self.stream_history, now)
        if self._publisher is not None:
            self._publisher.publish(self.state, progress_change(event))

    def _ended(self, error: UpstreamError | None, *, poll: bool) -> None:
        """Plan to reopen the stream, and poll now if the job may have ended."""
        self._known_due_at = None
        delivered = self.stream_history.delivered
        self.close()
        now = self._clock()
        retry_after_s = None if error is None else error.retry_after_s
        self.stream_history = stream_history.after_stream_end(
            self.stream_history, now, now - self._opened_at, retry_after_s
        )
        self._poll_now = self._poll_now or poll or (delivered and isinstance(error, UpstreamRefusedError))


def progress_change(event: StreamEvent) -> dict[str, Any]:
    """Return the fields of a progress event for an event of the stream."""
    change: dict[str, Any] = {}
    if event.type.startswith("node_"):
        change["event"] = event.type
    if event.progress is not None:
        change["progress"] = event.progress
    if event.node_id is not None:
        change["node_id"] = event.node_id
    return change
