"""Everything that can go wrong with one answer, as data; README.md has it as a table.

Seconds are real ones here: a client's timeouts don't run faster when the simulated time does.
"""

from dataclasses import dataclass
from enum import StrEnum

_FOR_LONG_S = 3_600.0


# ---- Any operation --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """What comes before the request is processed, or with `processed` right after it."""

    processed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Early):
    """In place of an answer the connection is reset, as by a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(Early):
    """Nothing is sent for some time, then the honest answer."""

    seconds: float = _FOR_LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCode(Early):
    """Another answer: `detail` as JSON, a gateway's page with `html`, or `body` as it stands.

    `retry_after` is sent as given, `retry_after_date` as a date so many seconds from now.
    """

    code: int
    detail: str | None = None
    html: bool = False
    body: str | None = None
    retry_after: str | None = None
    retry_after_date: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(Early):
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


# ---- JSON documents -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """Half of the document, as if it were the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What happens to the named `fields` of a document, or to all."""

    fields: frozenset[str] | None = None

    def include(self, name: str) -> bool:
        """Whether it happens to this one."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongTypes(Fields):
    """Each is of another type than the contract's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nulls(Fields):
    """Each is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Fields):
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
    """A status that nobody has heard of."""

    status: str = "ARCHIVING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressBack:
    """A running job has made less progress and more retries each time it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOutput:
    """COMPLETED, but without `final_output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSoon:
    """`cleanup_after` is so many (simulated) seconds after the first call it is told to, and is kept."""

    seconds: float = 2.0


# ---- Streams --------------------------------------------------------------------------------------------------


class Newline(StrEnum):
    """The three ends of a line that event streams know."""

    LF = "lf"
    CRLF = "crlf"
    CR = "cr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Allowed, but seldom seen: every one of these has broken a decoder."""

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
    """Over too early: after some events, or after some seconds; with `reset`, by a reset connection."""

    after_events: int = 0
    after_seconds: float | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FallsSilent:
    """Nothing more for some time after the head and so many events."""

    after_events: int = 0
    seconds: float = _FOR_LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Events without end, whatever the job does, or with `endless_line` one that never ends."""

    per_second: int = 2_000
    endless_line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseEnd:
    """`execution_completed` at once, then the truth, or with `closes` nothing more."""

    status: str = "COMPLETED"
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEnd:
    """`execution_completed` is never told: the stream stays open, or with `closes` just closes."""

    closes: bool = False


StreamKind = Format | Junk | Ends | FallsSilent | Flood | FalseEnd | NoEnd

DocumentKind = (
    WrongTypes | Nulls | Missing | Huge | ForeignUrls | UnknownStatus | ProgressBack | NoOutput | CleanupSoon
)

LateKind = Drip | CutOff | Truncated | DocumentKind | StreamKind

Kind = Reset | Stall | StatusCode | Redirect | LateKind
