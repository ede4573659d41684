"""The event stream of one execution. A thread reads it and passes the events through a bounded queue."""

import json
import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from waterhook.domain.status_document import is_foreign
from waterhook.errors import PerhapsAcceptedError, StreamOverflowError, UpstreamError
from waterhook.observability.metrics import RequestKind, UpstreamCall
from waterhook.text import MAX_ID_CHARS, clip
from waterhook.upstream.key_redaction import KeyRedactor
from waterhook.upstream.responses import unusable_response
from waterhook.upstream.sse import SseDecoder, SseEvent
from waterhook.upstream.transport import ByteStream

MAX_TYPE_CHARS = 40
# Events in the queue. While it is full, nothing is read from the server.
MAX_WAITING_EVENTS = 64
_FINAL_TYPES = {"execution_completed", "execution_failed", "execution_cancelled", "execution_canceled"}


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a known type."""

    type: str
    """At most MAX_TYPE_CHARS characters."""
    progress: float | None = None
    """In percent, 0 to 100, with three decimals."""
    node_id: str | None = None
    """The event's `node_id` or `current_node`, at most MAX_ID_CHARS characters."""

    @property
    def is_final(self) -> bool:
        """Whether the event declares the end of the job. Only the status document decides the outcome."""
        return self.type in _FINAL_TYPES


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream. `error` is None if the server or the deadline ended it normally."""

    error: UpstreamError | None = None
    idle: bool = False
    """No byte arrived within the idle timeout: the connection may be dead, or there are no events."""


class EventStream:
    """Events of one execution, in order. From `WaterflaiClient.open_stream`; close it before the function returns.

    A thread sends the request, reads and decodes. It uses neither the API key nor telemetry.
    """

    def __init__(
        self,
        body: ByteStream | None,
        execution_id: str,
        began_at: float,
        on_call: Callable[[UpstreamCall], None],
    ) -> None:
        """Start to read `body`, or end immediately if it is None. `on_call` is called when the stream has ended."""
        self._body = body
        self._execution_id = execution_id
        self._began_at = began_at
        self._on_call: Callable[[UpstreamCall], None] | None = on_call
        self._events: queue.Queue[StreamEvent] = queue.Queue(MAX_WAITING_EVENTS)
        self._end: StreamEnd | None = None
        if body is None:
            self._events.shutdown()
        else:
            self._thread = threading.Thread(target=self._run, args=[body], name="event-stream", daemon=True)
            self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether a 2xx response with an event stream was received."""
        return self._body is not None and self._body.status is not None

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Return the next event, or None after `timeout_s`. After the last event it returns the end, each time."""
        try:
            return self._events.get(timeout=min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))
        except queue.Empty:
            return None
        except queue.ShutDown:
            end = self._end or StreamEnd()
            self._report(end)
            return end

    def close(self) -> None:
        """Shut the connection down and wait until the reading thread has ended. May be called repeatedly."""
        # This call causes all later errors of the thread, so they are not reported as errors of the upstream.
        end = self._end or StreamEnd()
        self._events.shutdown(immediate=True)
        if self._body is not None:
            self._body.shut_down()
            self._thread.join()
            self._body.close()
        self._end = end
        self._report(end)

    def _report(self, end: StreamEnd) -> None:
        if self._on_call is not None:
            on_call, self._on_call = self._on_call, None
            on_call(UpstreamCall(RequestKind.STREAM, (time.monotonic() - self._began_at) * 1000, end.error))

    def _run(self, body: ByteStream) -> None:
        end = StreamEnd(PerhapsAcceptedError("no_answer", "the stream could not be read", status=body.status))
        try:
            self._read(body)
            end = StreamEnd()
        except (queue.ShutDown, queue.Full):
            end = StreamEnd()
        except StreamOverflowError as error:
            end = StreamEnd(unusable_response(body.status or 0, str(error)))
        except UpstreamError as error:
            end = StreamEnd(error, idle=body.is_idle)
        finally:
            # In this order, because `next` reads `_end` as soon as the queue is shut down and empty.
            self._end = self._end or end
            self._events.shutdown()
            body.shut_down()

    def _read(self, body: ByteStream) -> None:
        """Put events into the queue. Raises queue.Full if it stays full until the deadline."""
        decoder = SseDecoder()
        with closing(body.pieces()) as pieces:
            for piece in pieces:
                for event in decoder.feed(piece):
                    stream_event = to_stream_event(_redact(event, body.redactor), self._execution_id)
                    if stream_event is not None:
                        self._events.put(stream_event, timeout=max(body.ends_at - time.monotonic(), 0.0))


def _redact(event: SseEvent, redactor: KeyRedactor) -> SseEvent:
    """Return the event without the API key."""
    return replace(event, type=redactor.redact_text(event.type), data=redactor.redact_text(event.data))


def to_stream_event(event: SseEvent, execution_id: str) -> StreamEvent | None:
    """Return the used part of a server-sent event, or None for an unknown type or another execution.

    The type is the `type` in its JSON data, else the event's own name.
    """
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or is_foreign(value.get("execution_id"), execution_id):
        return None
    name = value.get("type")
    name = event.type if name is None else name
    if not isinstance(name, str) or not _is_known(name):
        return None
    node = value.get("node_id") or value.get("current_node")
    return StreamEvent(
        type=clip(name, MAX_TYPE_CHARS),
        progress=_percent(value.get("progress")),
        node_id=clip(node, MAX_ID_CHARS) if isinstance(node, str) else None,
    )


def _is_known(name: str) -> bool:
    return name.startswith("node_") or name == "progress_update" or name in _FINAL_TYPES


def _percent(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Bounded before float(), which can't convert every integer. Adding 0.0 turns -0.0 into 0.0.
    return round(float(min(max(value, 0), 100)), 3) + 0.0
