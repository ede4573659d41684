"""Fault types: everything that can go wrong with one response, as data. README.md lists them in a table.

Seconds are real ones here: a client's timeouts don't run faster when the simulated time does.
"""

from dataclasses import dataclass
from enum import StrEnum

_LONG_S = 3_600.0


# ---- Any operation --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFault:
    """A fault before the request is processed, or right after it with `processed`."""

    processed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(RequestFault):
    """The connection is reset in place of a response, as by a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(RequestFault):
    """Nothing is sent for some time, then the normal response."""

    seconds: float = _LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCode(RequestFault):
    """Another response: `detail` as JSON, a gateway's page with `html`, or `body` as it stands.

    `retry_after` is sent as given, `retry_after_date` as a date so many seconds from now.
    """

    code: int
    detail: str | None = None
    html: bool = False
    body: str | None = None
    retry_after: str | None = None
    retry_after_date: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(RequestFault):
    """The same path on the server `to`."""

    to: str
    code: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """The body trickles in: `chunk_bytes` at a time, with a pause after each."""

    chunk_bytes: int = 1
    pause_seconds: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The head and half of the body, then the connection is reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interim:
    """Interim responses with these `codes`, each with a header, before the normal one on the same connection."""

    codes: tuple[int, ...] = (103,)
    pause_seconds: float = 0.0  # after each


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosesIdle:
    """A normal response that promises keep-alive. The server closes the connection if no request follows.

    It does so `after_seconds`: by FIN, or with `reset` by RST.
    """

    after_seconds: float = 0.5
    reset: bool = False


class Encoding(StrEnum):
    """The content codings that proxies use."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    BR = "br"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The body has a content coding that the client did not accept. Of `br` only the header is true."""

    encoding: Encoding = Encoding.GZIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb:
    """A small gzip body with `mib` MiB of white space, or of a comment in a stream, before the normal body."""

    mib: int = 200


# ---- JSON documents -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """Half of the document, as if it were the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsFault:
    """What happens to the named `fields` of a document, or to all."""

    fields: frozenset[str] | None = None

    def include(self, name: str) -> bool:
        """Whether it happens to this one."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongTypes(FieldsFault):
    """Each is of another type than the contract's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nulls(FieldsFault):
    """Each is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(FieldsFault):
    """Each is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Huge:
    """A document of more than `mib` MiB: padded inside `final_output`, or beside the fields where there is none."""

    mib: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignUrls:
    """The start's three addresses are on the server `to`."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStatus:
    """A status that the API does not document."""

    status: str = "ARCHIVING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressBack:
    """A running job has made less progress and more retries with each status request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOutput:
    """COMPLETED, but without `final_output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSoon:
    """`cleanup_after` is `seconds` (simulated) after the first call that the fault acts on, and stays there."""

    seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """The status document is that of `seconds` ago. The stream, cancels and clean-up are not late."""

    seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDocument:
    """The valid document of another execution, which has completed. The request itself is processed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinedDocument:
    """The normal response, and after it on the same connection another one, with a foreign document.

    Both are sent in the same bytes, or the second one `pause_seconds` after the first.
    """

    pause_seconds: float = 0.0


class InvalidContent(StrEnum):
    """What makes an output no JSON."""

    NAN = "nan"
    BAD_BYTE = "bad_byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidOutput:
    """The output of a completed job is no JSON, or the reason of a failed one no UTF-8. The rest is normal."""

    how: InvalidContent = InvalidContent.NAN


class EchoForm(StrEnum):
    """The forms in which a key may be echoed."""

    PLAIN = "plain"
    URL = "url"
    BASE64 = "base64"
    ESCAPED = "escaped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoKey:
    """The key that the client has sent is in every text of the document and in the output, in one `form`."""

    form: EchoForm = EchoForm.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDown:
    """A normal response about a job that has not ended has a `Retry-After`."""

    retry_after: str = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyAnswer:
    """The job is cancelled, but the response has no body."""

    code: int = 204


# ---- Documents and streams ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFoundFor:
    """404 as long as the job is younger than `seconds`."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyProgress:
    """While the job runs, its progress is 1e-200: a number that decimal arithmetic may refuse."""


# ---- Streams --------------------------------------------------------------------------------------------------


class Newline(StrEnum):
    """The three line ends that event streams allow."""

    LF = "lf"
    CRLF = "crlf"
    CR = "cr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Valid but rare formats of an event stream, each of which has broken a decoder."""

    newline: Newline = Newline.LF
    bom: bool = False
    comments: bool = False  # `: ping` between events and inside of them
    multiline: bool = False  # the JSON spread over several lines of data
    event_fields: bool = False  # `id:`, `event:` and `retry:`
    chunk_bytes: int | None = None  # so many bytes a write


@dataclass(frozen=True, slots=True, kw_only=True)
class Junk:
    """Before each event: data that is empty, not JSON, not an object, not UTF-8, or of no known type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The stream ends too early: after some events, or after some seconds; with `reset`, by a reset connection."""

    after_events: int = 0
    after_seconds: float | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FallsSilent:
    """Nothing more for some time after the head and so many events."""

    after_events: int = 0
    seconds: float = _LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Events without end, whatever the job does, or with `endless_line` one that never ends."""

    per_second: int = 2_000
    endless_line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseEnd:
    """`execution_completed` first, then the true events, or with `closes` the end of the stream."""

    status: str = "COMPLETED"
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEnd:
    """`execution_completed` is never sent: the stream stays open, or with `closes` it closes."""

    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """The head, then comments only, or with `as_events` events without meaning. The job's own never come.

    The stream stays open after the job's end unless it `closes`.
    """

    every_seconds: float = 3.0
    as_events: bool = False
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsGoOn:
    """The true progress, again and again, also after the job's end. There is no other event and no end."""

    every_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffered:
    """A proxy holds everything back until the job's end, or permanently if it is not `released`.

    Without `head` the response's head is held back as well.
    """

    head: bool = True
    released: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """Every connection gets the events of the job from its beginning, those of the past without a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongComment:
    """A comment of `kib` KiB and an unknown field of that length, in the block of the first event."""

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
