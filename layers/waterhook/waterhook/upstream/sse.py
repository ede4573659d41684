"""Server-sent events out of bytes, with no socket in sight.

The rules are those of the event stream format: https://html.spec.whatwg.org/multipage/server-sent-events.html
(sections 9.2.5 and 9.2.6), but for the reconnecting, which is up to the owner of the connection.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from waterhook.errors import StreamOverflowError

# As much as a function of 128 MB can hold as bytes, as text and as parsed JSON at once.
MAX_LINE_BYTES = 256 * 1024
MAX_EVENT_BYTES = 256 * 1024

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_FIELDS = (b"data", b"event", b"id", b"retry")
# What of a line shows whether it is a field: the longest name, a colon, and a BOM before them.
_NAME_BYTES = len(_BOM) + len(b"event:")
# Digits only, and at most nine of them: 999,999,999 ms are eleven days.
_RETRY_MS = re.compile(rb"0*([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One dispatched event.

    `id` is the last one the stream named, maybe events ago, or empty; so is `retry_ms`, milliseconds or None.
    """

    type: str
    data: str
    id: str = ""
    retry_ms: int | None = None


class SseDecoder:
    """Turns the chunks of one stream, cut anywhere, into events. An event cut off by its end is not one.

    Holds at most a line and the data, type and id of one event, as bytes: UTF-8 has no line end and no colon
    inside a character, so text is made of whole values only, and bytes that are no UTF-8 become U+FFFD.
    A comment or an unknown field may be of any length: it is skipped as it arrives.
    """

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """Begin a stream. A line counts without its end, an event by its data with one byte for each line."""
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._skips = False
        self._is_first_line = True
        self._was_cr = False
        self._data = bytearray()
        self._type = b""
        self._id = b""
        self._retry_ms: int | None = None

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Yield the events that `chunk` completes; exhaust it before the next chunk.

        Raises StreamOverflowError at a line or an event beyond the limits, after the events before it. The stream
        can't be read on from there: begin a new one.
        """
        # A CR ends its line at once, without waiting for an LF that may never come.
        start = 1 if self._was_cr and chunk.startswith(b"\n") else 0
        self._was_cr = chunk.endswith(b"\r") if chunk else self._was_cr
        for end in _LINE_END.finditer(chunk, start):
            self._hold(chunk[start : end.start()])
            start = end.end()
            line = b"" if self._skips else bytes(self._line)
            was_skipped, self._skips = self._skips, False
            self._line.clear()
            if self._is_first_line:
                line = line.removeprefix(_BOM)
                self._is_first_line = False
            if line:
                self._take(line)
            elif not was_skipped and (event := self._dispatch()) is not None:
                yield event
        self._hold(chunk[start:])

    def _hold(self, piece: bytes) -> None:
        """Keep a piece of a line, unless the line is one to skip."""
        if not self._skips:
            self._skips = self._is_skipped(bytes(self._line[:_NAME_BYTES]) + piece[:_NAME_BYTES])
        if self._skips:
            self._line.clear()
            return
        if len(self._line) + len(piece) > self._max_line_bytes:
            raise StreamOverflowError(f"line: more than {self._max_line_bytes} bytes")
        self._line += piece

    def _is_skipped(self, start: bytes) -> bool:
        """Return whether the start of a line shows that it is a comment or an unknown field."""
        if self._is_first_line:
            start = start.removeprefix(_BOM)
            if _BOM.startswith(start):
                return False
        name, colon, _ = start.partition(b":")
        return name not in _FIELDS if colon else not any(field.startswith(name) for field in _FIELDS)

    def _take(self, line: bytes) -> None:
        """Take a line into the event. A comment is the field without a name, ignored like any unknown one."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if len(self._data) + len(value) + 1 > self._max_event_bytes:
                raise StreamOverflowError(f"event: more than {self._max_event_bytes} bytes of data")
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._type = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and (digits := _RETRY_MS.fullmatch(value)):
            self._retry_ms = int(digits[1])

    def _dispatch(self) -> SseEvent | None:
        """Return the event that a blank line ends, or None where no data came before it: a keep-alive.

        A lone `data` line is data, if empty: the standard has it as an example.
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
