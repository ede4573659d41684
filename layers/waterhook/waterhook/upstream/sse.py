"""Decoder for server-sent events: bytes in, events out, without I/O.

It follows https://html.spec.whatwg.org/multipage/server-sent-events.html (sections 9.2.5 and 9.2.6). Reconnecting is
left to the owner of the connection.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from waterhook.errors import StreamOverflowError

# A function with 128 MB must be able to hold an event as bytes, as text and as parsed JSON at the same time.
MAX_LINE_BYTES = 256 * 1024
MAX_EVENT_BYTES = 256 * 1024

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_FIELDS = (b"data", b"event", b"id", b"retry")
# The start of a line that shows whether it is a field: a BOM, the longest name and a colon.
_NAME_BYTES = len(_BOM) + len(b"event:")
# At most nine digits: 999,999,999 ms are eleven days.
_RETRY_MS = re.compile(rb"0*([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One dispatched event.

    `id` is the last id of the stream, perhaps from an earlier event, or empty. `retry_ms` likewise, or None.
    """

    type: str
    data: str
    id: str = ""
    retry_ms: int | None = None


class SseDecoder:
    """Turns the chunks of one stream into events. Chunks may end anywhere. An incomplete last event is dropped.

    Holds at most a line, and the data, type and id of one event. They are held as bytes and decoded when complete:
    a UTF-8 character contains no line end and no colon. Invalid UTF-8 becomes U+FFFD. Comments and unknown fields may
    have any length, because they are skipped as they arrive.
    """

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """Begin a stream. The limits count a line without its end, and an event's data plus one byte per line."""
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._is_skipping = False
        self._is_first_line = True
        self._was_cr = False
        self._data = bytearray()
        self._type = b""
        self._id = b""
        self._retry_ms: int | None = None

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Yield the events that `chunk` completes. Read them all before the next chunk.

        Raises StreamOverflowError for a line or an event beyond the limits, after yielding the events before it. The
        decoder can't continue after that.
        """
        # A CR ends its line immediately, without waiting for an LF that may not come.
        start = 1 if self._was_cr and chunk.startswith(b"\n") else 0
        self._was_cr = chunk.endswith(b"\r") if chunk else self._was_cr
        for end in _LINE_END.finditer(chunk, start):
            self._append(chunk[start : end.start()])
            start = end.end()
            line = b"" if self._is_skipping else bytes(self._line)
            was_skipped, self._is_skipping = self._is_skipping, False
            self._line.clear()
            if self._is_first_line:
                line = line.removeprefix(_BOM)
                self._is_first_line = False
            if line:
                self._add_field(line)
            elif not was_skipped and (event := self._dispatch()) is not None:
                yield event
        self._append(chunk[start:])

    def _append(self, piece: bytes) -> None:
        """Append a piece to the current line, unless the line is skipped."""
        if not self._is_skipping:
            self._is_skipping = self._can_skip(bytes(self._line[:_NAME_BYTES]) + piece[:_NAME_BYTES])
        if self._is_skipping:
            self._line.clear()
            return
        if len(self._line) + len(piece) > self._max_line_bytes:
            raise StreamOverflowError(f"a line has more than {self._max_line_bytes} bytes")
        self._line += piece

    def _can_skip(self, start: bytes) -> bool:
        """Return whether the start of a line shows that it is a comment or an unknown field."""
        if self._is_first_line:
            start = start.removeprefix(_BOM)
            if _BOM.startswith(start):
                return False
        name, colon, _ = start.partition(b":")
        return name not in _FIELDS if colon else not any(field.startswith(name) for field in _FIELDS)

    def _add_field(self, line: bytes) -> None:
        """Add the field of a line to the current event. Unknown fields are ignored."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if len(self._data) + len(value) + 1 > self._max_event_bytes:
                raise StreamOverflowError(f"an event has more than {self._max_event_bytes} bytes of data")
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._type = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and (digits := _RETRY_MS.fullmatch(value)):
            self._retry_ms = int(digits[1])

    def _dispatch(self) -> SseEvent | None:
        """Return the event that a blank line ends, or None if it has no data, as after a keep-alive.

        An empty `data` line is data, as in an example of the standard.
        """
        event = None
        if self._data:
            event = SseEvent(
                type=_text(self._type) or "message",
                data=_text(self._data[:-1]),
                id=_text(self._id),
                retry_ms=self._retry_ms,
            )
        self._data.clear()
        self._type = b""
        return event


def _text(value: bytes | bytearray) -> str:
    return value.decode("utf-8", "replace")
