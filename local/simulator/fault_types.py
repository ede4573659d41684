"""Fault types: one dataclass for each value of a rule's `kind`, with the fields of that kind.

The classes hold data only. fault_rules.py parses them, fault_responses.py and event_stream.py apply them. README.md
has them in a table. Seconds are real seconds, unless a class states otherwise, because the timeouts of clients
follow the real clock.
"""

from dataclasses import dataclass
from enum import StrEnum

_LONG_S = 3_600.0


# ---- Any operation --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFault:
    """Base of faults in place of the normal response. `processed`: the request is processed before the fault."""

    processed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(RequestFault):
    """Sends a TCP reset and no response, like a server that crashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(RequestFault):
    """Sends nothing for `seconds`, then the normal response."""

    seconds: float = _LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCode(RequestFault):
    """Responds with the status `code`. The body is `detail` as JSON, an HTML page with `html`, or `body` unchanged.

    `retry_after` is sent unchanged, `retry_after_date` as a date this number of seconds from now.
    """

    code: int
    detail: str | None = None
    html: bool = False
    body: str | None = None
    retry_after: str | None = None
    retry_after_date: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(RequestFault):
    """Redirects to the same path on the server `to`."""

    to: str
    code: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Sends the body in pieces of `chunk_bytes`, with a pause after each piece."""

    chunk_bytes: int = 1
    pause_seconds: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """Sends the headers and half of the body, then resets the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interim:
    """Sends interim responses with these status `codes` before the normal response on the same connection."""

    codes: tuple[int, ...] = (103,)
    pause_seconds: float = 0.0  # after each interim response


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosesIdle:
    """Sends the normal response with `Connection: keep-alive`, but closes the idle connection after `after_seconds`.

    It closes with FIN, or with RST if `reset` is set.
    """

    after_seconds: float = 0.5
    reset: bool = False


class Encoding(StrEnum):
    """Values of the header Content-Encoding."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    BR = "br"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Encodes the body, even if the client does not accept `encoding`. With `br` the body can't be decoded."""

    encoding: Encoding = Encoding.GZIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb:
    """Sends a small gzip body that expands to `mib` MiB of white space (a comment in a stream) and the normal body."""

    mib: int = 200


# ---- JSON documents -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """Sends half of the document as a complete body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsFault:
    """Base of faults in the named `fields` of a document. None: in all fields."""

    fields: frozenset[str] | None = None

    def include(self, name: str) -> bool:
        """Return whether the field `name` has the fault."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongTypes(FieldsFault):
    """Changes the type of each field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nulls(FieldsFault):
    """Sets each field to null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(FieldsFault):
    """Leaves out each field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Huge:
    """Adds `mib` MiB of padding to `final_output`, or to the document if it has no `final_output`."""

    mib: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignUrls:
    """Returns the three URLs of a start with the server `to`."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStatus:
    """Returns a status that the API does not document."""

    status: str = "ARCHIVING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressBack:
    """Returns less progress and a higher retry count at each status request, while the job runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOutput:
    """Leaves out `final_output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSoon:
    """Sets `cleanup_after` to `seconds` (simulated) after the first call that the rule applies to, and keeps it."""

    seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Returns the status document of `seconds` ago. Stream, cancel and clean-up are not delayed."""

    seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDocument:
    """Processes the request, but returns the document of another execution, which is COMPLETED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinedDocument:
    """Sends the normal response, then on the same connection a second response with the document of `ForeignDocument`.

    Both are sent together, or the second response `pause_seconds` after the first.
    """

    pause_seconds: float = 0.0


class InvalidContent(StrEnum):
    """Content that makes an output invalid."""

    NAN = "nan"
    BAD_BYTE = "bad_byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidOutput:
    """Makes the output of a completed job invalid JSON, or the error message of a failed job invalid UTF-8."""

    how: InvalidContent = InvalidContent.NAN


class EchoForm(StrEnum):
    """Encodings of an echoed key."""

    PLAIN = "plain"
    URL = "url"
    BASE64 = "base64"
    ESCAPED = "escaped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoKey:
    """Writes the client's API key into the texts and the output of the document, encoded as `form`."""

    form: EchoForm = EchoForm.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDown:
    """Adds a `Retry-After` header to the normal response until the job has ended."""

    retry_after: str = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyAnswer:
    """Cancels the job, and sends a response without a body."""

    code: int = 204


# ---- Documents and streams ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFoundFor:
    """Returns 404 while the job is younger than `seconds`."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyProgress:
    """Returns a progress of 1e-200 while the job runs. DynamoDB does not store a number this small."""


# ---- Streams --------------------------------------------------------------------------------------------------


class Newline(StrEnum):
    """Line endings that the event stream format allows."""

    LF = "lf"
    CRLF = "crlf"
    CR = "cr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Sends valid but unusual event stream syntax. Each field has broken a decoder."""

    newline: Newline = Newline.LF
    bom: bool = False
    comments: bool = False  # `: ping` between and inside events
    multiline: bool = False  # JSON in several `data:` lines
    event_fields: bool = False  # `id:`, `event:` and `retry:` lines
    chunk_bytes: int | None = None  # bytes for each write; None: a whole event


@dataclass(frozen=True, slots=True, kw_only=True)
class Junk:
    """Sends invalid data before each event: empty, not JSON, not an object, not UTF-8, or of an unknown type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Ends the stream after `after_events` events or `after_seconds`. With `reset` it ends with a TCP reset."""

    after_events: int = 0
    after_seconds: float | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FallsSilent:
    """Sends headers and `after_events` events, then nothing for `seconds`."""

    after_events: int = 0
    seconds: float = _LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Sends progress events without end, or with `endless_line` one line without end."""

    per_second: int = 2_000
    endless_line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseEnd:
    """Sends `execution_completed` first, then the real events. With `closes` it ends the stream instead."""

    status: str = "COMPLETED"
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEnd:
    """Leaves out `execution_completed`. At the end of the job the stream stays open, or ends with `closes`."""

    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """Sends comments only, or with `as_events` events of type `ping`, and no event of the job.

    At the end of the job the stream stays open, or ends with `closes`.
    """

    every_seconds: float = 3.0
    as_events: bool = False
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsGoOn:
    """Repeats `progress_update` with the real progress, also after the end of the job. The stream never ends."""

    every_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffered:
    """Holds back all events until the end of the job, like a buffering proxy. Without `released`: permanently.

    If `head` is false, it holds back the response headers too.
    """

    head: bool = True
    released: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """Sends all events of the job on each connection. Past events are sent without a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongComment:
    """Sends a comment of `kib` KiB and an unknown field of the same size before the first event."""

    kib: int = 1_024


StreamFault = (
    Format
    | Junk
    | Ends
    | FallsSilent
    | Flood
    | FalseEnd
    | NoEnd
    | Heartbeats
    | EventsGoOn
    | Buffered
    | Replays
    | LongComment
    | NotFoundFor
    | TinyProgress
)

DocumentFault = (
    WrongTypes
    | Nulls
    | Missing
    | Huge
    | ForeignUrls
    | UnknownStatus
    | ProgressBack
    | NoOutput
    | CleanupSoon
    | Lag
    | ForeignDocument
    | PipelinedDocument
    | NotFoundFor
    | TinyProgress
)

TransferFault = Drip | CutOff | Interim | ClosesIdle | Encoded | Bomb

ResponseFault = (
    TransferFault | Truncated | SlowDown | EmptyAnswer | InvalidOutput | EchoKey | DocumentFault | StreamFault
)

FaultType = Reset | Stall | StatusCode | Redirect | ResponseFault
