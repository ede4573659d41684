"""The events of one execution, read by a thread of their own and handed over through a bounded queue."""

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
# Events that wait to be taken. The server is not read from while the queue is full.
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
        """Whether the event declares the end of the execution. Only the status document decides."""
        return self.type in _FINAL_TYPES


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The stream is over. `error` is None when the server or the deadline ended a stream without a fault."""

    error: UpstreamError | None = None
    idle: bool = False
    """Not a byte arrived for the idle timeout: the connection may be dead, or the job has nothing to report."""


class EventStream:
    """Events of one execution, in order. Made by `WaterflaiClient.open_stream`; close it before the function returns.

    The reading thread sends the request, reads and decodes. It uses neither the key nor telemetry.
    """

    def __init__(
        self,
        body: ByteStream | None,
        execution_id: str,
        began_at: float,
        watch: Callable[[UpstreamCall], None],
    ) -> None:
        """Start to read `body`. Without one the stream is over. `watch` gets the call when the stream is over."""
        self._body = body
        self._execution_id = execution_id
        self._began_at = began_at
        self._watch: Callable[[UpstreamCall], None] | None = watch
        self._events: queue.Queue[StreamEvent] = queue.Queue(MAX_WAITING_EVENTS)
        self._end: StreamEnd | None = None
        if body is None:
            self._events.shutdown()
        else:
            self._thread = threading.Thread(target=self._run, args=[body], name="event-stream", daemon=True)
            self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether a 2xx answer with an event stream was received."""
        return self._body is not None and self._body.status is not None

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Return the next event, or None when there is none within `timeout_s`. After the end always return it."""
        try:
            return self._events.get(timeout=min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))
        except queue.Empty:
            return None
        except queue.ShutDown:
            end = self._end or StreamEnd()
            self._report(end)
            return end

    def close(self) -> None:
        """Shut the connection down and wait until the reading thread has ended. May be called again."""
        # Errors that the thread meets from here on are caused by this call, not by the upstream.
        end = self._end or StreamEnd()
        self._events.shutdown(immediate=True)
        if self._body is not None:
            self._body.shut_down()
            self._thread.join()
            self._body.close()
        self._end = end
        self._report(end)

    def _report(self, end: StreamEnd) -> None:
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch(UpstreamCall(RequestKind.STREAM, (time.monotonic() - self._began_at) * 1000, end.error))

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
            # In this order: `next` reads the end as soon as the queue is shut down and empty.
            self._end = self._end or end
            self._events.shutdown()
            body.shut_down()

    def _read(self, body: ByteStream) -> None:
        """Put events into the queue. Raises queue.Full when the queue stays full until the deadline."""
        decoder = SseDecoder()
        with closing(body.pieces()) as pieces:
            for piece in pieces:
                for event in decoder.feed(piece):
                    known = stream_event(_scrubbed(event, body.scrubber), self._execution_id)
                    if known is not None:
                        self._events.put(known, timeout=max(body.ends_at - time.monotonic(), 0.0))


def _scrubbed(event: SseEvent, scrubber: KeyRedactor) -> SseEvent:
    """Return an event without the API key, which is removed before anything of it is used."""
    return replace(event, type=scrubber.redact_text(event.type), data=scrubber.redact_text(event.data))


def stream_event(event: SseEvent, execution_id: str) -> StreamEvent | None:
    """Return what is used of a server-sent event, or None for one of an unknown type or of another execution.

    The type is the `type` of its JSON data; where that is missing, the event's own name.
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
    # Bounded first: an integer of any length is JSON, and no float holds it. The sum turns -0.0 into 0.0.
    return round(float(min(max(value, 0), 100)), 3) + 0.0
